"""Gradient caching: the gradients of the whole batch, with dropout, chunk by chunk."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.models import build_transformer_model
from helpers import tiny_config
from loss_graphs import oracles

from kexue_keras import losses, optimizers
from kexue_keras.backend import K, call_again, get_session, is_tf_keras, keras, tf1
from kexue_keras.training import TwoViewLoss
from kexue_keras.training._randomness import fold_in, repeatable_dropout, replayed_dropout
from kexue_keras.training.gradient_cache import GradientCache, gradient_cache
from kexue_keras.training.gradient_cache._micro_batches import MicroBatches, in_micro_batches

layers = keras.layers
SGD = keras.optimizers.SGD


def small_encoder(rate=0.0, dimension=3, name="encoder"):
    """Padded tokens to embeddings: a mask, dropout, two kinds of weights."""
    tokens = layers.Input([None], dtype="int32", name=name + "-tokens")
    hidden = layers.Embedding(20, 4, mask_zero=True, name=name + "-embedding")(tokens)
    hidden = layers.Dropout(rate)(hidden)
    hidden = layers.Dense(5, activation="tanh", name=name + "-hidden")(hidden)
    pooled = layers.GlobalAveragePooling1D()(layers.Dropout(rate)(hidden))
    return keras.models.Model(tokens, layers.Dense(dimension, name=name + "-out")(pooled), name=name)


def dense_encoder(rate=0.0, name="dense"):
    x = layers.Input([4])
    return keras.models.Model(x, layers.Dense(3, name=name + "-out")(layers.Dropout(rate)(x)), name=name)


def padded(rng, rows, length):
    tokens = rng.randint(1, 20, (rows, length))
    tokens[np.arange(length)[None] >= rng.randint(2, length + 1, rows)[:, None]] = 0
    return tokens


def dense_values(gradients, weights):
    return [g if isinstance(g, tf.Tensor) else K.zeros_like(w) + g for g, w in zip(gradients, weights)]


def relative(found, wanted):
    return np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(found, wanted)) / sum(np.sum(np.square(b)) for b in wanted))


def steps(weights, start):
    return [a.astype("float64") - b for a, b in zip(weights, start)]


def run(tensors, feed, training=1):
    phase = K.learning_phase()
    return get_session().run(tensors, feed if isinstance(phase, int) else {**feed, phase: training})


def unilm():
    """A BERT that hands an attention mask to each layer, in whose arguments Keras 2.3.1 also keeps masks of calls."""
    bert = build_transformer_model(
        config_path=None,
        model="bert",
        application="unilm",
        return_keras_model=False,
        **dict(tiny_config(), num_hidden_layers=1),
    )
    return keras.models.Model(bert.model.inputs, bert.model.get_layer("Transformer-0-FeedForward-Norm").output)


def test_bert_gradients_equal_those_of_one_pass_with_the_same_dropout(rng):
    bert = unilm()
    encoder = keras.models.Model(bert.inputs, layers.GlobalAveragePooling1D()(bert.output))
    loss = losses.InfoNCE(0.5, layout="two_view")
    weights = encoder.trainable_weights
    with repeatable_dropout(3) as step:
        model = gradient_cache(encoder, chunk_size=3, views=2)
        cached = tf.gradients(tf.reduce_mean(loss.call(None, tf.reshape(model.output, [-1, 16]))), weights)
    # One pass: all chunks side by side in one graph, nothing stopped, nothing computed twice.
    key, parts = fold_in(step.key, 0), []
    rows = [tf.repeat(x, 2, axis=0) for x in model.inputs]
    for number, start in enumerate(range(0, 8, 3)):
        with replayed_dropout(fold_in(key, number)):
            parts.append(call_again(encoder, [x[start : min(start + 3, 8)] for x in rows]))
    whole = tf.concat(parts, axis=0)
    plain = tf.gradients(tf.reduce_mean(loss.call(None, whole)), weights)
    tensors = [dense_values(cached, weights), dense_values(plain, weights), model.output, whole]
    for at, length in ((1, 7), (2, 5)):
        tokens = rng.randint(5, 40, (4, length))
        tokens[:2, 4:] = 0
        step.set(at)
        segments = 1 * (np.arange(length)[None] >= rng.randint(1, 4, (4, 1)))
        feed = dict(zip(model.inputs + encoder.inputs, [tokens, segments] * 2))
        found, wanted, h, reference = run(tensors, feed)
        np.testing.assert_allclose(h.reshape(-1, 16), reference, atol=1e-6)
        assert relative(found, wanted) < 1e-5
        assert abs(h[:, 0] - h[:, 1]).max() > 0.1
        calm, predicted = run([encoder.output, model.output], feed, training=0)
        assert abs(h[:, 0] - calm).max() > 0.1
        np.testing.assert_allclose(predicted[:, 1], calm, atol=1e-6)


def test_golden_gradients_of_the_article(rng):
    for case in oracles("gradcache").values():
        h = np.array(case["inputs"]["H"])
        one_hot = np.eye(4, dtype="float32")[[1, 0, 3, 2]]
        kept = not case["params"]["mask_diagonal"]

        def similarity(y_true, y_pred):
            scores = tf.matmul(y_pred, y_pred, transpose_b=True)
            scores = scores if kept else tf.linalg.set_diag(scores, tf.fill([4], -1e9))
            return tf1.nn.softmax_cross_entropy_with_logits_v2(labels=one_hot, logits=scores)

        x = layers.Input([4])
        embed = layers.Dense(2, use_bias=False)
        encoder = keras.models.Model(x, embed(x))
        embed.set_weights([h])
        model = gradient_cache(encoder, chunk_size=2)
        model.compile(SGD(1.0), lambda t, p: K.sum(similarity(t, p)))
        found = model.train_on_batch(np.eye(4), np.zeros((4, 1)))
        np.testing.assert_allclose(found, case["expected"]["loss"], rtol=1e-6)
        np.testing.assert_allclose(h - embed.get_weights()[0], case["expected"]["htilde"], atol=1e-6)


def supervised_contrastive(y_true, y_pred):
    """A user's own loss: rows of a class attract each other."""
    unit = tf.math.l2_normalize(y_pred, -1)
    same = tf.cast(tf.equal(y_true, tf.transpose(y_true)), y_pred.dtype)
    return -tf.reduce_mean(same * tf.nn.log_softmax(4 * tf.matmul(unit, unit, transpose_b=True)), -1)


