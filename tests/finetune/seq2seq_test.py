"""Seq2Seq and its fine-tuning: teacher forcing, learning, going on after a stop, what is saved, errors."""

import json
import os
import sys

import numpy as np
import pytest
from helpers import tiny_bert_folder, tiny_vocabulary

from kexue_keras.backend import K, keras, stack_name
from kexue_keras.errors import UserError
from kexue_keras.finetune import finetune_seq2seq, generation_scores, load_seq2seq, read_pairs
from kexue_keras.losses import MaskedCrossentropy

PAIRS = [("今天电影很好", "电影"), ("书店服务好", "书店"), ("我们看电影", "电影"), ("我喜欢书店", "书店")]
SIZES = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_source_length=12, max_target_length=5)


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(tiny_vocabulary()) + "\n", encoding="utf-8")
    return str(path)


def test_teacher_forcing_of_a_t5(vocabulary):
    seq2seq = load_seq2seq("small-t5", vocabulary=vocabulary, **SIZES)
    encoded = seq2seq.encode_pairs([("看电影", "好"), ("书", "喜欢书店服务好")])
    cls, sep = 2, 3
    assert [len(s) for s, _ in encoded] == [5, 3] and encoded[0][0][0] == cls and encoded[0][0][-1] == sep
    assert [len(t) for _, t in encoded] == [2, 5] and encoded[1][1][-1] == sep
    inputs, targets = seq2seq.batch(encoded)
    np.testing.assert_array_equal(targets[0, 2:], 0)
    np.testing.assert_array_equal(inputs[1][:, 0], 0)
    np.testing.assert_array_equal(inputs[1][:, 1:], targets[:, :-1])
    assert [x.shape for x in inputs] == [(2, 5), (2, 5)]


def test_teacher_forcing_of_a_unilm(tmp_path):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    with pytest.warns(UserWarning, match="cls/predictions"):
        seq2seq = load_seq2seq(folder, max_source_length=12, max_target_length=5)
    assert seq2seq.architecture == "unilm"
    (source, target), (other, last) = encoded = seq2seq.encode_pairs([("看电影", "好"), ("书", "店")])
    (tokens, segments), targets = seq2seq.batch(encoded)
    np.testing.assert_array_equal(tokens[0], source + target)
    np.testing.assert_array_equal(segments[0], [0] * 5 + [1] * 2)
    # At the end of the source the first target token is to be predicted, at the last target token nothing.
    np.testing.assert_array_equal(targets[0], [0] * 4 + target + [0])
    np.testing.assert_array_equal(targets[1], [0, 0] + last + [0, 0, 0])
    texts = seq2seq.generate(["看电影", "书"], beams=2)
    assert len(texts) == 2 and texts == seq2seq.generate(["看电影", "书"], beams=2, batch_size=1)
    with pytest.raises(UserError, match="60 . max_target_length 5 are more than the 64 positions"):
        load_seq2seq(folder, max_source_length=60, max_target_length=5)


@pytest.mark.all_stacks
@pytest.mark.filterwarnings("ignore:.*start from random values")
def test_a_unilm_is_trained_on_the_target_tokens_alone(tmp_path):
    seq2seq = load_seq2seq(
        tiny_bert_folder(tmp_path, num_hidden_layers=1), max_source_length=12, max_target_length=5, dropout_rate=0.0
    )
    encoded = seq2seq.encode_pairs(PAIRS)
    everywhere, targets = seq2seq.batch(encoded, rounding=8)
    inputs, wanted = seq2seq.training_batch(encoded, rounding=8)
    assert [x.shape for x in inputs] == [(4, 16), (4, 16), (4, 8)] and wanted.shape == (4, 8, 1)
    for row in range(4):
        assert list(wanted[row, wanted[row, :, 0] > 0, 0]) == list(targets[row][targets[row] > 0])
    logits = [seq2seq.model.predict(everywhere), seq2seq.training_model.predict(inputs)]
    np.testing.assert_allclose(logits[1][wanted[..., 0] > 0], logits[0][targets > 0], atol=1e-5)
    # A step is the same, and of the same weights: those that generate and that are saved.
    steps, before = [], seq2seq.model.get_weights()
    for model, batch in (
        (seq2seq.model, (everywhere, targets[..., None])),
        (seq2seq.training_model, (inputs, wanted)),
    ):
        seq2seq.model.set_weights(before)
        model.compile(keras.optimizers.SGD(0.5), MaskedCrossentropy())
        steps.append([model.train_on_batch(*batch)] + seq2seq.model.get_weights())
    for everywhere, alone in zip(*steps):
        np.testing.assert_allclose(alone, everywhere, atol=1e-5)
    assert max(np.abs(after - b).max() for after, b in zip(steps[1][1:], before)) > 1e-3


