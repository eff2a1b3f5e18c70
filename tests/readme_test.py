"""Every Python block of the READMEs and of the documentation runs, each file in one fresh process."""

import glob
import os
import re

import pytest
from conftest import ROOT

PAGES = ["README.md", "README.zh-CN.md"] + sorted(
    os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, "docs", "**", "*.md"), recursive=True)
)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

# What a page may use without saying where it came from.
GIVEN = """
import numpy as np
import tensorflow as tf
import kexue_keras
from kexue_keras.backend import K, keras
"""


def blocks(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as handle:
        return BLOCK.findall(handle.read())


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_python_blocks_run(page, run_python, tmp_path):
    source = "K.clear_session()\n".join(blocks(page))
    run_python(GIVEN + "import os\nos.chdir(%r)\n" % str(tmp_path) + source)


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as handle:
        targets = re.findall(r"\]\(([^)#\s]+)", handle.read())
    for target in targets:
        if "://" not in target:
            path = os.path.join(ROOT, os.path.dirname(page), target)
            assert os.path.exists(path), "%s links to %s, which is not there" % (page, target)