LOSSES = {
    "infonce": lambda: losses.InfoNCE(0.2, layout="two_view"),
    "flatnce": lambda: losses.FlatNCE(0.2, layout="two_view", report="infonce"),
    "cosent": lambda: losses.CoSENT(2.0),
    "own": lambda: supervised_contrastive,
}


def test_any_loss_has_the_gradients_of_one_pass(rng):
    encoder, y = small_encoder(), tf1.placeholder("float32", [None, 1])
    weights = encoder.trainable_weights
    models = [gradient_cache(encoder, chunk_size=4), encoder]
    tensors = {}
    for name in LOSSES:
        loss = LOSSES[name]()
        values = [tf.reduce_mean(loss(y, model.output)) for model in models]
        tensors[name] = [(v, dense_values(tf.gradients(v, weights), weights)) for v in values]
    for rows, length in ((10, 6), (6, 4)):
        tokens, labels = padded(rng, rows, length), np.repeat(np.arange(rows // 2) % 3, 2)[:, None]
        feed = {model.inputs[0]: tokens for model in models}
        feed[y] = labels
        for name, (found, wanted) in run(tensors, feed).items():
            np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, err_msg=name)
            assert relative(found[1], wanted[1]) < 1e-5, name


def test_chunks_cover_all_rows_once_and_are_about_equal():
    x = tf1.placeholder("int32", [None])
    cut = {size: MicroBatches([None, x], size) for size in (1, 2, 3, 7)}
    parts = {size: [c[i][1] for i in range(21)] for size, c in cut.items()}
    counts = {size: c.count for size, c in cut.items()}
    for rows in (0, 1, 2, 3, 5, 12, 21):
        found, many = get_session().run([parts, counts], {x: np.arange(rows)})
        for size in cut:
            pieces = found[size][: many[size]]
            assert np.concatenate(pieces).tolist() == list(range(rows)), (rows, size)
            lengths = [len(p) for p in pieces]
            assert max(lengths) <= size and min(lengths[:-1] or [1]) >= 1, (rows, size, lengths)


def test_in_micro_batches_works_on_half_precision_inputs_and_an_empty_batch(rng):
    x = tf1.placeholder("float16", [None, 4])
    w = K.variable(rng.randn(4, 3), dtype="float16")
    unused = K.variable(1.0)
    function = lambda tensors, number: tf.matmul(tensors[0], w) * tf.cast(number + 1, "float16")  # noqa: E731
    h = in_micro_batches(
        function, [x, None], size=2, dtype="float16", weights=[w, unused], trainable=lambda: [w, unused]
    )
    assert h.shape.as_list() == [None, 3] and h.dtype == tf.float16
    up = tf.constant([1, 2, -1], "float16")
    gradients = tf.gradients(h * up, [w, x, unused])
    assert gradients[2] is None and gradients[0].dtype == tf.float16
    value = rng.randn(5, 4).astype("float16")
    found, of_w, of_x = get_session().run([h, gradients[0], gradients[1]], {x: value})
    factor = np.array([1, 1, 2, 2, 3])[:, None]
    weight = K.get_value(w).astype("float64")
    np.testing.assert_allclose(found, factor * (value.astype("float64") @ weight), rtol=5e-3, atol=5e-3)
    scaled = factor * value.astype("float64")
    np.testing.assert_allclose(of_w, scaled.sum(0)[:, None] * np.array([1, 2, -1]), rtol=5e-3, atol=2e-2)
    np.testing.assert_allclose(of_x, factor * (weight @ [1, 2, -1]), rtol=5e-3, atol=2e-2)
    empty = get_session().run([h, gradients[0]], {x: value[:0]})
    assert empty[0].shape == (0, 3) and not empty[1].any()


def test_fit_shuffles_sentences_without_tearing_views_apart(rng):
    encoder = small_encoder(0.1)
    model = gradient_cache(encoder, chunk_size=5, views=2)
    assert model.output_shape == (None, 2, 3)
    optimizer = optimizers.ExponentialMovingAverage(optimizers.AdamW(0.02), 0.5)
    model.compile(optimizer, TwoViewLoss(losses.InfoNCE(0.1, layout="two_view")))
    x, y = padded(rng, 19, 6), np.zeros((19, 1, 1))
    history = model.fit(x, y, batch_size=8, epochs=12, verbose=0, validation_data=(x, y)).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    # Outside the training phase both views are the embedding that the encoder itself gives.
    h = encoder.predict(x[:8]).astype("float64")
    h = np.repeat(h / np.linalg.norm(h, axis=1, keepdims=True), 2, axis=0) @ np.eye(3)
    scores = h @ h.T / 0.1
    np.fill_diagonal(scores, -np.inf)
    wanted = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(16), np.arange(16) ^ 1]
    np.testing.assert_allclose(model.evaluate(x[:8], y[:8], verbose=0), wanted.mean(), rtol=1e-4)


