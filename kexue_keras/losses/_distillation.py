"""Distillation of a similarity: the student's cosines follow the teacher's.

Reference: "用开源的人工标注数据来增强RoFormer-Sim", kexue.fm/archives/8541, and "SimBERTv2来了！融合检索和生成的
RoFormer-Sim模型", kexue.fm/archives/8454 (second stage of training).
"""

from typing import Any

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, register
from kexue_keras.checks import require, require_rank, static_length
from kexue_keras.losses._contrastive import unit_vectors
from kexue_keras.types import Tensor, TensorLike


@register
def similarity_distillation(y_true: TensorLike, y_pred: TensorLike, *, weight: float = 100.0) -> Tensor:
    """Squared difference between the teacher's and the student's cosines, over all pairs of the batch.

    L = weight / n^2 * sum_ij (cos(u_i, u_j) - cos(v_i, v_j))^2, returned row by row: value i is
    weight / n * sum_j (...)^2, so that their mean is L.

    Args:
        y_true: float tensor [n, teacher's dimension], the teacher's sentence vectors u; no gradient flows there.
        y_pred: float tensor [n, student's dimension], the student's vectors v; the dimensions may differ.
        weight: float, lambda of the article.

    Returns:
        float tensor [n]. A batch of one sentence has no pairs: 0.

    Raises:
        ValueError: other ranks, different numbers of rows, or a static batch of 1.

    Reference: kexue.fm/archives/8454, 8541.

    >>> teacher = K.constant([[1.0, 0.2], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.5]])
    >>> student = K.constant([[1.0, 0.0], [0.8, 0.6], [0.0, 2.0], [-0.6, 0.8]])
    >>> round(float(K.eval(K.mean(kexue_keras.losses.similarity_distillation(teacher, student)))), 3)
    14.773
    """
    name = "similarity_distillation"
    teacher = require_rank(y_true, 2, name, "y_true [batch, teacher's dimension]")
    student = require_rank(y_pred, 2, name, "y_pred [batch, student's dimension]")
    rows = tf.shape(student)[0]
    if static_length(student, 0) == 1:
        raise ValueError("%s: one sentence has no pairs; use a batch of at least 2" % name)
    if not teacher.shape[:1].is_compatible_with(student.shape[:1]):
        raise ValueError(
            "%s: y_true and y_pred must have the same number of rows, but have shapes %s and %s"
            % (name, teacher.shape, student.shape)
        )
    teacher = require(
        tf.equal(tf.shape(teacher)[0], rows),
        "%s: y_true and y_pred must have the same number of rows, but they have" % name,
        [tf.shape(teacher)[0], rows],
        then=teacher,
    )
    teacher, student = unit_vectors(tf.stop_gradient(teacher)), unit_vectors(student)
    target = tf.matmul(teacher, teacher, transpose_b=True)
    cosines = tf.matmul(student, student, transpose_b=True)
    return weight * tf.reduce_mean(tf.math.squared_difference(tf.cast(target, cosines.dtype), cosines), axis=1)


@register
class SimilarityDistillation(FunctionLoss):
    """The student's cosines follow the teacher's: `similarity_distillation` as a Keras loss.

    L = weight / n^2 * sum_ij (cos(u_i, u_j) - cos(v_i, v_j))^2.

    Args:
        weight: float, lambda of the article.
        reduction, name: as in `keras.losses.Loss`.

    Returns:
        when called by Keras with y_true = teacher's vectors [n, du] and y_pred = student's vectors [n, d]: [n].

    Raises:
        ValueError: weight negative, or shapes as in `similarity_distillation`.

    Reference: kexue.fm/archives/8454, 8541.

    >>> same = K.constant([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]])
    >>> round(abs(float(K.eval(kexue_keras.losses.SimilarityDistillation()(same, 3 * same)))), 3)
    0.0
    """

    def __init__(self, weight: float = 100.0, *, name: str = "similarity_distillation", **kwargs: Any) -> None:
        weight = checks.number(weight, "weight", "SimilarityDistillation", least=0)
        super().__init__(similarity_distillation, name=name, weight=weight, **kwargs)
