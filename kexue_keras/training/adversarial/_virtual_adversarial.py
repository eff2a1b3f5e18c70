"""Virtual adversarial training: the prediction should not change even where a small perturbation would change it most.

泛化性乱弹：从随机噪声、梯度惩罚到虚拟对抗训练, kexue.fm/archives/7466. Paper: VAT, arXiv 1704.03976.
"""

import itertools
from typing import Any, Callable, Dict, Iterable, Optional, Tuple, Union

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, is_tf_keras, keras, refuse_distribution, widen
from kexue_keras.backend.graph import origin, reached
from kexue_keras.losses import multilabel_kl
from kexue_keras.numerics import log_probability
from kexue_keras.options.choices import ATTACK_TARGETS
from kexue_keras.training._randomness import fold_in, own_key
from kexue_keras.training.adversarial._perturbation import perturbed_embeddings
from kexue_keras.training.adversarial._training_loss import TrainingLoss, learning_phase, without_dropout
from kexue_keras.types import Arrays, KerasOptimizer, Logs, Model, Tensor

DIVERGENCES = ("kl", "multilabel", "mse")


class VirtualAdversarial(TrainingLoss):
    r"""Semi-supervised training: adds the largest divergence of predictions near a text, which needs no label,

    $$w\,\frac1B\sum_i D\big(\mathrm{sg}[f(x_i)],\,f(x_i+\epsilon u_i)\big)$$

    u is found by power iteration: noise of norm 1; then r times u = gradient of D(f(x), f(x + xi u)), with norm 1
    again. D is 0 at u = 0 with gradient 0, hence the step xi; the sign of u is arbitrary.

    Unlabelled texts come in one of two ways.

    In the batches of `fit`, among the others: compile the model, then `VirtualAdversarial(model)`. Every row counts
    for the divergence; rows without a label get any label, and sample_weight 0. `loss` is then the sum, and
    `clean_loss` the compiled loss.

    In separate batches, as in the article: `vat = VirtualAdversarial(model, optimizer=AdamW(1e-5))` leaves `fit`
    alone. `vat.train_on_batch(x)` takes a step on unlabelled texts, and `fit(callbacks=[vat.after_each_batch(xs)])`
    takes one after each labelled batch.

    Evaluation, prediction and saving are unaffected.

    Args:
        model: Keras model, any number of inputs and outputs.
        layer: name of the embedding layer; None for "Embedding-Token", or the only Embedding layer. With
            target='output' any layer.
        epsilon: >= 0, norm of the perturbation; the author uses 1.
        xi: > 0, norm while looking for u; the author uses 10 for the whole matrix. With target='output' take less, 0.1.
        iterations: r >= 0; with 0, u is noise.
        target: 'matrix' (the author's; one norm for the whole matrix) or 'output' (one for each sample).
        divergence: 'kl', KL(f(x) || f(x + u)) of the classes; 'multilabel', `losses.multilabel_kl`; 'mse'; a function
            of two tensors that returns values per row; or a dict from output names to these, for some of the outputs.
        from_logits: whether the outputs are logits ('kl', 'multilabel'). None: where the model ends with a softmax or
            sigmoid, what goes into it are the logits, otherwise its output.
        weight: w >= 0.
        attack_dropout: False: f(x) and u come from passes without dropout (the author's code), and only f(x + u) has
            some. True: all have the masks of the step.
        optimizer: for separate batches.

    Attributes:
        enable(), disable(): turn it on and off, for texts in the batches of `fit`.

    Raises:
        ValueError: no such layer, or none that could be meant; a number out of range; an unknown divergence; outputs
            that do not depend on the layer; another technique of this kind is on.
        NotImplementedError: a lookup within a tf.while_loop (GradientCache), or a loop within a loop behind it; a model
            of tf.keras under a `tf.distribute` strategy.
        RuntimeError: the model trains eagerly.

    Reference: 泛化性乱弹：从随机噪声、梯度惩罚到虚拟对抗训练, kexue.fm/archives/7466; VAT, arXiv 1704.03976.

    >>> tokens = keras.layers.Input([None])
    >>> x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4)(tokens))
    >>> model = keras.models.Model(tokens, keras.layers.Dense(2, activation="softmax")(x))
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> vat = kexue_keras.training.adversarial.VirtualAdversarial(model, epsilon=1.)
    >>> texts, labels, has_label = np.array([[1, 2, 1], [3, 4, 5]]), np.array([0, 0]), np.array([1., 0.])
    >>> history = model.fit(texts, labels, sample_weight=has_label, verbose=0).history
    >>> history["loss"] > history["clean_loss"]
    True
    """

    def __init__(
        self,
        model: Model,
        *,
        layer: Optional[str] = None,
        epsilon: float = 1.0,
        xi: float = 10.0,
        iterations: int = 1,
        target: float = "matrix",
        divergence: Union[str, Callable[[Tensor, Tensor], Tensor], Dict[str, Any]] = "kl",
        from_logits: Optional[bool] = None,
        weight: float = 1.0,
        attack_dropout: bool = False,
        optimizer: Optional[KerasOptimizer] = None,
    ) -> None:
        owner = "VirtualAdversarial"
        self.epsilon = checks.number(epsilon, "epsilon", owner, least=0)
        self.xi = checks.number(xi, "xi", owner, above=0)
        self.iterations = checks.whole_number(iterations, "iterations", owner, least=0)
        self.target = checks.choice(target, ATTACK_TARGETS, "target", owner)
        self.weight = checks.number(weight, "weight", owner, least=0)
        self.from_logits = from_logits
        self.attack_dropout = bool(attack_dropout)
        self.optimizer = optimizer
        super().__init__(model, layer)
        self.divergences = by_output(divergence, model, DIVERGENCES, owner, functions=True)
        # Made here, so that it belongs to a `repeatable_dropout` that is open.
        self._key = own_key()
        self._function = None
        if optimizer is None:
            self.enable()

    def enable(self) -> "VirtualAdversarial":
        if self.optimizer is not None:
            raise ValueError(
                "VirtualAdversarial has its own optimizer for unlabelled batches, so fit stays as it is; leave "
                "`optimizer` out to have the unlabelled texts in the batches of fit"
            )
        return super().enable()

    def objective(self, loss: Tensor) -> Tuple[Tensor, Tensor]:
        return loss + tf.cast(self.weight * self.loss(), loss.dtype), loss

    def loss(self) -> Tensor:
        """The mean divergence of the batch, a float32 scalar; builds its graph anew."""
        compared = [
            (signal_of(output, self.divergences[name], self.from_logits, "VirtualAdversarial"), mask)
            for name, output, mask in zip(self.model.output_names, self.model.outputs, output_masks(self.model))
            if self.divergences.get(name) is not None
        ]
        signals, divergences = zip(*[pair for pair, _ in compared])
        masks = [mask for _, mask in compared]

        def divergence(clean, moved):
            values = [d(a, b) for d, a, b in zip(divergences, clean, moved)]
            return tf.add_n([_mean(v, m) for v, m in zip(values, masks)])

        embeddings = perturbed_embeddings(self.layer, self.target, signals, "VirtualAdversarial")
        attacked = signals
        if not self.attack_dropout:
            attack = without_dropout("VAT_clean")
            attacked = attack(signals)
            embeddings.check_seen_by(attack)
        clean = [tf.stop_gradient(s) for s in attacked]
        numbers = itertools.count()

        def draw(shape, like):
            dtype = tf.float64 if like.dtype.base_dtype == tf.float64 else tf.float32
            return tf.random.stateless_normal(shape, seed=fold_in(self._key, next(numbers)), dtype=dtype)

        u = embeddings.noise(draw)
        for i in range(self.iterations):
            near = embeddings.moved([self.xi * d for d in u], "VAT_iteration")(attacked)
            u = embeddings.unit(embeddings.gradient(divergence(clean, near)))
        return divergence(clean, embeddings.moved([self.epsilon * d for d in u], "VAT")(signals))

    def train_on_batch(self, x: Arrays) -> float:
        """One step with unlabelled texts.

        Args:
            x: what the model takes, an array or a list of arrays.

        Returns:
            float, the mean divergence before the step.
        """
        if self._function is None:
            self._function = self._make_function()
        x = list(x) if isinstance(x, (list, tuple)) else [x]
        if len(x) != len(self.model.inputs):
            raise ValueError("the model has %d inputs, but got %d arrays" % (len(self.model.inputs), len(x)))
        phase = [1] if isinstance(learning_phase(), tf.Tensor) else []
        return float(self._function(x + phase)[0])

    def _make_function(self):
        if self.optimizer is None:
            raise ValueError(
                "separate unlabelled batches need an optimizer: VirtualAdversarial(model, optimizer=AdamW(1e-5))"
            )
        refuse_distribution(self.model, "VirtualAdversarial")
        phase = [learning_phase()] if isinstance(learning_phase(), tf.Tensor) else []
        with K.name_scope("VirtualAdversarial"):
            loss = self.loss()
            optimizer = keras.optimizers.get(self.optimizer)
            weights = _behind(loss, self.model.trainable_weights)
            updates = optimizer.get_updates(loss=self.weight * loss, params=weights)
        return K.function(list(self.model.inputs) + phase, [loss], updates=updates)

    def after_each_batch(self, batches: Iterable[Arrays]) -> "AfterEachBatch":
        """Keras callback for `fit` that takes a step on the next unlabelled batch after each labelled one.

        Args:
            batches: iterable of what `train_on_batch` takes; a list starts again when it is exhausted.
        """
        return AfterEachBatch(self, batches)


