"""TeaForN's model: the oracles of a toy, what each order sees, UniLM and T5, shared and unshared, saving."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.layers import Embedding, Layer, ScaleOffset
from language_models import VOCABULARY, tiny

from kexue_keras.backend import K, keras
from kexue_keras.losses import TeaForN
from kexue_keras.models import build_teaforn_model
from kexue_keras.models.teaforn._layers import ExpectedEmbedding, ShiftedInput

WORDS = np.array([0, 3, 1, 4, 2])


def toy_numbers():
    """E, A, b of the spec: numpy's default_rng(0), as numbers since Python 3.7's numpy may lack it."""
    draw = np.random.default_rng(0)
    return draw.normal(size=(5, 3)), draw.normal(0, 0.5, (3, 3)), draw.normal(0, 0.1, 5)


class CumulativeMean(Layer):
    """M(e) = tanh(cummean(e) A + e)."""

    def build(self, input_shape):
        self.matrix = self.add_weight(name="matrix", shape=(3, 3), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs):
        steps = tf.cast(tf.range(1, tf.shape(inputs)[1] + 1), inputs.dtype)[None, :, None]
        return tf.tanh(K.dot(tf.cumsum(inputs, axis=1) / steps, self.matrix) + inputs)


def toy():
    """Language model of the spec."""
    K.clear_session()
    E, A, b = toy_numbers()
    x = keras.layers.Input((None,), name="Input-Token")
    embedding = Embedding(5, 3, name="Embedding-Token")
    h = CumulativeMean(name="M")(embedding(x))
    logits = ScaleOffset(scale=False, name="Bias")(embedding(h, mode="dense"))
    model = keras.models.Model(x, logits)
    model.get_layer("Embedding-Token").set_weights([E])
    model.get_layer("M").set_weights([A])
    model.get_layer("Bias").set_weights([b])
    return model


def losses_of(model, order):
    """Mean cross-entropy of each order."""
    logits = model.predict(WORDS[None, :-1].astype("float32")).astype("float64").reshape(4, order, -1)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    return [-logits[np.arange(4), i, WORDS[1:]].mean() for i in range(order)]


@pytest.mark.parametrize(
    "options, wanted",
    [
        (dict(), [2.838777191144955, 1.6379508790113153, 2.5609714277875746]),
        (dict(soft_input="topk", k=1), [2.83878, 1.34992, 2.73851]),
        (dict(soft_input="topk", k=2), [2.83878, 1.35500, 2.67218]),
        (dict(soft_input="topk", k=5), [2.83878, 1.43796, 2.33654]),
        (dict(soft_input="topk", k=50), [2.83878, 1.43796, 2.33654]),
        (dict(soft_input="vocabulary"), [2.83878, 1.43796, 2.33654]),
        # Without noise, as in predicting, Gumbel-softmax of temperature 1 is the whole vocabulary.
        (dict(soft_input="gumbel"), [2.83878, 1.43796, 2.33654]),
        (dict(soft_input="gumbel", temperature=1e-4), [2.83878, 1.34992, 2.73851]),
    ],
    ids=str,
)
def test_oracles_of_the_spec(options, wanted):
    model = build_teaforn_model(toy(), 3, reading="lm", **options)
    np.testing.assert_allclose(losses_of(model, 3), wanted, atol=2e-5)


def test_total_of_the_spec():
    model = build_teaforn_model(toy(), 3, reading="lm")
    model.compile("sgd", TeaForN(3, gamma=0.5, ignore=None))
    loss = model.test_on_batch(WORDS[None, :-1], WORDS[None, 1:, None])
    np.testing.assert_allclose(loss, 4.297995487597506, rtol=1e-5)


def orders_of(model, inputs, order):
    logits = model.predict(inputs)
    return logits.reshape(logits.shape[:2] + (order, -1))


def test_what_each_order_sees():
    """Order i at place t sees tokens 0 to max(0, t - i + 1) only; at N = L the last sees the first alone."""
    model, length = build_teaforn_model(toy(), 4, reading="lm"), 4
    before = orders_of(model, WORDS[None, :-1].astype("float32"), 4)
    for changed in range(1, length):
        words = WORDS[None, :-1].astype("float32")
        words[0, changed] = 2 if words[0, changed] != 2 else 0
        moved = np.abs(orders_of(model, words, 4) - before)[0].max(-1) > 1e-6
        wanted = np.array([[changed <= max(0, t - i) for i in range(4)] for t in range(length)])
        np.testing.assert_array_equal(moved, wanted)
    assert not moved[:, 3].any()


UNILM = [
    np.array([[5, 6, 7, 8, 9, 10, 3, 0], [5, 6, 8, 9, 11, 3, 0, 0]]),
    np.array([[0, 0, 0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1, 0, 0]]),
]
T5 = [np.array([[5, 6, 7, 8, 1, 0], [5, 6, 9, 10, 11, 1]]), np.array([[0, 6, 7, 8, 9], [0, 9, 8, 0, 0]])]


def twin_unilm(model, order):
    """Logits of all orders by running the language model itself on embeddings that are put into it."""
    embedding = model.get_layer("Embedding-Token")
    hidden = model.get_layer("MLM-Norm").get_output_at(0)
    run = K.function(model.inputs + [embedding.get_output_at(0)], [hidden, model.outputs[0]])
    table = embedding.get_weights()[0]
    e, found = table[UNILM[0]], []
    h, logits = run(UNILM + [e])
    for _ in range(order):
        found.append(logits)
        before = np.concatenate([e[:, :1], h[:, :-1]], axis=1)
        h, logits = run(UNILM + [np.where(UNILM[1][:, :, None] > 0, before, e)])
    return np.stack(found, axis=2)


def test_unilm_is_the_model_itself_on_its_own_hidden_states():
    K.clear_session()
    base = tiny("bert", "unilm", with_mlm="linear", num_hidden_layers=2)
    weights = len(base.model.weights)
    model = build_teaforn_model(base, 3)
    assert len(model.weights) == weights
    found, real = orders_of(model, UNILM, 3), UNILM[0] > 0
    np.testing.assert_allclose(found[real], twin_unilm(base.model, 3)[real], atol=2e-4)
    np.testing.assert_array_equal(found[:, :, 0][real], base.model.predict(UNILM)[real])
    # The source, which no order writes, is the same at all orders.
    source = real & (UNILM[1] == 0)
    np.testing.assert_allclose(found[source][:, 1:], found[source][:, :1].repeat(2, axis=1), atol=1e-5)
    # What comes after the target does not change it, nor does padding.
    longer = [np.pad(x, ((0, 0), (0, 3)), "constant") for x in UNILM]
    np.testing.assert_allclose(orders_of(model, longer, 3)[:, :8][real], found[real], atol=2e-4)


@pytest.mark.dear
@pytest.mark.parametrize(
    "kind, options", [("t5.1.1", {}), ("t5.1.0", {}), ("gpt", {}), ("roformer", {"application": "unilm"})]
)
def test_kinds_of_models(kind, options):
    K.clear_session()
    options = dict(options, **({"with_lm": "linear"} if kind.startswith("t5") else {}))
    if kind == "roformer":
        options["with_mlm"] = True  # probabilities: the model is trained on their logits
    base = tiny(kind, options.pop("application", None), **options)
    model = build_teaforn_model(base, 2, soft_input="topk" if kind == "t5.1.1" else "hidden", k=2)
    inputs = T5 if kind.startswith("t5") else UNILM[: len(model.inputs)]
    if kind == "gpt" and len(inputs) == 2:
        inputs = [inputs[0], 0 * inputs[1]]
    first = orders_of(model, inputs, 2)
    # Order 1 is the model; order 2 sees one true token less.
    base_logits = base.model.predict(inputs)
    if kind in ("roformer", "gpt"):
        shifted = first[:, :, 0] - first[:, :, 0].max(-1, keepdims=True)
        shifted = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
        np.testing.assert_allclose(
            shifted if abs(base_logits[0, 0].sum() - 1) < 1e-3 else first[:, :, 0], base_logits, atol=1e-4
        )
    else:
        np.testing.assert_allclose(first[:, :, 0], base_logits, atol=1e-5)
    other, place = [np.array(x) for x in inputs], 4 if kind == "roformer" else 3
    other[-1 if kind.startswith("t5") else 0][0, place] = 20
    moved = np.abs(orders_of(model, other, 2) - first)[0].max(-1) > 1e-5
    assert moved[place].tolist() == [True, False]
    assert moved[place + 1, 1] and not moved[:place].any()


def test_unshared_orders_have_layers_of_their_own_and_begin_alike():
    K.clear_session()
    base = tiny("bert", "unilm", with_mlm="linear")
    shared = orders_of(build_teaforn_model(base, 2), UNILM, 2)
    model = build_teaforn_model(base, 2, shared=False)
    np.testing.assert_allclose(orders_of(model, UNILM, 2), shared, atol=1e-5)
    copies = [w for w in model.trainable_weights if "TeaForN-2-" in w.name]
    assert copies and not any("Embedding-Token" in w.name for w in copies)
    model.compile("sgd", TeaForN(2))
    targets = np.where(UNILM[1] > 0, UNILM[0], 0)[:, 1:, None]
    before = [K.get_value(copies[0]), base.model.get_layer("Transformer-0-FeedForward").get_weights()[0]]
    model.train_on_batch(UNILM, np.pad(targets, ((0, 0), (0, 1), (0, 0)), "constant"))
    after = [K.get_value(copies[0]), base.model.get_layer("Transformer-0-FeedForward").get_weights()[0]]
    assert all(np.abs(a - b).max() > 0 for a, b in zip(before, after))


def test_gradients_reach_the_early_steps():
    """The loss of a late token by order 3 alone moves what the model said two steps before."""
    model = build_teaforn_model(toy(), 3, reading="lm")
    logits = model.outputs[0]
    h = model.get_layer("M").get_output_at(0)
    gradient = K.function(model.inputs, [tf.gradients(logits[0, 3, 10 + 2], h)[0]])([WORDS[None, :-1]])[0][0]
    assert np.abs(gradient).max(-1).astype(bool).tolist() == [True, True, False, False]


def test_gumbel_noise_is_drawn_in_training_only():
    K.clear_session()
    logits, table = keras.layers.Input((2, 4)), keras.layers.Input((4, 3))
    out = ExpectedEmbedding(temperature=0.1)([logits, keras.layers.Lambda(lambda x: x[:1])(table)])
    run = K.function([logits, table, K.learning_phase()], [out])
    values = [np.zeros((500, 2, 4)), np.eye(4)[None, :, :3].repeat(500, axis=0)]
    still, noisy = run(values + [0])[0], run(values + [1])[0]
    np.testing.assert_allclose(still, 0.25)
    np.testing.assert_allclose(noisy.mean((0, 1)), 0.25, atol=0.06)
    # Nearly one word each time.
    assert np.mean(np.maximum(noisy.max(-1), 1 - noisy.sum(-1)) > 0.9) > 0.6


def test_half_precision_input_of_hidden_states():
    e, h = tf.zeros((1, 3, 2), "float16"), tf.ones((1, 3, 2), "float32")
    out = ShiftedInput("lm").call([e, h])
    assert out.dtype == tf.float16 and K.eval(out)[0, :, 0].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(order=0), "order"),
        (dict(soft_input="words"), "soft_input"),
        (dict(soft_input="topk", k=0), "k"),
        (dict(soft_input="gumbel", temperature=0), "temperature"),
        (dict(reading="rtl"), "reading"),
        (dict(), "to its right"),
        (dict(reading="unilm"), "Input-Segment"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        build_teaforn_model(toy(), **dict({"order": 2}, **options))


def test_what_is_no_language_model_is_refused():
    K.clear_session()
    with pytest.raises(TypeError, match="Keras model"):
        build_teaforn_model("bert")
    with pytest.raises(ValueError, match="to its right"):
        build_teaforn_model(tiny("bert", with_mlm="linear"))
    x = keras.layers.Input((3,))
    with pytest.raises(ValueError, match="Input-Token"):
        build_teaforn_model(keras.models.Model(x, keras.layers.Dense(2)(x)))


def test_trained_saved_and_loaded_in_a_fresh_process(tmp_path, run_python):
    K.clear_session()
    base = tiny("t5.1.1", with_lm="linear")
    model = build_teaforn_model(base, 2, soft_input="gumbel")
    model.compile(keras.optimizers.SGD(0.01), TeaForN(2))
    first = model.test_on_batch(T5, np.array([[[6], [7], [8], [9], [1]], [[9], [8], [1], [0], [0]]]))
    for _ in range(3):
        model.train_on_batch(T5, np.array([[[6], [7], [8], [9], [1]], [[9], [8], [1], [0], [0]]]))
    assert model.test_on_batch(T5, np.array([[[6], [7], [8], [9], [1]], [[9], [8], [1], [0], [0]]])) < first
    wanted = model.predict(T5)
    assert wanted.shape == (2, 5, 2 * VOCABULARY)
    model.save(str(tmp_path / "model.h5"))
    np.save(str(tmp_path / "wanted.npy"), wanted)
    run_python(
        """if True:
        import numpy as np
        import kexue_keras
        from kexue_keras.backend import keras
        model = keras.models.load_model({folder!r} + "/model.h5")
        T5 = [np.array([[5, 6, 7, 8, 1, 0], [5, 6, 9, 10, 11, 1]]), np.array([[0, 6, 7, 8, 9], [0, 9, 8, 0, 0]])]
        np.testing.assert_allclose(model.predict(T5), np.load({folder!r} + "/wanted.npy"), atol=1e-5)
        """.format(
            folder=str(tmp_path)
        )
    )
