"""Reading TSV, CSV and JSON lines: what is read, and what is refused with which line number."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue_keras.data import UserError, choose_columns, read_examples, read_table

pytestmark = pytest.mark.one_stack  # reads files, needs no Keras


def write(tmp_path, name, content):
    path = str(tmp_path / name)
    content = content if isinstance(content, bytes) else content.encode("utf-8")
    with (gzip.open if name.endswith(".gz") else open)(path, "wb") as handle:
        handle.write(content)
    return path


def error_of(path, **kwargs):
    with pytest.raises(UserError) as caught:
        table = read_table(path, **kwargs)
        read_examples(table, choose_columns(table))
    assert "\n" not in str(caught.value)
    return caught.value


def test_tsv_with_header(tmp_path):
    table = read_table(write(tmp_path, "a.tsv", "label\ttext_a\n1\t好\n0\t坏\n"))
    assert (table.kind, table.names, table.rows, table.lines) == (
        "tsv",
        ["label", "text_a"],
        [["1", "好"], ["0", "坏"]],
        [2, 3],
    )


def test_tsv_without_header_unpaired_quotes_byte_order_mark_and_windows_line_ends(tmp_path):
    table = read_table(write(tmp_path, "a.tsv", '\ufeff"好\t1\r\n坏"\t0\r\n\r\n'))
    assert table.names is None
    assert table.rows == [['"好', "1"], ['坏"', "0"]]


def test_csv_with_quotes_and_line_breaks_counts_lines(tmp_path):
    table = read_table(write(tmp_path, "a.csv", 'label,content\n1,"好,\n很好"\n0,坏\n'))
    assert table.rows == [["1", "好,\n很好"], ["0", "坏"]]
    assert table.lines == [2, 4]


def test_gzip_and_json_lines(tmp_path):
    rows = [{"sentence": "好", "label": 1}, {"sentence": "坏", "label": "0"}]
    table = read_table(write(tmp_path, "a.json.gz", "".join(json.dumps(r) + "\n" for r in rows)))
    assert table.kind == "jsonl"
    examples = read_examples(table, choose_columns(table))
    assert examples.texts == ["好", "坏"]
    assert examples.labels == ["1", "0"]


def test_suffix_says_nothing_first_line_decides(tmp_path):
    assert read_table(write(tmp_path, "a.data", '{"text": "a"}\n')).kind == "jsonl"
    assert read_table(write(tmp_path, "b.data", "a\t1\n")).kind == "tsv"


@given(st.lists(st.tuples(st.text("好坏 ab\"',|", min_size=1), st.sampled_from("01")), min_size=2, max_size=8))
def test_what_is_written_as_tsv_comes_back(tmp_path_factory, rows):
    rows = [(text, label) for text, label in rows if text.strip()]
    if not rows:
        return
    path = write(tmp_path_factory.mktemp("t"), "a.tsv", "".join("%s\t%s\n" % row for row in rows))
    assert read_table(path, header="no").rows == [list(row) for row in rows]


@pytest.mark.parametrize(
    "name, content, line, words",
    [
        ("a.tsv", "", None, "empty"),
        ("a.tsv", "\n\n\n", None, "empty"),
        ("a.tsv", "label\ttext\n", None, "header and nothing else"),
        ("a.tsv", "好\t1\n坏\n", 2, "1 column(s) where the first line has 2"),
        ("a.tsv", "好\t1\n\t0\n", 2, "text is empty"),
        ("a.tsv", "好\t1\n\n坏\t0\n", 2, "text is empty"),
        ("a.tsv", "好\t1\n坏\t \n", 2, "label is missing"),
        ("a.tsv", "text\tlabel\ttext\n好\t1\t2\n", 1, "names a column twice"),
        ("a.tsv", "好\t1\n".encode() + "坏\t0\n".encode("gb18030"), 2, "GB18030"),
        ("a.tsv", "好\t1\n".encode("utf-16"), 1, "UTF-16"),
        ("a.tsv", "好\t1\n" + "坏" * 60 + "\t0\n", 2, "longer than 50 characters"),
        ("a.csv", 'text,label\n好,1\n"坏,0\n差,0\n', 3, "never closed"),
        ("a.json", '{"text": "好", "label": 1}\n{"text": "坏"\n', 2, "no valid JSON"),
        ("a.json", '[\n{"text": "好", "label": 1}]\n', 1, "one JSON object a line"),
        ("a.json", '{"text": "好", "label": 1}\n[1]\n', 2, "one JSON object a line"),
        ("a.json", '{"text": "好", "label": 1}\n{"text": "坏"}\n', 2, "no 'label'"),
        ("a.json", '{"text": "好", "label": 1}\n{"text": 3, "label": 0}\n', 2, "no string"),
        ("a.json", '{"text": "好", "label": 1}\n{"text": "坏", "label": null}\n', 2, "label is None"),
        ("a.json", '{"text": "好", "label": 1}\n{"text": "坏", "label": [1]}\n', 2, "list of labels"),
        ("a.tsv.gz", None, 1, "cannot be unpacked"),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path, name, content, line, words):
    if content is None:
        path = str(tmp_path / name)
        with open(path, "wb") as handle:
            handle.write(b"no gzip")
    else:
        path = write(tmp_path, name, content)
    error = error_of(path, max_line=50)
    assert words in error.message, error
    assert error.line == line, error
    assert str(error).startswith(path + (":%d: " % line if line else ": "))


def test_truncated_gzip(tmp_path):
    path = write(tmp_path, "a.tsv.gz", "好\t1\n" * 1000)
    with open(path, "rb") as handle:
        content = handle.read()
    with open(path, "wb") as handle:
        handle.write(content[: len(content) // 2])
    assert "cannot be unpacked" in str(error_of(path))


def test_missing_file_and_folder(tmp_path):
    assert "no such file" in str(error_of(str(tmp_path / "none.tsv")))
    assert "folder" in str(error_of(str(tmp_path)))
