"""Adversarial training by the fast gradient method: the model learns to be right also where the loss grows fastest.

对抗训练浅谈：意义、方法和思考（附Keras实现）, kexue.fm/archives/7234. Papers: arXiv 1412.6572; for texts arXiv 1605.07725.
"""

from typing import Optional, Tuple

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.distributed._collectives import share_of
from kexue_keras.options.choices import ATTACK_TARGETS
from kexue_keras.training.adversarial._perturbation import perturbed_embeddings
from kexue_keras.training.adversarial._training_loss import TrainingLoss, without_dropout
from kexue_keras.types import Model, Tensor


class FGM(TrainingLoss):
    r"""Trains a model on embeddings perturbed against it: from now on `fit` minimises

    $$w_0\,L(E)+w_1\,L(E+\Delta),\qquad \Delta=\epsilon\,\frac{G}{\lVert G\rVert+10^{-8}},\quad
    G=\frac{\partial L}{\partial E}$$

    L is the compiled loss of the batch, all of it: several outputs, sample and class weights, masks, regularizers,
    `add_loss`. No gradient flows through Delta. Both passes are in one graph, as a copy of the ops behind the
    embeddings: no weight is ever changed and restored, nothing goes to the host. A step costs about 1.9 plain ones.

    During training, `loss` is what is minimised and `clean_loss` is L(E) as the attack saw it. Evaluation, prediction
    and saving are unaffected: the plain model is saved; after loading, call `FGM(model)` again.

    Args:
        model: Keras model, compiled before or afterwards; any number of inputs and outputs, any optimizer. With R-Drop
            give the model that `training.rdrop` returned.
        layer: name of the embedding layer; None for "Embedding-Token", or the only Embedding layer. With
            target='output' any layer.
        epsilon: >= 0, the norm of Delta.
        target: 'matrix': Delta is added to the embedding matrix, with one norm for the whole matrix (the author's); a
            token has the same perturbation in all samples, and in the output layer tied to the matrix. 'output':
            Delta is added to the output of the layer, with a norm for each sample.
        clean_weight: w_0 >= 0; the author trains on the attacked pass alone.
        adversarial_weight: w_1 >= 0.
        attack_dropout: False: G comes from a pass without dropout (the author's code). True: from a pass with the
            masks of the step, which is then also the clean pass.
        distributed: G is that of the batch of all ranks (`kexue_keras.distributed`), as target='matrix' needs it to be
            what one process finds. Without `distributed.init()` it changes nothing.

    Attributes:
        enable(), disable(): turn it on and off; `with FGM(model): ...` turns it off at the end.

    Raises:
        ValueError: no such layer, or none that could be meant; a number below 0; a loss that does not depend on the
            layer; another technique of this kind is on.
        NotImplementedError: a lookup within a tf.while_loop (GradientCache), or a loop within a loop behind it; a model
            of tf.keras under a `tf.distribute` strategy.
        RuntimeError: the model trains eagerly.

    Reference: 对抗训练浅谈：意义、方法和思考（附Keras实现）, kexue.fm/archives/7234; arXiv 1412.6572; arXiv 1605.07725.

    >>> tokens = keras.layers.Input([None])
    >>> x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4)(tokens))
    >>> model = keras.models.Model(tokens, keras.layers.Dense(2, activation="softmax")(x))
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> fgm = kexue_keras.training.adversarial.FGM(model, epsilon=0.5)
    >>> history = model.fit(np.array([[1, 2, 1], [3, 4, 5]]), np.array([0, 1]), verbose=0).history
    >>> history["loss"] > history["clean_loss"]
    True
    """

    def __init__(
        self,
        model: Model,
        *,
        layer: Optional[str] = None,
        epsilon: float = 0.5,
        target: float = "matrix",
        clean_weight: float = 0.0,
        adversarial_weight: float = 1.0,
        attack_dropout: bool = False,
        distributed: bool = False,
    ) -> None:
        self.epsilon = checks.number(epsilon, "epsilon", "FGM", least=0)
        self.target = checks.choice(target, ATTACK_TARGETS, "target", "FGM")
        self.clean_weight = checks.number(clean_weight, "clean_weight", "FGM", least=0)
        self.adversarial_weight = checks.number(adversarial_weight, "adversarial_weight", "FGM", least=0)
        if not self.clean_weight + self.adversarial_weight:
            raise ValueError("FGM: clean_weight and adversarial_weight are both 0; nothing would be trained")
        self.attack_dropout = bool(attack_dropout)
        self.distributed = bool(distributed)
        super().__init__(model, layer)
        self.enable()

    def objective(self, loss: Tensor) -> Tuple[Tensor, Tensor]:
        embeddings = perturbed_embeddings(self.layer, self.target, [loss], "FGM", self.distributed)
        clean = loss
        if not self.attack_dropout:
            attack = without_dropout("FGM_attack")
            clean = attack([loss])[0]
            embeddings.check_seen_by(attack)
        with tf.name_scope("FGM_direction"):
            ascended = clean
            if self.distributed:
                ascended = clean * tf.cast(share_of(tf.shape(self.model.inputs[0])[0]), clean.dtype)
            direction = [self.epsilon * d for d in embeddings.unit(embeddings.gradient(ascended))]
        attacked = embeddings.moved(direction, "FGM")([loss])[0]
        return weighted((self.clean_weight, loss), (self.adversarial_weight, attacked)), clean


def weighted(*pairs):
    """Sum of weight * loss; weights of 0 leave no trace, weights of 1 no multiplication."""
    terms = [loss if weight == 1 else weight * loss for weight, loss in pairs if weight]
    return terms[0] if len(terms) == 1 else tf.add_n(terms)
