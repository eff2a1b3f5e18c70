"""The list of techniques agrees with the package, the docs and the READMEs."""

import os

import pytest
from conftest import ROOT

from kexue_keras import catalogue


def test_numbers_run_from_one_to_the_end():
    assert [t.number for t in catalogue.TECHNIQUES] == list(range(1, len(catalogue.TECHNIQUES) + 1))


@pytest.mark.parametrize("technique", catalogue.TECHNIQUES, ids=lambda t: str(t.number))
def test_what_exists_has_a_docs_page(technique):
    if catalogue.exists(technique):
        assert os.path.exists(os.path.join(ROOT, "docs", technique.docs)), technique.docs


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_table_in_the_readme_is_the_catalogue(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as handle:
        text = handle.read()
    for line in catalogue.markdown_table().splitlines()[2:]:
        assert line in text, "%s is out of date (run: make readme); it lacks: %s" % (name, line)


def test_search_looks_at_titles_articles_and_names():
    assert [t.number for t in catalogue.search("r-drop")] == [13]
    assert [t.number for t in catalogue.search(7359)] == [10]
    assert [t.number for t in catalogue.search("梯度累积优化器")] == [1]
    assert catalogue.search("no such thing") == []
