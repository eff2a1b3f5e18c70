"""Rows of TSV, CSV and JSON-lines files (also .gz, also standard input), each with its line number.

A TSV line is split at its tabs and nothing else: published Chinese sets contain unpaired quotes, which a reader
with quoting would take for the beginning of a field that runs on for thousands of lines.
"""

import csv
import gzip
import json
import os
import re
import sys
import zlib
from typing import Any, Optional, Sequence, Union

from kexue_keras.data._numbers import whole_number
from kexue_keras.errors import UserError, as_unicode, has_half_pair, shorten
from kexue_keras.files.paths import path_text
from kexue_keras.options.choices import MAX_LINE
from kexue_keras.plain_types import Path

SUFFIXES = {".tsv": "tsv", ".csv": "csv", ".json": "jsonl", ".jsonl": "jsonl", ".ndjson": "jsonl"}
# A row of a table is flat; the odd nested value in a column that nobody uses is fine.
DEEPEST = 100
# What pandas calls the column of its index; in a file that it writes itself the name is empty.
INDEX_NAME = re.compile(r"(Unnamed: \d+)?")

# Names by which a header is recognised and columns are chosen, the most likely first.
TEXT_NAMES = (
    "text_a text sentence sentence1 content review query query1 question question1 title abst premise comment"
    " 文本 内容 句子 评论 正文 标题 句子1 文本1"
).split()
TEXT_B_NAMES = "text_b text2 sentence2 query2 question2 hypothesis 句子2 文本2".split()
LABEL_NAMES = "label labels class category target tag y 标签 类别 分类 类目 情感".split()


class Table(object):
    """Rows of a file.

    Attributes:
        path: the file.
        format: 'tsv', 'csv' or 'jsonl'.
        names: list of column names (header, or keys of the first JSON object), or None.
        rows: list of lists of str, or of dicts.
        lines: list of int, the line on which each row begins.
        guessed: True if it was `header='auto'` that found no header.
    """

    def __init__(
        self,
        path: str,
        format: str,
        names: Optional[Sequence[str]],
        rows: Sequence[Any],
        lines: Sequence[int],
        guessed: bool,
    ) -> None:
        self.path, self.format, self.names = path, format, names
        self.rows, self.lines, self.guessed = rows, lines, guessed

    def __len__(self) -> int:
        return len(self.rows)


def read_table(
    path: Union[Path, bytes],
    *,
    format: Optional[str] = None,
    header: str = "auto",
    max_line: int = MAX_LINE,
    known: Sequence[str] = (),
) -> Table:
    """Read all rows of a file.

    Args:
        path: file name (str, bytes or a path object), or '-' for standard input.
        format: 'tsv', 'csv' or 'jsonl'; None goes by the suffix, and by the first line if that says nothing.
        header: 'yes', 'no', or 'auto': there is one if a cell of line 1 is a usual column name or in `known`, or if its
            first cell is what pandas writes above an index.
        max_line: longest line in characters.
        known: further column names, for instance those the user gave.

    Returns:
        `Table`.

    Raises:
        UserError: no such file, not UTF-8, empty, a line too long, rows of different width, no JSON.
    """
    path, known = path_text(path), {as_unicode(name) for name in known}
    lines = Lines(path, max_line)
    first = next(lines, None)
    if first is None:
        raise UserError("the file is empty", path=lines.name)
    lines.push_back(first)
    format = format or _format_of(path, first[1])
    rows, numbers = [], []
    for number, row in _PARSERS[format](lines):
        rows.append(row)
        numbers.append(number)
    while rows and format != "jsonl" and not any(cell.strip() for cell in rows[-1]):
        del rows[-1], numbers[-1]  # empty lines at the end mean nothing; in the middle they are an empty text
    if not rows:
        raise UserError("the file is empty", path=lines.name)
    if format == "jsonl":
        if not rows[0]:
            raise UserError("the first JSON object is empty; it names the columns", path=lines.name, line=numbers[0])
        return Table(lines.name, format, list(rows[0]), rows, numbers, False)
    names = None
    if header == "yes" or (header == "auto" and (_is_header(rows[0], known) or _is_header_of_index(rows))):
        names = [cell.strip() for cell in rows.pop(0)]
        del numbers[0]
        if len(set(names)) < len(names):
            raise UserError("the header names a column twice: %s" % ", ".join(names), path=lines.name, line=1)
        if not rows:
            raise UserError("the file has a header and nothing else", path=lines.name)
        if not any(names):
            raise UserError("the header is empty; give --header no if line 1 is none", path=lines.name, line=1)
    width = len(names or rows[0])
    for number, row in zip(numbers, rows):
        if len(row) != width and (row and any(row)):
            raise UserError(
                "%d column(s) where the first line has %d: %s" % (len(row), width, shorten(" | ".join(row))),
                path=lines.name,
                line=number,
            )
        if len(row) != width:
            row.extend([""] * (width - len(row)))
    return Table(lines.name, format, names, rows, numbers, names is None and header == "auto")


def _format_of(path, first_line):
    stem = path[:-3] if path.endswith(".gz") else path
    format = SUFFIXES.get(os.path.splitext(stem)[1].lower())
    if format is None:
        format = "jsonl" if first_line.lstrip().startswith("{") else "tsv"
    return format


