"""Eager execution, which somebody may have turned on: losses and layers work, what reads graphs says that it cannot."""

import ast

import pytest

from kexue_keras import backend

pytestmark = pytest.mark.skipif(not backend.is_tf_keras, reason="Keras 2.3.1 has no eager execution")

REFUSED = """
import numpy as np
import tensorflow as tf
import kexue_keras
from kexue_keras import models, training
from kexue_keras.backend import keras
from kexue_keras.training import adversarial, gradient_cache, precision, recompute

tf.compat.v1.enable_eager_execution()
x = keras.layers.Input((3,))
model = keras.models.Model(x, keras.layers.Dense(2)(keras.layers.Dropout(0.1)(x)))
said = {}
for name, use in {
    "recompute": lambda: recompute.recompute(keras.layers.Dense(2)),
    "recompute_for_budget": lambda: recompute.recompute_for_budget(10**6, batch_size=2, max_length=4),
    "training_memory": lambda: recompute.training_memory(model, np.ones((2, 3)), np.ones((2, 2))),
    "GradientCache": lambda: gradient_cache.gradient_cache(model, chunk_size=2),
    "FGM": lambda: adversarial.FGM(model, epsilon=0.5),
    "GradientPenalty": lambda: adversarial.GradientPenalty(model),
    "VirtualAdversarial": lambda: adversarial.VirtualAdversarial(model),
    "training.rdrop": lambda: training.rdrop(model),
    "precision_report": lambda: precision.precision_report(model),
    "fp16_lint": lambda: precision.fp16_lint(model),
    "models.load": lambda: models.load("me5-zh-char"),
    "load_t5": lambda: kexue_keras.checkpoints.load_t5("none"),
    "Generator": lambda: kexue_keras.decoding.Generator(model, end_id=1),
    "RecomputeBoundary": lambda: recompute.RecomputeBoundary(),
}.items():
    try:
        use()
    except RuntimeError as error:
        said[name] = str(error)
    except Exception as error:
        said[name] = repr(error)
print(said)
"""

WORKING = """
import numpy as np
import tensorflow as tf
from kexue_keras import layers, losses
from kexue_keras.backend import keras
from kexue_keras.optimizers import AdamW, GradientAccumulation

tf.compat.v1.enable_eager_execution()
rng = np.random.RandomState(0)
x, labels = rng.randn(8, 3).astype("float32"), rng.randint(0, 2, (8, 4)).astype("float32")
weights = rng.rand(8).astype("float32")
output = keras.layers.Dense(4)
model = keras.models.Sequential([keras.layers.Dense(3, input_shape=(3,)), layers.SquarePlus(), output])
model.compile(GradientAccumulation(AdamW(0.1), 2), losses.MultilabelCrossentropy())
logits = model.predict(x)
positive = np.log1p((np.exp(-logits) * labels).sum(1))
expected = positive + np.log1p((np.exp(logits) * (1 - labels)).sum(1))
before = output.get_weights()
found = float(np.ravel(model.train_on_batch(x, labels, sample_weight=weights))[0])
still = all((a == b).all() for a, b in zip(before, output.get_weights()))
model.train_on_batch(x, labels)
moved = any((a != b).any() for a, b in zip(before, output.get_weights()))
print([found, float((expected * weights).mean()), still, moved])
"""


def test_what_reads_graphs_refuses(run_python):
    said = ast.literal_eval(run_python(REFUSED, bare=True).splitlines()[-1])
    for name, message in said.items():
        assert message.startswith("%s works on graphs, and TensorFlow runs eagerly here" % name), message
        assert "disable_eager_execution()" in message


def test_losses_layers_and_accumulation_work(run_python):
    found, expected, still, moved = ast.literal_eval(run_python(WORKING, bare=True).splitlines()[-1])
    assert found == pytest.approx(expected, rel=1e-5)
    assert still and moved
