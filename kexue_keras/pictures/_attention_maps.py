"""Where a model looks: the attention of each head for one text, as a picture or a page.

Outputs of an attention layer are linear in its values. With unit vectors as values they are the attention itself,
whatever masks, positions and normalization a layer of the family of bert4keras' `MultiHeadAttention` has.
"""

import contextlib
from typing import Any, Iterator, List, Optional, Tuple, Union

import tensorflow as tf
from bert4keras.backend import attention_normalize
from bert4keras.layers import MultiHeadAttention

from kexue_keras import checks
from kexue_keras.backend import K, ModelSession, inside_layer
from kexue_keras.backend.functional_model import layer_calls
from kexue_keras.files.paths import as_text
from kexue_keras.pictures._figure import drawable, new_figure, save
from kexue_keras.pictures._html import write_attention_page
from kexue_keras.pictures._tokens import tokens_of
from kexue_keras.types import Array, Path

# Panels of a picture in a row.
COLUMNS = 4


class AttentionMaps(object):
    """The attention of a model for one text.

    Attributes:
        tokens: list of str, `n` of them.
        names: list of str, the names of the attention layers, the lowest first.
        weights: list of float32 `[h, n, n]`, one per layer; row i is where token i looks, and sums to 1 with softmax.
    """

    def __init__(self, tokens: List[str], names: List[str], weights: List[Array]) -> None:
        self.tokens, self.names, self.weights = tokens, names, weights

    def save(self, path: Path, *, layer: Optional[int] = None, head: Optional[int] = None) -> None:
        """Write a picture (.png) or a page (.html) in which layer and head are chosen.

        Args:
            path: file.
            layer: int, for a picture of its heads, negative from the top; None: all layers, the mean over the heads.
            head: int, for a picture of this head alone.

        Raises:
            ValueError: no such layer or head, a head without a layer, another suffix.
        """
        path = as_text(path)
        if path.endswith(".html"):
            return write_attention_page(path, self.tokens, self.names, self.weights)
        if not path.endswith(".png"):
            raise ValueError("AttentionMaps.save writes .png or .html, but path is %r" % (path,))
        panels = self._panels(layer, head)
        across = min(COLUMNS, len(panels))
        down = -(-len(panels) // across)
        size = max(2.6, 0.22 * len(self.tokens) + 1.2) if len(panels) < 3 else 3.0
        figure = new_figure(size * across, size * down)
        words, font = drawable(self.tokens, length=8)
        for place, axes in enumerate(figure.subplots(down, across, squeeze=False).reshape(-1)):
            if place >= len(panels):
                axes.axis("off")
                continue
            title, weights = panels[place]
            axes.imshow(weights, cmap="Blues", vmin=0)
            axes.set_title(title, size=8)
            places = range(len(words)) if len(words) <= 40 else []
            axes.set_xticks(places)
            axes.set_yticks(places)
            axes.set_xticklabels([words[i] for i in places], rotation=90, size=7, **(font or {}))
            axes.set_yticklabels([words[i] for i in places], size=7, **(font or {}))
        save(figure, path)

    def _panels(self, layer, head):
        if layer is None:
            if head is not None:
                raise ValueError("head is %r, but no layer is given; give both" % (head,))
            return [(name, weights.mean(axis=0)) for name, weights in zip(self.names, self.weights)]
        for what, value, most in (("layer", layer, len(self.weights)), ("head", head, None)):
            if value is not None:
                checks.whole_number(value, what, "AttentionMaps.save")
            if most is not None and not -most <= value < most:
                raise ValueError("layer is %r, but there are %d attention layers" % (value, most))
        name, weights = self.names[layer], self.weights[layer]
        if head is None:
            return [("%s, head %d" % (name, i), one) for i, one in enumerate(weights)]
        if not -len(weights) <= head < len(weights):
            raise ValueError("head is %r, but the layer has %d heads" % (head, len(weights)))
        return [("%s, head %d" % (name, head % len(weights)), weights[head])]


def attention_maps(model: Any, text: Union[str, Tuple[str, str]], *, max_length: int = 64) -> AttentionMaps:
    """The attention of a model for one text.

    A_{ij} of each head, computed by the layer itself with the unit vectors as values: o_i = sum_j A_{ij} v_j.

    Args:
        model: what has a Keras model and a tokenizer as attributes: `Classifier`, `SentenceEncoder`, `PretrainedModel`.
        text: str, or a pair of them.
        max_length: longest text in tokens.

    Returns:
        `AttentionMaps`.

    Raises:
        ValueError: the model has no attention layer of bert4keras' kind.

    Reference: "《Attention is All You Need》浅读", kexue.fm/archives/4765.

    >>> encoder = kexue_keras.similarity.SentenceEncoder('me5-zh-char', num_hidden_layers=2)
    >>> maps = attention_maps(encoder, '今天天气很好')
    >>> len(maps.names), maps.weights[0].shape, maps.tokens[:3]
    (2, (12, 8, 8), ['[CLS]', '今', '天'])
    """
    tokens, inputs = tokens_of(model.tokenizer, text, max_length)
    calls = [call for call in layer_calls(model.model) if isinstance(call.layer, MultiHeadAttention)]
    if not calls:
        raise ValueError("attention_maps: the model has no layer of the kind of bert4keras' MultiHeadAttention")
    with ModelSession(model.model).building() as session:
        values = session.run([_attention_of(call) for call in calls], dict(zip(model.model.inputs, inputs)))
    return AttentionMaps(tokens, [call.layer.name for call in calls], [value[0] for value in values])


def _attention_of(call):
    """Tensor `[B, h, n, n]` of one call of an attention layer, which is called once more."""
    found = []
    masks = call.masks if any(mask is not None for mask in call.masks) else None
    with _watched(call.layer, found):
        inside_layer(lambda: call.layer.call(call.inputs, mask=masks, **call.arguments))
    return found[0]


@contextlib.contextmanager
def _watched(layer, found) -> Iterator[None]:
    own = layer.pay_attention_to
    replaced = "pay_attention_to" in vars(layer)  # its gradients in closed form

    def watching(inputs, mask=None, **arguments):
        outputs = own(inputs, mask, **arguments)
        if arguments.get("p_bias") == "typical_relative":  # which adds positions to the values
            bias = inputs[3] if arguments.get("a_bias") else None
            bias = bias[:, None] if bias is not None and K.ndim(bias) == 3 else bias
            found.append(attention_normalize(outputs[1], mask[1], -1, layer.normalization, bias))
            return outputs
        value = inputs[2]
        units = tf.eye(tf.shape(value)[1], batch_shape=tf.shape(value)[:1], dtype=value.dtype)[:, :, None]
        units = tf.tile(units, [1, 1, layer.heads, 1])
        units.set_shape([None, None, layer.heads, None])
        attended = own([inputs[0], inputs[1], units] + list(inputs[3:]), mask, **arguments)[0]
        found.append(tf.transpose(attended, [0, 2, 1, 3]))
        return outputs

    layer.pay_attention_to = watching
    try:
        yield
    finally:
        if replaced:
            layer.pay_attention_to = own
        else:
            delattr(layer, "pay_attention_to")
