"""What of the pages is made from something else is up to date; the map and the navigation are complete.

`make docs` builds the site itself, in an environment of its own.
"""

import configparser
import glob
import os
import re
import sys

import pytest
from conftest import ROOT

TOOLS = os.path.join(ROOT, "tools")


@pytest.fixture(scope="module")
def tools():
    """The modules of tools/ and tools/documentation/ can be imported."""
    before = list(sys.path)
    sys.path[:0] = [TOOLS, os.path.join(TOOLS, "documentation")]
    yield
    sys.path[:] = before


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as handle:
        return handle.read()


def test_pages_that_are_made_are_up_to_date(tools, capsys):
    import docs_pages

    assert docs_pages.main(["--check"]) == 0, capsys.readouterr().out + "run: make docs-pages"


def test_every_results_file_has_a_table(tools):
    from benchmark_labels import LABELS
    from benchmark_list import TABLES
    from benchmark_tables import names, selected

    assert {table.file for table in TABLES} == set(names())
    for table in TABLES:
        assert selected(table), "%s: no row is selected" % (table.title[0],)
        assert os.path.exists(os.path.join(ROOT, "benchmarks", table.script.split()[0])), table.script
        assert all(os.path.exists(os.path.join(ROOT, "docs", page)) for page in table.pages), table.pages
    used = {path for t in TABLES for path in t.by + t.values + [t.across]}
    used |= {"%s:%s" % (t.file, path) for t in TABLES for path in t.by + t.values + [t.across]}
    assert set(LABELS) <= used, sorted(set(LABELS) - used)


def test_a_cell_has_median_and_spread(tools):
    from benchmark_tables import at, cell

    assert cell([3, 1, 2]) == "2 (1 to 3)" and cell([0.123456]) == "0.123" and cell([None]) == ""
    row = {"curve": [[0, 5.0], [10, 4.5]], "fused / plain": {"ratio": 0.5}}
    assert (at(row, "curve>-1>1"), at(row, "fused / plain>ratio"), at(row, "no=0")) == (4.5, 0.5, 0)


@pytest.mark.parametrize("page", ["house.md", "house.zh.md"])
def test_the_map_has_every_room_from_the_lowest_up(page):
    config = configparser.ConfigParser()
    config.read(os.path.join(ROOT, "setup.cfg"))
    layers = config["importlinter:contract:house"]["layers"].split()
    inside = re.split(r"^## (?:Beside the package|包之外)", read("docs", page), flags=re.MULTILINE)[0]
    assert re.findall(r"^\| `(\w+)(?:/|\.py)` \|", inside, re.MULTILINE) == layers[::-1]


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"^ +- (\S+\.md)$", read("mkdocs.yml"), re.MULTILINE))
    docs = os.path.join(ROOT, "docs")
    pages = {
        os.path.relpath(path, docs).replace(os.sep, "/")
        for path in glob.glob(os.path.join(docs, "**", "*.md"), recursive=True)
        if not path.endswith(".zh.md")
    }
    assert listed - {page for page in listed if page.startswith("files/")} == pages


def test_every_room_for_users_has_a_page_of_the_reference(tools):
    import reference

    pages = reference.pages()
    assert {"reference/%s.md" % room for room in reference.rooms()} == set(pages)
    assert {"losses", "finetune", "models"} < set(reference.rooms()) and "cli" not in reference.rooms()
    assert "::: kexue_keras.losses.InfoNCE" in pages["reference/losses.md"]
    assert "::: kexue_keras.training.recompute.recompute" in pages["reference/training.md"]


@pytest.mark.parametrize(
    "page, text, expected",
    [
        ("losses/a.md", "[a](../layers/b.md#c)", "[a](../layers/b.md#c)"),
        ("losses/a.md", "[a](../../examples/ner.py)", "[a](../files/examples/ner-py.md)"),
        ("README.md", "[a](../CONTRIBUTING.md)", "[a](files/CONTRIBUTING.md)"),
        ("README.md", "[a](https://kexue.fm)", "[a](https://kexue.fm)"),
        ("README.md", "```\n[a](../CONTRIBUTING.md)\n```", "```\n[a](../CONTRIBUTING.md)\n```"),
        ("files/examples/README.md", "[a](ner.py) [b](../docs/start.md)", "[a](ner-py.md) [b](../../start.md)"),
    ],
)
def test_links_that_leave_the_pages(tools, page, text, expected):
    import repository

    for path in ("examples/README.md", "examples/ner.py"):
        repository.shown_as(path)
    assert repository.rewrite(text, page) == expected


def test_techniques_without_a_page_are_found(tools):
    import technique_cards

    docs = {technique.docs for technique in technique_cards.techniques()}
    pages = dict.fromkeys(docs, "")
    pages["techniques.md"] = "".join("](%s)" % page for page in docs)
    assert list(technique_cards.faults(pages, docs)) == []
    first = technique_cards.techniques()[0].docs
    assert "not in the nav" in list(technique_cards.faults(pages, docs - {first}))[0]
    del pages[first]
    assert "has no page" in list(technique_cards.faults(pages, docs))[0]
