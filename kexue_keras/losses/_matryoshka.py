"""Matryoshka: one loss on the first 64, 128, ... components of the vectors, so that short vectors are good ones too.

Reference: Kusupati et al., "Matryoshka Representation Learning", arXiv 2205.13147.
"""

from typing import Any, Optional, Sequence

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, keras, register
from kexue_keras.checks import static_length
from kexue_keras.losses._contrastive import unit_vectors
from kexue_keras.types import Config


@register
class Matryoshka(FunctionLoss):
    """A loss on vectors, summed over their first m components for several m.

    L = sum over m of w_m * loss(y_true, y_pred[..., :m]).

    Vectors trained this way can be cut to any of these lengths: search with the short ones is faster and smaller.

    Args:
        loss: a loss of this package on vectors (`CoSENT`, `InfoNCE`, `FlatNCE`, `TripletLoss`,
            `SimilarityDistillation`), an instance.
        dimensions: list of int, the lengths m; at most that of the vectors, in any order.
        weights: list of float, w_m; None: 1 each.
        normalize: bool, scale the truncated vectors to length 1 before the loss. Losses on cosines do it
            themselves; sentence-transformers does it always.
        name: str. The reduction is that of `loss`.

    Raises:
        ValueError: no dimensions, one that is no whole number above 0 or given twice, another number of weights, or
            (when it is called) vectors shorter than a dimension.
        TypeError: `loss` is none of this package.

    Reference: arXiv 2205.13147.

    >>> vectors = K.constant([[[1.0, 0.0, 1.0], [0.8, 0.6, 1.0], [0.6, 0.8, 0.0]]])
    >>> loss = kexue_keras.losses.Matryoshka(kexue_keras.losses.TripletLoss(), [2, 3])
    >>> np.round(K.eval(loss.call(None, vectors)), 4)
    array([0.3243], dtype=float32)
    """

    def __init__(
        self,
        loss: FunctionLoss,
        dimensions: Sequence[int],
        *,
        weights: Optional[Sequence[float]] = None,
        normalize: bool = False,
        name: Optional[str] = None,
    ) -> None:
        if not isinstance(loss, FunctionLoss):
            raise TypeError("Matryoshka: loss must be an instance of a loss of kexue_keras, but it is %r" % (loss,))
        self.loss, self.dimensions = loss, [
            checks.whole_number(m, "dimensions", "Matryoshka", least=1) for m in dimensions
        ]
        if not self.dimensions or len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError("Matryoshka: dimensions must be some different numbers, but are %r" % (self.dimensions,))
        weights = [1.0] * len(self.dimensions) if weights is None else list(weights)
        if len(weights) != len(self.dimensions):
            raise ValueError(
                "Matryoshka: there must be a weight for each dimension, but there are %d for %d"
                % (len(weights), len(self.dimensions))
            )
        self.weights = [checks.number(w, "weights", "Matryoshka", above=0) for w in weights]
        self.normalize = bool(normalize)
        super().__init__(
            self._sum,
            name=name or "matryoshka_" + loss.name,
            reduction=loss._reduction,
            own_weights=loss.own_weights,
        )

    def _sum(self, y_true: Any, y_pred: Any, **sample_weight: Any) -> tf.Tensor:
        length = static_length(y_pred, -1)
        if length is not None and max(self.dimensions) > length:
            raise ValueError(
                "Matryoshka: dimensions are %s, but the vectors have only %d components" % (self.dimensions, length)
            )
        total = 0
        for dimension, weight in zip(self.dimensions, self.weights):
            part = y_pred[..., :dimension]
            part = unit_vectors(part) if self.normalize else part
            total += weight * self.loss.fn(y_true, part, **dict(self.loss.parameters, **sample_weight))
        return total

    def get_config(self) -> Config:
        return {
            "loss": keras.losses.serialize(self.loss),
            "dimensions": self.dimensions,
            "weights": self.weights,
            "normalize": self.normalize,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Config) -> "Matryoshka":
        return cls(**dict(config, loss=keras.losses.deserialize(config["loss"])))
