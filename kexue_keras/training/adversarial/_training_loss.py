"""A training loss in place of the compiled one: the base of FGM, gradient penalty, virtual adversarial training.

对抗训练浅谈：意义、方法和思考（附Keras实现）, kexue.fm/archives/7234; 泛化性乱弹：从随机噪声、梯度惩罚到虚拟对抗训练,
kexue.fm/archives/7466. Papers: arXiv 1412.6572, 1605.07725, 1711.09404, 1704.03976.

How a model's training is led to it, which layer is perturbed, and a pass without dropout. What a perturbation is stands
in `_perturbation.py`, how the perturbed loss is computed in `backend.graph.SecondPass`.
"""

from typing import Any, Tuple, Union

import tensorflow as tf

from kexue_keras.backend import K, keras, minimise_instead, refuse_eager
from kexue_keras.backend.graph import SecondPass
from kexue_keras.types import Layer, Model, Tensor


class TrainingLoss(object):
    """What a model minimises while a technique is on: `objective(loss)` instead of its loss, until `disable()`.

    Args:
        model: Keras model, compiled before or afterwards.
        layer: name of the layer whose output is perturbed, or the layer; None for "Embedding-Token", or the only
            Embedding layer.
    """

    def __init__(self, model: Model, layer: Union[None, str, Layer]) -> None:
        refuse_eager(type(self).__name__)
        if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
            raise ValueError(
                "%s needs a model with symbolic inputs and outputs, but %r has none; build it with "
                "keras.models.Model(inputs, outputs), or call it on data first" % (type(self).__name__, model)
            )
        self.model = model
        self.layer = find_layer(model, layer, type(self).__name__)
        self._put_back = None

    def objective(self, loss: Tensor) -> Tuple[Tensor, Tensor]:
        """(loss to minimise, loss to show as `clean_loss`), scalars; to be overridden."""
        raise NotImplementedError

    def enable(self) -> "TrainingLoss":
        """Turn it on (again); returns self, so that it can be used in a `with`."""
        if self._put_back is None:
            other = getattr(self.model, "kexue_training_loss", None)
            if other is not None:
                raise ValueError(
                    "this model already trains with %s; a model takes one of FGM, GradientPenalty and "
                    "VirtualAdversarial at a time. Call disable() on the other one first" % type(other).__name__
                )
            self._put_back = minimise_instead(self.model, self.objective, "clean_loss", type(self).__name__)
            vars(self.model)["kexue_training_loss"] = self
        return self

    def disable(self) -> None:
        """Train on the compiled loss again."""
        if self._put_back is not None:
            self._put_back()
            self._put_back = None
            del vars(self.model)["kexue_training_loss"]

    def __enter__(self) -> "TrainingLoss":
        return self.enable()

    def __exit__(self, *_: Any) -> None:
        self.disable()


def layers_of(model):
    """All layers of a model, those of models and wrappers inside it too."""
    for layer in getattr(model, "layers", None) or [getattr(model, "layer", None)]:
        if layer is not None:
            yield layer
            for inner in layers_of(layer):
                yield inner


def find_layer(model, layer, owner):
    """The layer that is meant: by name, as an object, or None for the one that looks up the tokens.

    Raises:
        ValueError: there is none, or for None several.
    """
    layers = list({id(known): known for known in layers_of(model)}.values())
    embeddings = [known for known in layers if isinstance(known, keras.layers.Embedding)]
    there = ", ".join(repr(known.name) for known in embeddings) or "none"
    if layer is None:
        named = [known for known in embeddings if known.name == "Embedding-Token"] or embeddings
        if len(named) != 1:
            raise ValueError(
                "%s: give layer=..., the name of the layer to perturb; Embedding layers of this model: %s"
                % (owner, there)
            )
        return named[0]
    found = [known for known in layers if known is layer or known.name == layer]
    if not found:
        raise ValueError(
            "%s: the model has no layer %r; its Embedding layers: %s" % (owner, getattr(layer, "name", layer), there)
        )
    return found[0]


def learning_phase():
    """Keras' learning phase: a tensor, or an int where it was set for good."""
    symbolic = getattr(K, "symbolic_learning_phase", None)
    return symbolic() if callable(symbolic) else K.learning_phase()


def without_dropout(name):
    """`SecondPass` in which Keras' learning phase is 0."""
    phase = learning_phase()

    def replace(ops):
        if not isinstance(phase, tf.Tensor) or phase.op not in ops:
            return {}
        with tf.control_dependencies(None):
            return {phase.name: tf.zeros_like(phase)}

    return SecondPass(replace, name=name)