def test_the_loss_of_the_article_on_views_and_sample_weights(rng):
    case = oracles("simcse")["two_view_tau1"]
    views = np.reshape(case["inputs"]["vectors"], (2, 2, 2))
    rows = np.array(case["expected"]["rows"]).reshape(2, 2).mean(1)
    x = layers.Input([2, 2])
    model = keras.models.Model(x, layers.Activation("linear")(x))
    model.compile("sgd", TwoViewLoss(losses.InfoNCE(1.0, layout="two_view")))
    assert abs(model.evaluate(views, np.zeros((2, 1, 1)), verbose=0) - case["expected"]["mean"]) < 1e-6
    found = model.evaluate(views, np.zeros((2, 1, 1)), sample_weight=np.array([1.0, 3.0]), verbose=0)
    wanted = np.array([1, 3]) @ rows / 2
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    again = TwoViewLoss.from_config(TwoViewLoss(losses.FlatNCE(0.1, layout="two_view")).get_config())
    assert again.loss.parameters["temperature"] == 0.1 and again.name == "flat_nce"
    with pytest.raises(ValueError, match=r"must be \[batch, 2, dimension\], but its shape is \(4, 2\)"):
        again.call(K.zeros([4, 1]), K.zeros([4, 2]))
    with pytest.raises(ValueError, match="one value per row"):
        TwoViewLoss(lambda t, p: p).call(K.zeros([4, 1, 1]), K.zeros([4, 2, 5]))
    with pytest.raises(TypeError, match="must be a Keras loss or a function"):
        TwoViewLoss(None)


