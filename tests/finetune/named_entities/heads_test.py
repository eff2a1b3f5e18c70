"""The heads: bert4keras' pointers against float64 numpy, targets, losses, decoding, masks, saving."""

import numpy as np
import pytest

from kexue_keras.backend import keras
from kexue_keras.finetune.named_entities._heads import HEADS, LOGITS, CRFHead, EfficientPointerHead, PointerHead
from kexue_keras.finetune.named_entities._tokens import EncodedText

LABELS, WIDTH, SIZE, N = ["x", "y", "z"], 6, 4, 5
TEXTS = [EncodedText(None, [None, (0, 1), (1, 2), (2, 4), None], None), EncodedText(None, [None, (0, 1), None], None)]
ROWS = [[(1, 2, "x"), (2, 2, "x"), (1, 3, "z")], []]
FLAT = [[(1, 2, "x"), (3, 3, "z")], []]


def built(head, seed=1):
    """Keras model from vectors (all zeros are padding) to the head's scores; the values of its weights, at random."""
    x = keras.layers.Input((None, WIDTH))
    model = keras.models.Model(x, head.build(keras.layers.Masking()(x), seed))
    layer, rng = model.get_layer(LOGITS), np.random.RandomState(5)
    weights = [rng.randn(*w.shape) for w in layer.get_weights()]
    layer.set_weights(weights)
    return model, weights


def vectors():
    x = np.random.RandomState(6).randn(2, N, WIDTH)
    x[1, 3:] = 0
    return x


def turned(x):
    """RoPE of `[n, d]`: the pair (2i, 2i + 1) turned by place * 10000^(-2i/d)."""
    out = np.zeros_like(x)
    for place in range(len(x)):
        for i in range(0, x.shape[1], 2):
            angle = place * 10000.0 ** (-i / x.shape[1])
            a, b = x[place, i], x[place, i + 1]
            out[place, i] = a * np.cos(angle) - b * np.sin(angle)
            out[place, i + 1] = b * np.cos(angle) + a * np.sin(angle)
    return out


def global_pointer(x, kernel, bias):
    """kexue.fm/archives/8373: s_a(i, j) = (R_i q_i) . (R_j k_j) / sqrt(d), a query and a key for each label."""
    both = (x @ kernel + bias).reshape(len(x), len(LABELS), 2 * SIZE)
    queries, keys = both[..., :SIZE], both[..., SIZE:]
    return np.array([turned(queries[:, a]) @ turned(keys[:, a]).T / SIZE**0.5 for a in range(len(LABELS))])


def efficient_global_pointer(x, kernel, bias, label_kernel, label_bias):
    """kexue.fm/archives/8877: s_a(i, j) = q_i . k_j / sqrt(d) + (w_a . [q_i; k_i] + v_a . [q_j; k_j]) / 2."""
    both = x @ kernel + bias
    common = turned(both[:, ::2]) @ turned(both[:, 1::2]).T / SIZE**0.5
    ends = (both @ label_kernel + label_bias) / 2
    return np.array([common + ends[:, 2 * a][None] + ends[:, 2 * a + 1][:, None] for a in range(len(LABELS))])


@pytest.mark.all_stacks
@pytest.mark.parametrize(
    "kind, formula", [(PointerHead, global_pointer), (EfficientPointerHead, efficient_global_pointer)]
)
def test_pointers_are_those_of_the_articles(kind, formula):
    head = kind(LABELS, head_size=SIZE)
    model, weights = built(head)
    x = vectors()
    for length in (N, 3):
        out = np.asarray(model.predict_on_batch(x[:, :length])).reshape(2, len(LABELS), length, length)
        upper = np.triu(np.ones((length, length), bool))
        for i, there in enumerate((length, 3)):
            seen = upper & (np.arange(length) < there) & (np.arange(length) < there)[:, None]
            expected = formula(x[i, :length], *weights)
            np.testing.assert_allclose(out[i][:, seen], expected[:, seen], rtol=1e-4, atol=1e-4)
            assert (out[i][:, ~seen] == -np.inf).all()


LOAD = """
import sys
import numpy as np
import kexue_keras
from kexue_keras.backend import keras
for name in sys.argv[2:]:
    model = keras.models.load_model("%s/%s.h5" % (sys.argv[1], name))
    with np.load("%s/%s.npz" % (sys.argv[1], name)) as data:
        print(float(model.train_on_batch(data["x"], data["targets"])))
"""


