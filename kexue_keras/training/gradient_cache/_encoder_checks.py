"""What an encoder may not contain if its embeddings are to be computed chunk by chunk, twice, with the same result."""

from kexue_keras.backend import K, keras
from kexue_keras.training._randomness import stateful_random_ops


def _layers(model):
    """All layers of a model, also those inside other models and wrappers."""
    for layer in model.layers:
        yield layer
        inner = getattr(layer, "layer", None)
        for container in (layer, inner):
            if hasattr(container, "layers"):
                yield from _layers(container)
        if inner is not None and not hasattr(inner, "layers"):
            yield inner


def check_encoder(encoder):
    """Raise TypeError or ValueError, with what to do, unless `encoder` can be computed in chunks."""
    name = "GradientCache: the encoder %r" % getattr(encoder, "name", encoder)
    if not isinstance(encoder, keras.models.Model):
        raise TypeError(
            "GradientCache needs a Keras model that embeds a batch, not %r; wrap layers in keras.models.Model"
            % (encoder,)
        )
    if not getattr(encoder, "inputs", None) or not getattr(encoder, "outputs", None):
        raise ValueError(
            name + " has no symbolic inputs and outputs; build it with keras.models.Model(inputs, outputs)"
        )
    if len(encoder.outputs) > 1:
        raise ValueError(
            "%s has %d outputs (%s), but a loss on embeddings has one; give keras.models.Model(encoder.inputs, "
            "encoder.outputs[0])" % (name, len(encoder.outputs), ", ".join(encoder.output_names))
        )
    shape = K.int_shape(encoder.outputs[0])
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(
            "%s has an output of shape %s, but embeddings are [batch, dimension]; pool it first (the vector of [CLS], "
            "or keras.layers.GlobalAveragePooling1D)" % (name, shape)
        )
    fixed = [K.int_shape(x)[0] for x in encoder.inputs if K.int_shape(x)[0] is not None]
    if fixed:
        raise ValueError("%s has inputs with a fixed batch size (%d); leave it open, chunks vary" % (name, fixed[0]))
    for layer in _layers(encoder):
        if isinstance(layer, keras.layers.BatchNormalization):
            raise ValueError(
                "%s contains BatchNormalization (%r), whose statistics would be those of a chunk instead of the batch; "
                "use LayerNormalization" % (name, layer.name)
            )
        if getattr(layer, "stateful", False) is True:
            raise ValueError("%s contains a stateful layer (%r), but chunks are computed twice" % (name, layer.name))
        if getattr(layer, "activity_regularizer", None) is not None:
            raise ValueError(
                "%s contains an activity regularizer (layer %r), whose loss does not come from the embeddings; put "
                "it on the output of GradientCache" % (name, layer.name)
            )
    if encoder.get_losses_for(encoder.inputs):
        raise ValueError(
            name + " adds internal losses (add_loss), which do not come from the embeddings and would be lost; use "
            "a model without them, and a loss on embeddings"
        )
    if encoder.updates:
        raise ValueError(name + " updates variables while it runs (add_update), but chunks are computed twice")


def check_randomness(result, name, stop):
    """Raise ValueError if random numbers between the tensors `stop` and `result` are not those of a replay."""
    found = stateful_random_ops(result, stop=stop)
    if found:
        raise ValueError(
            "GradientCache: the encoder %r draws random numbers that cannot be drawn a second time (%s), so its two "
            "computations of a chunk would differ; only keras.layers.Dropout can be repeated: use it, or take this "
            "noise out of the encoder" % (name, ", ".join(found[:3]))
        )
