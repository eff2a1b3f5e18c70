"""The gradient penalty: the loss should hardly change when the embeddings do.

对抗训练浅谈：意义、方法和思考（附Keras实现）, kexue.fm/archives/7234; 泛化性乱弹：从随机噪声、梯度惩罚到虚拟对抗训练,
kexue.fm/archives/7466. Paper: arXiv 1711.09404.
"""

from typing import Dict, Optional, Tuple, Union

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import widen
from kexue_keras.backend.graph import SecondPass, gradient_function, loop_of, reached
from kexue_keras.distributed._collectives import share_of
from kexue_keras.distributed._ranks import size
from kexue_keras.options.choices import PENALTY_REDUCTIONS
from kexue_keras.training._randomness import own_key
from kexue_keras.training.adversarial._output_penalty import DIVERGENCES, rooted_outputs, signed_sums
from kexue_keras.training.adversarial._perturbation import outputs_of
from kexue_keras.training.adversarial._training_loss import TrainingLoss, without_dropout
from kexue_keras.types import Model, Tensor

OF = ("loss", "outputs")


class GradientPenalty(TrainingLoss):
    r"""Adds the squared norm of the loss's gradient for the embeddings: from now on `fit` minimises

    $$L+\frac{\epsilon}{2}\,c\sum_{i,t}\Big\lVert\frac{\partial L}{\partial x_{i,t}}\Big\rVert^2$$

    with x the output of the embedding layer, sample i, position t, and L the compiled loss of the batch. It is
    adversarial training with Delta = epsilon * gradient, to first order. Second derivatives are taken through the
    model; the sparse cross-entropy, whose kernel has none, is computed in another form while training.

    `of="outputs"` penalises the outputs f of a sample instead, which needs no labels: the mean over the samples of

    $$\frac{\epsilon}{2}\sum_j\lambda_j\Big\lVert\frac{\partial f_j}{\partial x}\Big\rVert^2
      =\frac{\epsilon}{2}\,E_s\Big\lVert\frac{\partial}{\partial x}\sum_j s_j g_j\Big\rVert^2,\qquad
      \nabla g_j=\sqrt{\lambda_j}\,\nabla f_j$$

    which Gaussian noise of variance epsilon on x adds to the divergence of the answers, to second order. It is
    estimated from random signs s, one backward pass per draw. Rows of sample_weight 0 count all the same.

    During training, `loss` is the sum and `clean_loss` is L. Evaluation, prediction and saving are unaffected.

    Args:
        model: Keras model, compiled before or afterwards.
        layer: name of the layer whose output is x; None for "Embedding-Token", or the only Embedding layer. It may
            be any layer, also an input layer with floating point values.
        epsilon: >= 0; the author uses 1.
        of: 'loss', the gradient of L; 'outputs', those of the model's outputs.
        divergence: for 'outputs': 'squared' (of differences), lambda = 2; 'kl' of a softmax, 1 / f; 'multilabel', of
            sigmoids, 1 / (f (1 - f)); or a dict from output names to these, for some of the outputs.
        from_logits: for 'outputs', whether these are logits ('kl', 'multilabel'). None: where the model ends with a
            softmax or sigmoid, what goes into it are the logits, otherwise its output.
        draws: for 'outputs', how many times signs are drawn in a step; more is less noise, and a backward pass each.
        reduction: for 'loss', c. 'author' (None): 1, as in the article's code; L is a mean, so for a batch of B this
            is 1 / B of a sample's squared norm on average, and the penalty weakens as the batch grows. 'per_sample':
            B, then the sum is the mean of the samples' squared norms.
        dropout: True: the gradient is that of the step, with its dropout (the author's). False: of a pass without.
        distributed: for 'loss' and 'author', the gradient is that of the batch of all ranks
        (`kexue_keras.distributed`).

    Attributes:
        enable(), disable(): turn it on and off; `with GradientPenalty(model): ...` turns it off at the end.

    Raises:
        ValueError: no such layer, or none that could be meant; epsilon below 0; an unknown reduction; a loss that
            does not depend on the layer, or with an operation that has no second derivative; an argument that
            belongs to another `of`; another technique of this kind is on.
        NotImplementedError: a model of tf.keras under a `tf.distribute` strategy.
        RuntimeError: the model trains eagerly.

    Reference:
        对抗训练浅谈：意义、方法和思考（附Keras实现）, kexue.fm/archives/7234; arXiv 1711.09404.

    >>> tokens = keras.layers.Input([None])
    >>> x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4)(tokens))
    >>> model = keras.models.Model(tokens, keras.layers.Dense(2, activation="softmax")(x))
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> penalty = kexue_keras.training.adversarial.GradientPenalty(model, epsilon=1.)
    >>> history = model.fit(np.array([[1, 2, 1], [3, 4, 5]]), np.array([0, 1]), verbose=0).history
    >>> history["loss"] > history["clean_loss"]
    True
    """

    def __init__(
        self,
        model: Model,
        *,
        layer: Optional[str] = None,
        epsilon: float = 1.0,
        of: str = "loss",
        reduction: Optional[str] = None,
        dropout: bool = True,
        distributed: bool = False,
        divergence: Optional[Union[str, Dict[str, str]]] = None,
        from_logits: Optional[bool] = None,
        draws: Optional[int] = None,
    ) -> None:
        owner = "GradientPenalty"
        self.epsilon = checks.number(epsilon, "epsilon", owner, least=0)
        self.of = checks.choice(of, OF, "of", owner)
        given = {"reduction": reduction, "divergence": divergence, "from_logits": from_logits, "draws": draws}
        for name in ("divergence", "from_logits", "draws") if of == "loss" else ("reduction",):
            if given[name] is not None:
                raise ValueError("%s: %s=%r does nothing with of=%r; leave it out" % (owner, name, given[name], of))
        if of == "outputs" and divergence is None:
            raise ValueError(
                "%s: of='outputs' needs divergence=, one of %s" % (owner, ", ".join(map(repr, DIVERGENCES)))
            )
        self.reduction = checks.choice(reduction or "author", PENALTY_REDUCTIONS, "reduction", owner)
        self.draws = 1 if draws is None else checks.whole_number(draws, "draws", owner, least=1)
        self.dropout, self.distributed = bool(dropout), bool(distributed)
        super().__init__(model, layer)
        if of == "outputs":
            self._rooted = rooted_outputs(model, divergence, from_logits)
            # Made here, so that it belongs to a `repeatable_dropout` that is open.
            self._key = own_key()
        self.enable()

    def objective(self, loss: Tensor) -> Tuple[Tensor, Tensor]:
        penalty = self._of_outputs() if self.of == "outputs" else None
        if penalty is None:
            loss = twice_differentiable(loss)
            penalised = loss if self.dropout else without_dropout("GradientPenalty_clean")([loss])[0]
            with tf.name_scope("GradientPenalty"):
                penalty = self._of_loss(penalised)
        return loss + 0.5 * self.epsilon * tf.cast(penalty, loss.dtype), loss

    def _of_outputs(self):
        signals = [signal for signal, _, _ in self._rooted]
        if not self.dropout:
            signals = without_dropout("GradientPenalty_clean")(signals)
        with tf.name_scope("GradientPenalty"):
            outputs = outputs_of(self.layer, signals, "GradientPenalty")
            sums = [signed_sums(self._rooted, signals, self._key, i) for i in range(self.draws)]
            return tf.add_n([self._squares(s, outputs) for s in sums]) / self.draws

    def _of_loss(self, loss):
        total = self._squares(loss, outputs_of(self.layer, [loss], "GradientPenalty"))
        if self.reduction == "per_sample":
            # The model's input, since R-Drop has twice as many rows as samples inside.
            total *= tf.cast(tf.shape(self.model.inputs[0])[0], total.dtype)
        elif self.distributed:
            # The mean over the rows of all ranks has smaller gradients than that over the rows of this one.
            share = share_of(tf.shape(self.model.inputs[0])[0]) / float(size())
            total *= tf.cast(share, total.dtype)
        return total

    def _squares(self, scalar, outputs):
        """Squared norm of the gradient of a scalar for the outputs of the layer, over the whole batch."""
        found = [(t, g) for t, g in zip(outputs, tf.gradients(scalar, outputs)) if g is not None]
        if not found:
            raise ValueError(
                "GradientPenalty: there is no gradient for the output of the layer %r; if it lies in a part that "
                "is recomputed or in chunks (GradientCache), leave the penalty out" % self.layer.name
            )
        _check_differentiable([g for _, g in found], [t for t, _ in found])
        return tf.add_n([tf.reduce_sum(tf.square(widen(g))) for _, g in found])


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