@pytest.mark.all_stacks
@pytest.mark.parametrize("kind", ["t5", "unilm"])
@pytest.mark.filterwarnings("ignore:.*start from random values")
def test_the_loss_of_a_token_is_that_of_the_texts_however_they_are_batched_or_trained(kind, vocabulary, tmp_path):
    if kind == "t5":
        seq2seq = load_seq2seq("small-t5", vocabulary=vocabulary, **SIZES)
    else:
        folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
        seq2seq = load_seq2seq(folder, max_source_length=12, max_target_length=5)
    losses = []
    for source, target in seq2seq.encode_pairs(PAIRS[:3]):
        inputs, targets = seq2seq.batch([(source, target)])
        logits = seq2seq.model.predict(inputs)[0].astype("float64")
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        losses += [-logits[i, token] for i, token in enumerate(targets[0]) if token]
    for batch_size in (1, 2, 3):
        assert abs(seq2seq.token_loss(PAIRS[:3], batch_size=batch_size) - np.mean(losses)) < 1e-5
    # The training has another loss.
    for model in (seq2seq.model, seq2seq.training_model):
        model.compile("sgd", "mse")
    assert abs(seq2seq.token_loss(PAIRS[:3]) - np.mean(losses)) < 1e-5
    assert seq2seq.token_loss([]) == 0


@pytest.mark.filterwarnings("ignore:.*start from random values")
def test_it_learns_stops_goes_on_and_is_loaded_in_a_fresh_process(tmp_path, run_python):
    bert = tiny_bert_folder(tmp_path / "bert", num_hidden_layers=1)
    options = dict(valid=PAIRS[:2], learning_rate=1e-2, batch_size=2, epochs=20, quiet=True)
    options.update(max_source_length=12, max_target_length=5, dropout_rate=0.1)

    class Stop(Exception):
        pass

    def stop_in_epoch_3(line):
        if line.startswith("epoch 3"):
            raise Stop(line)

    whole = finetune_seq2seq(bert, PAIRS, str(tmp_path / "whole"), say=lambda line: None, **options)
    assert whole["valid"]["rouge-l"] > 99 and whole["valid"]["texts"] == 2
    K.clear_session()
    broken = str(tmp_path / "broken")
    with pytest.raises(Stop):
        finetune_seq2seq(bert, PAIRS, broken, say=stop_in_epoch_3, **options)
    with pytest.raises(UserError, match="there is a run already; resume continues"):
        finetune_seq2seq(bert, PAIRS, broken, **options)
    with pytest.raises(UserError, match="batch_size was 2 and is 3 now"):
        finetune_seq2seq(bert, PAIRS, broken, resume=True, **dict(options, batch_size=3))
    K.clear_session()
    said = []
    resumed = finetune_seq2seq(bert, PAIRS, broken, resume=True, say=said.append, **options)
    assert "resuming after epoch 2, batch 0 (step 4 of 40)" in said[0]
    # The same dropout masks and the same batches as without the stop.
    assert [set(row) for row in resumed["history"]] == [set(row) for row in whole["history"]]
    for ours, theirs in zip(resumed["history"], whole["history"]):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    # Nothing is left to do, and what was saved writes the same.
    assert finetune_seq2seq(bert, PAIRS, broken, resume=True, **options) == json.loads(json.dumps(resumed))
    source = "import json, sys; from kexue_keras.finetune import load_seq2seq\n"
    source += "model = load_seq2seq(sys.argv[1], max_source_length=12, max_target_length=5)\n"
    source += "print(json.dumps(model.generate(json.loads(sys.argv[2]))))"
    out = run_python(source, os.path.join(broken, "model"), json.dumps([source for source, _ in PAIRS[:2]]))
    texts = json.loads(out.splitlines()[-1])
    with open(os.path.join(broken, "generated.tsv"), encoding="utf-8") as handle:
        rows = [line.rstrip("\n").split("\t") for line in handle][1:]
    assert rows == [[text, target, source] for text, (source, target) in zip(texts, PAIRS)]


