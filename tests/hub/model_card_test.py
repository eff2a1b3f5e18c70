"""Model cards: front matter that is YAML, what is unknown left out, paths not told; the list of known names."""

import json

import pytest

from kexue_keras import models
from kexue_keras.checkpoints._bundled import BUNDLED, CONFIG, bundled_config
from kexue_keras.hub import model_card
from kexue_keras.hub._model_card import licence_of
from kexue_keras.hub._run_card import run_card

CONFIG_OF_RUN = {
    "options": {
        "model": "/home/me/secret/bert",
        "data": "/home/me/secret/train.tsv",
        "valid": None,
        "test": "/x/te|st.tsv",
    },
    "labels": ["坏", "好"],
    "pairs": False,
    "texts": {"train": 90, "valid": 10, "test": 5},
    "stack": "keras",
    "versions": {"tensorflow": "1.15.5"},
}
METRICS = {
    "best_epoch": 2,
    "history": [{}, {}, {}],
    "seconds": 3.5,
    "valid": {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "macro_f1": 0.88, "texts": 10, "classes": {}},
    "test": {"accuracy": 0.8, "accuracy_interval": [0.6, 0.9], "macro_f1": 0.79},
}


def front_matter(text):
    yaml = pytest.importorskip("yaml")
    assert text.startswith("---\n")
    return yaml.safe_load(text[4 : text.index("\n---", 4)])


def test_the_card_of_a_run_says_what_is_known_and_no_more():
    text = run_card(CONFIG_OF_RUN, METRICS)
    matter = front_matter(text)
    assert matter["pipeline_tag"] == "text-classification" and matter["metrics"] == ["accuracy", "f1"]
    assert "license" not in matter and "base_model" not in matter and "Not known here" in text
    assert "secret" not in text and "bert on train.tsv" in text
    results = matter["model-index"][0]["results"]
    assert [one["dataset"]["name"] for one in results] == ["a part of train.tsv", "te|st.tsv"]
    assert results[1]["metrics"][0] == {"type": "accuracy", "value": 0.8, "name": "accuracy"}
    assert "| te\\|st.tsv | test | accuracy | 0.8000 (95% interval 0.6000 to 0.9000) |" in text
    assert "Classifier.load(" in text and "| labels | 坏, 好 |" in text and "3, the best is 2" in text


@pytest.mark.parametrize("task", ["similarity", "math-word-problems", "ner", "another"])
def test_every_task_has_a_card(task):
    config = dict(CONFIG_OF_RUN, options=dict(CONFIG_OF_RUN["options"], task=task, model="hfl/chinese-macbert-base"))
    matter = front_matter(run_card(config, {"test": {"spearman": 0.7, "f1": 0.5}}))
    assert matter["license"] == "apache-2.0" and matter["base_model"] == "hfl/chinese-macbert-base"
    assert matter["metrics"] == ["f1", "spearmanr"]


def test_lines_and_quotes_do_not_break_the_front_matter():
    name = 'a "b"\n---\nlicense: mit: [x'
    metrics = [{"name": name, "type": "accuracy", "value": 1, "data": name, "part": "test"}]
    text = model_card(name, about="x", usage="pass", licence=name, tags=[name], metrics=metrics)
    matter = front_matter(text)
    assert matter["license"] == matter["tags"][0] == 'a "b" --- license: mit: [x'


def test_the_licence_of_a_folder_is_what_its_card_says(tmp_path):
    assert licence_of("me5-zh-char-mlm") == "other" and licence_of(str(tmp_path)) is None
    for text, licence in [
        ("---\nlanguage: zh\nlicense: apache-2.0\n---\n# x", "apache-2.0"),
        ('---\r\nlicense: "mit"\r\n---', "mit"),
        ("# x\nlicense: mit", None),
    ]:
        (tmp_path / "README.md").write_bytes(text.encode())
        assert licence_of(str(tmp_path)) == licence


def test_presets_have_the_bundled_models_with_their_sizes():
    found = {one.name: one for one in models.presets()}
    assert {name for name, one in found.items() if one.bundled} == set(BUNDLED)
    hidden = CONFIG["hidden_size"]
    blocks = CONFIG["num_hidden_layers"] * (12 * hidden * hidden + 13 * hidden)
    for name in ("me5-zh-char", "me5-zh-sp"):
        weights = blocks + hidden * (bundled_config(name)["vocab_size"] + 512 + 2 + 2)
        assert found[name].parameters == pytest.approx(weights / 1e6, abs=0.1)
    assert [one.name for one in models.presets("T5")] == ["google/mt5-small"]
    table = repr(models.presets()).splitlines()
    assert len(table) == 1 + len(found) and "bundled" in table[1] and "MIT" in table[1]
    assert json.dumps(models.presets())
