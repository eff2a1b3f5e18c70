"""A run's tokenizer: what is saved comes back, and a vocabulary that was changed since is no longer taken."""

import json
import os

import pytest
from bert4keras.tokenizers import SpTokenizer, Tokenizer
from helpers import tiny_vocabulary

from kexue_keras.checkpoints._bundled import ASSETS
from kexue_keras.errors import UserError
from kexue_keras.tokenizing.saved import load_tokenizer, save_tokenizer

TEXT = "我喜欢看电影"


def tokenizers():
    words = Tokenizer({token: i for i, token in enumerate(tiny_vocabulary())}, do_lower_case=True)
    return {"vocab.txt": words, "spiece.model": SpTokenizer(os.path.join(ASSETS, "me5_zh_q4.spiece.model"))}


@pytest.mark.parametrize("name", ["vocab.txt", "spiece.model"])
def test_a_vocabulary_that_was_changed_is_refused(tmp_path, name):
    tokenizer = tokenizers()[name]
    save_tokenizer(tokenizer, str(tmp_path))
    assert load_tokenizer(str(tmp_path)).encode(TEXT) == tokenizer.encode(TEXT)
    path = tmp_path / name
    content = path.read_bytes()
    lines = content.split(b"\n")
    # As many tokens as before, so that no other check can see it.
    changed = (
        b"\n".join(lines[:9] + [lines[10], lines[9]] + lines[11:]) if name == "vocab.txt" else content[:-1] + b"\n"
    )
    path.write_bytes(changed)
    with pytest.raises(UserError, match=name + ": this is not the vocabulary that the run was trained with"):
        load_tokenizer(str(tmp_path))
    path.write_bytes(content)
    assert load_tokenizer(str(tmp_path)).encode(TEXT) == tokenizer.encode(TEXT)


def test_runs_of_earlier_versions_have_no_checksum(tmp_path):
    tokenizer = tokenizers()["vocab.txt"]
    save_tokenizer(tokenizer, str(tmp_path))
    settings = json.loads((tmp_path / "tokenizer_settings.json").read_text())
    assert len(settings.pop("sha256")) == 64
    (tmp_path / "tokenizer_settings.json").write_text(json.dumps(settings))
    assert load_tokenizer(str(tmp_path)).encode(TEXT) == tokenizer.encode(TEXT)
