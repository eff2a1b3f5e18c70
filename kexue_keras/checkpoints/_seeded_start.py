"""bert4keras model classes whose new weights depend on the seed alone, see `backend.TruncatedNormal`."""

from kexue_keras.backend import TruncatedNormal
from kexue_keras.models._kinds import CLASSES


class _SeededStart(object):
    """Laid over a model class."""

    @property
    def initializer(self):
        own = super(_SeededStart, self).initializer
        if type(own).__name__ != "TruncatedNormal" or own.seed is not None:
            return own  # of a class of the user's
        return TruncatedNormal(own.mean, own.stddev)


def extend_with_seeded_start(model):
    """The model class with initializers that draw with numpy, which `backend.set_seed` seeds.

    Args:
        model: a bert4keras model class, or what `build_transformer_model` calls it.

    Returns:
        class; `model` itself where there is nothing to seed: RoFormerV2's initializers draw with numpy already.

    >>> from bert4keras.models import BERT
    >>> extend_with_seeded_start(BERT).__name__, extend_with_seeded_start('bert').__mro__[2] is BERT
    ('BERT', True)
    """
    base = CLASSES.get(model.lower(), model) if isinstance(model, str) else model
    if isinstance(base, str) or not isinstance(getattr(base, "initializer", None), property):
        return base
    return type(base.__name__, (_SeededStart, base), {})
