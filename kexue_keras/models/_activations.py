"""The activation that a configuration names: one of Keras or bert4keras, or one that was registered."""

from kexue_keras.backend import keras
from kexue_keras.errors import WeightsError
from kexue_keras.schemas.activations import ACTIVATIONS
from kexue_keras.schemas.messages import shown


def check_activation(name, source):
    """Refuse a name that no activation has.

    Args:
        name: str, or a list of str for gated layers.
        source: path of the configuration, for messages.

    Raises:
        WeightsError: neither Keras nor bert4keras has it, and it is no custom object of Keras.

    >>> check_activation(['gelu', 'linear'], 'a.json'), check_activation('squareplus', 'a.json')
    (None, None)
    """
    for one in name if isinstance(name, list) else [name]:
        own = keras.utils.get_custom_objects().get(one)
        # Layers are registered as well; an activation is a function.
        if one not in ACTIVATIONS and (own is None or isinstance(own, type)):
            raise WeightsError(
                "%s: hidden_act is %s; it is one of %s, or an activation registered with Keras. Give the "
                "configuration that belongs to the checkpoint." % (source, shown(one), ", ".join(ACTIVATIONS))
            )
