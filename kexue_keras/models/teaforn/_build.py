"""`build_teaforn_model`: N orders of teacher forcing over one language model.

TeaForN：让Teacher Forcing更有“远见”一些, kexue.fm/archives/7818; Goodman et al., arXiv 2010.03494.
"""

from typing import Optional, Union

from kexue_keras import checks
from kexue_keras.backend import K, keras
from kexue_keras.models.teaforn._layers import EveryToken, ExpectedEmbedding, ShiftedInput
from kexue_keras.models.teaforn._parts import parts_of
from kexue_keras.types import Model, Transformer

SOFT_INPUTS = ("hidden", "topk", "vocabulary", "gumbel")


def build_teaforn_model(
    model: Union[Model, Transformer],
    order: int = 2,
    *,
    shared: bool = True,
    soft_input: str = "hidden",
    k: int = 4,
    temperature: float = 1.0,
    reading: Optional[str] = None,
) -> Model:
    """A model for training with `losses.TeaForN`: the language model, and its further orders, which read what it made.

    h^(1) = M(e), h^(i+1) = M([e_0, h^(i)_1, ..., h^(i)_{L-1}]), logits^(i) = W h^(i) + b. Where the target is written,
    order i + 1 reads in place of each token's embedding what order i made one position before; the source stays.
    Segments, positions and masks are those of order 1. Order i at position t sees true tokens up to t - i + 1 only.

    Order 1 is the language model itself: train this model, decode with the one that was given, whose weights it shares.

    Args:
        model: Keras model or bert4keras transformer: BERT, RoFormer and relatives with application='unilm' or 'lm' and
            with_mlm, GPT, T5 with with_lm='linear'.
        order: int, N; 1 gives teacher forcing. Each order costs a pass through the layers (of a T5: of its decoder).
        shared: bool, whether all orders have the same M. False copies its layers for each higher order, with their
            weights of this moment; the matrices of input and output stay shared. The paper found shared to be better.
        soft_input: what the higher orders read: 'hidden', h itself; 'topk', the mean embedding of the k most likely
            words; 'vocabulary', of all; 'gumbel', by Gumbel-softmax, with noise while training.
        k: int, of 'topk'.
        temperature: number > 0, of 'gumbel'.
        reading: 'lm' or 'unilm', how the model reads, where its attention masks do not say.

    Returns:
        Keras model with the inputs of `model` and output logits [batch, n, order * vocabulary].

    Raises:
        ValueError: unknown arguments, or a model that is none of these.

    Reference: kexue.fm/archives/7818 (TeaForN：让Teacher Forcing更有“远见”一些); arXiv 2010.03494.

    >>> from bert4keras.models import build_transformer_model
    >>> base = build_transformer_model(None, application='unilm', with_mlm='linear', vocab_size=50, hidden_size=16,
    ...     num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, hidden_act='gelu', max_position=64)
    >>> model = kexue_keras.models.build_teaforn_model(base, order=3)
    >>> model.compile('adam', kexue_keras.losses.TeaForN(3))
    >>> model.output_shape
    (None, None, 150)
    """
    owner = "build_teaforn_model"
    order = checks.whole_number(order, "order", owner, least=1)
    soft_input = checks.choice(soft_input, SOFT_INPUTS, "soft_input", owner)
    k = checks.whole_number(k, "k", owner, least=1)
    temperature = checks.number(temperature, "temperature", owner, above=0)
    if reading is not None:
        checks.choice(reading, ("lm", "unilm"), "reading", owner)
    if not isinstance(model, keras.models.Model):
        model = getattr(model, "model", model)
    if not isinstance(model, keras.models.Model):
        raise TypeError("a Keras model or a bert4keras transformer is needed, not %r" % (model,))
    parts = parts_of(model, reading)
    e, hidden, logits = parts.embedding.outputs[0], parts.hidden, parts.logits
    found = [logits]
    if order > 1:
        soft = _soft_input(parts, soft_input, k, temperature)
        if soft_input == "hidden" and K.int_shape(hidden)[-1] != K.int_shape(e)[-1]:
            raise ValueError(
                "%s: hidden states have %s units and embeddings %s, so one cannot take the other's place; take "
                "soft_input='topk' or 'vocabulary'" % (owner, K.int_shape(hidden)[-1], K.int_shape(e)[-1])
            )
    for i in range(2, order + 1):
        inputs = [e, soft(hidden, found[-1], i)] + ([parts.segments] if parts.reading == "unilm" else [])
        x = ShiftedInput(parts.reading, name="TeaForN-%d-Input" % i)(inputs)
        hidden = _again(parts.body, {id(e): x}, parts.hidden, None if shared else "TeaForN-%d-" % i)
        found.append(_again(parts.head, {id(parts.hidden): hidden}, parts.logits, None))
    output = found[0] if order == 1 else keras.layers.Concatenate(axis=-1, name="TeaForN-Logits")(found)
    return keras.models.Model(model.inputs, output)


def _soft_input(parts, kind, k, temperature):
    """function(hidden, logits, order) -> what the next position should read."""
    if kind == "hidden":
        return lambda hidden, logits, i: hidden
    embedding = parts.embedding.layer
    ids = EveryToken(embedding.input_dim, name="TeaForN-Tokens")(parts.tokens)
    table = embedding(ids)
    options = {"topk": {"k": k}, "vocabulary": {}, "gumbel": {"temperature": temperature}}[kind]
    return lambda hidden, logits, i: ExpectedEmbedding(name="TeaForN-%d-Expected" % i, **options)([logits, table])


def _again(calls, values, wanted, prefix):
    """Call layers once more on other tensors; with a prefix on copies of those that have weights.

    Args:
        calls: list of `LayerCall`.
        values: dict id of a tensor of the model -> the tensor that takes its place.
        wanted: tensor of the model whose counterpart is returned.
        prefix: str or None.
    """
    values, copies = dict(values), {}
    for call in calls:
        inputs = [values.get(id(tensor), tensor) for tensor in call.inputs]
        layer = call.layer
        if prefix is not None and layer.weights:
            layer = copies.setdefault(id(layer), _Copy(layer, prefix)).layer
        outputs = layer(inputs if len(inputs) > 1 else inputs[0], **call.arguments)
        for copy in copies.values():
            copy.take_weights()
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        values.update({id(old): new for old, new in zip(call.outputs, outputs)})
    return values[id(wanted)]


class _Copy(object):
    """A layer of the same configuration that takes over the weights of another when it has been built."""

    def __init__(self, layer, prefix):
        self.original = layer
        config = dict(layer.get_config(), name=prefix + layer.name)
        self.layer = type(layer).from_config(config)
        self._is_filled = False

    def take_weights(self):
        """Copy the weights, once."""
        if not self._is_filled and self.layer.built:
            self.layer.set_weights(self.original.get_weights())
            self._is_filled = True
