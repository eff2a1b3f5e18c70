"""What a language model is made of, as decoding has to know it: its inputs, its attentions, its logits."""

from bert4keras import layers as parts

from kexue_keras.backend import keras, layer_calls
from kexue_keras.models._t5 import ZeroMasked
from kexue_keras.models.univae._layers import CLOSED, OPEN, Columns, ReplaceFirst
from kexue_keras.training.recompute import RecomputeBoundary

# The masks by which bert4keras makes a model a language model -> what may be seen from where.
CAUSAL_MASKS = {"Attention-LM-Mask": "lm", "Attention-UniLM-Mask": "unilm", CLOSED: "univae", OPEN: "univae"}
# What is masked is left out by the attentions, so the layers that only set it to zero change nothing.
IDENTITIES = (
    ZeroMasked,
    RecomputeBoundary,
    keras.layers.Dropout,
    keras.layers.GaussianNoise,
    keras.layers.Masking,
    keras.layers.SpatialDropout1D,
)
# Layers that treat every position by itself, so that they can be called for one position alone.
POSITIONWISE = (
    parts.FeedForward,
    parts.ScaleOffset,
    Columns,
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.Dense,
    keras.layers.LeakyReLU,
    keras.layers.Multiply,
)
KNOWN = IDENTITIES + (
    parts.Embedding,
    parts.PositionEmbedding,
    parts.SinusoidalPositionEmbedding,
    ReplaceFirst,
    keras.layers.InputLayer,
)


