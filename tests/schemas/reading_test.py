"""The strict reader, the words of the schemas in messages, and configurations as they were published."""

import json
import os

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from kexue_keras.errors import UserError, WeightsError
from kexue_keras.schemas import BERT_CONFIG, T5_CONFIG, check_settings, read_json, read_settings, read_token_ids, words
from kexue_keras.schemas.hf_config import HF_BERT
from kexue_keras.schemas.json_text import DEPTH, parse_json
from kexue_keras.schemas.messages import expected
from kexue_keras.schemas.reading import MOST_BYTES, Settings, matches

NUMBERS = strategies.integers(-(10**18), 10**18) | strategies.floats(allow_nan=False, allow_infinity=False)
VALUES = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | NUMBERS
    | strategies.text(strategies.characters(blacklist_categories=["Cs"])),
    lambda inner: strategies.lists(inner, max_size=4)
    | strategies.dictionaries(strategies.text("abc很", max_size=3), inner),
    max_leaves=20,
)
GOOGLE = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 21128,
}
ALBERT = {"ln_type": "postln", "net_structure_type": 0, "gap_size": 0, "num_memory_blocks": 0, "inner_group_num": 1}
ALBERT.update(down_scale_factor=1, num_hidden_groups=1, embedding_size=128, hidden_size=312, intermediate_size=1248)
PUBLISHED = {
    "Google's BERT": {},
    "RoBERTa-wwm": {"output_past": True, "bos_token_id": 0, "eos_token_id": 2},
    "NEZHA": {"use_relative_position": True, "max_relative_position": 64},
    "albert_zh": dict(ALBERT, attention_probs_dropout_prob=0, hidden_dropout_prob=0),
    "RoFormer": {"embedding_size": 768, "max_position_embeddings": 1536, "model": "roformer"},
    "ELECTRA": {"embedding_size": 128, "generator_hidden_size": "1/4", "generator_layers": "4/4"},
    "no segments": {"type_vocab_size": 0},
    "written as floats": {"hidden_size": 768.0, "num_hidden_layers": 12.0},
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_configurations_are_read(name, tmp_path):
    config = dict(GOOGLE, **PUBLISHED[name])
    (tmp_path / "bert_config.json").write_text(json.dumps(config))
    found = read_settings(str(tmp_path / "bert_config.json"), BERT_CONFIG)
    assert found == config and all(type(found[key]) is int for key in ("hidden_size", "num_hidden_layers"))


def test_published_configurations_of_t5_are_read():
    mesh = {"hidden_act": ["gelu", "linear"], "dropout_rate": 0.0, "embedding_size": 512, "hidden_size": 512}
    mesh.update(num_attention_heads=6, attention_head_size=64, num_hidden_layers=8, vocab_size=250112)
    assert check_settings(mesh, T5_CONFIG, "mt5_small_config.json") == mesh
    theirs = dict(
        GOOGLE, model_type="bert", position_embedding_type="absolute", num_hidden_groups=1, rotary_value=False
    )
    assert check_settings(theirs, HF_BERT, "config.json") == theirs


@hypothesis.given(VALUES)
def test_json_is_read_as_python_reads_it(value):
    text = json.dumps(value).encode("utf-8")
    assert parse_json(text) == json.loads(text.decode("utf-8"))
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(value, ensure_ascii=False).encode("utf-8")) == value


@hypothesis.given(strategies.binary(max_size=60))
def test_bytes_that_are_no_json_have_a_reason_on_one_line(data):
    try:
        parse_json(data)
    except ValueError as error:
        assert str(error).startswith("it ") and "\n" not in str(error)