def test_towers_and_hard_negatives_train_as_one_pass_does(rng):
    a, b = dense_encoder(name="a"), dense_encoder(name="b")
    towers = [a, b, b]
    x = [rng.randn(7, 4) for _ in towers]
    inputs = [layers.Input([4]) for _ in towers]
    stack = layers.Lambda(lambda t: K.stack(t, 1))([tower(i) for tower, i in zip(towers, inputs)])
    models = gradient_cache(towers, chunk_size=3), keras.models.Model(inputs, stack)
    assert models[0].output_shape == (None, 3, 3) and models[0].count_params() == models[1].count_params()
    start, seen = models[0].get_weights(), []
    for model in models:
        models[0].set_weights(start)
        model.compile(SGD(0.01), losses.InfoNCE(0.2))
        values = [model.train_on_batch(x, np.zeros((7, 1, 1)), sample_weight=np.arange(7.0)) for _ in range(2)]
        seen.append((values, steps(models[0].get_weights(), start)))
    np.testing.assert_allclose(seen[0][0], seen[1][0], rtol=1e-5)
    assert relative(seen[0][1], seen[1][1]) < 1e-5
    labelled = losses.CoSENT(2.0, labels="per_pair")
    values = [labelled(K.constant(np.arange(7) % 3), model.output[:, :2]) for model in models]
    found, wanted = run(values, {i: v for model in models for i, v in zip(model.inputs, x)})
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_layers_before_and_after_regularizers_and_frozen_layers_train_as_without(rng):
    x, y = rng.randn(9, 4).astype("f"), rng.randn(9, 2)
    inputs = layers.Input([4])
    before, after = layers.Dense(4, activation="tanh"), layers.Dense(2)
    inner = layers.Input([4])
    l2 = keras.regularizers.l2(0.1)
    frozen = layers.Dense(4, trainable=False)
    encoder = keras.models.Model(inner, layers.Dense(3, kernel_regularizer=l2)(frozen(inner)))
    cached = keras.models.Model(inputs, after(GradientCache(encoder, chunk_size=4)(before(inputs))))
    plain = keras.models.Model(inputs, after(encoder(before(inputs))))
    start, seen = plain.get_weights(), []
    for model in (plain, cached):
        plain.set_weights(start)
        optimizer = optimizers.GradientAccumulation(optimizers.AdamW(0.05, weight_decay=0.1), 2)
        model.compile(optimizer, "mse")
        seen.append(([model.train_on_batch(x, y) for _ in range(5)], plain.get_weights()))
    np.testing.assert_allclose(seen[0][0], seen[1][0], rtol=1e-5)
    assert abs(seen[0][1][0] - start[0]).max() > 1e-3
    for a, b, first in zip(seen[0][1], seen[1][1], start):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Unfrozen after the layer was built, it is trained.
    frozen.trainable = encoder.trainable = True
    cached.compile(SGD(0.1), "mse")
    before_step = frozen.get_weights()[0]
    cached.train_on_batch(x, y)
    assert abs(frozen.get_weights()[0] - before_step).max() > 1e-5


def test_saved_and_loaded_in_a_fresh_process(rng, tmp_path, run_python):
    encoder = small_encoder(0.2)
    model = gradient_cache(encoder, chunk_size=3, views=2)
    model.compile(optimizers.AdamW(0.01), TwoViewLoss(losses.InfoNCE(0.1, layout="two_view")))
    x, y = padded(rng, 8, 6), np.zeros((8, 1, 1))
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    model.save(str(tmp_path / "model.h5"))
    np.savez(str(tmp_path / "data.npz"), x=x, y=y, h=encoder.predict(x), loss=model.evaluate(x, y, verbose=0))
    said = run_python(
        "import sys, numpy as np, kexue_keras\n"
        "from kexue_keras.backend import keras, set_seed\n"
        "set_seed(3)  # of the dropout\n"
        "model, data = keras.models.load_model(sys.argv[1]), np.load(sys.argv[2])\n"
        "cached = model.layers[-1]\n"
        "same = np.allclose(cached.encoder.predict(data['x']), data['h'], atol=1e-6)\n"
        "same &= np.allclose(model.evaluate(data['x'], data['y'], verbose=0), data['loss'], rtol=1e-4)\n"
        "same &= model.optimizer.get_weights()[0] == 2\n"
        "history = model.fit(data['x'], data['y'], batch_size=8, epochs=20, verbose=0).history['loss']\n"
        "print(same, cached.chunk_size, cached.views, np.mean(history[-5:]) < np.mean(history[:5]))",
        tmp_path / "model.h5",
        tmp_path / "data.npz",
    ).split()
    assert said[-4:] == ["True", "3", "2", "True"]