class Structure(object):
    """A language model's calls of layers and the part that each has in decoding.

    Args:
        model: Keras model from bert4keras with application='lm' or 'unilm', or a T5, or its decoder; one made from
            it for training, with a bert4keras `Loss` at its end, will do.
        positionwise: tuple of further layer classes that treat every position by itself.

    Attributes:
        calls: list of `LayerCall` on which the logits depend, in computing order.
        tokens: the input of which decoding gives one token at a time.
        segments: the input of segment ids beside it, or None.
        encoder_tokens: the input of an encoder, or None.
        given: list of all inputs but `tokens` and `segments`.
        context: what the cross-attentions read, or None for a model without.
        fed_context: the input it comes from in a decoder by itself, or None.
        masks_context: whether rows of zeros of the context are padding.
        logits: tensor.
        without_softmax: the output tensor whose softmax is to be left out to get logits, or None.
        rule: 'lm', 'unilm' or 'univae' (which sees of its source the first token, in some layers).
        mask_zero: whether tokens 0 are hidden from all others.

    Raises:
        ValueError: the model is no language model, or has a part that cannot be computed one position at a time.
    """

    def __init__(self, model, positionwise=()):
        self.positionwise = POSITIONWISE + tuple(positionwise)
        self.model = model
        self._all = layer_calls(model)
        self._maker = {id(tensor): call for call in self._all for tensor in call.outputs}
        self.tokens = self._input("Decoder-Input-Token")
        if self.tokens is None:
            self.tokens = self._input("Input-Token", but="Encoder-Input-Token")
        if self.tokens is None:
            raise ValueError(
                "the model has no input named Input-Token or Decoder-Input-Token, so it is none that bert4keras built "
                "for generating; its inputs are %s" % ", ".join(name for name, _ in self._inputs())
            )
        self.segments = self._input("Input-Segment")
        self.encoder_tokens = self._input("Encoder-Input-Token")
        self.logits, self.without_softmax = self._find_logits()
        self.calls = self.ancestors([self.logits])
        self._stepped = self._dependent([self.tokens, self.segments])
        used = {id(tensor) for call in self.calls for tensor in call.outputs}
        own = (id(self.tokens), id(self.segments))
        self.given = [t for _, t in self._inputs() if id(t) not in own and id(t) in used]
        for call in self.calls:
            self._check(call)
        attentions = [call for call in self.calls if self.is_attention(call)]
        self.self_attentions = [c for c in attentions if self.stepped(c.inputs[0]) and self.stepped(c.inputs[1])]
        self.cross_attentions = [c for c in attentions if self.stepped(c.inputs[0]) and not self.stepped(c.inputs[1])]
        self.rule = self._find_rule()
        self.context = self._find_context()
        self.fed_context = self._input("Input-Context")
        maker = None if self.context is None else self.maker(self.context)
        self.masks_context = maker is not None and isinstance(maker.layer, keras.layers.Masking)
        self.mask_zero = self.masks_zero(self.tokens)

    def stepped(self, tensor):
        """Whether a tensor depends on the tokens that decoding makes."""
        return id(tensor) in self._stepped

    def maker(self, tensor):
        """The `LayerCall` that a tensor comes from."""
        return self._maker[id(tensor)]

    def is_attention(self, call):
        """Whether a call is one of a bert4keras MultiHeadAttention."""
        return isinstance(call.layer, parts.MultiHeadAttention)

    def sees_source(self, call):
        """Whether the new tokens see the source in this attention; in UniVAE's lower layers they do not."""
        return not (call.arguments.get("a_bias") and self._maker[id(call.inputs[3])].layer.name.endswith(CLOSED))

    def position_bias(self, call):
        """The tensor that an attention takes for its positions, or None."""
        return call.inputs[-1] if call.arguments.get("p_bias") else None

    def needs(self, call):
        """The inputs of a call whose values are needed to compute it; masks and position tables are made otherwise."""
        if self.is_attention(call):
            rotary = call.arguments.get("p_bias") == "rotary"
            return call.inputs[:3] + ([self.position_bias(call)] if rotary else [])
        if isinstance(call.layer, keras.layers.InputLayer) or getattr(call.layer, "merge_mode", None) == "zero":
            return []
        return call.inputs

    def ancestors(self, tensors, stop=()):
        """The calls that are needed for `tensors` if the values of `stop` are known, in computing order."""
        wanted, found = {id(tensor) for tensor in tensors}, []
        known = {id(tensor) for tensor in stop}
        for call in reversed(self._all):
            if any(id(tensor) in wanted and id(tensor) not in known for tensor in call.outputs):
                found.append(call)
                wanted.update(id(tensor) for tensor in self.needs(call))
        return found[::-1]

    def inputs_of(self, tensors, stop=()):
        """Those of `given` that are needed for `tensors` if the values of `stop` are known."""
        needed = {id(t) for call in self.ancestors(tensors, stop) for t in call.outputs}
        return [t for t in self.given if id(t) in needed]

    def masks_zero(self, tokens):
        """Whether the embedding of an input of tokens hides the tokens 0."""
        for call in self.calls:
            if isinstance(call.layer, parts.Embedding) and call.inputs[0] is tokens:
                return bool(call.layer.mask_zero)
        return False

    def max_positions(self):
        """The largest number of positions that the model has vectors for; None if it takes any."""
        sizes = [
            call.layer.input_dim ** (2 if call.layer.hierarchical else 1)
            for call in self.calls
            if isinstance(call.layer, parts.PositionEmbedding)
        ]
        return min(sizes) if sizes else None

    def _inputs(self):
        return [(self._maker[id(tensor)].layer.name, tensor) for tensor in self.model.inputs]

    def _input(self, ending, but=None):
        for name, tensor in self._inputs():
            if name.endswith(ending) and not (but and name.endswith(but)):
                return tensor
        return None

    def _dependent(self, tensors):
        found = {id(tensor) for tensor in tensors if tensor is not None}
        for call in self.calls:
            if any(id(tensor) in found for tensor in call.inputs):
                found.update(id(tensor) for tensor in call.outputs)
        return found

    def _find_logits(self):
        tensor = [t for t in self.model.outputs if len(t.shape) == 3][-1:]
        if not tensor:
            raise ValueError("the model has no output [batch, length, vocabulary]; outputs: %s" % self.model.outputs)
        tensor = tensor[0]
        call = self._maker[id(tensor)]
        while isinstance(call.layer, parts.Loss):
            axis = call.layer.output_axis
            tensor = call.inputs[call.outputs.index(tensor) if axis is None else axis]
            call = self._maker[id(tensor)]
        activation = getattr(getattr(call.layer, "activation", None), "__name__", "linear")
        if activation == "linear":
            return tensor, None
        if activation == "softmax" and isinstance(call.layer, keras.layers.Activation):
            return call.inputs[0], None
        if activation == "softmax" and isinstance(call.layer, keras.layers.Dense):
            return tensor, tensor
        raise ValueError(
            "the model's output is %r of %s; decoding needs probabilities (softmax) or logits (linear)"
            % (activation, call.layer.name)
        )

    def _check(self, call):
        layer = call.layer
        if self.is_attention(call):
            return self._check_attention(call)
        if getattr(layer, "custom_position_ids", False):
            raise ValueError(
                "the model takes its position ids as an input (custom_position_ids=True); decoding counts positions "
                "itself, so build the model without"
            )
        if not isinstance(layer, self.positionwise + KNOWN):
            raise ValueError(
                "the layer %r (%s) may look at several positions at once, so it cannot be computed one token at a "
                "time; if it treats every position by itself, pass positionwise=(%s,)"
                % (layer.name, type(layer).__name__, type(layer).__name__)
            )

    def _check_attention(self, call):
        layer, position = call.layer, call.arguments.get("p_bias")
        if type(layer).pay_attention_to is not parts.MultiHeadAttention.pay_attention_to:
            what = "computes its attention in its own way"
        elif layer.return_attention_scores:
            what = "hands on its scores (residual attention)"
        elif position not in (None, "rotary", "t5_relative"):
            what = "has position biases of the kind %r" % position
        else:
            return
        raise ValueError(
            "%s (%s) %s; cached decoding knows bert4keras' MultiHeadAttention without positions, with 'rotary' "
            "and with "
            "'t5_relative' ones. Use bert4keras' AutoRegressiveDecoder for this model"
            % (layer.name, type(layer).__name__, what)
        )

    def _find_rule(self):
        rules = set()
        for call in self.self_attentions:
            mask = self._maker[id(call.inputs[3])] if call.arguments.get("a_bias") else None
            names = [rule for end, rule in CAUSAL_MASKS.items() if mask is not None and mask.layer.name.endswith(end)]
            if not names:
                raise ValueError(
                    "%s sees tokens to its right%s; build the model with application='unilm' or 'lm'"
                    % (call.layer.name, "" if mask is None else " (its mask %s is unknown)" % mask.layer.name)
                )
            rules.update(names)
        if len(rules) != 1:
            raise ValueError(
                "decoding needs self-attentions with one kind of mask; found %s" % (sorted(rules) or "none")
            )
        return rules.pop()

    def _find_context(self):
        contexts = {id(t): t for call in self.cross_attentions for t in call.inputs[1:3]}
        if any(call.arguments.get("a_bias") for call in self.cross_attentions) or len(contexts) > 1:
            raise ValueError("decoding knows cross-attentions on one sequence without masks of their own only")
        return contexts.popitem()[1] if contexts else None
