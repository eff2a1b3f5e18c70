"""The hooks of mkdocs: pages that are not files of docs/, what GitHub's Markdown and the site's differ in, checks.

i18n makes every file anew, and forgets the text of added ones; so they are added before it and filled after it.
"""

import os
import re
import shutil

import jieba
import mathjax
import reference
import repository
import technique_cards
from mkdocs.exceptions import PluginError
from mkdocs.plugins import CombinedEvent, event_priority
from mkdocs.structure.files import File, InclusionLevel

BEFORE_I18N, AFTER_I18N = 100, -200
FORMULA = re.compile(r"^\$\$.*?\$\$[^\n]*$", re.MULTILINE | re.DOTALL)
# "FlatNCE: `losses.FlatNCE`, `losses.flat_nce`": the navigation has the first part.
NAMES_BEHIND = re.compile(r"\s*[:：]\s*`.*$")
# The end of a line that is no heading and no row of a table, where Chinese stands on both sides.
CHINESE_BREAK = re.compile(
    r"^((?![#|<]).*[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef“”])\n(?=[\u4e00-\u9fff“《（])", re.MULTILINE
)
ALTERNATE = re.compile(r"<link rel=[\"']?alternate\b[^>]*>")
added = {}


def in_nav(items):
    """The pages of a navigation of mkdocs.yml."""
    for item in items:
        if isinstance(item, dict):
            for value in item.values():
                yield from in_nav(value if isinstance(value, list) else [value])
        else:
            yield item


@event_priority(BEFORE_I18N)
def on_config(config):
    """The pages of the rooms stand below Reference; the search's word segmentation says nothing."""
    jieba.setLogLevel("ERROR")
    for section in config.nav:
        if "Reference" in section:
            section["Reference"] = sorted(reference.pages())
    return config


@event_priority(BEFORE_I18N)
def _add(files, config):
    listed = set(in_nav(config.nav))
    pages = {file.src_uri: file.content_string for file in files.documentation_pages()}
    in_navigation = [page[len(repository.FOLDER) + 1 :] for page in listed if page.startswith(repository.FOLDER + "/")]
    shown = repository.files_to_show(pages, sorted(in_navigation))
    added.clear()
    added.update(reference.pages(), **{repository.shown_as(path): text for path, text in shown.items()})
    for page in added:
        inclusion = InclusionLevel.INCLUDED if page in listed else InclusionLevel.NOT_IN_NAV
        files.append(File(page, config.docs_dir, config.site_dir, config.use_directory_urls, inclusion=inclusion))
    return files


@event_priority(AFTER_I18N)
def _fill(files, config):
    for file in files:
        if file.src_uri in added:
            file.content_string = added[file.src_uri]
    return files


on_files = CombinedEvent(_add, _fill)


def on_nav(nav, config, files):
    """Every technique has its page, and it can be found."""
    # The Chinese X.zh.md is X.md here.
    pages = {getattr(file, "norm_src_uri", file.src_uri): file.content_string for file in files.documentation_pages()}
    found = list(technique_cards.faults(pages, set(in_nav(config.nav))))
    if found:
        raise PluginError("\n".join(found))
    return nav


def separate_formulas(text):
    """A formula between $$ is a paragraph of its own, as GitHub shows it, also where no empty line is beside it."""
    pieces = repository.FENCE.split(text)
    pieces[::2] = [FORMULA.sub(lambda match: "\n%s\n" % match.group(0), piece) for piece in pieces[::2]]
    return "".join(pieces)


def join_chinese_lines(text):
    """Without the line breaks within a Chinese paragraph, which would be shown as spaces."""
    pieces = repository.FENCE.split(text)
    pieces[::2] = [CHINESE_BREAK.sub(r"\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def on_page_markdown(markdown, page, config, files):
    """Formulas, links, and a short title for the navigation."""
    title = re.search(r"^# (.+)$", markdown, re.MULTILINE)
    if title:
        page.meta.setdefault("title", NAMES_BEHIND.sub("", title.group(1)).replace("`", ""))
    if page.file.src_uri.endswith(".zh.md"):
        markdown = join_chinese_lines(markdown)
    return repository.rewrite(separate_formulas(markdown), page.file.src_uri)


def on_post_page(output, page, config):
    """Without links to the other language in the head: the theme would look for a sitemap beside each of them."""
    return ALTERNATE.sub("", output)


def on_post_build(config):
    """MathJax, from its Python package, so that formulas need no other server."""
    source = os.path.join(os.path.dirname(mathjax.__file__), "static", "mathjax", "es5", "tex-svg.js")
    folder = os.path.join(config.site_dir, "assets", "mathjax")
    os.makedirs(folder, exist_ok=True)
    shutil.copy(source, folder)
