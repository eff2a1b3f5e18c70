"""`finetune --task similarity`: the whole way, what is refused; training by steps: several sets, SimBERT."""

import os
import warnings

import numpy as np
import pytest
from helpers import CHARACTERS, tiny_bert_folder
from scipy.stats import spearmanr

from kexue_keras.backend import K, keras
from kexue_keras.cli import main as cli
from kexue_keras.cli.similar import open_encoder, similar
from kexue_keras.data import read_scored_pairs
from kexue_keras.errors import UserError
from kexue_keras.finetune import PairSet, SimBERT, finetune, train_sentence_bert
from kexue_keras.finetune._corpus import warn_of_overlap
from kexue_keras.finetune._run import Run
from kexue_keras.finetune._sentence_bert import PairSampler
from kexue_keras.finetune._similarity import check_similarity, checked_range
from kexue_keras.finetune._similarity_heads import head_lr_multiplier
from kexue_keras.optimizers import GradientAccumulation
from kexue_keras.options.choices import HEAD_LR_MULTIPLIERS
from kexue_keras.options.finetune import make_options
from kexue_keras.similarity import pair_classifier
from kexue_keras.trainer import Techniques, Trainer

SMALL = dict(
    task="similarity",
    epochs=2,
    batch_size=4,
    max_length=12,
    learning_rate=3e-3,
    quiet=True,
    seed=3,
    num_hidden_layers=1,
)


