"""What comes after the encoder: pooling, the classifier, and for each kind of task its loss, targets and decision."""

import numpy as np

from kexue_keras.backend import K, keras
from kexue_keras.exported.decisions import THRESHOLD, describe_one, describe_several
from kexue_keras.finetune._saved_head import saved_head
from kexue_keras.layers import SequencePooling
from kexue_keras.losses import MultilabelCrossentropy, multilabel_probabilities
from kexue_keras.trainer._checkpoint import save_arrays

HEADS = {}


def build_classifier(encoder, num_classes, *, pooling, dropout_rate, seed):
    """Keras model: the encoder, pooling, dropout, and a dense layer that gives logits.

    Args:
        encoder: Keras model with output `[B, n, d]`.
        num_classes: number of logits.
        pooling: see `SequencePooling`.
        dropout_rate: rate before the dense layer.
        seed: int; the dense layer's start depends on it alone, not on what else stands in the graph.
    """
    x = SequencePooling(pooling, name="pooling")(encoder.output)
    x = keras.layers.Dropout(dropout_rate, name="head_dropout")(x)
    width = K.int_shape(x)[-1]
    dense = keras.layers.Dense(num_classes, name="logits", dtype="float32")
    model = keras.models.Model(encoder.inputs, dense(x))
    random = np.random.RandomState(seed % 2**32)
    kernel = np.clip(random.standard_normal((width, num_classes)), -2, 2) * 0.02
    dense.set_weights([kernel, np.zeros(num_classes)])
    return model


def save_head(path, model):
    """Write the dense layer of a model of `build_classifier`."""
    kernel, bias = model.get_layer("logits").get_weights()
    save_arrays(path, {"kernel": kernel, "bias": bias})


def load_head(path, model):
    """Set the dense layer of a model of `build_classifier` to what `save_head` wrote.

    Raises:
        UserError: it is of another model, or damaged, or not finite.
    """
    dense = model.get_layer("logits")
    dense.set_weights(saved_head(path, dict(zip(("kernel", "bias"), dense.get_weights()))))


def head(cls):
    """Decorator: put one instance of a head into `HEADS` under its name."""
    HEADS[cls.name] = cls()
    return cls


@head
class SingleLabel(object):
    """One label per text: softmax and cross-entropy."""

    name = "single"
    main_metric = "accuracy"

    def targets(self, labels, names):
        """int32 `[N]`."""
        index = {name: i for i, name in enumerate(names)}
        return np.array([index[label] for label in labels], "int32")

    def loss(self):
        """Keras loss on logits."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        """Keras metrics on logits, shown while training."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def probabilities(self, logits):
        """float64 `[N, C]`."""
        shifted = np.asarray(logits, "float64")
        shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)

    def cross_entropy(self, logits, targets):
        """Mean cross-entropy, in numpy."""
        logits = np.asarray(logits, "float64")
        top = logits.max(axis=-1)
        logsumexp = np.log(np.exp(logits - top[:, None]).sum(axis=-1)) + top
        return float(np.mean(logsumexp - logits[np.arange(len(targets)), targets]))

    def decide(self, probabilities):
        """int `[N]`, the classes predicted."""
        return probabilities.argmax(axis=-1)

    def describe(self, probabilities, names):
        """List of (label, probability) for the user."""
        return describe_one(probabilities, names)


@head
class Sigmoid(object):
    """Several labels per text: a sigmoid and binary cross-entropy each."""

    name = "sigmoid"
    main_metric = "micro_f1"

    def targets(self, labels, names):
        """float32 `[N, C]` of 0 and 1."""
        index = {name: i for i, name in enumerate(names)}
        out = np.zeros((len(labels), len(names)), "float32")
        for row, several in zip(out, labels):
            row[[index[label] for label in several]] = 1
        return out

    def loss(self):
        """Keras loss on logits."""
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def metrics(self):
        """Keras metrics on logits, shown while training."""
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]

    def probabilities(self, logits):
        """float64 `[N, C]`."""
        return 1 / (1 + np.exp(-np.clip(np.asarray(logits, "float64"), -500, 500)))

    def cross_entropy(self, logits, targets):
        """Mean binary cross-entropy, in numpy."""
        logits = np.asarray(logits, "float64")
        return float(np.mean(np.logaddexp(0, logits) - logits * targets))

    def decide(self, probabilities):
        """int `[N, C]` of 0 and 1, the labels predicted."""
        return (probabilities > THRESHOLD).astype("int64")

    def describe(self, probabilities, names):
        """List of (labels, probabilities) for the user; both are lists, the most likely first."""
        return describe_several(probabilities, names)


@head
class MultiLabel(Sigmoid):
    """Several labels per text: one multi-label cross-entropy, which compares every wrong label with every right one."""

    name = "multi"

    def loss(self):
        """Keras loss on logits."""
        return MultilabelCrossentropy()

    def probabilities(self, logits):
        """float64 `[N, C]`, sigma(2 s)."""
        return multilabel_probabilities(np.asarray(logits, "float64"))

    def cross_entropy(self, logits, targets):
        """Mean multi-label cross-entropy, in numpy."""
        logits = np.asarray(logits, "float64")
        wrong = np.where(targets > 0, -np.inf, logits)
        right = np.where(targets > 0, -logits, -np.inf)
        both = (np.logaddexp(0, np.logaddexp.reduce(part, axis=-1)) for part in (wrong, right))
        return float(np.mean(sum(both)))