class AfterEachBatch(keras.callbacks.Callback):
    """Made by `VirtualAdversarial.after_each_batch`; `losses` are the divergences of the steps."""

    def __init__(self, technique: VirtualAdversarial, batches: Iterable[Arrays]) -> None:
        super().__init__()
        self.technique = technique
        self.batches = itertools.cycle(batches) if isinstance(batches, (list, tuple)) else iter(batches)
        self.losses = []

    def on_batch_end(self, batch: int, logs: Optional[Logs] = None) -> None:
        """Called by Keras."""
        self.losses.append(self.technique.train_on_batch(next(self.batches)))

    def on_epoch_end(self, epoch: int, logs: Optional[Logs] = None) -> None:
        """Adds the mean divergence of the epoch to the logs, as `vat_loss`."""
        if logs is not None and self.losses:
            logs["vat_loss"] = float(np.mean(self.losses))
        self.losses = []


def _behind(loss, weights):
    """Those weights that a gradient of `loss` reaches: not those of an output without a divergence."""
    stops = [op.outputs[0] for op in reached([loss]) if op.type == "StopGradient"]
    ops = set(reached([loss], stop=stops))
    return [w for w in weights if w.handle.op in ops]


def by_output(divergence, model, choices, owner, *, functions=False):
    """Dict from output names to divergences, each one of `choices` (or a function), of one for all or such a dict."""
    given = divergence if isinstance(divergence, dict) else {name: divergence for name in model.output_names}
    unknown = sorted(set(given) - set(model.output_names))
    if unknown or not given:
        raise ValueError("%s: the model has no output %s; it has %s" % (owner, ", ".join(unknown), model.output_names))
    for one in given.values():
        if not (functions and callable(one)):
            checks.choice(one, choices, "divergence", owner)
    return given


