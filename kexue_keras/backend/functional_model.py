"""A functional model taken apart into the calls of its layers, for evaluating it in another way than Keras does."""

from collections import namedtuple

from kexue_keras.backend.stack import is_tf_keras, keras

# One call of a layer: lists of the model's symbolic tensors, and the keyword arguments other than masks; `masks` are
# those of its inputs, each a tensor or None.
LayerCall = namedtuple("LayerCall", "layer inputs outputs arguments masks")


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
            inputs, outputs = _listed(node.input_tensors), _listed(node.output_tensors)
            masks = getattr(node, "input_masks", None)  # of Keras 2.3.1; elsewhere a tensor holds its own
            if masks is None:
                masks = [getattr(tensor, "_keras_mask", None) for tensor in inputs]
            calls.append(LayerCall(node.outbound_layer, inputs, outputs, arguments, _listed(masks)))
    return calls


def model_to_call(model):
    """A model of the same layers and weights that may be called as a layer, so that `model.output` stays what it is.

    In Keras 2.3.1 a functional model counts as called once when it is made; after a second call its `input`, `output`
    and their shapes raise. On tf.keras, and for a subclassed model, it is the model itself.

    Raises:
        ValueError: the model has losses of its own (Keras 2.3.1), which are made of its inputs alone.
    """
    if is_tf_keras or not getattr(model, "_is_graph_network", False):
        return model
    if model._losses:
        raise ValueError(
            "%r has a loss that was added with model.add_loss, which Keras 2.3.1 computes for its own inputs only; add "
            "it to the model that is trained instead" % (model.name,)
        )
    twin = keras.models.Model(model.inputs, model.outputs, name=model.name)
    twin.trainable = model.trainable
    return twin


def _listed(tensors):
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
