"""Generator: equal to the full forward and to bert4keras' decoder, on padded batches; errors; what it leaves alone."""

import json
import os

import numpy as np
import pytest
from bert4keras.layers import Loss
from conftest import FIXTURES
from language_models import END, Uncached, sources, tiny

from kexue_keras.backend import K, is_tf2, keras, layer_calls
from kexue_keras.checkpoints import load_t5
from kexue_keras.decoding import Generator
from kexue_keras.layers import entropy_normalize_np

MODELS = [
    ("bert", "unilm", {"hierarchical_position": True}),
    ("bert", "lm", {"segment_vocab_size": 0}),
    ("albert", "unilm", {"num_hidden_layers": 2, "embedding_size": 8}),
    ("roformer", "unilm", {}),
    ("roformer", "lm", {"with_mlm": "linear"}),
    ("roformer_v2", "unilm", {}),
    ("gpt2_ml", None, {}),
    ("t5.1.0", None, {"cross_position_bias": False}),
    ("t5.1.1", None, {}),
]
IDS = ["-".join(filter(None, model[:2])) for model in MODELS]


def is_t5(kind):
    return kind.startswith("t5")


def generator_for(transformer, kind, **options):
    return Generator(transformer, end_id=END, start_id=0 if is_t5(kind) else None, **options)


def log_softmax(x):
    x = x.astype("float64")
    return x - x.max(-1, keepdims=True) - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))


@pytest.mark.dear
@pytest.mark.parametrize("kind, application, changes", MODELS, ids=IDS)
def test_equals_the_full_forward_and_bert4keras(kind, application, changes):
    transformer = tiny(kind, application, **changes)
    texts = sources(6, 3, 1)
    texts[0][2] = 0  # a padding token inside is hidden as well
    generator, segment = generator_for(transformer, kind), int(application == "unilm")
    targets = np.random.RandomState(2).randint(0, 30, (3, 5))
    targets[1, 1] = 0
    found = generator.log_probabilities([texts], targets)
    for text, target, ours in zip(texts, targets, found):
        if is_t5(kind):
            inputs = [[text], [[0] + target[:-1].tolist()]]
        else:
            inputs = [[text + target[:-1].tolist()], [[0] * len(text) + [segment] * 4]]
        wanted = transformer.model.predict([np.array(x) for x in inputs][: len(transformer.model.inputs)])[0, -5:]
        wanted = log_softmax(wanted) if changes.get("with_mlm") == "linear" else np.log(wanted)
        np.testing.assert_allclose(ours, wanted, atol=2e-4)
    if changes.get("with_mlm") == "linear":
        return
    slow = Uncached(transformer, segment, start_id=0 if is_t5(kind) else None, end_id=END, maxlen=8)
    for beams in (1, 3):
        found = generator.beam_search([texts], max_length=8, beams=beams, finished="drop").lists()
        for text, ids in zip(texts, found):
            assert ([0] if is_t5(kind) else []) + ids[0] == slow.beam_search([text], topk=beams).tolist()


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_equals_hugging_face(name):
    folder = os.path.join(FIXTURES, "hf", name)
    with open(os.path.join(folder, "config.json")) as handle:
        config = json.load(handle)
    with np.load(os.path.join(folder, "reference.npz")) as stored:
        known = dict(stored)
    generator = Generator(load_t5(folder), end_id=config["eos_token_id"], start_id=config["decoder_start_token_id"])
    texts = [row[: mask.sum()] for row, mask in zip(known["token_ids"], known["mask"])]

    def rows(ids):
        cut = [row[1:].tolist() for row in ids]
        return [row[: row.index(1) + 1] if 1 in row else row for row in cut]

    # With one beam the search is greedy.
    for beams, wanted in ((1, known["greedy"]), (4, known["beam4"])):
        found = generator.beam_search([texts], max_length=12, beams=beams)
        assert [r[0] for r in found.lists()] == rows(wanted)