def scored_pairs(count, seed=0):
    """Lines text, text, score: the share of characters that stay decides the score."""
    random = np.random.RandomState(seed)
    rows = []
    for _ in range(count):
        score = random.randint(0, 6)
        a = random.choice(list(CHARACTERS), 6)
        b = [c if random.rand() < score / 5 else random.choice(list(CHARACTERS)) for c in a]
        rows.append("%s\t%s\t%d\n" % ("".join(a), "".join(b), score))
    return "".join(rows)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a tiny model and pairs."""
    folder = tmp_path_factory.mktemp("similarity")
    K.clear_session()
    tiny_bert_folder(folder / "tiny")
    K.clear_session()
    for seed, (name, count) in enumerate([("train", 24), ("valid", 12), ("test", 12)]):
        (folder / (name + ".data")).write_text(scored_pairs(count, seed), encoding="utf-8")
    return folder


def files(place, out):
    paths = {name: str(place / (name + ".data")) for name in ("valid", "test")}
    return dict(paths, model=str(place / "tiny"), data=str(place / "train.data"), out=str(place / out))


LOAD = """
import sys
import kexue_keras
encoder = kexue_keras.similarity.SentenceEncoder.load(sys.argv[1])
print(" ".join("%.8f" % c for c in encoder.similarity(sys.argv[2::2], sys.argv[3::2])))
"""


@pytest.mark.parametrize("loss", ["cosent", "sbert"])
def test_trained_saved_and_used(place, loss, capsys, run_python):
    options = dict(SMALL, **files(place, loss))
    metrics = finetune(score_range=(0, 5), similarity_loss=loss, **options)
    assert metrics["main_metric"] == "spearman" and len(metrics["history"]) == 2
    # A range is the same as numbers and from a file.
    assert finetune(score_range=[0, 5], similarity_loss=loss, resume=True, **options) == metrics
    with open(str(place / loss / "predictions.tsv"), encoding="utf-8") as handle:
        rows = [line.rstrip("\n").split("\t") for line in handle]
    assert rows.pop(0) == ["line", "score", "cosine", "text", "text_b"] and len(rows) == 12
    scores, cosines = (np.array([float(row[i]) for row in rows]) for i in (1, 2))
    assert abs(metrics["test"]["spearman"] - spearmanr(scores, np.round(cosines, 6))[0]) < 1e-3
    there = run_python(LOAD, place / loss / "encoder", *[text for row in rows for text in row[3:]])
    assert np.allclose(np.array(there.splitlines()[-1].split(), float), cosines, atol=1e-5)
    with pytest.raises(UserError, match="trained with pooling 'mean', not 'cls'"):
        open_encoder(str(place / loss), pooling="cls")
    # The command on the same run, which is read once.
    K.clear_session()
    encoder = open_encoder(str(place / loss))
    assert (encoder.pooling, encoder.max_length) == ("mean", 12)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("finetune._open_encoder", "finetune._similarity"):
            patch.setattr("kexue_keras.%s.SentenceEncoder.load" % module, lambda path: encoder)
        capsys.readouterr()
        assert cli.main(["predict", "--run", str(place / loss), "--data", str(place / "test.data"), "--no-text"]) == 0
        printed = capsys.readouterr().out.split()
        assert printed[0] == "cosine" and np.allclose(np.array(printed[1:], float), cosines, atol=1e-5)
        corpus = place / "corpus.txt"
        corpus.write_text("".join(row[3] + "\n" for row in rows), encoding="utf-8")
        found = ["similar", rows[4][3], rows[2][3], "--corpus", str(corpus), "--model", str(place / loss), "-k", "2"]
        assert cli.main(found) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [rows[4][3]] * 2 + [rows[2][3]] * 2
    assert lines[0][1:] == ["1.0000", rows[4][3]] and lines[2][2] == rows[2][3]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rdrop": 4.0}, "rdrop does not go with --task similarity: it repeats the rows"),
        ({"class_weights": "balanced"}, "class-weights does not go with --task similarity"),
        ({"score_range": (5, 0)}, "the lowest score comes first"),
        ({"score_range": (0, 3)}, r"train.data:\d+: the score [45] lies outside of the declared range 0 to 3"),
        ({"batch_size": 1}, "at least 2"),
        ({"label_separator": "|"}, "a pair has one score"),
        ({"positive_above": 2.5}, "goes with --similarity-loss sbert"),
        ({"gradient_penalty": 1.0, "penalty_reduction": "per_sample"}, "per_sample: CoSENT is one number"),
        ({"head_lr_multiplier": 5.0}, "--head-lr-multiplier 5: CoSENT trains the encoder alone"),
        ({"similarity_loss": "cosine"}, "'cosine'; it is one of cosent, sbert"),
        ({"pooling": "sum"}, "'sum'; it is one of cls, pooler"),
        ({"task": "classification", "pooling": "first-last"}, "goes with --task similarity"),
        ({"task": "ranking"}, "'ranking'; it is one of classification, similarity"),
        ({"valid": "equal"}, "all 3 scores are 4; there is no order"),
    ],
)
def test_refused(place, options, message):
    (place / "equal").write_text("一\t二\t4\n" * 3, encoding="utf-8")
    given = dict(SMALL, **files(place, "refused"))
    given.update({k: str(place / v) if k == "valid" else v for k, v in options.items()})
    with pytest.raises(UserError, match=message):
        finetune(**given)
    assert not os.path.exists(str(place / "refused"))


def test_the_head_that_starts_from_noise_has_a_higher_rate():
    def factor(**given):
        return head_lr_multiplier(make_options(**given))

    assert factor() == factor(task="similarity") == factor(similarity_loss="sbert") == 1
    assert factor(task="similarity", similarity_loss="sbert") == HEAD_LR_MULTIPLIERS["sbert"] == 20
    assert factor(task="similarity", similarity_loss="sbert", head_lr_multiplier=1.0) == 1
    assert factor(head_lr_multiplier=3.0) == 3


def test_accumulation_is_explained_and_ranges_are_numbers():
    said = []
    check_similarity(Run(make_options(task="similarity", accumulate=4, batch_size=8), None, said.append))
    assert "averages such losses, which is not the loss of a batch of 32" in said[0]
    assert checked_range(None) is None and checked_range((0, 5)) == [0.0, 5.0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["看"], "give one of --corpus FILE"),
        (["看", "--corpus", "x", "--generate"], "give one of --corpus FILE"),
        (["看", "--generate", "--min-score", "nan"], "nan is not a finite number"),
        (["看", "--generate", "--min-edits", "-1"], "--min-edits"),
        ([" ", "--corpus", "x"], "the text is empty"),
        (["看", "--corpus", "no-such-file"], "no-such-file: no such file"),
        (["看", "--corpus", __file__, "--mask", "1"], "--mask goes with --generate"),
        (["看", "--corpus", __file__, "--entropy", "1"], "--entropy goes with --generate"),
        (["看", "--generate", "--entropy", "-0.5"], "--entropy"),
        (["看", "--generate", "--model", "no-such-model"], "neither a bundled name"),
        (["看", "-k", "0", "--corpus", "x"], "-k"),
    ],
)
def test_the_command_refuses_in_one_line(arguments, message, capsys):
    assert cli.main(["similar"] + arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_sampling_pairs_of_several_sets():
    class Tokenizer(object):
        def tokenize(self, text):
            return ["c"] + list(text) + ["s"]

        def encode(self, tokens, second, maxlen):
            return ([2] + [ord(t) - 90 for t in tokens[1:-1]] + [3])[:maxlen], [0] * len(tokens)

    small = PairSet([("a", "b")], [2], group=1)
    large = PairSet([("c", "d"), ("e", "fg")] * 50, [0, 1] * 50)
    sampler = PairSampler(Tokenizer(), [large, small], groups=(2, 3), max_length=8, batch_size=400)
    (tokens, segments), labels = sampler(7)
    assert tokens.shape == segments.shape == (800, 8) and np.array_equal(labels[::2], labels[1::2])
    # As many of the group with one pair; classes of group 1 come after the two of group 0.
    assert abs((labels == 4).mean() - 0.5) < 0.08 and set(labels) == {0, 1, 4}
    first = tokens[::2, 1][labels[::2] == 4]
    assert abs((first == ord("a") - 90).mean() - 0.5) < 0.1
    again = PairSampler(Tokenizer(), [large, small], groups=(2, 3), max_length=8, batch_size=400)
    again(60)  # of the next pool: a run that goes on from its point begins there
    for same in (sampler, again):
        assert np.array_equal(same(7)[1], labels) and np.array_equal(same(7)[0][0], tokens)
    assert not np.array_equal(sampler(8)[0][0], tokens) and not np.array_equal(sampler(57)[0][0], tokens)
    for sets, message in [
        ([large], "group 1 has no set"),
        ([large, PairSet([("a", "b")], [3], group=1)], "set 1 has the label 3; its group has the classes 0 to 2"),
        ([large, PairSet([("a", "b")], [0], group=2)], "set 1 is of group 2"),
    ]:
        with pytest.raises(UserError, match=message):
            PairSampler(Tokenizer(), sets, groups=(2, 3), max_length=8, batch_size=4)
    with pytest.raises(ValueError, match="1 pairs and 2 labels"):
        PairSet([("a", "b")], [1, 2])
    assert list(PairSet.from_scores([("a", "b")] * 3, [0, 2.5, 3], 2.5).labels) == [0, 0, 1]


def test_a_batch_has_pairs_of_about_equal_length_of_every_group():
    class Tokenizer(object):
        def tokenize(self, text):
            return list(text)

        def encode(self, tokens, second, maxlen):
            return [ord(t) for t in tokens][:maxlen], [0] * len(tokens)

    def pairs(letters, longest):
        lengths = range(1, longest + 1)
        return [(letters[0] * length, letters[1] * (length // 2 + 1)) for length in lengths], [0] * longest

    sets = [PairSet(*pairs("ab", 60)), PairSet(*pairs("cd", 30), group=1)]
    sampler = PairSampler(Tokenizer(), sets, groups=(2, 3), max_length=64, batch_size=16)
    batches = [sampler(step) for step in range(100)]
    widths = [inputs[0].shape[1] for inputs, _ in batches]
    # Drawn at random, nearly all would have 56 or 64 tokens.
    assert np.mean(widths) < 40 and len(set(widths)) >= 7
    assert np.mean(widths[::2]) == pytest.approx(np.mean(widths[1::2]), abs=8)  # in no order
    assert abs(np.mean([np.mean(labels == 2) for _, labels in batches]) - 0.5) < 0.05
    for inputs, labels in batches:
        tokens = inputs[0]
        assert tokens.shape == (32, tokens.shape[1]) and set(labels) <= {0, 2}
        for first, second in zip(tokens[::2], tokens[1::2]):
            assert {chr(token) for row in (first, second) for token in row if token} in ({"a", "b"}, {"c", "d"})
    of_second = np.concatenate([inputs[0][labels == 2, 0] for inputs, labels in batches])
    assert set(of_second) == {ord("c"), ord("d")}
    assert abs(np.mean(of_second[::2] == ord("c")) - 0.5) < 0.1  # either side first


GROUPS = [["我喜欢电影", "电影很好看"], ["书店服务差", "书店的服务很差"], ["上国人来", "国人来上"], ["我讨厌书", "书很坏"]]


def test_simbert_learns_and_goes_on_from_its_point(place, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sim = SimBERT(str(place / "tiny"), max_length=10, num_hidden_layers=1, dropout_rate=0.0)
    tokens, segments = sim.batch(GROUPS, 0, batch_size=4, noise=0.0, mask_rate=0.15, seed=0)[0]
    _, following, sources = sim.batch(GROUPS, 0, batch_size=4, noise=0.0, mask_rate=0.15, seed=0)
    assert sorted(sources) == sorted(text for group in GROUPS for text in group)
    # Row 2i+1 says the other way round what row 2i says.
    for a, b in zip(range(0, 8, 2), range(1, 8, 2)):
        source = list(tokens[a][(segments[a] == 0) & (tokens[a] != 0)])
        assert list(following[b][following[b] != 0]) == source[1:]
    clean, _ = sim.row(*GROUPS[0])
    noisy, _ = sim.row(*GROUPS[0], random=np.random.RandomState(0), mask_rate=1.0)
    assert len(noisy) == len(clean) and sim.mask_id in noisy[1:6] and noisy[6:] == clean[6:]
    for groups, size, message in [
        ([GROUPS[0], ["好", "好"]], 2, "group 2 has fewer than two different texts"),
        (GROUPS, 1, "a batch of one group"),
    ]:
        with pytest.raises(UserError, match=message):
            sim.train(groups, steps=1, batch_size=size)
    # As a student of vectors that are given: its cosines come nearer to them.
    texts = [text for group in GROUPS for text in group]
    wanted = dict(zip(texts, np.random.RandomState(0).randn(8, 3)))

    class Teacher(object):
        @staticmethod
        def encode(texts):
            return np.array([wanted[text] for text in texts])

    def distance():
        u, v = Teacher.encode(texts), sim.encoder.encode(texts)
        u = u / np.linalg.norm(u, axis=1, keepdims=True)
        return np.mean((u @ u.T - v @ v.T) ** 2)

    before, how = distance(), dict(batch_size=4, learning_rate=1e-2, teacher=Teacher, seed=2, folder=str(tmp_path))
    losses = sim.train(GROUPS, steps=30, **how)
    assert len(losses) == 30 and distance() < 0.9 * before
    with pytest.raises(UserError, match="holds a point of another run"):
        sim.train(GROUPS, steps=5, **how)
    # Its point is that of the end: nothing is left to do, and the weights are those of the run.
    weights = sim.pretrained.model.get_weights()
    sim.pretrained.model.set_weights([0 * w for w in weights])
    assert sim.train(GROUPS, steps=30, **how) == []
    for a, b in zip(weights, sim.pretrained.model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_two_stages_and_the_shared_head(place):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sim = SimBERT(str(place / "tiny"), max_length=10, num_hidden_layers=1)
    losses = sim.train(GROUPS, steps=2, batch_size=3)
    # What it generates costs about log(vocabulary) at first; the contrast of 6 vectors at scale 20 is at most this.
    assert len(losses) == 2 and -1 < losses[0] - np.log(sim.tokenizer._vocab_size) < 40 + np.log(5)
    pairs = [tuple(group) for group in GROUPS]
    sets = [PairSet(pairs, [1, 1, 0, 0]), PairSet(pairs, [0, 1, 2, 1], group=1)]
    start = pair_classifier(sim.encoder.model, 5, seed=0).get_weights()[-1]
    before = sim.encoder.model.get_weights()
    losses, head = train_sentence_bert(
        sim.encoder,
        sets,
        groups=(2, 3),
        steps=2,
        batch_size=4,
        learning_rate=1e-3,
        head_lr_multiplier=30.0,
        weight_decay=0,
    )
    # The rate is 0 at first, then 1e-3; Adam's step is about the rate.
    encoder = max(np.abs(a - b).max() for a, b in zip(sim.encoder.model.get_weights(), before))
    assert encoder > 0 and 20 < np.abs(head.get_weights()[-1] - start).max() / encoder < 45
    assert head.output_shape == (None, 5) and np.log(2) - 0.2 < losses[0] < np.log(3) + 0.2


def test_optimizers_of_ones_own_and_batches_that_are_accumulated(place, tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sim = SimBERT(str(place / "tiny"), max_length=10, num_hidden_layers=1)
    seen = []
    train = Trainer._train
    monkeypatch.setattr(Trainer, "_train", lambda trainer: seen.append(trainer.model.optimizer) or train(trainer))
    sgd, how = keras.optimizers.SGD, dict(steps=3, batch_size=4, noise=0.0, folder=str(tmp_path))
    sim.techniques = Techniques(accumulate=2)
    own = dict(how, optimizer=sgd(0.1))
    assert len(sim.train(GROUPS, **own)) == 3
    found = seen[-1]
    assert isinstance(found, GradientAccumulation) and found.optimizer is own["optimizer"]
    # The last, unfinished window counts too: three batches are two updates.
    assert int(K.get_value(found.iterations)) == 2 and int(K.get_value(found.micro_step)) == 0
    with pytest.raises(UserError, match="holds a point of another run"):
        sim.train(GROUPS, **how)
    with pytest.raises(UserError, match="accumulate is 0; a whole number of batches"):
        Techniques(accumulate=0)
    pairs = [PairSet([tuple(group) for group in GROUPS], [1, 1, 0, 0])]
    techniques = Techniques(accumulate=2)
    train_sentence_bert(sim.encoder, pairs, steps=2, batch_size=2, optimizer=sgd(0.1), techniques=techniques)
    assert isinstance(seen[-1].optimizer.optimizer, sgd) and int(K.get_value(seen[-1].iterations)) == 1


def test_generating_is_told_apart_from_searching(monkeypatch):
    class Fake(object):
        def __init__(self, model, max_length):
            pass

        def generate(self, text, **options):
            from kexue_keras.similarity._questions import Question

            filters = {"min_score": 0.2, "min_edits": 3, "entropy": 0.5}
            assert options == dict({"n": 7, "k": 2, "seed": 0, "mask_positions": [3]}, **filters)
            return [Question(text + "吗", 0.5)]

    monkeypatch.setattr("kexue_keras.cli.similar.SimilarQuestions", Fake)
    options = dict(
        text=["看"], generate=True, corpus=None, model="m", max_length=None, n=7, k=2, seed=0, mask=[3], quiet=True
    )
    options.update(min_score=0.2, min_edits=3, entropy=0.5)
    assert list(similar(make_options.__globals__["argparse"].Namespace(**options))) == ["0.5000\t看吗"]


def test_pairs_that_were_trained_on_are_counted_as_pairs(tmp_path):
    parts = {}
    for part, text in (("train", "一\t二\t4\n三\t四\t1\n"), ("valid", "一\t二\t3\n二\t一\t4\n")):
        (tmp_path / part).write_text(text, encoding="utf-8")
        parts[part], _ = read_scored_pairs(str(tmp_path / part))
    said = []
    warn_of_overlap(dict(parts, test=None), said.append)
    assert said == ["note: 1 of 2 valid pairs also occur in the training data"]
