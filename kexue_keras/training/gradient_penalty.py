"""The gradient penalty: the loss shall hardly change when the embeddings do.

对抗训练浅谈：意义、方法和思考（附Keras实现）, kexue.fm/archives/7234; 泛化性乱弹：从随机噪声、梯度惩罚到虚拟对抗训练,
kexue.fm/archives/7466. Paper: arXiv 1711.09404.
"""

import tensorflow as tf

from kexue_keras.backend import gradient_function, widen
from kexue_keras.training.adversarial import OtherLoss, check_choice, check_number, without_dropout
from kexue_keras.training.loop_copy import loop_of
from kexue_keras.training.perturbation import outputs_of
from kexue_keras.training.second_pass import SecondPass, reached

REDUCTIONS = ("author", "per_sample")


class GradientPenalty(OtherLoss):
    r"""Adds the squared norm of the loss's gradient for the embeddings: from now on `fit` minimises

    $$L+\frac{\epsilon}{2}\,c\sum_{i,t}\Big\lVert\frac{\partial L}{\partial x_{i,t}}\Big\rVert^2$$

    with x the output of the embedding layer, sample i, position t, and L the compiled loss of the batch. It is
    adversarial training with Delta = epsilon * gradient, to first order. Second derivatives are taken through the
    model; the sparse cross-entropy, whose kernel has none, is computed in another form while training.

    While training, `loss` is the sum, and `clean_loss` is L. Evaluate, predict and saving know nothing of it.

    Args:
        model: Keras model, compiled before or afterwards.
        layer: name of the layer whose output is x; None for "Embedding-Token", or the only Embedding layer. It may
            be any layer, also an input layer with floating point values.
        epsilon: >= 0; the author uses 1.
        reduction: c. 'author': 1, as in the article's code; L is a mean, so for a batch of B this is 1 / B of a
            sample's squared norm on average, and the penalty weakens as the batch grows. 'per_sample': B, then the
            sum is the mean of the samples' squared norms.
        dropout: True: the gradient is that of the step, with its dropout (the author's). False: of a pass without.

    Attributes:
        enable(), disable(): begin and end; `with GradientPenalty(model): ...` ends it too.

    Raises:
        ValueError: no such layer, or none that could be meant; epsilon below 0; an unknown reduction; a loss that
            does not depend on the layer, or with an operation that has no second derivative; another technique of
            this kind is on.
        NotImplementedError: a model of tf.keras under a `tf.distribute` strategy.
        RuntimeError: the model trains eagerly.

    Reference:
        对抗训练浅谈：意义、方法和思考（附Keras实现）, kexue.fm/archives/7234; arXiv 1711.09404.

    >>> tokens = keras.layers.Input([None])
    >>> x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4)(tokens))
    >>> model = keras.models.Model(tokens, keras.layers.Dense(2, activation="softmax")(x))
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> penalty = kexue_keras.training.GradientPenalty(model, epsilon=1.)
    >>> history = model.fit(np.array([[1, 2, 1], [3, 4, 5]]), np.array([0, 1]), verbose=0).history
    >>> history["loss"] > history["clean_loss"]
    True
    """

    def __init__(self, model, *, layer=None, epsilon=1.0, reduction="author", dropout=True):
        self.epsilon = check_number("GradientPenalty", "epsilon", epsilon)
        self.reduction = check_choice("GradientPenalty", "reduction", reduction, REDUCTIONS)
        self.dropout = bool(dropout)
        super().__init__(model, layer)
        self.enable()

    def objective(self, loss):
        loss = twice_differentiable(loss)
        penalised = loss if self.dropout else without_dropout("GradientPenalty_clean")([loss])[0]
        with tf.name_scope("GradientPenalty"):
            penalty = self._penalty(penalised)
        return loss + 0.5 * self.epsilon * tf.cast(penalty, loss.dtype), loss

    def _penalty(self, loss):
        outputs = outputs_of(self.layer, [loss], "GradientPenalty")
        found = [(t, g) for t, g in zip(outputs, tf.gradients(loss, outputs)) if g is not None]
        if not found:
            raise ValueError(
                "GradientPenalty: the loss has no gradient for the output of the layer %r; if it lies in a part that "
                "is recomputed or in chunks (GradientCache), leave the penalty out" % self.layer.name
            )
        _check_differentiable([g for _, g in found], [t for t, _ in found])
        total = tf.add_n([tf.reduce_sum(tf.square(widen(g))) for _, g in found])
        if self.reduction == "per_sample":
            # The model's input, since R-Drop has twice as many rows as samples inside.
            total *= tf.cast(tf.shape(self.model.inputs[0])[0], total.dtype)
        return total


def twice_differentiable(loss):
    """The loss with each sparse cross-entropy kernel, which has no second derivative, in another form."""

    def replace(ops):
        return {op.outputs[0].name: _crossentropy(*op.inputs) for op in ops if op.type == _KERNEL}

    return SecondPass(replace, name="twice_differentiable")([loss])[0]


_KERNEL = "SparseSoftmaxCrossEntropyWithLogits"


def _crossentropy(logits, labels):
    rows = tf.range(tf.shape(logits, out_type=labels.dtype)[0], dtype=labels.dtype)
    # An index that is no class stops here, as in the kernel.
    wanted = tf.gather_nd(logits, tf.stack([rows, labels], -1))
    return tf.reduce_logsumexp(logits, -1) - wanted


def _check_differentiable(gradients, outputs):
    """Raise ValueError if the gradients cannot be differentiated once more, and name the operation."""
    depends = {t.name for t in outputs}
    for op in reached(gradients, stop=outputs):
        if not any(t.name in depends for t in op.inputs):
            continue
        if loop_of(op) is not None:
            raise ValueError(
                "GradientPenalty differentiates twice, but %s belongs to a tf.while_loop, which TensorFlow "
                "differentiates once; give recurrent layers unroll=True, or take FGM" % op.name
            )
        depends.update(t.name for t in op.outputs if t.dtype.is_floating)
        if not any(t.dtype.is_floating for t in op.outputs):
            continue
        try:
            gradient_function(op)
        except LookupError:
            raise ValueError(
                "GradientPenalty differentiates twice, but the operation %s (%s) has no second derivative; use an "
                "activation or a loss made of other operations, or FGM, which differentiates once" % (op.name, op.type)
            )
