"""Separate learning rates for layers or variables, around any optimizer.

Papers: ULMFiT (arXiv 1801.06146) and ELECTRA (arXiv 2003.10555) for rates that decay from the head down. Rates by name
are bert4keras' `extend_with_parameter_wise_lr`.
"""

import re
from typing import Dict, Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import register
from kexue_keras.optimizers._adamw import as_patterns
from kexue_keras.optimizers._base import Wrapper
from kexue_keras.types import Config, Gradients, KerasOptimizer, Op, Variables

# The names of bert4keras: Transformer-3-FeedForward, Encoder-Transformer-3-..., Embedding-Token.
_BLOCK = re.compile(r"Transformer-(\d+)-")
_EMBEDDING = re.compile(r"Embedding-")


@register
class LayerwiseLearningRate(Wrapper):
    r"""Multiplies the step of each variable by its own factor.

    p += factor(p) * (step of the optimizer), with factor(p) = decay^depth(p) * product of the `multipliers` whose
    pattern is found in the name of p. For bert4keras models of n blocks the depth is 0 for everything after the
    encoder (the head), n - i for block i counted from 0, so 1 for the top one, and n + 1 for the embeddings. The factor
    acts on the whole step, decoupled weight decay included, so it is a learning rate for every optimizer; with factor 0
    a variable keeps every bit (its slots are still kept up; `layer.trainable = False` saves their memory too).

    Args:
        optimizer: instance, of this package, of Keras or of bert4keras.
        multipliers: dict {regular expression: factor >= 0}; several that fit one name are multiplied.
        decay: float > 0, e.g. 0.9; None for no decay by depth.
        num_hidden_layers: blocks of the encoder, for `decay`; None counts those among the trainable variables, which
            is too few if the topmost are frozen.
        name: default "LayerwiseLearningRate".

    Raises:
        ValueError: neither `multipliers` nor `decay`; a value outside its range; when the training graph is built, a
            pattern that fits no trainable variable, or `decay` on a model without names like Transformer-3-...

    Reference: arXiv 1801.06146; arXiv 2003.10555.

    >>> from kexue_keras.optimizers import AdamW, LayerwiseLearningRate
    >>> optimizer = LayerwiseLearningRate(AdamW(3e-5), decay=0.9, multipliers={'Embedding-Token': 0, 'classifier': 10})
    >>> optimizer.factor('Transformer-11-FeedForward/dense_1/kernel:0', num_hidden_layers=12)
    0.9
    >>> [optimizer.factor(w, num_hidden_layers=12) for w in ('classifier/kernel:0', 'Embedding-Token/embeddings:0')]
    [10.0, 0.0]
    """

    def __init__(
        self,
        optimizer: KerasOptimizer,
        *,
        multipliers: Optional[Dict[str, float]] = None,
        decay: Optional[float] = None,
        num_hidden_layers: Optional[int] = None,
        name: Optional[str] = None,
    ) -> None:
        owner = type(self).__name__
        if not multipliers and decay is None:
            raise ValueError("give multipliers={'classifier': 10}, or decay=0.9, or both; with neither nothing is done")
        if not isinstance(multipliers or {}, dict):
            raise checks.invalid(owner, "multipliers", "a dict such as {'classifier': 10}", multipliers)
        as_patterns(list(multipliers or {}), "multipliers")
        self.multipliers = {
            pattern: checks.number(factor, "multipliers[%r]" % pattern, owner, least=0, remedy="0 freezes")
            for pattern, factor in (multipliers or {}).items()
        }
        if decay is not None:
            decay = checks.number(decay, "decay", owner, above=0, remedy="0.9 is usual")
        if num_hidden_layers is not None:
            num_hidden_layers = checks.whole_number(num_hidden_layers, "num_hidden_layers", owner, least=1)
        super().__init__(optimizer, name=name)
        self.decay, self.num_hidden_layers = decay, num_hidden_layers

    def factor(self, variable_name: str, *, num_hidden_layers: Optional[int] = None) -> float:
        """The factor of the variable of this name.

        Args:
            variable_name: str.
            num_hidden_layers: blocks of the encoder, default the wrapper's.

        Returns:
            float.
        """
        value = 1.0
        for pattern, multiplier in self.multipliers.items():
            if re.search(pattern, variable_name):
                value *= multiplier
        if self.decay is None:
            return value
        num_hidden_layers = num_hidden_layers or self.num_hidden_layers
        block = _BLOCK.search(variable_name)
        if block:
            if num_hidden_layers is None or int(block.group(1)) >= num_hidden_layers:
                raise ValueError("%s lies outside num_hidden_layers=%r blocks" % (variable_name, num_hidden_layers))
            return value * self.decay ** (num_hidden_layers - int(block.group(1)))
        return value * self.decay ** (num_hidden_layers + 1) if _EMBEDDING.search(variable_name) else value

    def factors(self, params: Variables) -> Dict[str, float]:
        """Dict name -> factor for these variables, after checking that every pattern fits one of them."""
        names = [p.name for p in params]
        some = ", ".join(names[:4] + ["..."] + names[-4:]) if len(names) > 8 else ", ".join(names)
        for pattern in self.multipliers:
            if not any(re.search(pattern, name) for name in names):
                raise ValueError(
                    "multipliers: %r is found in no trainable variable; they are named %s" % (pattern, some)
                )
        blocks = [int(block.group(1)) for block in map(_BLOCK.search, names) if block]
        if self.decay is not None and not blocks:
            raise ValueError(
                "decay goes by names like Transformer-3-FeedForward (bert4keras), and none of the trainable "
                "variables: %s; use multipliers instead" % some
            )
        num_hidden_layers = self.num_hidden_layers or (max(blocks) + 1 if blocks else None)
        return {name: self.factor(name, num_hidden_layers=num_hidden_layers) for name in names}

    def update(self, gradients: Gradients, params: Variables) -> Op:
        factors = self.factors(params)

        def scaled(p, step):
            factor = factors[p.name]
            if factor == 1:
                return None
            # Not 0 * step, which is NaN for an infinite step.
            return factor * step if factor else tf.zeros_like(step)

        return self.transform_step(gradients, params, scaled)

    def get_config(self) -> Config:
        return dict(
            super().get_config(),
            multipliers=dict(self.multipliers),
            decay=self.decay,
            num_hidden_layers=self.num_hidden_layers,
        )
