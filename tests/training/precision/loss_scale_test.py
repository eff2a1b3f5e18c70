"""LossScale: the steps of the optimizer inside, none where a gradient is not finite; scale_loss: a larger gradient."""

import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from numpy_optimizers import Toy, adam, clip_by_stack_norm, difference, sgd

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.losses import MultilabelCrossentropy
from kexue_keras.optimizers import (
    AdamW,
    ExponentialMovingAverage,
    FlushAccumulation,
    GradientAccumulation,
    Lookahead,
    MomentumAccumulationAdamW,
    MultiTask,
)
from kexue_keras.training.precision import LossScale, ScaledLoss, scale_loss
from kexue_keras.training.precision._loss_scale import check_loss_scale

pytestmark = pytest.mark.all_stacks

SGD = keras.optimizers.SGD
INNER = {
    "SGD": (lambda: SGD(0.05), lambda: sgd(0.05)),
    "clipnorm": (lambda: SGD(0.05, clipnorm=0.5), lambda: clipped(sgd(0.05), 0.5)),
    "Adam": (lambda: keras.optimizers.Adam(0.05), lambda: adam(0.05, epsilon=1e-7, hat=True)),
    "AdamW": (lambda: AdamW(0.05, weight_decay=0.1), lambda: adam(0.05, weight_decay=[0.1, 0, 0.1])),
    "EMA": (lambda: ExponentialMovingAverage(AdamW(0.05, weight_decay=0.0)), lambda: adam(0.05)),
    "Lookahead": (lambda: Lookahead(SGD(0.05), steps=100), lambda: sgd(0.05)),
}


def clipped(step, limit):
    return lambda params, gradients: step(params, clip_by_stack_norm(gradients, limit))


def broken(batch, value=np.nan, part=2):
    """The same micro batch with one entry that is not finite; part 2 is the embedding's."""
    batch = [np.array(x, "float64") for x in batch]
    batch[part].flat[1] = value
    return tuple(batch)


@pytest.mark.parametrize("name, scale", [(name, (1000, "dynamic")[i % 2]) for i, name in enumerate(sorted(INNER))])
def test_steps_are_those_of_the_inner_optimizer_and_broken_ones_none(rng, name, scale):
    make, reference = INNER[name]
    optimizer = LossScale(make(), scale)
    toy, step = Toy(optimizer, rng), reference()
    params = toy.start()
    for i, value in enumerate((None, np.nan, None, np.inf, -np.inf, None)):
        batch = toy.batch(rng)
        if value is None:
            toy.train(batch)
            step(params, toy.gradients(batch))
            assert difference(toy.values(), params) < 1e-6, (name, i)
            continue
        everything = toy.params + optimizer.optimizer.weights
        before = toy.session.run(everything)
        toy.train(broken(batch, value, part=i % 3))
        for a, b in zip(before, toy.session.run(everything)):
            np.testing.assert_array_equal(a, b)
    assert K.get_value(optimizer.iterations) == 3 and K.get_value(optimizer.skipped) == 3


def test_dynamic_scale_halves_and_doubles(rng):
    optimizer = LossScale(SGD(0.1), "dynamic", growth_steps=3)
    toy = Toy(optimizer, rng)
    seen = []
    for letter in "ggbbggggggbggg":
        toy.train(broken(toy.batch(rng)) if letter == "b" else toy.batch(rng))
        seen.append(K.get_value(optimizer.loss_scale) / 2**15)
    assert seen == [1, 1, 0.5, 0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 1, 0.5, 0.5, 0.5, 1]


def test_the_scale_is_there_in_the_backward_pass_and_gone_after_it():
    seen = []

    @tf.custom_gradient
    def spy(x):
        return tf.identity(x), lambda dy: (seen.append(dy), dy)[1]

    weight = K.variable(2.0)
    optimizer = LossScale(SGD(1.0), 1024)
    (gradient,) = optimizer.get_gradients(3.0 * spy(weight), [weight])
    K.get_value(weight)
    assert get_session().run([seen[0], gradient]) == [3 * 1024, 3.0]


def test_a_gradient_below_the_range_of_half_survives_only_with_the_scale(rng):
    # What the rewriting does on a GPU, done by hand: one matrix product, forward and backward, in float16.
    x = tf1.placeholder("float32", (None, 4))
    values = {}
    for scale in (1.0, 1000.0):
        weight = K.variable(np.ones((4, 2)))
        product = tf.cast(tf.matmul(tf.cast(x, tf.float16), tf.cast(weight, tf.float16)), tf.float32)
        loss = tf.reduce_sum(product) * 1e-8
        (gradient,) = LossScale(SGD(1.0), scale).get_gradients(loss, [weight])
        K.get_value(weight)
        values[scale] = get_session().run(gradient, {x: np.ones((1, 4))})
    assert (values[1.0] == 0).all()
    np.testing.assert_allclose(values[1000.0], 1e-8, rtol=2e-2)


