"""n m-way classifications: against float64 numpy, the oracles, and the properties of the spec."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from loss_graphs import evaluator, oracles, slope

from kexue_keras import losses
from kexue_keras.backend import K, keras, tf1

INF = float("inf")
ORACLES = oracles("n_m_way")
FORMS = {"loss1": "analogy", "loss3": "centered"}
N, M = 3, 4


def twin(t, s, form):
    """The double sums of the article, term by term."""
    t, s = np.asarray(t, "float64"), np.asarray(s, "float64")
    total = 0.0
    for j in range(t.shape[1]):
        terms = [0.0]
        for i in range(t.shape[0]):
            if t[i, j] > 0 and s[i, j] > -INF:
                if form == "centered":
                    terms.append(np.log(t[i, j]) - s[i, j] + s[i][s[i] > -INF].mean())
                else:
                    terms += [np.log(t[i, j]) + s[i, k] - s[i, j] for k in range(t.shape[1]) if k != j]
        total += np.logaddexp.reduce(terms)
    return total


def runner(form, **kwargs):
    return evaluator(
        lambda t, s: losses.multi_softmax_crossentropy(t, s, form=form, **kwargs),
        ("float32", [None, None, None]),
        ("float32", [None, None, None]),
        wrt=1,
    )


logits = st.lists(st.floats(-60, 60, width=32), min_size=N * M, max_size=N * M).map(
    lambda x: np.float32(x).reshape(N, M)
)
hard = st.lists(st.integers(0, M - 1), min_size=N, max_size=N).map(lambda x: np.eye(M)[x])
soft = st.lists(st.floats(0.001, 1), min_size=N * M, max_size=N * M).map(
    lambda x: np.array(x).reshape(N, M) / np.array(x).reshape(N, M).sum(-1, keepdims=True)
)


@pytest.mark.parametrize("loss", sorted(FORMS))
def test_oracles(loss):
    form = FORMS[loss]
    run = runner(form)
    for name, entry in ORACLES.items():
        t = entry["inputs"]["t"]
        s = entry["inputs"].get("s", np.log(t) if name == "grad_at_log_t" else None)
        value, gradient = run([t], [s])
        if "grad_" + loss in entry["expected"]:
            wanted = entry["expected"]["grad_" + loss]
            np.testing.assert_allclose(gradient[0], wanted, atol=1e-6)
            np.testing.assert_allclose(slope(lambda x: twin(t, x, form), s), wanted, atol=1e-8)
        else:
            wanted = entry["expected"][loss]
            assert abs(twin(t, s, form) - wanted) < max(entry["tolerance"], 1e-12 * wanted), name
            np.testing.assert_allclose(value[0], wanted, rtol=2e-6, err_msg=name)


@pytest.mark.parametrize("form", sorted(FORMS.values()))
def test_properties(form):
    run = runner(form)
    exact = evaluator(
        lambda t, s: losses.multi_softmax_crossentropy(t, s, form=form),
        ("float64", [None, None, None]),
        ("float64", [None, None, None]),
        wrt=1,
    )
    binary = evaluator(losses.multilabel_crossentropy, ("float64", [None, None]), ("float64", [None, None]), wrt=1)

    @given(soft | hard, logits, st.floats(-50, 50))
    def check(t, s, shift):
        moved = s + np.float32(shift) * np.arange(N)[:, None]
        value, gradient = run([t, t], [s, moved])
        wanted = twin(t, s, form)
        np.testing.assert_allclose(value, [wanted] * 2, rtol=1e-4, atol=2e-4)
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-5)
        value, gradient = exact([t], [s])
        np.testing.assert_allclose(value[0], wanted, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(gradient[0], slope(lambda x: twin(t, x, form), s), atol=2e-5)

    @given(logits, st.lists(st.floats(0, 1), min_size=N, max_size=N))
    def two_classes_are_multilabel(s, p):
        t, s = np.stack([p, 1 - np.array(p)], -1), s[:, :2].astype("float64")
        logit = (s[:, 0] - s[:, 1]) * (1 if form == "analogy" else 0.5)
        np.testing.assert_allclose(exact([t], [s])[0], binary([t[:, 0]], [logit])[0], rtol=1e-9, atol=1e-11)

    check()
    two_classes_are_multilabel()


def test_one_hard_classification_is_cross_entropy_and_classes_count_by_logarithm():
    run = runner("analogy")

    @given(logits, st.integers(0, M - 1))
    def single(s, j):
        wanted = np.logaddexp.reduce(s[0].astype("float64")) - s[0, j]
        np.testing.assert_allclose(run([np.eye(M)[[j]]], [s[:1]])[0], [wanted], rtol=1e-5, atol=1e-5)

    single()
    t, s = np.eye(M)[[1]], np.array([[3.0, 0.0, 1.0, -1.0]])
    once, many = (run([np.repeat(t, n, 0)], [np.repeat(s, n, 0)])[0][0] for n in (1, 1000))
    assert abs(many - once - np.log(1000)) < 0.05


@pytest.mark.parametrize("form", sorted(FORMS.values()))
def test_masks_padding_and_impossible_classes(form, rng):
    run = runner(form)
    s, t = rng.randn(N, M), np.eye(M)[[1, 2, 0]]
    masked = evaluator(
        lambda t, s, m: losses.multi_softmax_crossentropy(t, s, mask=m, form=form),
        ("float32", [None, N, M]),
        ("float32", [None, N, M]),
        ("bool", [None, None]),
        wrt=1,
    )
    value, gradient = masked([t], [s], [[True, False, True]])
    wanted = twin(t[[0, 2]], s[[0, 2]], form)
    np.testing.assert_allclose(value, [wanted], rtol=1e-5)
    assert (gradient[0, 1] == 0).all()
    empty = t.copy()
    empty[1] = 0
    np.testing.assert_allclose(run([empty], [s])[0], [wanted], rtol=1e-5)
    assert run([0 * t], [s])[0] == 0
    s[:, 3] = -INF
    value, gradient = run([t], [s])
    np.testing.assert_allclose(value, [twin(t[:, :3], s[:, :3], form)], rtol=1e-5)
    assert np.isfinite(gradient).all() and (gradient[..., 3] == 0).all()
    s[:] = -INF
    value, gradient = run([t], [s])
    assert value == 0 and (gradient == 0).all()
    assert np.isnan(run([t], [np.full((N, M), np.nan)])[0])
    half = evaluator(
        lambda t, s: losses.multi_softmax_crossentropy(t, s, form=form),
        ("float16", [None, N, M]),
        ("float16", [None, N, M]),
    )
    s = (30 * rng.randn(N, M)).astype("float16")
    value = half([t], [s])
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, [twin(t, s, form)], rtol=1e-4)


def test_errors():
    s = tf.zeros([1, 2, 3])
    with pytest.raises(ValueError, match="form must be one of 'analogy', 'centered', but is 'other'"):
        losses.multi_softmax_crossentropy(s, s, form="other")
    with pytest.raises(ValueError, match="form must be"):
        losses.MultiSoftmaxCrossentropy(form="other")
    with pytest.raises(ValueError, match=r"\[batch, n, m\]"):
        losses.multi_softmax_crossentropy(tf.zeros([2, 3]), tf.zeros([2, 3]))
    with pytest.raises(ValueError, match="same shape"):
        losses.multi_softmax_crossentropy([[[1.0, 0.0]]], s)
    with pytest.raises(ValueError, match="multi_softmax_crossentropy: the labels of each"):
        losses.multi_softmax_crossentropy([[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]], s)
    with pytest.raises(tf.errors.InvalidArgumentError, match="multi_softmax_crossentropy: the labels of each"):
        runner("analogy")([[[0.5, 0.0]]], [[[0.0, 0.0]]])
    with pytest.warns(UserWarning, match="takes logits"):
        losses.multi_softmax_crossentropy(
            tf1.placeholder("float32", [1, 2, 3]), tf.nn.softmax(tf1.placeholder("float32", [1, 2, 3]))
        )


@pytest.mark.all_stacks
def test_compile_save_and_load(rng, tmp_path, run_python):
    x = keras.layers.Input([5])
    model = keras.models.Model(x, keras.layers.Reshape([2, 3])(keras.layers.Dense(6)(x)))
    model.compile("sgd", losses.MultiSoftmaxCrossentropy(form="centered"))
    data, y, weights = rng.randn(7, 5), np.eye(3)[rng.randint(0, 3, (7, 2))], rng.rand(7)
    values = np.array([twin(t, s, "centered") for t, s in zip(y, model.predict(data))])
    np.testing.assert_allclose(
        model.test_on_batch(data, y, sample_weight=weights), (values * weights).mean(), rtol=1e-5
    )
    model.save(str(tmp_path / "model.h5"))
    np.savez(str(tmp_path / "data.npz"), x=data, y=y)
    said = run_python(
        "import sys, numpy as np, kexue_keras\n"
        "from kexue_keras.backend import keras\n"
        "model, data = keras.models.load_model(sys.argv[1]), np.load(sys.argv[2])\n"
        "print(model.evaluate(data['x'], data['y'], verbose=0), model.loss.get_config()['form'])",
        tmp_path / "model.h5",
        tmp_path / "data.npz",
    ).split()
    assert said[-1] == "centered"
    np.testing.assert_allclose(float(said[-2]), values.mean(), rtol=1e-5)


def test_as_a_bert4keras_loss_layer(rng):
    from bert4keras.layers import Loss

    class MultiSoftmaxLoss(Loss):
        def compute_loss(self, inputs, mask=None):
            return K.mean(losses.multi_softmax_crossentropy(*inputs))

    y, s = keras.layers.Input([2, 3]), keras.layers.Input([2, 3])
    scaled = keras.layers.Dense(3, kernel_initializer="identity")(s)
    model = keras.models.Model([y, s], MultiSoftmaxLoss(output_axis=1)([y, scaled]))
    model.compile("sgd")
    t, data = np.eye(3)[rng.randint(0, 3, (4, 2))], rng.randn(4, 2, 3)
    wanted = np.mean([twin(a, b, "analogy") for a, b in zip(t, data)])
    np.testing.assert_allclose(model.train_on_batch([t, data], None), wanted, rtol=1e-5)