@pytest.mark.all_stacks
def test_bad_encoders_are_refused(rng):
    x = layers.Input([4])
    h = layers.Dense(3)(x)

    def model(output, inputs=x):
        return keras.models.Model(inputs, output)

    adding = layers.Dense(3, activity_regularizer=keras.regularizers.l2(0.1))
    fixed = layers.Input(batch_shape=(2, 4))
    cases = [
        (model([h, x]), ValueError, "has 2 outputs"),
        (
            model(layers.Reshape([3, 1])(h)),
            ValueError,
            r"shape \(None, 3, 1\), but embeddings are \[batch, dimension\]",
        ),
        (model(layers.BatchNormalization()(h)), ValueError, "BatchNormalization .*; use LayerNormalization"),
        (model(model(layers.BatchNormalization()(h))(x)), ValueError, "BatchNormalization"),
        (model(adding(x)), ValueError, "activity regularizer"),
        (model(layers.Dense(3)(fixed), fixed), ValueError, r"fixed batch size \(2\)"),
        (layers.Dense(3), TypeError, "needs a Keras model"),
        (keras.models.Sequential(), ValueError, "no symbolic inputs"),
    ]
    own_loss = model(h)
    own_loss.add_loss(K.sum(h), **({} if is_tf_keras else {"inputs": [x]}))
    cases.append((own_loss, ValueError, "adds internal losses"))
    for encoder, error, message in cases:
        with pytest.raises(error, match=message):
            gradient_cache(encoder, chunk_size=2)
    noisy = model(layers.GaussianNoise(0.1)(h))
    with pytest.raises(ValueError, match="random numbers that cannot be drawn a second time.*GaussianNoise|gaussian"):
        gradient_cache(noisy, chunk_size=2)
    # Noise that comes before is drawn once.
    inputs = layers.Input([4])
    GradientCache(model(h), chunk_size=2)(layers.GaussianNoise(0.1)(inputs))


def test_bad_arguments_are_refused():
    encoder = dense_encoder(0.1)
    for size in (0, -3, 2.5, "8", True):
        with pytest.raises(ValueError, match="chunk_size must be a whole number >= 1, but is %r" % (size,)):
            gradient_cache(encoder, chunk_size=size)
    with pytest.raises(ValueError, match="views must be a whole number >= 1, but is 0"):
        gradient_cache(encoder, chunk_size=2, views=0)
    with pytest.raises(ValueError, match="views=2 with 2 towers"):
        gradient_cache([encoder, encoder], chunk_size=2, views=2)
    with pytest.raises(ValueError, match="the list of encoders is empty"):
        gradient_cache([], chunk_size=2)
    with pytest.raises(ValueError, match=r"different dimensions \(3, 5\)"):
        gradient_cache([small_encoder(), small_encoder(dimension=5, name="b")], chunk_size=2)
    with pytest.raises(ValueError, match="has 1 inputs, but is called with 2"):
        GradientCache(encoder, chunk_size=2)([layers.Input([4]), layers.Input([4])])
    with pytest.warns(UserWarning, match="its 2 views of a row are the same"):
        gradient_cache(dense_encoder(), chunk_size=2, views=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        gradient_cache(encoder, chunk_size=2, views=2)


def test_second_derivatives_are_refused():
    encoder = dense_encoder()
    model = gradient_cache(encoder, chunk_size=2)
    (gradient,) = tf.gradients(K.sum(K.square(model.output)), encoder.trainable_weights[:1])
    with pytest.raises(LookupError, match="GradientCache has no second derivatives"):
        tf.gradients(K.sum(K.square(gradient)), encoder.trainable_weights[:1])


def test_a_model_called_again_keeps_no_trace():
    model = unilm()
    config = model.get_config()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        call_again(model, [x + 0 for x in model.inputs])
        assert model.get_config() == config