@pytest.mark.parametrize(
    "text, reason",
    [
        (b"", "it is empty"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": ' + b"1" * 10**6 + b"}", "a number has 1000000 digits"),
        (b'{"a": 1, "a": 2}', "the key 'a' appears twice with different values"),
        (b'{"a": "\\ud83d"}', "one half of a surrogate pair"),
        (b'{"\xc4\xe3": 1}', "not UTF-8 .byte 2 is 0xc4"),
        (b"[" * 10**5, "more than %d levels" % DEPTH),
        (b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1), "more than %d levels" % DEPTH),
    ],
)
def test_what_is_refused_in_json(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_what_is_harmless_in_json():
    assert parse_json(b'{"a": 1, "a": 1}') == {"a": 1}
    assert parse_json('{"a": "\\ud83d\\ude00"}'.encode()) == {"a": "\U0001f600"}
    assert parse_json(b"[" * DEPTH + b"]" * DEPTH)


@pytest.mark.parametrize("error", [UserError, WeightsError])
def test_files_that_are_none(tmp_path, error):
    os.mkfifo(str(tmp_path / "pipe"))
    (tmp_path / "large").write_bytes(b" " * (MOST_BYTES + 1))
    (tmp_path / "list").write_bytes(b"[]")
    wrong = {"none": "No such file", "": "a folder", "pipe": "no ordinary file", "large": "more than 64 MB"}
    wrong.update({"list/x": "Not a directory", "\udcff": "No such file"})
    for name, reason in wrong.items():
        with pytest.raises(error, match="cannot be read: .*" + reason):
            read_json(os.path.join(str(tmp_path), name), error=error)
    with pytest.raises(error, match="cannot be read: it is no ordinary file"):
        read_json("/dev/zero", error=error)
    with pytest.raises(error, match="it is no JSON object; it is a list of 0 entries"):
        read_settings(str(tmp_path / "list"), BERT_CONFIG, error=error)


def test_what_the_shell_makes_of_a_command_is_read():
    reading, writing = os.pipe()
    os.write(writing, b"[0, 1, 5]")
    os.close(writing)
    assert read_token_ids("/dev/fd/%d" % reading) == [0, 1, 5]
    os.close(reading)


SIZES = {"size": words.whole(1, 9), "rate": words.number(above=0, below=1), "kind": words.one_of("a", "b", None)}
SIZES.update(names=words.list_of(words.NAME, 2, 2), flag=words.FLAG, column=words.either(words.NAME, words.whole(0)))
FILE = Settings(words.keys(SIZES, ["size"], others=False), remedy="Write it anew.")


@pytest.mark.parametrize(
    "value, message",
    [
        ({}, "expected the key 'size', a whole number from 1 to 9; found nothing"),
        ({"size": True}, "size is true; it must be a whole number from 1 to 9"),
        ({"size": 10**30}, "size is a number of 31 digits; it must be a whole number from 1 to 9"),
        ({"size": 10**400}, "size is a number of 401 digits; it must be finite"),
        ({"size": 1.5}, "size is 1.5; it must be a whole number from 1 to 9"),
        ({"size": 1, "rate": 1}, "rate is 1; it must be a number above 0 and below 1"),
        ({"size": 1, "rate": float("inf")}, "rate is inf; it must be finite"),
        ({"size": 1, "kind": "\x1b[31m"}, r"kind is '\\x1b\[31m'; it is one of a, b, null"),
        (
            {"size": 1, "names": ["a"]},
            "names is a list of 1 entry; it must be a list of 2 entries, each a string that is not empty",
        ),
        ({"size": 1, "names": ["a", ""]}, r"names\[1\] is ''; it must be a string that is not empty"),
        ({"size": 1, "flag": "false"}, "flag is 'false'; it must be true or false"),
        ({"size": 1, "column": None}, "column is null; it must be a string .*, or a whole number from 0"),
        ({"size": 1, "sise": 2}, "it has what this version does not have: sise"),
    ],
)
def test_messages_name_key_value_range_and_what_to_do(value, message):
    with pytest.raises(WeightsError, match="^a.json: %s[.] Write it anew.$" % message):
        check_settings(value, FILE, "a.json")


def test_numbers_of_other_types_are_those_of_json():
    given = {"size": np.int64(3), "rate": np.float32(0.5), "names": ("a", "b"), "column": 2.0}
    found = check_settings(given, FILE, "a.json")
    assert found == {"size": 3, "rate": 0.5, "names": ["a", "b"], "column": 2} and type(found["column"]) is int


@hypothesis.given(VALUES)
def test_a_value_fits_a_nullable_schema_if_it_is_null_or_fits(value):
    for schema in SIZES.values():
        assert matches(value, words.nullable(schema)) == (value is None or matches(value, schema))
        assert expected(words.nullable(schema)).endswith("null")
