"""A functional model taken apart into the calls of its layers, for evaluating it in another way than Keras does."""

from collections import namedtuple

# One call of a layer: lists of the model's symbolic tensors, and the keyword arguments other than masks.
LayerCall = namedtuple("LayerCall", "layer inputs outputs arguments")


def layer_calls(model):
    """The calls of layers that a functional model consists of.

    Args:
        model: Keras model with symbolic inputs and outputs.

    Returns:
        list of `LayerCall`, each one after those whose outputs it takes. Inputs of the model are calls too: their layer
        is an InputLayer, and their input is their output.
    """
    calls = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            # TensorFlow 2.4 renamed the arguments.
            arguments = getattr(node, "arguments", None) or getattr(node, "call_kwargs", None) or {}
            arguments = {k: v for k, v in arguments.items() if k not in ("mask", "training")}
            calls.append(
                LayerCall(node.outbound_layer, _listed(node.input_tensors), _listed(node.output_tensors), arguments)
            )
    return calls


def _listed(tensors):
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
