"""Every Python block of the READMEs and of the documentation runs; the links between pages lead somewhere."""

import glob
import os
import re

import pytest
from conftest import ROOT
from scripts import script_names

PAGES = ["README.md", "README.zh-CN.md"] + sorted(
    os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, "docs", "**", "*.md"), recursive=True)
)
# A block below the mark <!-- with your own files --> is left out: it reads files that are not there.
BLOCK = re.compile(r"(?<!<!-- with your own files -->\n)^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as handle:
        return BLOCK.findall(handle.read())


# The Chinese pages have the code of the English ones (tests/pages_test.py).
WITH_BLOCKS = [page for page in PAGES if blocks(page) and not page.endswith((".zh.md", ".zh-CN.md"))]


def test_what_the_readme_shows_runs(tmp_path, monkeypatch):
    run_blocks("README.md", tmp_path, monkeypatch)


@pytest.mark.alternating
@pytest.mark.parametrize("page", [page for page in WITH_BLOCKS if page != "README.md"])
def test_python_blocks_run(page, tmp_path, monkeypatch):
    run_blocks(page, tmp_path, monkeypatch)


def run_blocks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # As pasted into a new session: nothing is there yet, and a later block of a page goes on from an earlier one.
    with script_names() as names:
        for number, block in enumerate(blocks(page)):
            exec(compile(block, "%s, block %d" % (page, number + 1), "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as handle:
        targets = re.findall(r"\]\(([^)#\s]+)", handle.read())
    for target in targets:
        if "://" not in target:
            path = os.path.join(ROOT, os.path.dirname(page), target)
            assert os.path.exists(path), "%s links to %s, which is not there" % (page, target)
