"""What errors say can be printed anywhere: one line, no control characters, no broken Unicode."""

from hypothesis import given
from hypothesis import strategies as st

from kexue_keras.errors import UserError, WeightsError, as_unicode, printable

# Among them surrogates, of which the undecodable bytes of file names are made.
ANYTHING = st.text(st.characters(), max_size=12)


@given(ANYTHING, ANYTHING)
def test_errors_are_one_printable_line(message, path):
    for shown in (str(UserError(message, path=path, line=3)), str(WeightsError(message)), printable(message)):
        shown.encode("utf-8")
        assert len(shown.splitlines()) <= 1
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\ufeff" for c in shown)


@given(st.text(st.characters(blacklist_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_ordinary_text_stays(text):
    assert printable(text) == text == as_unicode(text)


def test_escape_codes_and_bytes_of_file_names():
    assert str(UserError("label '\x1b[31m差\x07'", path="a\udcff.tsv")) == r"a\xff.tsv: label '\x1b[31m差\x07'"
    assert str(UserError("no such file", path="")) == "'': no such file"
    assert printable("👩\u200d🚀") == "👩\u200d🚀"
    # An argument in a locale of ASCII.
    assert as_unicode("数据.tsv".encode().decode("ascii", "surrogateescape")) == "数据.tsv"
