"""Reading TSV, CSV and JSON lines: what is read, and what is refused with which line number."""

import gzip
import json
import os

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kexue_keras.data import choose_columns, read_examples, read_scored_pairs, read_table
from kexue_keras.data._examples import label_names
from kexue_keras.errors import UserError, printable


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
    assert (table.format, table.names, table.rows, table.lines) == (
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
    assert table.format == "jsonl"
    examples = read_examples(table, choose_columns(table))
    assert examples.texts == ["好", "坏"]
    assert examples.labels == ["1", "0"]


def test_suffix_says_nothing_first_line_decides(tmp_path):
    assert read_table(write(tmp_path, "a.data", '{"text": "a"}\n')).format == "jsonl"
    assert read_table(write(tmp_path, "b.data", "a\t1\n")).format == "tsv"


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
        ("a.json", '[\n{"text": "好", "label": 1}]\n', 1, "one JSON object per line"),
        ("a.json", '{"text": "好", "label": 1}\n[1]\n', 2, "one JSON object per line"),
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


@pytest.mark.parametrize(
    "name, content, line, words",
    [
        ("a.json", '{"text": "很差b\\ud83d", "label": 1}\n', 1, "half of a surrogate pair"),
        ("a.json", '{"text": "好", "label": 1}\n{"text": "坏", "label": "\\uDC00"}\n', 2, "half of a surrogate pair"),
        ("a.json", '{"text": "好", "te\\ud83d": 1}\n', 1, "half of a surrogate pair"),
        ("a.json", '{"text": ' + "[" * 20000 + "\n", 1, "nested more than 100 deep"),
        ("a.json", '{"text": "好", "label": 1, "x": ' + "[" * 150 + "]" * 150 + "}\n", 1, "nested more than 100 deep"),
        ("a.json", '{"text": "好", "label": 1}\n' + '{"a":' * 5000 + "1" + "}" * 5000 + "\n", 2, "nested more than"),
        ("a.json", '{"text": "好", "label": 1e999}\n', 1, "the label is inf"),
        ("a.json", "{}\n", 1, "the first JSON object is empty"),
        ("a.tsv", "好\t1\n坏\0\t0\n", 2, "a NUL character"),
        ("a.tsv", "ab\t1\n".encode("utf-16-le"), 1, "a NUL character"),
        ("a.csv", ",\n", None, "empty"),
    ],
)
def test_what_json_and_bytes_can_hide(tmp_path, name, content, line, words):
    error = error_of(write(tmp_path, name, content), max_line=10**5)
    assert words in error.message and error.line == line, error


def test_an_emoji_of_two_escapes_and_nesting_nearby_are_fine(tmp_path):
    rows = '{"text": "很好\\ud83d\\ude00", "label": 1, "meta": [[[{}]]]}\n{"text": "坏", "label": 0}\n'
    table = read_table(write(tmp_path, "a.json", rows))
    assert read_examples(table, choose_columns(table)).texts == ["很好😀", "坏"]


def test_longest_lines_of_any_size_and_names_of_any_kind(tmp_path):
    path = write(tmp_path, "a.tsv", "好\t1\n坏\t0\n")
    assert len(read_table(path, max_line=10**20)) == 2
    assert len(read_table(tmp_path / "a.tsv")) == len(read_table(path.encode())) == 2
    odd = os.path.join(os.fsencode(str(tmp_path)), b"\xff\xb0.tsv")
    with open(odd, "wb") as handle:
        handle.write("好\t1\n \t0\n".encode())
    error = error_of(os.fsdecode(odd))
    assert str(error).endswith(r"\xff\xb0.tsv:2: the text is empty")
    assert "embedded null" in str(error_of("a\0b"))
    assert str(error_of("")) == "'': no such file"


CELLS = st.one_of(
    st.sampled_from(
        ["", " ", "0", "1", "2", "①", "--1", "-", "nan", "1e999", '"', "\ufeff", "\x1b[31m", "text", "score"]
    ),
    st.text(max_size=4),
)
VALUES = st.recursive(
    st.one_of(CELLS, st.none(), st.booleans(), st.integers(), st.floats(), st.integers(10**400, 10**400 + 1)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(CELLS, inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.sampled_from(["text", "text_b", "label", "score", "sentence1", "", "Unnamed: 0", "id"])


@st.composite
def files(draw):
    """Bytes of a table that is right, or nearly so, or of nothing at all; with the suffix."""
    suffix = draw(st.sampled_from([".tsv", ".csv", ".jsonl", ".data", ".tsv.gz"]))
    if draw(st.integers(0, 4)) == 0:
        return suffix, draw(st.binary(max_size=60))
    count, width = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    if suffix == ".jsonl":
        names = draw(st.lists(NAMES, min_size=width, max_size=width, unique=True))
        rows = [{name: draw(VALUES) for name in names} for _ in range(count)]
        raw = "".join(json.dumps(row, ensure_ascii=draw(st.booleans())) + "\n" for row in rows)
    else:
        rows = [[draw(CELLS) for _ in range(width)] for _ in range(count)]
        if draw(st.booleans()):
            rows[0] = [draw(NAMES) for _ in range(width)]
        raw = "".join(("," if suffix == ".csv" else "\t").join(row) + "\n" for row in rows)
    raw = raw.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "gb18030", "utf-16"])), "replace")
    if draw(st.booleans()):
        place = draw(st.integers(0, len(raw)))
        raw = raw[:place] + draw(st.binary(max_size=3)) + raw[place + draw(st.integers(0, 3)) :]
    return suffix, raw


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


HEADERS, COLUMNS = st.sampled_from(["auto", "yes", "no"]), st.sampled_from([None, 1, "2", "②", "text", ""])


# What is found is small anyway, so nothing is spent on making it smaller.
@settings(max_examples=250, phases=[Phase.explicit, Phase.generate])
@given(file=files(), header=HEADERS, column=COLUMNS, pairs=st.booleans())
def test_whatever_is_in_a_file_it_is_read_or_refused_in_one_line(folder, file, header, column, pairs):
    suffix, raw = file
    path = write(folder, "a" + suffix, raw)
    try:
        if pairs:
            found, _ = read_scored_pairs(path, text=column, header=header, score_range=(0, 5), max_line=200)
            assert all(0 <= score <= 5 for score in found.labels)
        else:
            table = read_table(path, header=header, max_line=200)
            found = read_examples(table, choose_columns(table, text=column), separator="|")
            label_names(found)
        for text in found.texts:
            assert all(part.strip() for part in (text if isinstance(text, tuple) else (text,)))
            "".join(text).encode("utf-8")
    except UserError as error:
        assert len(str(error).splitlines()) == 1 and printable(error) == str(error)
        # Of a file as a whole there is no line; what is wrong in a line has its number.
        assert error.path == path and (error.line is None or 1 <= error.line <= raw.count(b"\n") + 1 + raw.count(b"\r"))
