"""What all wrappers share: order, types, configuration, rates, nothing left patched."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras import optimizers as bert4keras_optimizers
from numpy_optimizers import Toy, adafactor, adam, difference, sgd

from kexue_keras.backend import K, is_tf_keras, keras, tf1
from kexue_keras.optimizers import (
    AdamW,
    ExponentialMovingAverage,
    GradientAccumulation,
    MomentumAccumulationAdamW,
    MomentumAccumulationSGD,
    Optimizer,
    PiecewiseLinear,
    Wrapper,
)
from kexue_keras.optimizers import _gradients as grads

pytestmark = pytest.mark.all_stacks

optimizers = keras.optimizers


class Counting(Wrapper):
    """Counts real updates by `after_update`."""

    def create_state(self, params):
        self.add_state("seen", dtype="int64")

    def update(self, gradients, params):
        return self.after_update(gradients, params, lambda: [self.state("seen").assign_add(1, read_value=False)])


class HalfStep(Wrapper):
    """Halves each step by `transform_step`, but not that of the bias."""

    def update(self, gradients, params):
        return self.transform_step(gradients, params, lambda p, s: None if "bias" in p.name else s / 2)


class Sign(Optimizer):
    """The example of the docstring of base.py."""

    def create_state(self, params):
        for p in params:
            self.add_state("m", p)

    def update(self, gradients, params):
        lr = self.read_learning_rate()
        return self.count([p.assign_sub(lr * tf.sign(g)) for g, p in zip(self.densify(gradients, params), params)])


def test_classes_and_foreign_optimizers_are_refused():
    with pytest.raises(TypeError, match="takes an optimizer instance, not the class SGD; write GradientAccumulation"):
        GradientAccumulation(optimizers.SGD, 2)
    with pytest.raises(TypeError, match="GradientDescentOptimizer"):
        GradientAccumulation(tf1.train.GradientDescentOptimizer(0.1), 2)
    with pytest.raises(TypeError, match="'str'"):
        PiecewiseLinear("adam", {1: 1})
    other = tf.keras.optimizers.SGD(0.1)
    if not is_tf_keras:
        with pytest.raises(TypeError, match="takes an optimizer of Keras 2.3.1"):
            GradientAccumulation(other, 2)
        with pytest.raises(TypeError, match="TFOptimizer"):
            GradientAccumulation(optimizers.TFOptimizer(tf1.train.AdamOptimizer()), 2)


def test_senseless_orders_say_why():
    def accumulated():
        return GradientAccumulation(AdamW(), 2)

    with pytest.raises(ValueError, match="accumulation inside accumulation: GradientAccumulation around GradientAcc"):
        GradientAccumulation(accumulated(), 2)
    with pytest.raises(ValueError, match="accumulation inside accumulation"):
        GradientAccumulation(PiecewiseLinear(MomentumAccumulationAdamW(steps=2), {1: 1}), 2)
    with pytest.raises(ValueError, match="has to be the outermost wrapper, but is inside PiecewiseLinear"):
        PiecewiseLinear(accumulated(), {1: 1})
    theirs = bert4keras_optimizers.extend_with_gradient_accumulation(bert4keras_optimizers.Adam, "AdamGA")
    if is_tf_keras:
        theirs = bert4keras_optimizers.extend_with_gradient_accumulation_v2(bert4keras_optimizers.Adam, "AdamGA")
    with pytest.raises(ValueError, match="AdamGA is bert4keras' gradient accumulation"):
        GradientAccumulation(theirs(1e-3, grad_accum_steps=2), 2)


def test_configuration_covers_the_whole_chain():
    optimizer = GradientAccumulation(
        PiecewiseLinear(AdamW(0.02, weight_decay=0.3), {10: 1, 20: 0.1}), 3, skip_nonfinite=True
    )
    text = optimizers.serialize(optimizer)
    again = optimizers.deserialize(text)
    assert type(again) is GradientAccumulation and optimizers.serialize(again) == text
    assert again.optimizer.optimizer.weight_decay == 0.3 and again.optimizer.schedule == [(10, 1.0), (20, 0.1)]


def test_the_rate_is_that_of_the_inner_optimizer():
    inner = optimizers.SGD(0.5)
    outer = GradientAccumulation(HalfStep(inner), 2)
    K.set_value(outer.lr, 0.25)
    assert K.get_value(inner.lr) == 0.25
    outer.learning_rate = 0.125
    assert K.get_value(inner.lr) == 0.125 == K.get_value(outer.lr)


def test_weights_are_own_then_inner(rng):
    inner = optimizers.SGD(0.5, momentum=0.9)
    outer = GradientAccumulation(inner, 2)
    assert outer.get_weights() == []
    Toy(outer, rng)
    shapes = [w.shape for w in outer.get_weights()]
    assert shapes[:4] == [(), (3, 2), (2,), (6, 2)] and len(shapes) == 4 + len(inner.get_weights())
    names = [w.name for w in outer.weights]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("wrap", [lambda o: o, lambda o: GradientAccumulation(o, 1)])
def test_step_transformation(rng, wrap):
    toy = Toy(wrap(HalfStep(optimizers.Adam(0.1))), rng)
    params, exact, step = toy.start(), toy.start(), adam(0.1, epsilon=1e-7, hat=True)
    for _ in range(3):
        batch = toy.batch(rng)
        toy.train(batch)
        step(exact, toy.gradients(batch))
    expected = [p + (e - p) / (1 if i == 1 else 2) for i, (p, e) in enumerate(zip(params, exact))]
    assert difference(toy.values(), expected) < 1e-6


@pytest.mark.parametrize("make", [lambda: MomentumAccumulationSGD(0.1, steps=3), lambda: optimizers.SGD(0.1)])
def test_after_update_runs_once_a_real_update(rng, make):
    optimizer = Counting(make())
    toy = Toy(optimizer, rng)
    for _ in range(7):
        toy.train(toy.batch(rng))
    assert (
        K.get_value(optimizer.state("seen"))
        == K.get_value(optimizer.iterations)
        == (2 if optimizer.always_updates is False else 7)
    )


def test_example_of_the_base(rng):
    toy = Toy(GradientAccumulation(Sign(0.5), 2), rng)
    for _ in range(2):
        toy.train((np.ones((3, 2)), -np.ones(2), np.ones((1, 2)), [3]))
    kernel, bias, table = [new - old for new, old in zip(toy.values(), toy.start())]
    assert np.allclose(kernel, -0.5) and np.allclose(bias, 0.5)
    assert np.allclose(table[3], -0.5) and np.allclose(table[:3], 0)


@pytest.mark.parametrize("decay", [False, True])
def test_bert4keras_optimizers(rng, decay):
    v2 = "_v2" if is_tf_keras else ""
    cls = bert4keras_optimizers.Adam
    cls = getattr(bert4keras_optimizers, "extend_with_weight_decay" + v2)(cls, "AdamWD")
    cls = getattr(bert4keras_optimizers, "extend_with_piecewise_linear_lr" + v2)(cls, "AdamWDLR")
    theirs = cls(0.1, weight_decay_rate=0.1 if decay else 0.0, exclude_from_weight_decay=["bias"], lr_schedule={2: 1})
    toy = Toy(GradientAccumulation(theirs, 2), rng)
    params = toy.start()
    # the schedule gives factors 0, .5, 1 for updates 0, 1, 2: as a step of its own rate each
    m = v = 0
    for t, factor in enumerate((0.0, 0.5, 1.0), 1):
        window = [toy.batch(rng) for _ in range(2)]
        for batch in window:
            toy.train(batch)
        g = sum(toy.gradients(b)[0] for b in window) / 2
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        eps = 1e-6 if is_tf_keras else 1e-7 / np.sqrt(1 - 0.999**t)
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + eps)
        params[0] -= 0.1 * factor * (step + (0.1 * params[0] if decay else 0.0))
    assert difference(toy.values()[:1], params[:1]) < 1e-6


def test_callbacks_reach_the_rate_of_adafactor(rng):
    # bert4keras makes a new variable at each access of AdaFactor.learning_rate.
    optimizer = GradientAccumulation(bert4keras_optimizers.AdaFactor(0.1), 1)
    toy = Toy(optimizer, rng)
    K.set_value(optimizer.lr, 0.02)
    params, batch = toy.start(), toy.batch(rng)
    toy.train(batch)
    adafactor(0.02)(params, toy.gradients(batch))
    assert difference(toy.values(), params) < 1e-6


@pytest.mark.skipif(is_tf_keras, reason="bert4keras' EMA of Keras 2.3.1")
def test_bert4keras_moving_average_sees_the_new_weights(rng):
    cls = bert4keras_optimizers.extend_with_exponential_moving_average(bert4keras_optimizers.Adam, "AdamEMA")
    inner = cls(0.1, ema_momentum=0.75)
    toy = Toy(GradientAccumulation(inner, 2), rng)
    K.batch_set_value([(w, np.zeros(K.int_shape(w))) for w in inner.ema_weights])
    for _ in range(2):
        toy.train(toy.batch(rng))
    assert difference(K.batch_get_value(inner.ema_weights), [0.25 * w for w in toy.values()]) < 1e-7


def test_nothing_stays_patched_after_an_exception(rng):
    class Failing(type(optimizers.SGD(0.1))):
        def _fail(self, *args, **kwargs):
            K.update = None
            raise RuntimeError("on purpose")

        get_updates = apply_gradients = _fail

    before = [getattr(K, name) for name in ("update", "update_add", "gradients", "zeros", "variable")]
    inner = Failing(0.1)
    outer = PiecewiseLinear(inner, {1: 1})
    outer.build([K.variable(np.zeros(2), name="p")])
    with pytest.raises(RuntimeError, match="on purpose"):
        outer.inner_update([K.constant([1.0, 1.0])], [K.variable(np.zeros(2))])
    assert before == [getattr(K, name) for name in ("update", "update_add", "gradients", "zeros", "variable")]


def test_gradient_helpers(rng):
    table = K.variable(np.zeros((4, 2)), name="table")
    slices = tf.IndexedSlices(K.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), K.constant([2, 0, 2], dtype="int32"))
    dense = K.eval(grads.dense(slices, table))
    assert dense.tolist() == [[3, 4], [0, 0], [6, 8], [0, 0]]
    assert K.eval(grads.global_norm([slices, K.constant([2.0])])) == pytest.approx(np.sqrt((dense**2).sum() + 4))
    clipped = grads.clip_by_value([slices], 5.0)[0]
    assert K.eval(grads.dense(clipped, table)).tolist() == [[3, 4], [0, 0], [5, 5], [0, 0]]
    assert not K.eval(grads.all_finite([table, K.constant([1.0, np.nan])]))


def test_one_optimizer_recompiled_keeps_its_state(rng):
    optimizer = GradientAccumulation(optimizers.SGD(1.0, momentum=0.9), 1)
    toy, step = Toy(optimizer, rng), sgd(1.0, 0.9)
    params, batch = toy.start(), toy.batch(rng)
    toy.train(batch)
    toy.op = tf.group(*optimizer.get_updates(loss=toy.loss, params=toy.params))
    toy.train(batch)
    for _ in range(2):
        step(params, toy.gradients(batch))
    assert difference(toy.values(), params) < 2e-6


@pytest.mark.parametrize("how", ["clipnorm", "clipvalue"])
def test_an_optimizer_of_keras_inside_clips_a_row_that_occurs_twice_as_one(how):
    # Three lookups in row 1 and one in row 2: gradients of [3, 3] and [1, 1] in all.
    x = keras.layers.Input((4,))
    embedding = keras.layers.Embedding(3, 2)
    model = keras.models.Model(x, keras.layers.Lambda(lambda h: K.sum(h, axis=[1, 2]))(embedding(x)))
    model.compile(
        ExponentialMovingAverage(keras.optimizers.SGD(1.0, **{how: 2.0}), 0.9), lambda y_true, y_pred: K.mean(y_pred)
    )
    before = embedding.get_weights()[0]
    model.train_on_batch(np.array([[1, 1, 1, 2]]), np.zeros(1))
    gradient = np.array([[0.0, 0], [3, 3], [1, 1]])
    clipped = gradient * 2 / np.sqrt((gradient**2).sum()) if how == "clipnorm" else np.minimum(gradient, 2)
    np.testing.assert_allclose(before - embedding.get_weights()[0], clipped, rtol=1e-5)