@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_accumulation_inside_drops_only_the_broken_micro_batch(rng, mode):
    optimizer = LossScale(GradientAccumulation(SGD(0.05), 2, mode=mode), 1000)
    toy, step = Toy(optimizer, rng), sgd(0.05)
    params = toy.start()
    first, second, third = (toy.batch(rng) for _ in range(3))
    for batch in (first, broken(second), second, third):
        toy.train(batch)
    pair = zip(toy.gradients(first), toy.gradients(second))
    step(params, [(a + b) / (2 if mode == "mean" else 1) for a, b in pair])
    assert difference(toy.values(), params) < 1e-6
    assert K.get_value(optimizer.iterations) == 1 and K.get_value(optimizer.micro_step) == 1
    assert optimizer.flush() == 1
    step(params, toy.gradients(third))
    assert difference(toy.values(), params) < 1e-6


def test_accumulation_in_momentum_goes_inside_too(rng):
    toy = Toy(LossScale(MomentumAccumulationAdamW(0.05, steps=2)), rng)
    toy.train(toy.batch(rng))
    assert difference(toy.values(), toy.start()) == 0.0
    toy.train(toy.batch(rng))
    assert difference(toy.values(), toy.start()) > 0.0


def test_hopeless_training_stops_with_a_message(rng):
    toy = Toy(LossScale(SGD(0.1), 1000, patience=3), rng)
    for batch in ("b", "b", "g", "b", "b"):
        toy.train(broken(toy.batch(rng)) if batch == "b" else toy.batch(rng))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"infinite in 3 steps in a row"):
        toy.train(broken(toy.batch(rng)))


def build(optimizer, loss="mse", **options):
    tf1.set_random_seed(3)
    model = keras.models.Sequential([keras.layers.Dense(2, input_shape=(3,), kernel_initializer="ones")])
    model.compile(optimizer, loss, **options)
    return model


def test_loss_and_metrics_are_shown_unscaled(rng):
    x, y = rng.randn(6, 3), rng.randn(6, 2)
    expected = ((x.sum(1, keepdims=True) - y) ** 2).mean()
    for optimizer, loss in ((LossScale(AdamW(1e-3), 1000), "mse"), (AdamW(1e-3), scale_loss("mse", 1000))):
        values = build(optimizer, loss, metrics=["mse"]).train_on_batch(x, y)
        assert values == pytest.approx([expected, expected], rel=1e-5)


def test_fit_with_callbacks(rng):
    model = build(LossScale(GradientAccumulation(AdamW(1e-2), 2), "dynamic"))
    x, y = rng.randn(5, 3), rng.randn(5, 2)
    reduce = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=0, min_delta=1e9, cooldown=0, factor=0.5)
    model.fit(x, y, batch_size=1, epochs=3, verbose=0, callbacks=[FlushAccumulation(), reduce])
    assert K.get_value(model.optimizer.iterations) == 9
    assert K.get_value(model.optimizer.lr) < 1e-2


def test_state_is_saved_in_mid_window_and_goes_on(rng, run_python, tmp_path):
    model = build(LossScale(GradientAccumulation(AdamW(0.05), 2), "dynamic", growth_steps=5))
    x, y = rng.randn(7, 4, 3).astype("float32"), rng.randn(7, 4, 2).astype("float32")
    x[1, 0, 0] = np.nan
    # Asking for a counter before the first step must not change the order of what is saved.
    assert K.get_value(model.optimizer.skipped) == 0
    for i in range(4):
        model.train_on_batch(x[i], y[i])
    model.save(str(tmp_path / "model.h5"))
    for i in range(4, 7):
        model.train_on_batch(x[i], y[i])
    np.savez(str(tmp_path / "data.npz"), x=x, y=y, w=model.get_weights()[0])
    said = run_python(
        """
import sys, numpy as np, kexue_keras
from kexue_keras.backend import K, keras
data = np.load(sys.argv[2])
model = keras.models.load_model(sys.argv[1])
for i in range(4, 7):
    model.train_on_batch(data["x"][i], data["y"][i])
o = model.optimizer
print(type(o).__name__, o.growth_steps, int(K.get_value(o.skipped)), float(K.get_value(o.loss_scale)))
print("difference", np.abs(model.get_weights()[0] - data["w"]).max())
""",
        tmp_path / "model.h5",
        tmp_path / "data.npz",
    )
    assert "LossScale 5 1 32768.0" in said and "difference 0.0" in said


