"""Any bert4keras model class with recompute: `extend_with_recompute`.

节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367. Papers: Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174;
Reducing Activation Recomputation in Large Transformer Models, arXiv 2205.05198 (which results are worth keeping).
"""

import contextlib
from typing import Optional, Tuple, Type, Union

from bert4keras.layers import FeedForward, GatedAttentionUnit, MultiHeadAttention, ScaleOffset
from bert4keras.models import Transformer

from kexue_keras import checks
from kexue_keras.backend import keras
from kexue_keras.models._closed_forms import use_closed_forms
from kexue_keras.options.choices import RECOMPUTE_POLICIES
from kexue_keras.training._randomness import dropout_is_repeatable, own_key, replayed_dropout
from kexue_keras.training.recompute._budget import RecomputeBudget
from kexue_keras.training.recompute._recompute import RecomputeBoundary, recompute, refuse_bert4keras_recompute

# Policy -> the layers that are recomputed one by one.
_LAYERS = {
    "layers": (MultiHeadAttention, GatedAttentionUnit, FeedForward, ScaleOffset),
    "attention": (MultiHeadAttention, GatedAttentionUnit),
    "ffn": (FeedForward,),
}

# What the policy "selective" keeps (`cost_per_byte` in training.recompute): in all blocks masks of dropout and products
# over 1334 terms and more, in every second block the error function too. What is added to the residual stream is kept
# anyway.
SELECTIVE_COST = (8.0, 5.0)


def extend_with_recompute(
    base: Type[Transformer],
    policy: Union[str, RecomputeBudget] = "selective",
    *,
    segment: int = 1,
    keep_cost: Optional[Union[float, Tuple[float, ...]]] = None,
) -> Type[Transformer]:
    """A bert4keras model class that recomputes part of its activations in the backward pass, to save memory.

    Layers, names and weights are those of `base`, so checkpoints load, and its values and gradients too; only
    `RecomputeBoundary` layers without weights are added (by the first two policies). Dropout repeats its masks.

    | policy | what is recomputed |
    |---|---|
    | `"selective"` | large and cheap (attention, activations, normalisation); small and expensive values are kept |
    | `"blocks"` | everything between the ends of blocks: the least memory |
    | `"layers"` | each attention, feed-forward and normalisation layer by itself, the article's way |
    | `"attention"`, `"ffn"` | only these layers |

    Args:
        base: subclass of `bert4keras.models.Transformer`: BERT, RoFormer, T5, a class of yours.
        policy: str, see the table; or what `training.recompute.recompute_for_budget` returns.
        segment: int >= 1, blocks between two boundaries (first two policies).
        keep_cost: for `"selective"`, the least cost per byte (`cost_per_byte` in training.recompute) of what is kept:
            a float, or a tuple of floats that the segments take in turn.

    Returns:
        class, for `build_transformer_model(config, checkpoint, model=...)` or `models.load(..., model=...)`.

    Raises:
        TypeError: `base` is no bert4keras model class.
        ValueError: unknown policy, or an argument that it does not take; `base` recomputes already.
        RuntimeError: bert4keras' own recompute is switched on.

    Reference: kexue.fm/archives/7367 (节省显存的重计算技巧也有了Keras版了), arXiv 1604.06174, arXiv 2205.05198.

    >>> from bert4keras.models import BERT, build_transformer_model
    >>> model = build_transformer_model(
    ...     model=extend_with_recompute(BERT), vocab_size=50, hidden_size=16, num_hidden_layers=2,
    ...     num_attention_heads=2, intermediate_size=32, hidden_act='gelu')
    >>> model.predict([np.ones([1, 5]), np.zeros([1, 5])]).shape
    (1, 5, 16)
    """
    refuse_bert4keras_recompute()
    if not (isinstance(base, type) and issubclass(base, Transformer)):
        raise TypeError("extend_with_recompute takes a bert4keras model class such as BERT, not %r" % (base,))
    if issubclass(base, _Recomputing):
        raise ValueError("%s recomputes already; extend the class it was made from" % base.__name__)
    if isinstance(policy, RecomputeBudget):
        if segment != 1 or keep_cost is not None:
            raise ValueError("a budget chooses segment and keep_cost itself; leave them out")
        return type("Recomputed" + base.__name__, (_Recomputing, base), {"recompute_budget": policy})
    settings = _settings(policy, segment, keep_cost)
    return type("Recomputed" + base.__name__, (_Recomputing, base), settings)


