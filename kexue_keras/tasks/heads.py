"""What comes after the encoder: pooling, the classifier, and for each kind of task its loss, targets and decision."""

import numpy as np
import tensorflow as tf

from kexue_keras.backend import K, keras, register
from kexue_keras.losses import MultilabelCrossentropy, multilabel_probabilities

POOLINGS = ("mean", "cls", "max")
HEADS = {}


@register
class SequencePooling(keras.layers.Layer):
    """One vector a text from the hidden states of its tokens.

    mean: sum_t m_t h_t / sum_t m_t; max: the largest h_t among m_t = 1; cls: h_0.

    Args:
        mode: 'mean', 'max' or 'cls'.

    Input: `[B, n, d]`, with Keras mask `[B, n]` or none. Output: `[B, d]`, same dtype.

    >>> x = K.constant([[[1.], [3.], [50.]]])
    >>> K.eval(SequencePooling('mean').call(x, mask=K.constant([[1, 1, 0]])))
    array([[2.]], dtype=float32)
    """

    def __init__(self, mode="mean", **kwargs):
        super(SequencePooling, self).__init__(**kwargs)
        if mode not in POOLINGS:
            raise ValueError("mode=%r; it is one of %s" % (mode, ", ".join(POOLINGS)))
        self.mode = mode
        self.supports_masking = True

    def call(self, inputs, mask=None):
        if self.mode == "cls":
            return inputs[:, 0]
        # Sums over 512 float16 values lose digits, so they run in float32.
        x = tf.cast(inputs, "float32")
        mask = tf.ones_like(x[..., :1]) if mask is None else tf.cast(mask, "float32")[..., None]
        if self.mode == "mean":
            pooled = tf.reduce_sum(x * mask, axis=1) / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)
        else:
            lowest = tf.fill(tf.shape(x), x.dtype.min)
            pooled = tf.reduce_max(tf.where(tf.broadcast_to(mask > 0, tf.shape(x)), x, lowest), axis=1)
        return tf.cast(pooled, inputs.dtype)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])

    def get_config(self):
        return dict(super(SequencePooling, self).get_config(), mode=self.mode)


def build_classifier(encoder, classes, *, pooling, dropout, seed):
    """Keras model: the encoder, pooling, dropout, and a dense layer that gives logits.

    Args:
        encoder: Keras model with output `[B, n, d]`.
        classes: number of logits.
        pooling: see `SequencePooling`.
        dropout: rate before the dense layer.
        seed: int; the dense layer's start depends on it alone, not on what else stands in the graph.
    """
    x = SequencePooling(pooling, name="pooling")(encoder.output)
    x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    width = K.int_shape(x)[-1]
    dense = keras.layers.Dense(classes, name="logits", dtype="float32")
    model = keras.models.Model(encoder.inputs, dense(x))
    random = np.random.RandomState(seed % 2**32)
    kernel = np.clip(random.standard_normal((width, classes)), -2, 2) * 0.02
    dense.set_weights([kernel, np.zeros(classes)])
    return model


def head(cls):
    """Decorator: put one instance of a head into `HEADS` under its name."""
    HEADS[cls.name] = cls()
    return cls


@head
class SingleLabel(object):
    """One label a text: softmax and cross-entropy."""

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
        best = self.decide(probabilities)
        return [(names[i], float(p[i])) for i, p in zip(best, probabilities)]


@head
class Sigmoid(object):
    """Several labels a text: a sigmoid and binary cross-entropy each."""

    name = "sigmoid"
    main_metric = "micro_f1"
    threshold = 0.5

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
        return (probabilities > self.threshold).astype("int64")

    def describe(self, probabilities, names):
        """List of (labels, probabilities) for the user; both are lists, the likeliest first."""
        out = []
        for row in probabilities:
            chosen = [i for i in np.argsort(-row, kind="stable") if row[i] > self.threshold]
            out.append(([names[i] for i in chosen], [float(row[i]) for i in chosen]))
        return out


@head
class MultiLabel(Sigmoid):
    """Several labels a text: one multi-label cross-entropy, which compares every wrong label with every right one."""

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
