"""`get_gradients(loss, variable)` of every optimizer, as Keras' TensorBoard asks for it with write_grads=True."""

import glob

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import K, is_tf_keras, keras, registered, tf1
from kexue_keras.optimizers import (
    AdamW,
    Distributed,
    ExponentialMovingAverage,
    ExponentiatedGradient,
    ExponentiatedStepSize,
    ExponentiatedStepSizeMomentum,
    GradientAccumulation,
    LayerwiseLearningRate,
    Lookahead,
    MomentumAccumulationAdamW,
    MomentumAccumulationSGD,
    MultiTask,
    Optimizer,
    PiecewiseLinear,
    WarmupCosine,
    WarmupInverseSquareRoot,
)
from kexue_keras.training.precision import LossScale

EXAMPLES = {
    AdamW: lambda: AdamW(),
    Distributed: lambda: Distributed(AdamW()),
    ExponentialMovingAverage: lambda: ExponentialMovingAverage(AdamW()),
    ExponentiatedGradient: lambda: ExponentiatedGradient(),
    ExponentiatedStepSize: lambda: ExponentiatedStepSize(AdamW()),
    ExponentiatedStepSizeMomentum: lambda: ExponentiatedStepSizeMomentum(),
    GradientAccumulation: lambda: GradientAccumulation(AdamW(), 2),
    LayerwiseLearningRate: lambda: LayerwiseLearningRate(AdamW(), multipliers={"kernel": 2.0}),
    Lookahead: lambda: Lookahead(AdamW()),
    LossScale: lambda: LossScale(AdamW()),
    MomentumAccumulationAdamW: lambda: MomentumAccumulationAdamW(steps=2),
    MomentumAccumulationSGD: lambda: MomentumAccumulationSGD(steps=2),
    MultiTask: lambda: MultiTask(AdamW()),
    PiecewiseLinear: lambda: PiecewiseLinear(AdamW(), {1: 1}),
    WarmupCosine: lambda: WarmupCosine(AdamW(), warmup=1, total=2),
    WarmupInverseSquareRoot: lambda: WarmupInverseSquareRoot(AdamW(), warmup=2),
}


def two_tasks():
    """Model with a shared embedding and kernel, and a head for each of two outputs."""
    x = keras.layers.Input([3], dtype="int32")
    h = keras.layers.Dense(4, name="shared")(keras.layers.Flatten()(keras.layers.Embedding(5, 2, name="table")(x)))
    return keras.models.Model(x, [keras.layers.Dense(1, name=name)(h) for name in "ab"])


def test_there_is_an_example_of_every_optimizer():
    assert {cls.__name__ for cls in EXAMPLES} == set(registered(Optimizer))


@pytest.mark.parametrize("make", EXAMPLES.values(), ids=[cls.__name__ for cls in EXAMPLES])
def test_of_one_variable_it_is_the_one_of_the_training_step(make, rng):
    optimizer = make()
    variables = [K.variable(rng.rand(2, 3), name="kernel"), K.variable(rng.rand(3), name="bias")]
    data = tf1.placeholder_with_default(np.float32(1.5), [])
    tasks = [tf.reduce_sum(data * tf.square(variables[0])), tf.reduce_sum(data * variables[0] * variables[1])]
    loss = tasks[0] + tasks[1]
    alone = [optimizer.get_gradients(loss, v) for v in variables]
    optimizer.get_updates(loss=loss, params=variables)
    combination = getattr(optimizer, "combination", None)
    together = [optimizer.get_gradients(loss, v) for v in variables]
    assert getattr(optimizer, "combination", None) is combination  # looking changes nothing
    assert all(isinstance(found, list) and len(found) == 1 for found in alone + together)
    expected = K.gradients(loss, variables)
    if isinstance(optimizer, MultiTask):
        expected = optimizer.get_gradients(loss, variables)
    *values, wanted = K.batch_get_value([found[0] for found in together] + expected[:1])
    np.testing.assert_allclose(values[0], wanted, rtol=1e-5)
    np.testing.assert_allclose(values[1], K.get_value(expected[1]), rtol=1e-5)
    for found, variable in zip(K.batch_get_value([one[0] for one in alone]), variables):
        assert found.shape == K.int_shape(variable) and np.isfinite(found).all()


@pytest.mark.all_stacks
@pytest.mark.parametrize("make", [AdamW, lambda: Lookahead(MultiTask(AdamW()))], ids=["AdamW", "wrapped"])
def test_tensorboard_writes_gradients(make, tmp_path, rng):
    model = two_tasks()
    model.compile(make(), "mse")
    x, y = rng.randint(0, 5, (4, 3)), [rng.rand(4, 1)] * 2
    kind = tf1.keras.callbacks.TensorBoard if is_tf_keras else keras.callbacks.TensorBoard
    board = kind(str(tmp_path), histogram_freq=1, write_grads=True)
    model.fit(x, y, validation_data=(x, y), verbose=0, callbacks=[board])
    tags = set()
    for path in glob.glob(str(tmp_path / "**" / "*tfevents*"), recursive=True):
        for event in tf1.train.summary_iterator(path):
            tags.update(value.tag for value in event.summary.value)
    for name in ("table", "shared", "a", "b"):
        assert any(tag.endswith("_grad") and "%s/" % name in tag for tag in tags), sorted(tags)