def _settings(policy, segment=1, keep_cost=None):
    """Attributes of a `_Recomputing` class; they live in the class, or in an object that a budget was given to."""
    checks.choice(policy, RECOMPUTE_POLICIES, "policy", "extend_with_recompute")
    remedy = "it is the number of blocks between two boundaries"
    segment = checks.whole_number(segment, "segment", "extend_with_recompute", least=1, remedy=remedy)
    if policy in _LAYERS and segment != 1:
        raise ValueError("segment goes with the policies 'selective' and 'blocks', not with %r" % policy)
    if keep_cost is not None and policy != "selective":
        raise ValueError("keep_cost goes with the policy 'selective', not with %r" % policy)
    costs = (SELECTIVE_COST if keep_cost is None else keep_cost) if policy == "selective" else None
    costs = costs if isinstance(costs, (tuple, list)) else (costs,)
    return {
        "recomputed_layers": _LAYERS.get(policy, ()),
        "recompute_segment": None if policy in _LAYERS else segment,
        "recompute_keep_costs": tuple(costs),
        "recompute_closed_forms": True,
    }


_NOTHING = {
    "recomputed_layers": (),
    "recompute_segment": None,
    "recompute_keep_costs": (None,),
    "recompute_closed_forms": False,
}


class _Recomputing(object):
    """What is mixed into a model class; it hooks into `apply`, through which bert4keras calls every layer."""

    recompute_budget = None

    def __init__(self, *args, **kwargs):
        if self.recompute_budget is not None:
            self._choose(kwargs)
        super().__init__(*args, **kwargs)
        # T5 is an encoder and a decoder, made in here.
        for part in vars(self).values():
            if isinstance(part, Transformer) and not isinstance(part, _Recomputing):
                settings = {name: getattr(self, name) for name in _NOTHING}
                part.__class__ = type("Recomputed" + type(part).__name__, (_Recomputing, type(part)), settings)

    def _choose(self, kwargs):
        for name in ("additional_input_layers", "layer_norm_cond", "attention_caches"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    "the memory of a model with %s cannot be predicted; give extend_with_recompute a policy" % name
                )

        def build(plan, blocks):
            settings = dict(_NOTHING if plan is None else _settings(**plan), recompute_budget=None)
            transformer = type("Trial", (type(self),), settings)(**dict(kwargs, num_hidden_layers=blocks, layers=None))
            transformer.build(**kwargs)
            return transformer.model

        plan = self.recompute_budget.choose(build, kwargs["num_hidden_layers"])
        vars(self).update(_NOTHING if plan is None else _settings(**plan))

    def build(self, *args, **kwargs):
        with contextlib.ExitStack() as stack:
            if not dropout_is_repeatable():
                stack.enter_context(replayed_dropout(own_key()))
            return super().build(*args, **kwargs)

    def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
        name = kwargs.get("name")
        if inputs is not None and name is not None and self.prefixed(name) not in self.layers:
            made = super().apply(None, layer, arguments, **dict(kwargs))
            if isinstance(made, keras.layers.Layer):
                if self.recompute_closed_forms:
                    use_closed_forms(made)
                if isinstance(made, self.recomputed_layers):
                    recompute(made)
        return super().apply(inputs, layer, arguments, **kwargs)

    def apply_main_layers(self, inputs, index):
        outputs = super().apply_main_layers(inputs, index)
        if self.recompute_segment is None:
            return outputs
        if (index + 1) % self.recompute_segment and index + 1 < self.num_hidden_layers:
            return outputs
        given = inputs if isinstance(inputs, list) else [inputs]
        if isinstance(outputs, list):
            return [x if any(x is y for y in given) else self._end_segment(x, index) for x in outputs]
        return self._end_segment(outputs, index)

    def _end_segment(self, x, index):
        costs = self.recompute_keep_costs
        name, prefix = x._keras_history[0].name, self.prefixed("")
        return self.apply(
            inputs=x,
            layer=RecomputeBoundary,
            keep_cost=costs[index // self.recompute_segment % len(costs)],
            name=name[len(prefix) :] + "-Recompute" if name.startswith(prefix) else name + "-Recompute",
        )