def test_lengths_padding_and_batches():
    generator = Generator(tiny("roformer", "unilm"), end_id=None, pad_id=7)
    texts = sources(5, 2, 4, 3)
    plain = generator.greedy([texts], max_length=6)
    assert (plain.lengths == 6).all()
    generator.end_id = tokens = int(plain.ids[0, 0, 1])
    found = generator.greedy([texts], max_length=6)
    assert found.lengths[0, 0] <= 2 and (found.ids[0, 0, found.lengths[0, 0] :] == 7).all()
    assert found.lists(end_id=tokens)[0] == [found.ids[0, 0, : found.lengths[0, 0] - 1].tolist()]
    long = generator.greedy([texts], max_length=6, min_length=4)
    assert (long.lengths >= 5).all() and tokens not in long.ids[:, :, :4]
    # Arrays padded with 0 are the same texts, and so are two batches of them.
    array = np.zeros((4, 7), int)
    for row, text in zip(array, texts):
        row[: len(text)] = text
    again = generator.greedy([array, np.zeros_like(array)], max_length=6, batch_size=2)
    assert again.lists() == found.lists()
    np.testing.assert_allclose(again.scores, found.scores, atol=1e-4)
    lp = generator.log_probabilities([texts], long.ids[:, 0], batch_size=3)
    sums = [lp[i, np.arange(n), long.ids[i, 0, :n]].sum() for i, n in enumerate(long.lengths[:, 0])]
    np.testing.assert_allclose(long.scores[:, 0], sums, atol=1e-4)


def test_samples_are_repeatable_and_follow_the_probabilities():
    transformer = tiny("bert", "lm")
    generator = Generator(transformer, end_id=END)
    text = sources(4)
    options = dict(max_length=2, n=1000, temperature=1.5)
    found = generator.sample([text], seed=5, top_k=6, top_p=0.9, **options)
    assert found.ids.tolist() == generator.sample([text], seed=5, top_k=6, top_p=0.9, **options).ids.tolist()
    assert found.ids.tolist() != generator.sample([text], seed=6, top_k=6, top_p=0.9, **options).ids.tolist()
    assert found.ids[0, :, 0].tolist() != found.ids[0, :, 1].tolist()
    # bert4keras' own order: the k likeliest of softmax(logits / temperature), then the nucleus of those.
    first = np.log(transformer.model.predict([np.array(text), np.zeros([1, 4])])[0, -1])
    p = np.exp(first / 1.5)
    order = np.argsort(-p)[:6]
    q = p[order] / p[order].sum()
    q[1:][np.cumsum(q)[:-1] >= 0.9] = 0
    q /= q.sum()
    counts = np.bincount(found.ids[0, :, 0], minlength=30)
    assert counts.sum() == counts[order].sum() == 1000
    expected = 1000 * q
    chi = ((counts[order] - expected)[q > 0] ** 2 / expected[q > 0]).sum()
    assert chi < 25 and (counts[order][q == 0] == 0).all()  # 6 degrees of freedom: one in 3000 is above
    assert (found.scores[0] <= first[found.ids[0, :, 0]] + 1e-4).all()


@pytest.mark.parametrize("cap_only, top_k", [(False, None), (False, 6), (True, None)])
def test_samples_at_an_entropy(cap_only, top_k):
    transformer = tiny("bert", "lm")
    generator = Generator(transformer, end_id=END)
    text, n = sources(4), 2000
    p = transformer.model.predict([np.array(text), np.zeros([1, 4])])[0, -1].astype("float64")
    kept = np.where(p >= np.sort(p)[-top_k], p, 0) if top_k else p
    full = entropy_normalize_np(kept, 10.0)
    before = -(p * np.log(p)).sum() / p.sum()
    for target in (0.6, 1.4) if not cap_only else (before - 0.5, before + 0.5):
        found = generator.sample(
            [text],
            max_length=1,
            n=n,
            seed=2,
            top_k=top_k,
            entropy=target,
            cap_only=cap_only,
            temperature=2.0 - cap_only,
        )
        q = p / p.sum() if cap_only and target > before else entropy_normalize_np(kept, target)
        counts = np.bincount(found.ids[0, :, 0], minlength=len(p))
        assert (counts[full == 0] == 0).all()
        # Kullback-Leibler distance of the counts from q: twice n of it is chi squared of at most 29.
        share = counts / float(n)
        assert 2 * n * (share * np.log(np.where(share > 0, share, 1) / np.where(share > 0, q, 1))).sum() < 60
        np.testing.assert_allclose(found.scores[0], np.log(p[found.ids[0, :, 0]]), atol=1e-4)


