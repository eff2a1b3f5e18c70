"""Random decoding at a fixed entropy, in place of top-k and top-p.

Article: 概率分布的熵归一化（Entropy Normalization） (kexue.fm/archives/8829).
"""

import copy
from typing import Any, List, Optional, Sequence

import numpy as np
from bert4keras.snippets import AutoRegressiveDecoder

from kexue_keras.backend import register
from kexue_keras.layers._entropy_normalization import check_target, entropy_normalize_np
from kexue_keras.types import Array, ArrayLike


@register
class EntropySampler(AutoRegressiveDecoder):
    """bert4keras decoder whose random samples are drawn from distributions of a given entropy.

    Every step's distribution is raised to the power at which its entropy is the target: a flat one is sharpened, which
    keeps nonsense out, and a peaked one is flattened, which keeps samples apart. Subclass it and write `predict` as
    for bert4keras' class; `beam_search` is unchanged.

    Args:
        start_id, end_id, maxlen, minlen: as in bert4keras.
        target: entropy of each step, in nats (log 10 is as uncertain as ten equal choices).
        ratio: in place of `target`, a part of log(vocabulary), 0 to 1.
        cap_only: True leaves distributions alone that are below the target; only flat ones are sharpened.

    Raises:
        ValueError: neither or both of target and ratio, or outside their range.

    Reference:
        概率分布的熵归一化, kexue.fm/archives/8829

    >>> class Sampler(kexue_keras.decoding.EntropySampler):
    ...     @kexue_keras.decoding.EntropySampler.wraps('probas')
    ...     def predict(self, inputs, output_ids, states):
    ...         return np.tile([[0.1, 0.5, 0.2, 0.2]], (len(output_ids), 1))
    >>> samples = Sampler(start_id=0, end_id=3, maxlen=5, target=0.5).random_sample([[1, 2]], n=3)
    >>> len(samples)
    3
    """

    def __init__(
        self,
        start_id: int,
        end_id: int,
        maxlen: int,
        minlen: int = 1,
        *,
        target: Optional[float] = None,
        ratio: Optional[float] = None,
        cap_only: bool = False,
    ) -> None:
        super(EntropySampler, self).__init__(start_id, end_id, maxlen, minlen)
        if (target is None) == (ratio is None):
            raise ValueError("give either target (nats) or ratio; got target=%r and ratio=%r" % (target, ratio))
        check_target(target, ratio, type(self).__name__)
        self.target, self.ratio, self.cap_only = target, ratio, cap_only

    def normalize(self, probabilities: ArrayLike) -> Array:
        """Rows of `[m, vocabulary]` probabilities at the target entropy, float64."""
        p = np.asarray(probabilities, dtype=np.float64)
        target = np.full(len(p), self.target if self.ratio is None else self.ratio * np.log(p.shape[-1]))
        if self.cap_only:
            q = p / p.sum(axis=-1, keepdims=True)
            target = np.minimum(target, -(q * np.log(np.where(q > 0, q, 1.0))).sum(axis=-1))
        return entropy_normalize_np(p, np.maximum(target, 0.0), tol=1e-8)

    def random_sample(
        self, inputs: Sequence[ArrayLike], n: int, *, states: Any = None, temperature: float = 1, min_ends: int = 1
    ) -> List[Array]:
        """`n` sequences drawn at the target entropy.

        Args:
            inputs: list of the inputs of `predict`, without batch axis.
            n: number of samples.
            states, temperature, min_ends: as in bert4keras; a temperature makes no difference here.

        Returns:
            list of int arrays.
        """
        predict = self.predict

        def at_entropy(inputs, output_ids, states, temperature=1, rtype="probas"):
            probabilities, states = predict(inputs, output_ids, states, temperature, rtype)
            return self.normalize(probabilities), states

        # A copy carries the changed predict, so that this object is the same for other threads and after errors.
        decoder = copy.copy(self)
        decoder.predict = at_entropy
        return AutoRegressiveDecoder.random_sample(
            decoder, inputs, n, states=states, temperature=temperature, min_ends=min_ends
        )
