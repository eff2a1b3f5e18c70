"""A page and its Chinese counterpart say the same: headings, code, pictures, formulas, the figures of tables.

Code is equal but for comments; what a snippet says in strings stays as it is.
"""

import collections
import glob
import os
import re

import pytest
from conftest import ROOT

# False while pages are being translated: then a page without a counterpart is skipped.
EVERY_PAGE_IS_IN_BOTH_LANGUAGES = True
DOCS = os.path.join(ROOT, "docs")
CHINESE = ".zh.md"
PAGES = sorted(
    os.path.relpath(path, ROOT)
    for path in glob.glob(os.path.join(DOCS, "**", "*.md"), recursive=True)
    if not path.endswith(CHINESE)
)
PAIRS = [("README.md", "README.zh-CN.md")] + [(page, page[: -len(".md")] + CHINESE) for page in PAGES]
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
# A # outside of quotes that nothing stands right before, and what stands behind it.
COMMENT = re.compile(r"""^((?:[^"'#]|"[^"]*"|'[^']*')*?)\s*(?<!\S)#.*$""")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def read(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as handle:
        return handle.read()


def without_comments(code):
    lines = [COMMENT.sub(r"\1", line).rstrip() for line in code.split("\n")]
    return [line for line in lines if line]


def code(text):
    """Blocks of a page as (language, lines without comments)."""
    return [(language, without_comments(block)) for language, block in FENCE.findall(text)]


def headings(text):
    return [len(marks) for marks in re.findall(r"^(#+) ", FENCE.sub("", text), re.MULTILINE)]


def pictures(text):
    return sorted(re.findall(r"!\[[^\]]*\]\(([^)\s]+)", text))


def formulas(text):
    return FENCE.sub("", text).count("$$") // 2


def tables(text):
    """Rows of each table, of a row the numbers that stand in it, however often."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", FENCE.sub("", text), re.MULTILINE):
        rows = [row for row in block.strip().split("\n") if not re.match(r"^[|:\- ]+$", row)]
        found.append([collections.Counter(n.replace(",", "") for n in NUMBER.findall(row)) for row in rows])
    return found


def differences(english, chinese):
    """What the texts of two pages differ in, as sentences."""
    for name, of in (("levels of headings", headings), ("pictures", pictures), ("formulas between $$", formulas)):
        if of(english) != of(chinese):
            yield "%s are %s in English, %s in Chinese" % (name, of(english), of(chinese))
    blocks, other = code(english), code(chinese)
    if len(blocks) != len(other):
        yield "%d blocks of code in English, %d in Chinese" % (len(blocks), len(other))
    for number, (block, of_chinese) in enumerate(zip(blocks, other), 1):
        for line, chinese_line in zip(block[1] + ["(end)"], of_chinese[1] + ["(end)"]):
            if line != chinese_line:
                yield "block %d: %r in English, %r in Chinese" % (number, line, chinese_line)
                break
    rows, other = tables(english), tables(chinese)
    if [len(table) for table in rows] != [len(table) for table in other]:
        yield "tables have %s rows in English, %s in Chinese" % (list(map(len, rows)), list(map(len, other)))
    for number, (table, of_chinese) in enumerate(zip(rows, other), 1):
        for row, (numbers, chinese_numbers) in enumerate(zip(table, of_chinese), 1):
            if numbers != chinese_numbers:
                only = [list((a - b).elements()) for a, b in ((numbers, chinese_numbers), (chinese_numbers, numbers))]
                yield "table %d, row %d: only in English %s, only in Chinese %s" % (number, row, only[0], only[1])


@pytest.mark.parametrize("english, chinese", PAIRS, ids=[pair[0] for pair in PAIRS])
def test_both_languages_agree(english, chinese):
    if not os.path.exists(os.path.join(ROOT, chinese)) and not EVERY_PAGE_IS_IN_BOTH_LANGUAGES:
        pytest.skip("%s is not written yet" % chinese)
    found = list(differences(read(english), read(chinese)))
    assert not found, "%s and %s:\n%s" % (english, chinese, "\n".join(found))


def test_no_chinese_page_stands_alone():
    for path in glob.glob(os.path.join(DOCS, "**", "*" + CHINESE), recursive=True):
        assert os.path.exists(path[: -len(CHINESE)] + ".md"), os.path.relpath(path, ROOT)


ENGLISH_PAGE = """# Name
```python
x = "#1"  # first
# a line of its own
y = 2
```
| a | b |
|---|---|
| 1 of 3 | 1,000 |

![figure](a.png)
"""


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("# first", "# 第一", None),
        ("1 of 3", "3 个中的 1 个", None),
        ("1,000", "1000", None),
        ("1,000", "1001", "table 1, row 2"),
        ("y = 2", "y = 3", "block 1"),
        ('"#1"', '"#2"', "block 1"),
        ("a.png", "b.png", "pictures"),
        ("# Name", "## 名字", "headings"),
        ("| 1 of 3 | 1,000 |\n", "", "rows"),
    ],
)
def test_what_is_a_difference(old, new, said):
    found = list(differences(ENGLISH_PAGE, ENGLISH_PAGE.replace(old, new)))
    assert (said is None and not found) or (len(found) == 1 and said in found[0]), found
