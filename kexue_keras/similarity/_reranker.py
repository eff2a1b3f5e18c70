"""A cross-encoder as a reranker: a classifier of pairs that scores a question with each of its candidates."""

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from kexue_keras.errors import UserError
from kexue_keras.similarity._encoder import Hit
from kexue_keras.types import Array


class Reranker(object):
    """Scores pairs of texts by a run of `finetune` on pairs, and ranks texts by it.

    Both texts are read together, so it is better than cosines of vectors, and so slow that it is used on what an
    encoder has found: `encoder.search` for 100 texts, then `rank`.

    Args:
        classifier: `finetune.Classifier` of a run on pairs of texts with one label.
        label: the label that says that both belong together; its probability is the score.

    Raises:
        UserError: it takes single texts, or has no such label.

    >>> from kexue_keras.finetune import Classifier  # doctest: +SKIP
    >>> from kexue_keras.similarity import Reranker  # doctest: +SKIP
    >>> reranker = Reranker(Classifier.load('runs/lcqmc'))  # doctest: +SKIP
    >>> [hit.text for hit in reranker.rank('怎么退货', ['换货请联系客服', '七天内可以退货'])]  # doctest: +SKIP
    ['七天内可以退货', '换货请联系客服']
    """

    def __init__(self, classifier: Any, *, label: str = "1") -> None:
        self.classifier = classifier
        if not self.classifier.pairs:
            raise UserError("this model labels single texts; a reranker takes one of pairs")
        if label not in self.classifier.labels:
            raise UserError("no label %r; the model has %s" % (label, ", ".join(self.classifier.labels)))
        self.column = self.classifier.labels.index(label)

    def score(self, pairs: Sequence[Tuple[str, str]]) -> Array:
        """Probability that both texts belong together.

        Args:
            pairs: list of (str, str).

        Returns:
            float64 `[N]`.

        Raises:
            UserError: something in the list that is no pair of str.
        """
        return self.classifier.probabilities(pairs)[:, self.column]

    def rank(self, question: str, texts: Sequence[str], k: Optional[int] = None) -> List[Hit]:
        """The texts that belong to the question, the most likely first.

        Args:
            question: str.
            texts: list of str.
            k: how many are given; None: all.

        Returns:
            list of `Hit` (place in `texts`, text, score).

        Raises:
            UserError: something that is no str.
        """
        scores = self.score([(question, text) for text in texts])
        order = np.argsort(-scores, kind="stable")[:k]
        return [Hit(int(i), texts[i], float(scores[i])) for i in order]