def test_a_training_model_and_new_weights():
    transformer = tiny("bert", "unilm")

    class CrossEntropy(Loss):
        def compute_loss(self, inputs, mask=None):
            return K.mean(inputs[2])

    model = transformer.model
    wrapped = keras.models.Model(model.inputs, CrossEntropy(2)(model.inputs + model.outputs))
    nodes = [(len(c.layer._inbound_nodes), len(c.layer._outbound_nodes)) for c in layer_calls(model)]
    generator = Generator(wrapped, end_id=END)
    assert generator.structure.logits is Generator(transformer, end_id=END).structure.logits
    texts = sources(4, 2)
    before = generator.greedy([texts], max_length=6).lists()
    assert nodes == [(len(c.layer._inbound_nodes), len(c.layer._outbound_nodes)) for c in layer_calls(model)]
    model.set_weights([w[::-1] for w in model.get_weights()])
    assert generator.greedy([texts], max_length=6).lists() != before


def test_conditions_are_given_beside_the_tokens():
    condition = keras.layers.Input([5], name="condition")
    transformer = tiny("bert", "unilm", layer_norm_cond=condition, additional_input_layers=condition)
    weights = transformer.model.get_weights()
    transformer.model.set_weights([w + 0.3 * np.sin(np.arange(w.size)).reshape(w.shape) for w in weights])
    generator = Generator(transformer, end_id=END)
    texts, conditions = sources(4, 2), np.array([[1.0, 0, 0, 2, 0], [0, 3.0, 0, 0, 1]])
    targets = np.array([[5, 6], [7, 8]])
    found = generator.log_probabilities([texts, [[0] * 4, [0] * 2], conditions], targets)
    for i, text in enumerate(texts):
        ids = [text + [int(targets[i, 0])]]
        inputs = [np.array(ids), np.array([[0] * len(text) + [1]]), conditions[i : i + 1]]
        wanted = np.log(transformer.model.predict(inputs)[0, -2:])
        np.testing.assert_allclose(found[i], wanted, atol=2e-4)
    with pytest.raises(ValueError, match="the model takes token ids, segment ids, condition"):
        generator.greedy([texts, [[0] * 4, [0] * 2]], max_length=2)


def test_t5_from_the_encoders_output():
    transformer = tiny("t5.1.1")
    texts = sources(5, 3)
    slow = Uncached(transformer, start_id=0, end_id=END, maxlen=6)
    wanted = [slow.beam_search([text], topk=3).tolist()[1:] for text in texts]
    context = [transformer.encoder.predict(np.array([text]))[0] for text in texts]
    for model in (transformer, transformer.decoder):
        generator = Generator(model, end_id=END, start_id=0)
        found = generator.beam_search([context], max_length=6, beams=3, finished="drop")
        assert [rows[0] for rows in found.lists()] == wanted
    with pytest.raises(ValueError, match="needs a start token; T5's is start_id=0"):
        Generator(transformer, end_id=END)


@pytest.mark.parametrize(
    "kind, application, changes, message",
    [
        ("bert", None, {"with_mlm": True}, "sees tokens to its right; build the model with application='unilm'"),
        ("nezha", "unilm", {}, "position biases of the kind 'typical_relative'"),
        ("bert", "unilm", {"custom_position_ids": True}, "custom_position_ids"),
        ("bert", "unilm", {"residual_attention_scores": True}, "hands on its scores"),
        ("bert", "unilm", {"with_mlm": "tanh"}, "is 'tanh' of MLM-Activation"),
    ],
)
def test_models_that_cannot_be_decoded(kind, application, changes, message):
    with pytest.raises(ValueError, match=message):
        Generator(tiny(kind, application, **changes), end_id=END)


