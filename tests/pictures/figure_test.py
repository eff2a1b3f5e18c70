"""Fonts by their characters, Chinese everywhere, and what cannot be drawn."""

import os

import pytest

from kexue_keras.errors import UserError
from kexue_keras.pictures import _figure
from kexue_keras.pictures._figure import drawable, new_figure, save
from kexue_keras.pictures._fonts import BUNDLED_FONT, font_for


def test_a_font_is_chosen_by_its_characters():
    assert font_for("abc").get_file() != BUNDLED_FONT
    for text in ("中文标签", "积极 消极，。！？：；“”《》", "ひらがな カタカナ", "αβγ ж é"):
        assert font_for("中" + text).get_file() == BUNDLED_FONT
    assert font_for("\U0010fffd") is None


def test_words_without_a_font_are_numbered():
    assert drawable(["好", "\U0010fffd"]) == (["#1", "#2"], None)
    words, font = drawable(["a$b$", "很长" * 30, "a\nb"], length=8)
    assert words[0] == r"a\$b\$" and len(words[1]) <= 8 and "\n" not in words[2]
    assert font["fontproperties"].get_file() == BUNDLED_FONT


def test_without_matplotlib_it_is_said(monkeypatch):
    monkeypatch.setattr(_figure, "has_matplotlib", lambda: False)
    with pytest.raises(UserError, match="a picture takes matplotlib"):
        new_figure(1, 1)


def test_a_picture_is_whole_or_not_there(tmp_path):
    path = str(tmp_path / "x.png")
    figure = new_figure(1, 1)
    figure.savefig = lambda *args, **options: 1 / 0
    with pytest.raises(ZeroDivisionError):
        save(figure, path)
    assert os.listdir(str(tmp_path)) == []
