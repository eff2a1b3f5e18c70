"""Triplet loss: the positive of an anchor nearer than its negative, by a margin.

Reference: Schroff et al., "FaceNet: A Unified Embedding for Face Recognition and Clustering", arXiv 1503.03832; for
sentence vectors Reimers and Gurevych, "Sentence-BERT", arXiv 1908.10084.
"""

from typing import Any, Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, register, widen
from kexue_keras.checks import require_rank, static_length
from kexue_keras.losses._contrastive import unit_vectors
from kexue_keras.types import Tensor, TensorLike

DISTANCES = ("cosine", "euclidean", "manhattan")
# The usual ones of sentence-transformers for distances without bound, and for cosines.
MARGINS = {"cosine": 0.5, "euclidean": 5.0, "manhattan": 5.0}


def _distance(a, b, distance):
    if distance == "cosine":
        return 1 - tf.reduce_sum(unit_vectors(a) * unit_vectors(b), axis=-1)
    if distance == "manhattan":
        return tf.reduce_sum(tf.abs(a - b), axis=-1)
    squares = tf.reduce_sum(tf.square(a - b), axis=-1)
    # The root has no gradient at 0: equal vectors get none, as with abs.
    apart = squares > 0
    return tf.where(apart, tf.sqrt(tf.where(apart, squares, tf.ones_like(squares))), tf.zeros_like(squares))


@register
def triplet_loss(
    anchors: TensorLike,
    positives: TensorLike,
    negatives: TensorLike,
    *,
    distance: str = "cosine",
    margin: Optional[float] = None,
) -> Tensor:
    """Triplet loss of N triplets.

    L = max(0, d(a, p) - d(a, n) + margin).

    Args:
        anchors, positives, negatives: float tensors [N, d].
        distance: "cosine" (1 - cosine, 0 to 2), "euclidean" or "manhattan".
        margin: float, not negative; None: 0.5 for cosines, 5 for the others.

    Returns:
        float tensor [N]; without gradient where the negative is far enough away.

    Raises:
        ValueError: unknown distance, a negative margin, or other shapes.

    Reference: arXiv 1503.03832, 1908.10084.

    >>> loss = kexue_keras.losses.triplet_loss([[1.0, 0.0]], [[0.8, 0.6]], [[0.6, 0.8]])
    >>> np.round(K.eval(loss), 4)
    array([0.3], dtype=float32)
    """
    checks.choice(distance, DISTANCES, "distance", "triplet_loss")
    margin = MARGINS[distance] if margin is None else checks.number(margin, "margin", "triplet_loss", least=0)
    a, p, n = (
        require_rank(widen(x), 2, "triplet_loss", "%s [triplets, dimension]" % name)
        for x, name in ((anchors, "anchors"), (positives, "positives"), (negatives, "negatives"))
    )
    return tf.nn.relu(_distance(a, p, distance) - _distance(a, n, distance) + margin)


def _of_embeddings(y_true, y_pred, *, distance, margin):
    y_pred = require_rank(y_pred, 3, "TripletLoss", "y_pred [triplets, 3, dimension]")
    if static_length(y_pred, 1) not in (3, None):
        raise ValueError("TripletLoss: axis 1 of y_pred must hold three vectors, but its shape is %s" % y_pred.shape)
    return triplet_loss(y_pred[:, 0], y_pred[:, 1], y_pred[:, 2], distance=distance, margin=margin)


@register
class TripletLoss(FunctionLoss):
    """Triplet loss on sentence vectors, as a Keras loss; `y_true` is ignored.

    L_i = max(0, d(a_i, p_i) - d(a_i, n_i) + margin).

    Args:
        distance: "cosine", "euclidean" or "manhattan".
        margin: float, not negative; None: 0.5 for cosines, 5 for the others.
        reduction, name: as in `keras.losses.Loss`. y_pred is [triplets, 3, dimension]: anchor, positive, negative.

    Raises:
        ValueError: unknown distance, a negative margin, or y_pred of another shape.

    Reference: arXiv 1503.03832, 1908.10084.

    >>> vectors = K.constant([[[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]]])
    >>> np.round(K.eval(kexue_keras.losses.TripletLoss(margin=0.2).call(None, vectors)), 4)
    array([0.], dtype=float32)
    """

    def __init__(
        self, distance: str = "cosine", *, margin: Optional[float] = None, name: str = "triplet", **kwargs: Any
    ) -> None:
        checks.choice(distance, DISTANCES, "distance", "TripletLoss")
        margin = MARGINS[distance] if margin is None else checks.number(margin, "margin", "TripletLoss", least=0)
        super().__init__(_of_embeddings, name=name, distance=distance, margin=float(margin), **kwargs)
