"""Links that lead out of docs/: on GitHub they open a file of the checkout, on the site a page with that file.

A page of the site that shows a file is `files/PATH`: examples/ner.py is files/examples/ner-py.md, CONTRIBUTING.md is
files/CONTRIBUTING.md.
"""

import os
import posixpath
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = "files"
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"^( *```.*?^ *```)", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".sh": "sh", ".jsonl": "json", ".json": "json", ".yml": "yaml", ".cfg": "ini"}
# Page of the site -> path of the checkout, filled as links are found.
places = {}


def place(page):
    """Where the checkout has what the site's `page` shows, e.g. 'docs/losses/infonce.md'."""
    return places.get(page, "docs/" + page)


def shown_as(path):
    """The page of the site for a path of the checkout."""
    if path == "docs":
        return "README.md"
    if path.startswith("docs/"):
        return path[len("docs/") :]
    folder, name = posixpath.split(path)
    stem = name[: -len(".md")] if name.endswith(".md") else name
    # What stands behind a dot would be taken for a language.
    page = posixpath.join(FOLDER, folder, stem.replace(".", "-") + ".md")
    places[page] = path
    return page


def linked(text, page):
    """Paths of the checkout that the text of a page links to, whether they exist or not."""
    folder = posixpath.dirname(place(page))
    for piece in FENCE.split(text)[::2]:
        for _, target, _ in LINK.findall(piece):
            if "://" not in target and not target.startswith(("mailto:", "/")):
                yield posixpath.normpath(posixpath.join(folder, target))


def rewrite(text, page):
    """The text of a page with its links as the site needs them."""
    folder = posixpath.dirname(place(page))

    def target(match):
        before, link, after = match.groups()
        if "://" in link or link.startswith(("mailto:", "/")):
            return match.group(0)
        path = posixpath.normpath(posixpath.join(folder, link))
        if path.startswith("docs/") and page.startswith(FOLDER + "/") or not path.startswith("docs/"):
            if os.path.exists(os.path.join(ROOT, path)):
                link = posixpath.relpath(shown_as(path), posixpath.dirname(page) or ".")
        return before + link + after

    pieces = FENCE.split(text)
    pieces[::2] = [LINK.sub(target, piece) for piece in pieces[::2]]
    return "".join(pieces)


def page_of(path):
    """Text of the page that shows a file or folder of the checkout."""
    full = os.path.join(ROOT, path)
    if os.path.isdir(full):
        names = sorted(n for n in os.listdir(full) if not n.startswith((".", "__")))
        return "# %s/\n\n%s\n" % (path, "\n".join("- `%s`" % name for name in names))
    with open(full, encoding="utf-8") as handle:
        text = handle.read()
    if path.endswith(".md"):
        return text
    language = LANGUAGES.get(os.path.splitext(path)[1], "text")
    return "# `%s`\n\n````%s\n%s\n````\n" % (path, language, text.rstrip("\n"))


def files_to_show(pages, more=()):
    """Dict path of the checkout -> text, of what pages link to, and of what Markdown files among that link to.

    Args:
        pages: dict name of a page below docs/ -> text.
        more: paths that are shown in any case.
    """
    found, waiting = {}, list(more)
    for page, text in sorted(pages.items()):
        waiting += linked(text, page)
    while waiting:
        path = waiting.pop(0)
        there = os.path.exists(os.path.join(ROOT, path))
        if there and path not in found and path not in ("docs", ".") and not path.startswith(("docs/", "..")):
            found[path] = page_of(path)
            page = shown_as(path)
            if path.endswith(".md"):
                waiting += linked(found[path], page)
    return found