def test_layers_that_look_at_several_positions():
    class Shift(keras.layers.Layer):
        def __init__(self, **kwargs):
            super(Shift, self).__init__(**kwargs)
            self.supports_masking = True

        def call(self, inputs, mask=None):
            return 2 * inputs

    bert = tiny("bert", "unilm", with_mlm="linear")
    model = keras.models.Model(bert.model.inputs, Shift(name="shift")(bert.model.output))
    with pytest.raises(ValueError, match=r"'shift' \(Shift\) may look at several.*positionwise=\(Shift,\)"):
        Generator(model, end_id=END)
    (text,) = sources(3)
    found = Generator(model, end_id=END, positionwise=(Shift,)).log_probabilities([[text]], [[5, 6]])
    wanted = log_softmax(model.predict([np.array([text + [5]]), np.array([[0, 0, 0, 1]])]))[0, -2:]
    np.testing.assert_allclose(found[0], wanted, atol=2e-4)


def test_wrong_arguments():
    transformer = tiny("bert", "unilm")
    generator = Generator(transformer, end_id=END)
    texts = sources(4, 2)
    for arguments, message in [
        (dict(max_length=0), "max_length must be a whole number >= 1, but is 0"),
        (dict(max_length=40), "4 source tokens and 40 new ones need more than the 32 positions"),
        (dict(max_length=3, beams=2, n=3), "n=3; a beam search with beams=2.*2 result"),
        (dict(max_length=3, finished="drop", n=2), "n=2;.*1 result"),
        (dict(max_length=3, finished="best"), "finished must be one of 'keep', 'drop', but is 'best'"),
        (dict(max_length=3, finished="drop", length_penalty=1.0), "does nothing with finished='drop'"),
        (dict(max_length=3, temperature=0), "temperature must be a number > 0, but is 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            generator.beam_search([texts], **arguments)
    for inputs, message in [
        (texts[0], r"A single text is \[\[token_ids\]\]"),
        (texts, r"array of shape \(\)\. A single text is \[\[token_ids\]\]"),
        ([], "one entry for each input"),
        ([[]], "at least one row"),
        ([[[4, 5], []]], "row 1 of the inputs is empty"),
        ([texts, [[0], [0]]], "token ids and segment ids differ"),
        ([texts, [[0] * 4, [0] * 2], [[1.0], [2.0]]], "the model takes token ids, segment ids, each"),
    ]:
        with pytest.raises(ValueError, match=message):
            generator.greedy(inputs, max_length=2)
    with pytest.raises(ValueError, match=r"top_p must be a number in \(0, 1\], but is 1.5"):
        generator.sample([texts], max_length=2, top_p=1.5)
    with pytest.raises(ValueError, match="entropy must be a number >= 0, but is -1; it is in nats"):
        generator.sample([texts], max_length=2, entropy=-1)
    with pytest.raises(ValueError, match="cap_only=True says how to reach an entropy; give entropy as well"):
        generator.sample([texts], max_length=2, cap_only=True)
    with pytest.raises(ValueError, match="2 targets|1 targets for 2 inputs"):
        generator.log_probabilities([texts], [[1, 2]])
    with pytest.raises(ValueError, match=r"targets of shape \(2,\)"):
        generator.log_probabilities([texts], [1, 2])
    with pytest.raises(ValueError, match="segment=0; in a UniLM"):
        Generator(transformer, end_id=END, segment=0)
    with pytest.raises(TypeError, match="a Keras model or a bert4keras transformer is needed"):
        Generator("model", end_id=END)


@pytest.mark.all_stacks
def test_a_model_that_keras_has_forgotten_goes_on():
    generator = Generator(tiny("bert", "lm"), end_id=END)
    expected = generator.greedy([sources(3)], max_length=2)
    K.clear_session()
    if is_tf2:  # there Keras closes its session, and the weights are gone
        with pytest.raises(RuntimeError, match="the session that holds the model's weights is closed"):
            generator.greedy([sources(3)], max_length=2)
        return
    np.testing.assert_array_equal(generator.greedy([sources(3)], max_length=2).ids, expected.ids)
    # Also what is built only now, in the old graph.
    one = generator.beam_search([sources(3)], max_length=2, beams=1)
    np.testing.assert_allclose(one.scores, expected.scores, rtol=1e-5)