def test_scores():
    scores = generation_scores(["今天天气好", "abC", "", "."], ["今天天气好", "abc", "好", "好"])
    assert scores["rouge-1"] == scores["rouge-2"] == scores["rouge-l"] == pytest.approx(50, abs=1e-3)
    # A text of three characters has no 4-gram; method 1 counts 0.1 of one, and there is none: 0.
    assert scores["bleu"] == pytest.approx(25 + 25 * generation_scores(["abc"], ["abc"])["bleu"] / 100, abs=1e-6)
    # Each n-gram counts once: {今, 天, 好} against {今, 天, 气}; pairs {今天, 天好} against {今天, 天气}.
    scores = generation_scores(["今天好"], ["今天气"])
    assert scores["rouge-1"] == pytest.approx(200 / 3.0, abs=1e-3) and scores["rouge-2"] == pytest.approx(50, abs=1e-3)
    assert scores["rouge-l"] == pytest.approx(200 / 3.0, abs=1e-3)
    with pytest.raises(ValueError, match="1 generated texts for 2 references"):
        generation_scores(["a"], ["a", "b"])


def test_scores_without_the_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge", None)
    with pytest.raises(UserError, match="pip install rouge"):
        generation_scores(["a"], ["a"])


def test_pairs_from_files(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    wanted = [("长文", "题"), ("又一篇", "目")]
    assert read_pairs(write("csl.tsv", "to title\t长文\t题\nto title\t又一篇\t目\n")) == wanted
    assert read_pairs(write("a.json", '{"title": "题", "abst": "长文"}\n{"title": "目", "abst": "又一篇"}\n')) == wanted
    assert read_pairs(write("b.tsv", "x\ty\n题\t长文\n目\t又一篇\n"), source="y", target="x") == wanted
    assert read_pairs(write("c.tsv", "题\t长文\n目\t又一篇\n"), source="2", target="1") == wanted
    for name, text, given, message in [
        ("d.tsv", "长文\n", {}, "one column; a source and a target"),
        ("e.json", '{"a": "长文", "b": "题"}\n', {}, "which columns are source and target.*there are: a, b"),
        ("f.tsv", "长文\t题\n", {"source": "1"}, "given both or not at all"),
        ("g.tsv", "长文\t\n", {}, "empty"),
    ]:
        with pytest.raises(UserError, match=message):
            read_pairs(write(name, text), **given)


def test_what_cannot_be_trained(tmp_path, vocabulary):
    with pytest.raises(UserError, match="there are no train pairs"):
        finetune_seq2seq("small-t5", [], str(tmp_path / "out"), valid=PAIRS)
    with pytest.raises(UserError, match="exclude each other"):
        finetune_seq2seq("small-t5", PAIRS, str(tmp_path / "out"), valid=PAIRS, resume=True, overwrite=True)
    with pytest.raises(UserError, match="holds no run"):
        finetune_seq2seq("small-t5", PAIRS, str(tmp_path), valid=PAIRS)
    with pytest.raises(UserError, match="no model 'nothing'"):
        load_seq2seq("nothing")
    with pytest.raises(UserError, match="name of the run's folder is empty"):
        finetune_seq2seq("small-t5", PAIRS, "", valid=PAIRS)
    with pytest.raises(UserError, match="standard input: --train: this can be read only once"):
        finetune_seq2seq("small-t5", "-", str(tmp_path / "out"), valid=PAIRS)
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_with_its_vocabulary_and_is_kept_when_another_fails(vocabulary, tmp_path, monkeypatch):
    out = tmp_path / "out"
    options = dict(SIZES, valid=PAIRS, vocabulary=vocabulary, quiet=True)

    def interrupted(loop):
        raise KeyboardInterrupt

    monkeypatch.setattr("kexue_keras.finetune._seq2seq_training.Trainer.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finetune_seq2seq("small-t5", PAIRS, str(out), **options)
    # As if it had been finished.
    metrics = {"best_epoch": 1, "history": [], "seconds": 1}
    for name in ("metrics.json", "generated.tsv"):
        (out / name).write_text(json.dumps(metrics))
    assert finetune_seq2seq("small-t5", PAIRS, str(out), resume=True, **options) == metrics
    before = sorted(os.listdir(str(out)))
    K.clear_session()
    with pytest.raises(KeyboardInterrupt):
        finetune_seq2seq("small-t5", PAIRS, str(out), overwrite=True, **dict(options, seed=2))
    assert sorted(os.listdir(str(out))) == before
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["seed"] == 1 and config["fingerprints"] and config["stack"] == stack_name()
    with open(vocabulary, "a", encoding="utf-8") as handle:
        handle.write("新\n")
    with pytest.raises(UserError, match="vocab.txt: --resume: the file has changed"):
        finetune_seq2seq("small-t5", PAIRS, str(out), resume=True, **options)
