"""griffe extension: the `>>>` lines of our docstrings, which stand without a heading, become their Examples."""

import re

import griffe

# From a paragraph that begins with >>> to the end of the docstring's last one of these.
EXAMPLE = re.compile(r"(?:(?<=\n\n)|\A)>>> .*?(?=\n\n(?!>>> )|\Z)", re.DOTALL)


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
            obj.docstring.value = with_heading(obj.docstring.value)
