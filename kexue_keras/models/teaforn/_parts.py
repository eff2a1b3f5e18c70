"""Where in a language model tokens become vectors, and vectors logits: what is in between can be run once more."""

from collections import namedtuple

from bert4keras import layers as parts

from kexue_keras.backend import keras, layer_calls

# The masks by which bert4keras makes a model a language model -> what its written tokens are.
MASKS = {"Attention-LM-Mask": "lm", "Attention-UniLM-Mask": "unilm"}


class Parts(namedtuple("Parts", "tokens segments embedding hidden logits body head reading")):
    """Parts of a language model.

    Attributes:
        tokens, segments: inputs; segments is None where there are none.
        embedding: `LayerCall` that makes vectors of `tokens`.
        hidden: tensor that is multiplied by the output matrix.
        logits: tensor before any softmax.
        body: list of `LayerCall` from the embedding's output to `hidden`, all that depend on it.
        head: list of `LayerCall` from `hidden` to `logits`.
        reading: 'lm' or 'unilm'.
    """


def parts_of(model, reading=None):
    """The `Parts` of a Keras model.

    Args:
        model: Keras model from bert4keras with application='lm' or 'unilm', a GPT, a T5, or its decoder.
        reading: 'lm' or 'unilm', or None to see it from the model's attention masks.

    Raises:
        ValueError: it is none of these.
    """
    calls = layer_calls(model)
    maker = {id(tensor): call for call in calls for tensor in call.outputs}
    tokens = _input(model, maker, "Decoder-Input-Token")
    if tokens is None:
        tokens = _input(model, maker, "Input-Token", but="Encoder-Input-Token")
    embedding = next(
        (c for c in calls if isinstance(c.layer, parts.Embedding) and tokens is not None and c.inputs[0] is tokens),
        None,
    )
    if embedding is None:
        raise ValueError(
            "build_teaforn_model: the model has no input named Input-Token or Decoder-Input-Token that goes into a "
            "bert4keras Embedding; its inputs are %s" % ", ".join(maker[id(x)].layer.name for x in model.inputs)
        )
    segments = _input(model, maker, "Input-Segment")
    reading = reading or _reading(calls)
    if reading == "unilm" and segments is None:
        raise ValueError("build_teaforn_model: reading='unilm' needs segment ids, and the model has no Input-Segment")
    logits, head, hidden = _head(model, maker)
    after = _dependent(calls, [embedding.outputs[0]])
    between = _needed(calls, [hidden], stop=embedding.outputs)
    body = [call for call in between if id(call.outputs[0]) in after and call is not embedding]
    if not body:
        raise ValueError("build_teaforn_model: the model's output does not depend on the embedding of its tokens")
    return Parts(tokens, segments, embedding, hidden, logits, body, head, reading)


def _input(model, maker, ending, but=None):
    for tensor in model.inputs:
        name = maker[id(tensor)].layer.name
        if name.endswith(ending) and not (but and name.endswith(but)):
            return tensor
    return None


def _reading(calls):
    names = [call.layer.name for call in calls]
    found = {rule for end, rule in MASKS.items() if any(name.endswith(end) for name in names)}
    if len(found) != 1:
        raise ValueError(
            "build_teaforn_model: the model sees tokens to its right; build it with application='lm' or 'unilm', or "
            "give reading= for one that does not"
        )
    return found.pop()


def _head(model, maker):
    """(logits, calls of the head in computing order, hidden)."""
    logits = [t for t in model.outputs if len(t.shape) == 3][-1:]
    if not logits:
        raise ValueError("build_teaforn_model: the model has no output [batch, length, vocabulary]")
    call, head = maker[id(logits[0])], []
    if isinstance(call.layer, keras.layers.Activation):
        if getattr(call.layer.activation, "__name__", "") not in ("softmax", "linear"):
            raise ValueError("build_teaforn_model: the output's activation is %r" % call.layer.activation)
        if call.layer.activation.__name__ == "softmax":
            logits = call.inputs
        else:
            head.append(call)
        call = maker[id(call.inputs[0])]
    while True:
        head.append(call)
        if isinstance(call.layer, keras.layers.Dense):
            if getattr(call.layer.activation, "__name__", "") != "linear":
                raise ValueError(
                    "build_teaforn_model: the output is %r of %s; build the model with with_lm='linear', so that it "
                    "gives logits" % (call.layer.activation.__name__, call.layer.name)
                )
            return logits[0], head[::-1], call.inputs[0]
        if isinstance(call.layer, parts.Embedding) and call.arguments.get("mode") == "dense":
            return logits[0], head[::-1], call.inputs[0]
        if len(call.inputs) != 1 or isinstance(call.layer, keras.layers.InputLayer):
            raise ValueError(
                "build_teaforn_model: the output comes from %r, where a Dense layer or the embedding in its mode "
                "'dense' is expected (with_mlm='linear', with_lm='linear')" % call.layer.name
            )
        call = maker[id(call.inputs[0])]


def _dependent(calls, tensors):
    found = {id(tensor) for tensor in tensors}
    for call in calls:
        if any(id(tensor) in found for tensor in call.inputs):
            found.update(id(tensor) for tensor in call.outputs)
    return found


def _needed(calls, tensors, stop):
    wanted, found = {id(tensor) for tensor in tensors}, []
    known = {id(tensor) for tensor in stop}
    for call in reversed(calls):
        if any(id(tensor) in wanted and id(tensor) not in known for tensor in call.outputs):
            found.append(call)
            wanted.update(id(tensor) for tensor in call.inputs)
    return found[::-1]