def _is_header(cells, known):
    usual = set(TEXT_NAMES) | set(TEXT_B_NAMES) | set(LABEL_NAMES)
    return any(cell.strip() in known or cell.strip().lower() in usual for cell in cells)


def _is_header_of_index(rows):
    first, below = rows[0], [row[0] for row in rows[1:50] if row]
    return (
        len(first) > 1
        and INDEX_NAME.fullmatch(first[0].strip()) is not None
        and bool(below)
        and all(whole_number(cell) is not None for cell in below)
    )


class Lines(object):
    """Iterator over (line number, text with its line break) of a UTF-8 file.

    Args:
        path: file name, or '-' for standard input; .gz is unpacked.
        max_line: longest line in characters.

    Raises:
        UserError: no such file; while reading: not UTF-8, a NUL character, a line too long, a damaged .gz.
    """

    def __init__(self, path, max_line=MAX_LINE):
        path = os.fsdecode(path)
        self.name = "standard input" if path == "-" else path
        self.max_line = max_line
        self.number = 0
        self._pushed = None
        self._packed = path.endswith(".gz")
        if path == "-":
            if sys.stdin is None:
                raise UserError("standard input is closed")
            self._handle = sys.stdin.buffer
            return
        try:
            self._handle = (gzip.open if self._packed else open)(path, "rb")
        except FileNotFoundError:
            raise UserError("no such file", path=path)
        except IsADirectoryError:
            raise UserError("this is a folder; a file is needed", path=path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise UserError("cannot be read: %s" % (getattr(error, "strerror", None) or error), path=path)

    def push_back(self, item):
        self._pushed = item

    def __iter__(self):
        return self

    def __next__(self):
        if self._pushed is not None:
            item, self._pushed = self._pushed, None
            return item
        self.number += 1
        try:
            # A character is at most 4 bytes, so a file without line breaks is never in memory as a whole.
            raw = self._handle.readline(min(4 * self.max_line + 16, sys.maxsize))
        except (OSError, EOFError, zlib.error) as error:
            did = "unpacked" if self._packed else "read"
            raise UserError("cannot be %s: %s" % (did, error), path=self.name, line=self.number)
        if not raw:
            if self.name != "standard input":
                self._handle.close()
            raise StopIteration
        try:
            text = raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(self._not_utf8(raw, error), path=self.name, line=self.number)
        if len(text.rstrip("\r\n")) > self.max_line:
            raise UserError(
                self._too_long(),
                path=self.name,
                line=self.number,
            )
        if "\0" in text:
            raise UserError(
                "a NUL character; is this UTF-16 (iconv -f UTF-16LE -t UTF-8 converts it), or no text at all?",
                path=self.name,
                line=self.number,
            )
        return self.number, text

    def _too_long(self):
        return "the line is longer than %d characters; --max-line allows more" % self.max_line

    def _not_utf8(self, raw, error):
        if len(raw) >= 4 * self.max_line:
            return self._too_long()
        message = "not UTF-8 (byte 0x%02x at position %d of the line)" % (raw[error.start], error.start + 1)
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return message + "; it looks like UTF-16: iconv -f UTF-16 -t UTF-8 converts it"
        try:
            raw.decode("gb18030")
        except UnicodeDecodeError:
            return message
        return message + "; it may be GB18030: iconv -f GB18030 -t UTF-8 converts it"


def _tsv(lines):
    for number, text in lines:
        yield number, text.rstrip("\r\n").split("\t")


def _csv(lines):
    reader = csv.reader((text for _, text in lines), strict=True)
    while True:
        done = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = ""
            if "unexpected end" in str(error) or "larger than" in str(error):
                hint = " (a quote that opens here is never closed?)"
            raise UserError("no valid CSV: %s%s" % (error, hint), path=lines.name, line=done + 1)
        yield done + 1, row


def _jsonl(lines):
    for number, text in lines:
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except RecursionError:
            raise UserError(_TOO_DEEP, path=lines.name, line=number)
        except ValueError as error:
            if number == 1 and text.strip() in ("[", "{"):
                error = "one JSON object per line is expected, not one array or object over several lines"
            raise UserError("no valid JSON: %s" % error, path=lines.name, line=number)
        if not isinstance(row, dict):
            raise UserError(
                "one JSON object per line is expected, found %s" % shorten(text), path=lines.name, line=number
            )
        if _is_deep(row, text):
            raise UserError(_TOO_DEEP, path=lines.name, line=number)
        if _HALF.search(text) and has_half_pair(json.dumps(row, ensure_ascii=False)):
            raise UserError(
                "half of a surrogate pair (\\ud800 to \\udfff), which is no character: an emoji that was cut in two? "
                "Repair the line or leave it out",
                path=lines.name,
                line=number,
            )
        yield number, row


_TOO_DEEP = "JSON nested more than %d deep; a flat object with texts and labels is expected" % DEEPEST
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _is_deep(value, text):
    if text.count("{") + text.count("[") <= DEEPEST:
        return False
    level = [value]
    for _ in range(DEEPEST):
        nested = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list))]
        level = [inner for values in nested for inner in values]
    return bool(level)


_PARSERS = {"tsv": _tsv, "csv": _csv, "jsonl": _jsonl}
