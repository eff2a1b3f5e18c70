"""Accumulation hidden in the momentum: oracles, no extra slot, what it refuses."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_optimizers import Toy, adam, difference, sgd

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.optimizers import (
    AdamW,
    GradientAccumulation,
    MomentumAccumulationAdamW,
    MomentumAccumulationSGD,
    PiecewiseLinear,
    accumulate_in_momentum,
    beta_tilde,
)

GRADIENTS = [[1, -2], [3, 0], [-1, 4], [1, 2]]


def run_oracle(optimizer, gradients=GRADIENTS, start=(1.0, 1.0)):
    weight, g = K.variable(np.array(start), name="kernel"), tf1.placeholder("float32", (2,))
    op = tf.group(*optimizer.get_updates(loss=tf.reduce_sum(weight * g), params=[weight]))
    K.get_value(weight)
    for value in gradients:
        get_session().run(op, {g: value})
    state = dict((label, K.get_value(v)) for (label, _), (v, _) in optimizer._state.items())
    return K.get_value(weight), state


def every_kth(lr, k, beta_1=0.9, beta_2=None, epsilon=1e-6, weight_decay=0.0):
    """float64: moments at every micro step, weights at every k-th; one call a micro step. SGD without `beta_2`."""
    m, v, t = {}, {}, [0]

    def step(params, gradients):
        t[0] += 1
        for i, (p, g) in enumerate(zip(params, gradients)):
            m[i] = beta_1 * m.get(i, 0.0) + (1 - beta_1) * g
            direction = m[i]
            if beta_2 is not None:
                v[i] = beta_2 * v.get(i, 0.0) + (1 - beta_2) * g * g
                root = np.sqrt(v[i] / (1 - beta_2 ** t[0])) + epsilon
                direction = m[i] / (1 - beta_1 ** t[0]) / root
            if t[0] % k == 0:
                p -= lr * (direction + weight_decay * p)

    return step


def hidden_adam(lr, k, beta_1=0.9, beta_2=0.999, epsilon=1e-6, weight_decay=0.0, inside=False):
    """float64: Adam whose second moment takes the mean of the squares; one call a window."""
    m, v, t = {}, {}, [0]

    def step(params, window):
        t[0] += 1
        for i, p in enumerate(params):
            m[i] = beta_1 * m.get(i, 0.0) + (1 - beta_1) * sum(g[i] for g in window) / k
            v[i] = beta_2 * v.get(i, 0.0) + (1 - beta_2) * sum(g[i] ** 2 for g in window) / k
            a, b = m[i] / (1 - beta_1 ** t[0]), v[i] / (1 - beta_2 ** t[0])
            root = np.sqrt(b + epsilon) if inside else np.sqrt(b) + epsilon
            p -= lr * (a / root + weight_decay * p)

    return step


def test_oracle_sgd():
    weight, state = run_oracle(MomentumAccumulationSGD(0.1, steps=2, momentum=0.9))
    np.testing.assert_allclose(weight, [0.962, 0.989], atol=1e-7)
    np.testing.assert_allclose(state["m"], [0.18, 0.21], atol=1e-7)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (dict(epsilon=0.0), [0.8558518167, 1.0255960209]),
        (dict(epsilon=0.01, epsilon_inside=True), [0.8560321042, 1.0254574405]),
        (dict(epsilon=0.01), [0.856564117, 1.0252829321]),
    ],
)
def test_oracle_adam(arguments, expected):
    weight, state = run_oracle(MomentumAccumulationAdamW(0.1, steps=2, weight_decay=0.0, **arguments))
    np.testing.assert_allclose(weight, expected, atol=2e-7)
    np.testing.assert_allclose(state["v"], [0.005995, 0.011998], rtol=1e-4)


def test_oracle_of_real_accumulation_differs():
    weight, _ = run_oracle(GradientAccumulation(AdamW(0.1, weight_decay=0.0, epsilon=1e-12), 2))
    np.testing.assert_allclose(weight, [0.83299417, 1.05058102], atol=2e-7)


@pytest.mark.parametrize(
    "beta, expected, slot",
    [
        (beta_tilde(0.9, 2), [0.962175625, 0.98907375], [0.18074375, 0.2042625]),
        (0.9, [0.92841, 0.97658], [0.3259, 0.4142]),
    ],
)
def test_oracle_of_moments_at_every_micro_step(beta, expected, slot):
    weight, state = run_oracle(MomentumAccumulationSGD(0.1, steps=2, momentum=beta, moments="micro_step"))
    np.testing.assert_allclose(weight, expected, atol=1e-7)
    np.testing.assert_allclose(state["m"], slot, atol=1e-7)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("tilde", [False, True])
def test_moments_at_every_micro_step_and_weights_at_every_kth(rng, k, tilde):
    b1, b2 = (beta_tilde(b, k) if tilde else b for b in (0.9, 0.999))
    for optimizer, step in [
        (
            MomentumAccumulationAdamW(
                0.02,
                steps=k,
                moments="micro_step",
                beta_1=b1,
                beta_2=b2,
                weight_decay=0.1,
                exclude_from_weight_decay=(),
            ),
            every_kth(0.02, k, b1, b2, weight_decay=0.1),
        ),
        (MomentumAccumulationSGD(0.5, steps=k, moments="micro_step", momentum=b1), every_kth(0.5, k, b1)),
    ]:
        toy = Toy(optimizer, rng)
        params = toy.start()
        for i in range(4 * k):
            batch, before = toy.batch(rng), toy.values()
            toy.train(batch)
            step(params, toy.gradients(batch))
            assert (difference(before, toy.values()) == 0.0) == (i % k != k - 1)
        assert difference(toy.values(), params) < 2e-6
        assert K.get_value(optimizer.iterations) == 4


def test_with_beta_tilde_it_is_about_accumulation_and_nearer_than_with_beta(rng):
    k, start, gradients = 4, (1.0, 1.0), np.concatenate([rng.randn(40, 1) + 1, rng.randn(40, 1)], axis=1)
    real, _ = run_oracle(MomentumAccumulationSGD(0.1, steps=k), gradients, start)
    near, _ = run_oracle(
        MomentumAccumulationSGD(0.1, steps=k, moments="micro_step", momentum=beta_tilde(0.9, k)), gradients, start
    )
    far, _ = run_oracle(MomentumAccumulationSGD(0.1, steps=k, moments="micro_step"), gradients, start)
    assert abs(near - real).max() < 0.1 * abs(real - start).max() < abs(far - real).max()


def test_a_window_of_micro_steps_goes_on_after_saving(rng, tmp_path, run_python):
    x = keras.layers.Input((3,))
    model = keras.models.Model(x, keras.layers.Dense(1)(x))
    model.compile(MomentumAccumulationAdamW(0.1, steps=3, moments="micro_step", beta_1=beta_tilde(0.9, 3)), "mse")
    data, target = rng.randn(4, 3), rng.randn(4, 1)
    for _ in range(4):
        model.train_on_batch(data, target)
    model.save(str(tmp_path / "model.h5"))
    for _ in range(2):
        model.train_on_batch(data, target)
    np.savez(str(tmp_path / "x.npz"), data=data, target=target, kernel=model.get_weights()[0])
    run_python(
        "import sys, numpy as np, kexue_keras\n"
        "from kexue_keras.backend import keras\n"
        "x = np.load(sys.argv[1] + '/x.npz')\n"
        "model = keras.models.load_model(sys.argv[1] + '/model.h5')\n"
        "assert model.optimizer.get_config()['moments'] == 'micro_step'\n"
        "before = model.get_weights()[0]\n"
        "model.train_on_batch(x['data'], x['target'])\n"
        "assert (model.get_weights()[0] == before).all()\n"
        "model.train_on_batch(x['data'], x['target'])\n"
        "np.testing.assert_allclose(model.get_weights()[0], x['kernel'], atol=1e-6)\n",
        tmp_path,
    )


@pytest.mark.parametrize("k", [1, 2, 3, 8])
def test_sgd_equals_explicit_accumulation(rng, k):
    toy, step = Toy(MomentumAccumulationSGD(0.5, steps=k), rng), sgd(0.05, 0.9)
    params = toy.start()
    for _ in range(4):
        window = [toy.batch(rng) for _ in range(k)]
        for i, batch in enumerate(window):
            before = toy.values()
            toy.train(batch)
            assert i == k - 1 or difference(before, toy.values()) == 0.0
        step(params, [sum(g) / k for g in zip(*(toy.gradients(b) for b in window))])
    assert difference(toy.values(), params) < 2e-6


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("inside", [False, True])
def test_adamw_also_for_the_embedding(rng, k, inside):
    epsilon = 1e-3 if inside else 1e-6
    toy = Toy(
        MomentumAccumulationAdamW(
            0.02, steps=k, weight_decay=0.1, exclude_from_weight_decay=(), epsilon=epsilon, epsilon_inside=inside
        ),
        rng,
    )
    step, params = hidden_adam(0.02, k, epsilon=epsilon, weight_decay=0.1, inside=inside), toy.start()
    for _ in range(5):
        window = [toy.batch(rng) for _ in range(k)]
        for batch in window:
            toy.train(batch)
        step(params, [toy.gradients(b) for b in window])
    assert difference(toy.values(), params) < 1e-6
    assert K.get_value(toy.optimizer.iterations) == 5


def test_one_micro_batch_a_window_is_plain_adamw(rng):
    toy, step = Toy(MomentumAccumulationAdamW(0.02, steps=1), rng), adam(0.02, weight_decay=[0.01, 0, 0.01])
    params = toy.start()
    for _ in range(5):
        batch = toy.batch(rng)
        toy.train(batch)
        step(params, toy.gradients(batch))
    assert difference(toy.values(), params) < 1e-6


def test_layer_adaptation_and_decay_once_a_window(rng):
    optimizer = MomentumAccumulationAdamW(0.01, steps=2, weight_decay=0.0, layer_adaptation=True)
    toy = Toy(optimizer, rng)
    for _ in range(2):
        toy.train(toy.batch(rng))
    start = toy.start()[0]
    assert np.linalg.norm(toy.values()[0] - start) / np.linalg.norm(start) == pytest.approx(0.01, rel=1e-4)
    weight, _ = run_oracle(MomentumAccumulationSGD(1.0, steps=2, weight_decay=0.05), [[0, 0]] * 7)
    np.testing.assert_allclose(weight, 0.95**3, rtol=1e-6)


def shapes_of_slots(optimizer, rng):
    Toy(optimizer, rng)
    return sorted(w.shape for w in optimizer.get_weights() if w.shape)


def test_no_slot_beyond_the_plain_optimizers(rng):
    for moments in ("window", "micro_step"):
        hidden = MomentumAccumulationAdamW(steps=4, moments=moments)
        assert shapes_of_slots(hidden, rng) == shapes_of_slots(AdamW(), rng)
    momentum = keras.optimizers.SGD(0.1, momentum=0.9)
    assert shapes_of_slots(MomentumAccumulationSGD(steps=4), rng) == shapes_of_slots(momentum, rng)
    explicit = shapes_of_slots(GradientAccumulation(AdamW(), 4), rng)
    assert len(explicit) == 3 * len(shapes_of_slots(AdamW(), rng)) / 2


def test_order_in_a_window_does_not_matter_and_v_is_never_smaller(rng):
    hidden, real = MomentumAccumulationAdamW(0.1, steps=4), GradientAccumulation(AdamW(0.1), 4)
    toys = [Toy(o, rng) for o in (hidden, real)]
    states = [[0 * w for w in o.get_weights()] for o in (hidden, real)]
    window = [toys[0].batch(rng) for _ in range(4)]

    @settings(max_examples=8)
    @given(st.permutations(range(4)))
    def check(order):
        for toy, state in zip(toys, states):
            K.batch_set_value(list(zip(toy.params, toy.initial)))
            toy.optimizer.set_weights(state)
            for i in order:
                toy.train(window[i])
        values.append(toys[0].values())
        assert difference(values[0], values[-1]) < 1e-6
        for p, q in zip(toys[0].params, toys[1].params):
            v_hidden = K.get_value(hidden.state("v", p))
            assert (v_hidden >= K.get_value(real.optimizer.state("v", q)) - 1e-9).all()

    values = []
    check()


def test_equal_gradients_in_a_window_are_true_accumulation(rng):
    toys = [
        Toy(o, np.random.RandomState(3))
        for o in (MomentumAccumulationAdamW(0.1, steps=3), GradientAccumulation(AdamW(0.1), 3))
    ]
    for _ in range(2):
        batch = toys[0].batch(rng)
        for toy in toys:
            for _ in range(3):
                toy.train(batch)
    assert difference(toys[0].values(), toys[1].values()) < 1e-6


def test_schedule_counts_real_updates(rng):
    toy = Toy(PiecewiseLinear(MomentumAccumulationSGD(0.5, steps=2, momentum=0.0), {2: 1}), rng)
    params = toy.start()
    for factor in (0.0, 0.5, 1.0, 1.0):
        window = [toy.batch(rng) for _ in range(2)]
        for batch in window:
            toy.train(batch)
        for i, p in enumerate(params):
            p -= 0.5 * factor * sum(toy.gradients(b)[i] for b in window) / 2
    assert difference(toy.values(), params) < 1e-6


def test_conversion_keeps_the_trajectory(rng):
    converted = accumulate_in_momentum(keras.optimizers.SGD(0.05, momentum=0.9), 2)
    toy, step = Toy(converted, rng), sgd(0.05, 0.9)
    params = toy.start()
    for _ in range(3):
        window = [toy.batch(rng) for _ in range(2)]
        for batch in window:
            toy.train(batch)
        step(params, [sum(g) / 2 for g in zip(*(toy.gradients(b) for b in window))])
    assert difference(toy.values(), params) < 1e-6
    plain = AdamW(0.02, weight_decay=0.3, beta_2=0.99)
    hidden = accumulate_in_momentum(plain, 5)
    assert (hidden.weight_decay, hidden.beta_2, hidden.steps) == (0.3, 0.99, 5)
    assert K.get_value(hidden.lr) == np.float32(0.02)
    assert hidden.moments == "window" and accumulate_in_momentum(plain, 5, moments="micro_step").moments == "micro_step"
    momentum = accumulate_in_momentum(keras.optimizers.SGD(0.05, momentum=0.9), 2, moments="micro_step")
    assert momentum.moments == "micro_step" and K.get_value(momentum.lr) == pytest.approx(0.5)


class Lion(type(keras.optimizers.SGD(0.1))):
    """Stands for any Lion."""


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: MomentumAccumulationSGD(0.1, steps=2, nesterov=True), "nesterov=True cannot be accumulated"),
        (lambda: MomentumAccumulationAdamW(steps=2, clipnorm=1.0), "clipnorm=1.0: clipping acts on the mean"),
        (lambda: accumulate_in_momentum(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), 2), "Nesterov"),
        (lambda: accumulate_in_momentum(keras.optimizers.Nadam(0.1), 2), "Nesterov"),
        (lambda: accumulate_in_momentum(Lion(0.1), 2), "Lion steps along"),
        (lambda: accumulate_in_momentum(AdamW(clipvalue=1.0), 2), "AdamW clips"),
        (lambda: accumulate_in_momentum(keras.optimizers.SGD(0.1), 2), "momentum > 0"),
        (lambda: accumulate_in_momentum(keras.optimizers.RMSprop(0.1), 2), "RMSprop cannot be accumulated"),
        (
            lambda: MomentumAccumulationAdamW(steps=0),
            "MomentumAccumulationAdamW: steps must be a whole number >= 1, but is 0",
        ),
        (
            lambda: MomentumAccumulationSGD(steps=2, moments="each"),
            "moments must be one of 'window', 'micro_step', but is 'each'",
        ),
        (
            lambda: MomentumAccumulationSGD(0.1, steps=2, momentum=1.0),
            r"momentum must be a number in \[0, 1\), but is 1.0",
        ),
    ],
)
def test_refusals_say_why(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_beta_tilde_approximates():
    assert beta_tilde(0.9, 2) == pytest.approx(0.95)
    assert beta_tilde(0.9, 4) ** 4 == pytest.approx(0.9, abs=0.01)


def test_configuration_round_trip():
    for optimizer in (
        MomentumAccumulationAdamW(0.02, steps=3, epsilon_inside=True, layer_adaptation=True),
        MomentumAccumulationAdamW(0.02, steps=3, moments="micro_step"),
        MomentumAccumulationSGD(0.02, steps=3, momentum=0.5, weight_decay=0.25, exclude_from_weight_decay="x"),
    ):
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert again.get_config() == optimizer.get_config()
