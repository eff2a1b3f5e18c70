"""griffe extension: the `>>>` lines of our docstrings, which stand without a heading, become their Examples.

Articles and papers become links.
"""

import re

import griffe

# From a paragraph that begins with >>> to the end of the docstring's last one of these.
EXAMPLE = re.compile(r"(?:(?<=\n\n)|\A)>>> .*?(?=\n\n(?!>>> )|\Z)", re.DOTALL)
LINKS = (
    (re.compile(r"(?<![/\w.])kexue\.fm/archives/(\d+)"), r"[kexue.fm/archives/\1](https://kexue.fm/archives/\1)"),
    (re.compile(r"\barXiv[ :](\d{4}\.\d{4,5})"), r"[arXiv \1](https://arxiv.org/abs/\1)"),
)


def with_links(text):
    """The text of a docstring with links to articles of kexue.fm and papers of arXiv."""
    for pattern, link in LINKS:
        text = pattern.sub(link, text)
    return text


def with_heading(text):
    """The text of a docstring, its examples indented below the heading that griffe knows."""

    def below(match):
        lines = match.group(0).split("\n")
        return "Examples:\n" + "\n".join("    " + line if line else line for line in lines)

    return EXAMPLE.sub(below, text)


class DocstringExamples(griffe.Extension):
    """Changes the docstrings of all objects as they are collected."""

    def on_object(self, *, obj, **kwargs):
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = with_heading(with_links(obj.docstring.value))