def test_orders_that_make_no_sense_are_refused():
    for outer in (lambda o: GradientAccumulation(o, 2), ExponentialMovingAverage, Lookahead):
        with pytest.raises(ValueError, match="LossScale"):
            outer(LossScale(AdamW(1e-3)))
    with pytest.raises(ValueError, match="one loss scale is enough"):
        LossScale(LossScale(AdamW(1e-3)))
    with pytest.raises(ValueError, match="MultiTask.*computes the gradient of each task"):
        LossScale(GradientAccumulation(MultiTask(AdamW(1e-3)), 2))
    with pytest.raises(TypeError, match="optimizer instance, not the class"):
        LossScale(AdamW)
    for scale in (0, -1, float("nan"), float("inf"), "static", True, None):
        with pytest.raises((ValueError, TypeError)):
            LossScale(AdamW(1e-3), scale)
    with pytest.raises(ValueError, match="growth_steps must be a whole number >= 1, but is 0"):
        LossScale(AdamW(1e-3), "dynamic", growth_steps=0)
    optimizer, weight = LossScale(AdamW(1e-3)), K.variable([1.0])
    with pytest.raises(RuntimeError, match="unscaled loss"):
        optimizer.train([K.constant([1.0])], [weight])


def test_config_round_trip():
    optimizer = LossScale(AdamW(1e-3), "dynamic", growth_steps=7, patience=9)
    again = LossScale.from_config(optimizer.get_config())
    assert (again.scale, again.growth_steps, again.patience) == ("dynamic", 7, 9)
    assert isinstance(again.optimizer, AdamW)


@given(scale=st.floats(1e-3, 1e6), value=st.floats(-1e3, 1e3))
def test_check_loss_scale(scale, value):
    assert check_loss_scale(scale) == scale
    if value <= 0:
        with pytest.raises(
            ValueError, match="scale must be a number > 0, but is %s; .*'dynamic'" % re.escape(repr(value))
        ):
            check_loss_scale(value)


# scale_loss


def test_scaled_losses_have_their_value_and_a_larger_gradient(rng):
    logits, labels = rng.randn(3, 5).astype("float32"), rng.randint(0, 2, (3, 5)).astype("float32")
    x = K.variable(logits)
    cases = {
        "name": ("mse", "mse"),
        "function": (keras.losses.mean_squared_error, keras.losses.mean_squared_error),
        "object": (keras.losses.BinaryCrossentropy(from_logits=True),) * 2,
        "ours": (MultilabelCrossentropy(), MultilabelCrossentropy()),
    }
    tensors = []
    for plain, given_loss in cases.values():
        for loss in (keras.losses.get(plain), scale_loss(given_loss, 1000)):
            value = tf.reduce_mean(loss(K.constant(labels), x))
            tensors += [value, K.gradients(value, [x])[0]]
    K.get_value(x)
    values = get_session().run(tensors)
    for i in range(0, len(values), 4):
        np.testing.assert_allclose(values[i], values[i + 2], rtol=1e-6)
        np.testing.assert_allclose(1000 * values[i + 1], values[i + 3], rtol=1e-5)


def test_adam_makes_the_same_steps_under_scale_loss(rng):
    x, y = rng.randn(8, 3), rng.randn(8, 2)
    weights = []
    for loss in ("mse", scale_loss("mse", 1024)):
        model = build(AdamW(1e-2, epsilon=1e-12), loss)
        for _ in range(3):
            model.train_on_batch(x, y)
        weights.append(model.get_weights())
    assert difference(*weights) < 1e-5


def test_scaled_loss_has_second_derivatives():
    x = K.variable([2.0])
    loss = scale_loss(K.sum(x**3), 10.0)
    (first,) = K.gradients(loss, [x])
    (second,) = K.gradients(K.sum(first), [x])
    K.get_value(x)
    assert get_session().run([loss, first, second]) == [8.0, 120.0, 120.0]


def test_scaled_loss_is_loaded_with_the_model(rng, tmp_path):
    x, y = rng.randn(4, 3), rng.randint(0, 2, (4, 2))
    model = build(AdamW(1e-3), scale_loss(MultilabelCrossentropy(), 100))
    loss = model.test_on_batch(x, y)
    model.train_on_batch(x, y)
    model.save(str(tmp_path / "model.h5"))
    again = keras.models.load_model(str(tmp_path / "model.h5"))
    assert isinstance(again.loss, ScaledLoss) and again.loss.scale == 100.0
    assert again.test_on_batch(x, y) == pytest.approx(model.test_on_batch(x, y))
    assert np.isfinite(loss)


def test_sparse_labels_keep_their_shape(rng):
    tf1.set_random_seed(3)
    model = keras.models.Sequential([keras.layers.Dense(3, input_shape=(3,), activation="softmax")])
    model.compile(AdamW(1e-3), scale_loss("sparse_categorical_crossentropy", 10))
    assert np.isfinite(model.train_on_batch(rng.randn(4, 3), rng.randint(0, 3, (4, 1))))


def test_scale_loss_wants_a_number():
    for scale in ("dynamic", 0, -3):
        with pytest.raises(ValueError, match="dynamic|loss scale"):
            scale_loss("mse", scale)
        with pytest.raises(ValueError, match="dynamic|loss scale"):
            scale_loss(K.constant(1.0), scale)