def signal_of(output, divergence, from_logits, owner):
    """(what the divergence compares: logits or values; the divergence as a function)."""
    if callable(divergence):
        return output, divergence
    if divergence == "mse":
        return output, lambda a, b: tf.reduce_mean(tf.math.squared_difference(widen(a), widen(b)), -1)
    function, squashing = (kl, "Softmax") if divergence == "kl" else (multilabel_kl, "Sigmoid")
    if divergence == "kl" and output.shape.as_list()[-1] == 1:
        raise ValueError(
            "%s: %s has one class, whose KL divergence is always 0; take divergence='multilabel' for "
            "a sigmoid, a squared one for a number" % (owner, output.name)
        )
    op = origin(output).op
    if from_logits is None and op.type in ("Merge", "IdentityN"):
        raise ValueError(
            "%s: cannot tell whether %s are logits or probabilities; give from_logits=True or "
            "False" % (owner, output.name)
        )
    if op.type == squashing and not from_logits:
        output = op.inputs[0]
    elif from_logits is not None and not from_logits:
        p = widen(output)
        output = log_probability(p)
        if divergence == "multilabel":
            output -= tf.math.log(tf.maximum(1.0 - p, np.finfo("float32").eps))
    return output, lambda a, b: function(widen(a), widen(b))


def kl(clean, moved):
    """KL(p || q) of two tensors of logits [..., classes], with -inf for classes that are out of the question."""
    p, log_p, log_q = tf.nn.softmax(clean), tf.nn.log_softmax(clean), tf.nn.log_softmax(moved)
    zeros = tf.zeros_like(p)
    out = tf.equal(clean, -np.inf)
    return tf.reduce_sum(p * (tf.where(out, zeros, log_p) - tf.where(out, zeros, log_q)), -1)


def output_masks(model):
    """Keras' mask of each output, or None."""
    if is_tf_keras:
        return [getattr(output, "_keras_mask", None) for output in model.outputs]
    masks = model.compute_mask(model.inputs, mask=None)
    return masks if isinstance(masks, list) else [masks] * len(model.outputs)


def _mean(values, mask):
    if mask is None or values.shape.rank != mask.shape.rank:
        return tf.reduce_mean(values)
    mask = tf.cast(mask, values.dtype)
    return tf.reduce_sum(values * mask) / tf.maximum(tf.reduce_sum(mask), 1.0)
