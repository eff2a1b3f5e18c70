"""Any bert4keras model class with a leaner training step: `extend_with_fused`.

Its closed forms are those of 节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367.
"""

from typing import Type

from bert4keras.models import Transformer

from kexue_keras.backend import keras
from kexue_keras.models._closed_forms import use_closed_forms


def extend_with_fused(base: Type[Transformer]) -> Type[Transformer]:
    """A bert4keras model class whose layers have gradients in closed form: fewer ops, less memory.

    Layers, names and weights are those of `base`, so checkpoints load; values and gradients agree to rounding. What
    computes something else than bert4keras' own layers is left as it is.

    Args:
        base: subclass of `bert4keras.models.Transformer`: BERT, RoFormer, T5, a class of yours.

    Returns:
        class, for `build_transformer_model(config, checkpoint, model=...)` or `models.load(..., model=...)`; `base`
        itself if it is such a class already.

    Raises:
        TypeError: `base` is no bert4keras model class.

    Reference: kexue.fm/archives/7367 (节省显存的重计算技巧也有了Keras版了).

    >>> from bert4keras.models import BERT, build_transformer_model
    >>> model = build_transformer_model(
    ...     model=extend_with_fused(BERT), vocab_size=50, hidden_size=16, num_hidden_layers=2,
    ...     num_attention_heads=2, intermediate_size=32, hidden_act='gelu')
    >>> model.predict([np.ones([1, 5]), np.zeros([1, 5])]).shape
    (1, 5, 16)
    """
    if not (isinstance(base, type) and issubclass(base, Transformer)):
        raise TypeError("extend_with_fused takes a bert4keras model class such as BERT, not %r" % (base,))
    return base if issubclass(base, _Fused) else type("Fused" + base.__name__, (_Fused, base), {})


class _Fused(object):
    """What is mixed into a model class; it hooks into `apply`, through which bert4keras makes every layer."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # T5 is an encoder and a decoder, made in here.
        for part in vars(self).values():
            if isinstance(part, Transformer) and not isinstance(part, _Fused):
                part.__class__ = extend_with_fused(type(part))

    def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
        name = kwargs.get("name")
        if name is not None and self.prefixed(name) not in self.layers:
            made = super().apply(None, layer, arguments, **dict(kwargs))
            if isinstance(made, keras.layers.Layer):
                use_closed_forms(made)
            if inputs is None:
                return made
        return super().apply(inputs, layer, arguments, **kwargs)
