"""Settings files of a run, and of what is saved for later, changed in 200 ways: a clear line, or the same answers."""

import argparse
import json
import sys

import numpy as np
import pytest
from helpers import tiny_bert_folder
from prompts import PATTERN, WORDS, tiny_mlm
from prompts import tokenizer as prompt_tokenizer
from reviews import reviews, write_rows
from settings_edits import edits, is_clear, refusals

from kexue_keras.cli import main as cli
from kexue_keras.cli.predict import predict_file
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune import Classifier, finetune
from kexue_keras.finetune._run_folder import RunFolder, surroundings
from kexue_keras.finetune._seq2seq_training import _described, finetune_seq2seq
from kexue_keras.finetune.classification._class_weights import read_weights
from kexue_keras.finetune.classification._heads import build_classifier, save_head
from kexue_keras.models import load
from kexue_keras.options.finetune import add_table_arguments, make_options
from kexue_keras.prompting import PromptClassifier
from kexue_keras.similarity import SentenceEncoder
from kexue_keras.tokenizing.saved import load_tokenizer, save_tokenizer

METRICS = {"best_epoch": 1, "main_metric": "accuracy", "history": [{"epoch": 1}], "seconds": 1.5, "majority": 0.5}


def dump(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run that was never trained: (folder, config.json, its Keras model built once)."""
    folder, model = tmp_path / "run", tiny_bert_folder(tmp_path / "bert", num_hidden_layers=1)
    data = write_rows(tmp_path / "train.tsv", reviews(20))
    options = make_options(model=model, data=data, out=str(folder), max_length=16, batch_size=4)
    config = dict(
        {"columns": {"text": 0, "text_b": None, "label": 1}, "pairs": False, "header": False, "head": "single"},
        labels=["好评", "差评"],
        texts={"train": 18, "valid": 2},
        **surroundings(),
    )
    folder.mkdir()
    kept = {name: value for name, value in vars(options).items() if name not in ("resume", "overwrite", "config")}
    dump(folder / "config.json", dict(config, options=kept, fingerprints={}))
    dump(folder / "metrics.json", METRICS)
    pretrained = load(model)
    save_tokenizer(pretrained.tokenizer, str(folder))
    built = build_classifier(pretrained.model, 2, pooling="mean", dropout_rate=0.0, seed=0)
    save_head(str(folder / "head.npz"), built)
    monkeypatch.setattr("kexue_keras.models.load", lambda path: pretrained)
    return folder, RunFolder(str(folder)).config(), options


def prediction_options(folder, tmp_path, text):
    """What `kexue-keras predict` hands on for a file with `text`."""
    parser = argparse.ArgumentParser()
    add_table_arguments(parser, for_labels=False)
    options = parser.parse_args([])
    options.run, options.data, options.out = str(folder), str(tmp_path / "train.txt"), str(tmp_path / "out.tsv")
    options.overwrite, options.text, options.quiet, options.batch_size = True, False, True, None
    (tmp_path / "train.txt").write_text(text, encoding="utf-8")
    return options


def test_config_of_a_run(run, tmp_path):
    folder, config, _ = run
    options = prediction_options(folder, tmp_path, "好书\n很差的电影\n")

    def read():
        predict_file(options)
        return [line.split("\t") for line in open(options.out, encoding="utf-8").read().splitlines()[1:]]

    usual = np.array([float(probability) for _, probability in read()])
    assert abs(usual - 0.5).min() > 1e-4
    for what, rows in refusals(folder / "config.json", config, read, seed=1):
        # Whatever was changed, no text gets the 0.5 of a model that was not asked, and no label that is not there.
        np.testing.assert_allclose([float(probability) for _, probability in rows], usual, atol=1e-6, err_msg=what)
    for name, wrong in (("batch_size", -8), ("batch_size", "8"), ("max_length", 0), ("max_length", 10**5)):
        dump(folder / "config.json", dict(config, options=dict(config["options"], **{name: wrong})))
        with pytest.raises(UserError, match="config.json: options.%s is .*; it must be a whole number from" % name):
            Classifier.load(str(folder))
    columns = {"text": 0, "text_b": "回复", "label": 1}
    wrong = {"pairs is true, but columns.text_b is null": {"pairs": True}}
    wrong["columns has names and numbers"] = {"columns": columns, "pairs": True}
    wrong["labels is null, but options.task is 'classification'"] = {"labels": None}
    wrong["labels is a list of 2 entries, but options.task is 'sim"] = {"options": {"task": "similarity"}}
    for message, changes in wrong.items():
        dump(folder / "config.json", dict(config, **changes))
        with pytest.raises(UserError, match="config.json: " + message):
            predict_file(options)
    dump(folder / "config.json", dict(config, labels=["好评", "差评", "中评"]))
    with pytest.raises(
        UserError, match=r"head.npz: the kernel of the head is float32 \[16, 2\]; .* it is float32 \[16, 3\]"
    ):
        Classifier.load(str(folder))


def test_config_of_a_run_for_similarity(run, tmp_path, monkeypatch):
    class Encoder(object):
        def similarity(self, a, b, batch_size):
            assert type(batch_size) is int and batch_size >= 1 and len(a) == len(b)
            return np.zeros(len(a))

    folder, config, _ = run
    monkeypatch.setattr("kexue_keras.finetune._similarity.load_similarity", lambda path: Encoder())
    config = dict(config, pairs=True, labels=None, head="cosent", columns={"text": 0, "text_b": 1, "label": 2})
    config["options"] = {"task": "similarity", "batch_size": 4, "max_length": 16}
    options = prediction_options(folder, tmp_path, "好书\t书好\n很差的电影\t电影\n")
    dump(folder / "config.json", config)
    assert refusals(folder / "config.json", config, lambda: predict_file(options), seed=10)


def test_options_of_a_run_repeated_and_resumed(run, tmp_path, capsys):
    folder, config, options = run
    source = tmp_path / "again.json"
    dump(source, config)
    # Data that are not there, so that nothing is trained; the command line has the last word.
    line = ["finetune", "--config", str(source), "--data", str(tmp_path / "none"), "--out", str(tmp_path / "new")]

    def repeat():
        assert cli.main(line) == 2
        said = capsys.readouterr().err
        assert said.startswith("kexue-keras finetune: ") and said.count("\n") == 1, said
        raise UserError(said.strip() + " again.json")

    for what, data in edits(config["options"], seed=2):
        # Only what is still JSON: what is not is the same for every file.
        try:
            dump(source, {"options": json.loads(data.decode("utf-8"))})
        except (ValueError, RecursionError):
            continue
        try:
            repeat()
        except UserError as error:
            assert is_clear(str(error), "again.json"), (what, str(error))
    resumed = dict(vars(options), resume=True, say=lambda line: None)
    assert refusals(folder / "metrics.json", METRICS, lambda: finetune(**resumed), seed=3)
    for what, metrics in refusals(
        folder / "config.json", config, lambda: finetune(**resumed), seed=4, name=str(folder)
    ):
        assert metrics == METRICS, what


def test_saved_tokenizers(tmp_path):
    save_tokenizer(prompt_tokenizer(), str(tmp_path))
    path = tmp_path / "tokenizer_settings.json"
    said = dict(json.loads(path.read_text()), token_translate={"好": "坏"})
    dump(path, said)
    for what, ids in refusals(path, said, lambda: load_tokenizer(str(tmp_path)).encode("好书")[0], seed=5):
        assert 3 <= len(ids) <= 4, what
    dump(path, dict(said, vocabulary="../../etc/passwd"))
    with pytest.raises(UserError, match="vocabulary is '../../etc/passwd'; it is one of vocab.txt"):
        load_tokenizer(str(tmp_path))


def test_sentence_encoders_and_their_whitening(tmp_path, monkeypatch):
    pretrained = load(tiny_bert_folder(tmp_path / "bert", num_hidden_layers=1))
    encoder = SentenceEncoder(pretrained, max_length=16).fit_whitening([text for text, _ in reviews(40)], 4)
    expected = encoder.encode(["好书"])
    monkeypatch.setattr(sys.modules["kexue_keras.similarity._encoder"], "load", lambda *args, **more: pretrained)
    path, whitening = tmp_path / "sentence_encoder.json", tmp_path / "whitening.npz"
    dump(path, {"pooling": "mean", "max_length": 16, "whitening": True})
    np.savez(str(whitening), mean=encoder.whitening.mean, kernel=encoder.whitening.kernel)
    said = json.loads(path.read_text())
    assert refusals(path, said, lambda: SentenceEncoder.load(str(tmp_path)), seed=6)
    np.testing.assert_allclose(SentenceEncoder.load(str(tmp_path)).encode(["好书"]), expected, atol=1e-6)
    good, kernel, mean = whitening.read_bytes(), encoder.whitening.kernel, encoder.whitening.mean
    wrong = [{}, {"mean": mean}, {"mean": mean[:3], "kernel": kernel}, {"mean": mean, "kernel": kernel[0]}]
    wrong += [{"mean": mean, "kernel": kernel[:3]}, {"mean": mean, "kernel": kernel[:, :0]}]
    wrong += [{"mean": mean * np.nan, "kernel": kernel}, {"mean": mean.astype(str), "kernel": kernel}]
    wrong += [{"mean": np.array([None] * 16), "kernel": kernel}, {"mean": mean, "kernel": np.zeros([16, 10**5])}]
    files = [good[:100], b"", good[:-30], b"PK\x03\x04" + b"\0" * 50]
    for arrays in wrong:
        np.savez(str(whitening), **arrays)
        files.append(whitening.read_bytes())
    for data in files:
        whitening.write_bytes(data)
        with pytest.raises(WeightsError) as error:
            SentenceEncoder.load(str(tmp_path))
        assert is_clear(str(error.value), "whitening.npz"), str(error.value)


def test_prompt_classifiers(tmp_path, monkeypatch):
    pretrained = tiny_mlm()
    monkeypatch.setattr(sys.modules["kexue_keras.prompting._folder"], "load", lambda *args, **more: pretrained)
    classifier = PromptClassifier(pretrained, PATTERN, WORDS, max_length=32, allow_untrained_head=True)
    expected = classifier.predict_proba(["好书"])
    said = {"patterns": [PATTERN], "weights": [1.0], "max_length": 32, "batch_size": 8}
    said["verbalizer"] = classifier.verbalizer.get_config()
    said["prior"] = None
    dump(tmp_path / "prompt.json", said)
    for what, again in refusals(
        tmp_path / "prompt.json",
        said,
        lambda: PromptClassifier.load(str(tmp_path), allow_untrained_head=True),
        seed=7,
    ):
        assert len(again.labels) == 2, what
    again = PromptClassifier.load(str(tmp_path), allow_untrained_head=True)
    np.testing.assert_allclose(again.predict_proba(["好书"]), expected, atol=1e-6)
    dump(tmp_path / "prompt.json", dict(said, batch_size=-8))
    with pytest.raises(WeightsError, match="prompt.json: batch_size is -8; it must be a whole number from 1"):
        PromptClassifier.load(str(tmp_path))
    dump(tmp_path / "prompt.json", dict(said, prior=[[-0.5]]))
    with pytest.raises(WeightsError, match="prior has to have a number per pattern .1. and label .2."):
        PromptClassifier.load(str(tmp_path))


def test_runs_that_make_one_text_of_another(tmp_path):
    pairs = [("看电影", "好"), ("书", "店")]
    given = dict(model="none", train=pairs, valid=pairs, epochs=1, seed=1, source=None, target=None, beams=1)
    given.update(
        batch_size=2, max_source_length=12, max_target_length=5, learning_rate=0.1, dropout_rate=None, test=None
    )
    said = dict(given, train=_described(pairs), valid=_described(pairs), techniques={})
    (tmp_path / "run").mkdir()
    dump(tmp_path / "run" / "metrics.json", METRICS)
    dump(tmp_path / "run" / "config.json", said)
    for what, found in refusals(
        tmp_path / "run" / "config.json",
        said,
        lambda: finetune_seq2seq(out=str(tmp_path / "run"), resume=True, say=lambda line: None, **given),
        seed=8,
        name=str(tmp_path / "run"),
    ):
        assert found == METRICS, what


def test_files_of_class_weights(tmp_path):
    path, good = tmp_path / "weights.tsv", "好评\t0.5\n差评\t3\n"
    random = np.random.RandomState(9)
    changed = [good.replace("0.5", new) for new in "nan inf -inf -1 0 1e999 １ ² x".split()] + [good + good, "\t", "好评"]
    changed = [text.encode("utf-8") for text in changed] + [b"\xff\xfe", b"\0" * 99, b"", good.encode("gbk")]
    for _ in range(60):
        data = bytearray(good.encode("utf-8"))
        for place in random.randint(0, len(data), 2):
            data[place] = random.randint(256)
        changed.append(bytes(data))
    for data in changed:
        path.write_bytes(data)
        try:
            assert (read_weights(str(path), ["好评", "差评"]) > 0).all()
        except UserError as error:
            assert is_clear(str(error), "weights.tsv"), (data, str(error))
    path.write_text(good + "好评\t2\n", encoding="utf-8")
    with pytest.raises(UserError, match="weights.tsv:3: the label '好评' appears twice"):
        read_weights(str(path), ["好评", "差评"])


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"batch_size": -8}, "--batch-size is -8; it must be a whole number from 1"),
        ({"epochs": "3"}, "--epochs is '3'; it must be a whole number"),
        ({"warmup": float("nan")}, "--warmup is nan; it must be a finite number"),
        ({"warmup": 10**400}, "--warmup is a number of 401 digits; it must be a finite number"),
        ({"max_line": 10**20}, "--max-line is a number of 21 digits; it must be a whole number from 1"),
        ({"pooling": ["mean"]}, "--pooling is a list of 1 entry; it is one of cls"),
        ({"quiet": "yes"}, "--quiet is 'yes'; it must be true or false"),
        ({"score_range": (0,)}, "--score-range is a list of 1 entry; it must be a list of 2 entries, each a number"),
    ],
)
def test_the_function_checks_its_options_by_the_same_ranges(wrong, message):
    with pytest.raises(UserError, match=message):
        finetune("none", "none.tsv", "none", **wrong)


def test_options_of_other_libraries_types(tmp_path):
    options = make_options(
        epochs=np.int64(2), learning_rate=np.float32(0.5), data=tmp_path / "a.tsv", score_range=(0, 5)
    )
    assert (options.epochs, options.learning_rate, options.score_range) == (2, 0.5, [0, 5])
    assert options.data == str(tmp_path / "a.tsv") and type(options.epochs) is int
    assert make_options(batch_size=8.0).batch_size == 8 and make_options(recompute=True).recompute is True