@pytest.mark.all_stacks
def test_loss_training_and_loading(tmp_path, run_python):
    expected = []
    for name in HEADS:
        head = HEADS[name](LABELS, head_size=SIZE)
        model, _ = built(head)
        model.compile("sgd", head.loss())
        x, rows = vectors(), FLAT if name == "crf" else ROWS
        targets = head.targets(rows, TEXTS, N)
        by_numpy = head.loss_of(np.asarray(model.predict_on_batch(x)), targets, TEXTS).mean()
        losses = [float(model.train_on_batch(x, targets)) for _ in range(5)]
        assert abs(losses[0] - by_numpy) < 1e-4 and losses[-1] < losses[0]
        assert all(np.isfinite(w).all() for w in model.get_weights())
        np.savez(str(tmp_path / (name + ".npz")), x=x, targets=targets)
        model.save(str(tmp_path / (name + ".h5")))
        expected.append(float(model.test_on_batch(x, targets)))
    # Compiled, without custom_objects, and it goes on.
    found = list(map(float, run_python(LOAD, tmp_path, *HEADS).split()))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def brute_zlpr(scores, right):
    wrong = [s for c, s in enumerate(scores) if c not in right and c != 0 and s != -np.inf]
    return np.log1p(np.exp(wrong).sum()) + np.log1p(np.exp([-scores[c] for c in right]).sum())


def test_pointer_targets_and_loss():
    head = PointerHead(LABELS, head_size=SIZE)
    targets = head.targets(ROWS, TEXTS, N)
    assert targets[0].tolist() == [[7, 12], [0, 0], [8, 0]] and not targets[1].any()
    assert head.targets([[], []], TEXTS, N).shape == (2, 3, 1)
    outputs = np.random.RandomState(0).randn(2, 3, N * N)
    outputs[:, :, 5] = -np.inf
    right = [[{7, 12}, set(), {8}], [set()] * 3]
    expected = [np.mean([brute_zlpr(outputs[i, a], right[i][a]) for a in range(3)]) for i in range(2)]
    np.testing.assert_allclose(head.loss_of(outputs, targets, TEXTS), expected, rtol=1e-12)


def test_crf_targets():
    head = CRFHead(["x", "y"])
    text = EncodedText(None, [None, (0, 1), None, (1, 2), (2, 3), None], None)
    targets = head.targets([[(1, 3, "x"), (4, 4, "y")]], [text], 8)[0, :, 0]
    tags = [None if tag < 0 else head.tags[int(tag)] for tag in targets]
    assert tags == [None, "B-x", None, "E-x", "S-y", None, None, None]


def pointer_outputs(*scored):
    outputs = np.full((1, len(LABELS), N * N), -5.0)
    for label, first, last, score in scored:
        outputs[0, LABELS.index(label), first * N + last] = score
    return outputs


def test_pointers_decode_with_and_without_overlaps():
    outputs = pointer_outputs(("x", 1, 2, 1.0), ("y", 2, 3, 2.0), ("z", 1, 1, 0.5), ("x", 0, 1, 9.0), ("x", 3, 4, 9.0))
    nested = PointerHead(LABELS, flat=False).decode(outputs, TEXTS[:1])[0]
    assert [entity[:3] for entity in nested] == [(1, 1, "z"), (1, 2, "x"), (2, 3, "y")]
    np.testing.assert_allclose([entity[3] for entity in nested], 1 / (1 + np.exp(-2 * np.array([0.5, 1.0, 2.0]))))
    flat = PointerHead(LABELS, flat=True).decode(outputs, TEXTS[:1])[0]
    assert [entity[:3] for entity in flat] == [(1, 1, "z"), (2, 3, "y")]
    assert PointerHead(LABELS).decode(pointer_outputs(), TEXTS[:1]) == [[]]


def test_the_crf_decodes_entities_only():
    head = CRFHead(["x"])
    outputs = np.zeros((2, 5 + 2 + N, 5))
    outputs[0, 7:] = [[0, 0, 0, 0, 0], [0, 3, 0, 0, 2.9], [0, 0, 1, 0, 0], [0, 0, 0, 4, 0], [9, 0, 0, 0, 0]]
    entities = head.decode(outputs, [TEXTS[0], EncodedText(None, [None, None], None)])
    assert [entity[:3] for entity in entities[0]] == [(1, 3, "x")] and entities[1] == []
    assert 0 < entities[0][0][3] < 1


@pytest.mark.parametrize("name", HEADS)
def test_the_start_depends_on_the_seed_alone(name):
    def start(seed):
        x = keras.layers.Input((None, WIDTH))
        model = keras.models.Model(x, HEADS[name](LABELS, head_size=SIZE).build(x, seed))
        return [w for w in model.get_layer(LOGITS).get_weights() if w.ndim == 2]

    for a, b, c in zip(start(1), start(1), start(2)):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0 and 0.5 < a.std() * np.sqrt(len(a)) < 1.5
