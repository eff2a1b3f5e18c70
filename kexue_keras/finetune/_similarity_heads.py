"""How sentence vectors are trained on scored pairs: CoSENT, or Sentence-BERT's classifier; measured by Spearman.

Reference: kexue.fm/archives/8847 (CoSENT), 8541 (Sentence-BERT's head on the same data).
"""

import numpy as np

from kexue_keras.backend import keras
from kexue_keras.errors import UserError
from kexue_keras.losses import CoSENT
from kexue_keras.options.choices import ENTITY_HEAD_LR_MULTIPLIER, HEAD_LR_MULTIPLIERS
from kexue_keras.similarity import pair_classifier

MOST_CLASSES = 10


class CosentHead(object):
    """The cosines of a batch in the order of the scores; no weights of its own."""

    name = "cosent"
    main_metric = "spearman"
    # Rows 2i and 2i+1 are a pair, and the pairs of all ranks are compared (see `trainer._ranks.Ranks`).
    unit, coupled = 2, True

    def __init__(self, options):
        self.scale, self.distributed = options.cosent_scale, options.distributed

    def targets(self, pairs):
        """float32 `[2N]`: the score of a pair in both of its rows."""
        return np.repeat(np.asarray(pairs.labels, "float32"), 2)

    def build(self, encoder, seed):
        """The Keras model that is trained, on top of the encoder's."""
        return encoder

    def loss(self):
        """Keras loss."""
        return CoSENT(self.scale, distributed=self.distributed)

    def metrics(self):
        """Keras metrics."""
        return []


class SbertHead(CosentHead):
    """A classifier on [u, v, |u - v|], thrown away after training."""

    name = "sbert"
    coupled = False

    def __init__(self, options):
        super(SbertHead, self).__init__(options)
        self.above = options.positive_above

    def targets(self, pairs):
        """int32 `[2N]` classes."""
        scores = np.asarray(pairs.labels)
        values = np.unique(scores)
        if self.above is not None:
            classes, self.classes = (scores > self.above).astype("int32"), 2
            if classes.min() == classes.max():
                raise UserError(one_class(self.above, pairs.labels), path=pairs.path)
        elif len(values) > MOST_CLASSES:
            raise UserError(
                "%d different scores are too many classes; give --positive-above X, or take --similarity-loss cosent"
                % len(values),
                path=pairs.path,
            )
        else:
            classes, self.classes = np.searchsorted(values, scores).astype("int32"), len(values)
        return np.repeat(classes, 2)

    def build(self, encoder, seed):
        return pair_classifier(encoder, self.classes, seed=seed)

    def loss(self):
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


def one_class(above, scores):
    """What to say if `above` does not part the scores."""
    return "--positive-above %g leaves one class: the scores go from %g to %g" % (above, min(scores), max(scores))


HEADS = {head.name: head for head in (CosentHead, SbertHead)}


def cosent_value(cosines, scores, scale=20.0):
    """CoSENT over all pairs of a file, float64, in O(N log N).

    >>> round(cosent_value([.9, .3, .6, .8], [1, 0, 1, 0]), 6)
    4.020626
    """
    order = np.argsort(scores, kind="stable")
    cosines, scores = scale * np.asarray(cosines, "float64")[order], np.asarray(scores)[order]
    # Sum over a of exp(-c_a) times the sum of exp(c_b) over all b with lower scores, in logarithms.
    below = np.searchsorted(scores, scores, side="left")
    sums = np.concatenate([[-np.inf], np.logaddexp.accumulate(cosines)])
    return float(np.logaddexp(0, np.logaddexp.reduce(sums[below] - cosines)))


def rankable(cosines):
    """float64 `[N]`: rounded to 6 decimals.

    The cosine of two equal texts is 1 but for the last digit of a float32, which must not decide who is first.
    """
    return np.round(np.asarray(cosines, "float64"), 6)


def measure_similarity(cosines, scores, scale=20.0):
    """How well cosines follow scores.

    Args:
        cosines, scores: `[N]`.
        scale: of the CoSENT value.

    Returns:
        JSON-able dict: pairs, spearman (of `rankable` cosines), pearson (both 0 if all cosines are equal),
            loss: CoSENT of all pairs together.

    >>> measure_similarity([.1, .5, .9], [0, 3, 5])['spearman']
    1.0
    """
    from scipy.stats import pearsonr, spearmanr

    ranked = rankable(cosines)
    different = np.ptp(ranked) > 0
    return {
        "pairs": len(scores),
        "spearman": round(float(spearmanr(ranked, scores)[0]), 6) if different else 0.0,
        "pearson": round(float(pearsonr(cosines, scores)[0]), 6) if different else 0.0,
        "loss": cosent_value(cosines, scores, scale),
    }


def head_lr_multiplier(options):
    """Factor of the head's learning rate, as given, else as the task's loss wants it.

    Raises:
        UserError: a factor that cannot be, or no head that has one.
    """
    given = options.head_lr_multiplier
    similarity = options.task == "similarity"
    if given is None and options.task == "ner":
        return ENTITY_HEAD_LR_MULTIPLIER
    if given is None:
        return HEAD_LR_MULTIPLIERS[options.similarity_loss] if similarity else 1.0
    if not 0 < given < float("inf"):
        raise UserError("--head-lr-multiplier is %g; it has to be above 0, e.g. 10" % given)
    if similarity and options.similarity_loss == "cosent":
        raise UserError("--head-lr-multiplier %g: CoSENT trains the encoder alone, there is no head" % given)
    return given
