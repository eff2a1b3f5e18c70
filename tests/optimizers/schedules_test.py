"""Schedules: values, real updates, callbacks, configuration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy_optimizers import Toy, adam, difference, sgd

from kexue_keras.backend import K, keras, tf1
from kexue_keras.optimizers import (
    AdamW,
    GradientAccumulation,
    PiecewiseLinear,
    WarmupCosine,
    WarmupInverseSquareRoot,
    linear_warmup,
    stretch_schedule,
)

STEPS = np.arange(0, 60)


def factors(schedule):
    step = tf1.placeholder("float32", (None,))
    return keras.backend.function([step], [schedule.factor(step)])([STEPS])[0]


def piecewise(points):
    points = ([] if points[0][0] == 0 else [(0, 0.0)]) + points
    return np.interp(STEPS, *zip(*points))


def test_piecewise_linear_values_match_numpy_and_bert4keras():
    from bert4keras.backend import piecewise_linear

    for points in ({10: 1, 20: 0.1}, {0: 1, 30: 0}, {5: 0.5}, {0: 0.3}, {10: 1, 11: 0, 40: 2}):
        values = factors(PiecewiseLinear(AdamW(), points))
        np.testing.assert_allclose(values, piecewise(sorted(points.items())), atol=1e-6)
        step = tf1.placeholder("float32", (None,))
        theirs = keras.backend.function([step], [piecewise_linear(step, points)])([STEPS])[0]
        np.testing.assert_allclose(values, theirs, atol=1e-6)


def test_warmup_values():
    cosine = factors(WarmupCosine(AdamW(), warmup=10, total=50, end=0.2))
    share = np.clip((STEPS - 10) / 40.0, 0, 1)
    expected = np.where(STEPS < 10, STEPS / 10.0, 0.2 + 0.8 * (1 + np.cos(np.pi * share)) / 2)
    np.testing.assert_allclose(cosine, expected, atol=1e-6)
    root = factors(WarmupInverseSquareRoot(AdamW(), warmup=10))
    np.testing.assert_allclose(root, np.minimum((STEPS + 1) / 10.0, np.sqrt(10.0 / (STEPS + 1))), rtol=1e-6)


@pytest.mark.parametrize("inner", ["momentum", "AdamW"])
def test_counts_real_updates_inside_accumulation(rng, inner):
    make = {"momentum": lambda: keras.optimizers.SGD(0.5, momentum=0.9), "AdamW": lambda: AdamW(0.5, weight_decay=0.0)}
    optimizer = GradientAccumulation(PiecewiseLinear(make[inner](), {2: 1, 4: 0.1}), 3)
    toy = Toy(optimizer, rng)
    params = toy.start()
    rate = [0.0]
    if inner == "AdamW":
        unit = adam(1.0)
    velocity = [0.0, 0.0, 0.0]
    for factor in (0.0, 0.5, 1.0, 0.55, 0.1):
        window = [toy.batch(rng) for _ in range(3)]
        for batch in window:
            toy.train(batch)
        mean = [sum(g) / 3 for g in zip(*(toy.gradients(b) for b in window))]
        rate[0] = 0.5 * factor
        for i, (p, g) in enumerate(zip(params, mean)):
            if inner == "momentum":
                velocity[i] = 0.9 * velocity[i] - rate[0] * g
                p += velocity[i]
        if inner == "AdamW":
            moved = [p.copy() for p in params]
            unit(moved, mean)
            for p, q in zip(params, moved):
                p += rate[0] * (q - p)
        assert difference(toy.values(), params) < 2e-6
    assert K.get_value(optimizer.optimizer.optimizer.lr) == pytest.approx(0.05)
    assert K.get_value(optimizer.lr) == 0.5


def test_callbacks_set_the_rate_that_the_factor_multiplies(rng):
    toy = Toy(PiecewiseLinear(keras.optimizers.SGD(0.5), {0: 0.5}), rng)
    K.set_value(toy.optimizer.lr, 0.25)
    params, batch = toy.start(), toy.batch(rng)
    toy.train(batch)
    sgd(0.125)(params, toy.gradients(batch))
    assert difference(toy.values(), params) < 1e-6
    toy.optimizer.learning_rate = 0.75
    assert K.get_value(toy.optimizer.learning_rate) == 0.75


def test_two_schedules_multiply(rng):
    toy = Toy(WarmupCosine(PiecewiseLinear(keras.optimizers.SGD(0.5), {0: 0.5}), warmup=0, total=10), rng)
    params, batch = toy.start(), toy.batch(rng)
    toy.train(batch)
    sgd(0.25)(params, toy.gradients(batch))
    assert difference(toy.values(), params) < 1e-6


def test_configuration_keeps_the_rate_not_the_momentary_one(rng):
    optimizer = PiecewiseLinear(AdamW(0.5), {2: 1})
    toy = Toy(optimizer, rng)
    toy.train(toy.batch(rng))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert K.get_value(again.lr) == 0.5 and again.schedule == [(2, 1.0)]
    for other in (WarmupCosine(AdamW(), warmup=1, total=5, end=0.5), WarmupInverseSquareRoot(AdamW(), warmup=7)):
        config = keras.optimizers.serialize(other)
        assert keras.optimizers.serialize(keras.optimizers.deserialize(config)) == config


@given(st.dictionaries(st.integers(0, 1000), st.floats(0, 2), min_size=1), st.integers(1, 64))
def test_stretching_there_and_back(schedule, k):
    stretched = stretch_schedule(schedule, k)
    assert stretched == {t * k: factor for t, factor in schedule.items()}
    assert stretch_schedule(stretched, 1 / k) == schedule


def test_linear_warmup():
    assert linear_warmup(10) == {10: 1.0}
    assert linear_warmup(0, 100, end=0.1) == {0: 1.0, 100: 0.1}


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: PiecewiseLinear(AdamW(), {}), "schedule must be a dict such as .*, but is {}"),
        (
            lambda: PiecewiseLinear(AdamW(), {"a": 1}),
            "schedule must be a dict such as {1000: 1, 2000: 0.1}, but is {'a': 1}",
        ),
        (lambda: PiecewiseLinear(AdamW(), 3), "schedule must be a dict .*, but is 3"),
        (lambda: PiecewiseLinear(AdamW(), {-1: 1}), "holds -1: 1.0"),
        (lambda: PiecewiseLinear(AdamW(), {1: float("nan")}), "have to be >= 0"),
        (lambda: PiecewiseLinear(AdamW(), [(1, 1), ("1", 2)]), "names an update twice"),
        (
            lambda: WarmupCosine(AdamW(), warmup=5, total=5),
            "total must be a number > 5, but is 5; it ends after the warmup",
        ),
        (lambda: WarmupCosine(AdamW(), warmup=1, total=5, end=2), r"end must be a number in \[0, 1\], but is 2"),
        (lambda: WarmupInverseSquareRoot(AdamW(), warmup=0), "warmup must be a number >= 1, but is 0"),
        (lambda: stretch_schedule({1: 1}, 0), "stretch_schedule: steps must be a number > 0, but is 0"),
        (lambda: stretch_schedule({1: 1, 2: 2}, 0.1), "names an update twice"),
        (lambda: linear_warmup(5, 5), "total must be a number > 5, but is 5; it ends after the warmup"),
    ],
)
def test_bad_values_are_named(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_an_optimizer_without_a_rate_is_refused():
    from bert4keras.optimizers import AdaFactor

    with pytest.raises(ValueError, match="has to write the learning rate of AdaFactor"):
        PiecewiseLinear(AdaFactor(None), {1: 1})
    assert PiecewiseLinear(AdaFactor(0.1), {1: 1}) is not None
