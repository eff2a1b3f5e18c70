"""bert4keras model classes whose LayerNorm has another epsilon than the one written into them.

bert4keras has 1e-12 in BERT and Keras' 1e-7 in ALBERT and RoFormer; Hugging Face's configurations name one.
"""

from bert4keras.layers import LayerNormalization

from kexue_keras import checks
from kexue_keras.models._kinds import CLASSES
from kexue_keras.models._language_models_only import guard_mlm


class _WithEpsilon(object):
    """Laid over a model class; it hooks into `apply`, through which bert4keras makes every layer."""

    def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
        if layer is LayerNormalization:
            is_mlm = kwargs.get("name") == "MLM-Norm" and self.mlm_layer_norm_epsilon is not None
            kwargs["epsilon"] = self.mlm_layer_norm_epsilon if is_mlm else self.layer_norm_epsilon
        return super(_WithEpsilon, self).apply(inputs, layer, arguments, **kwargs)


def extend_with_epsilon(model, epsilon, application=None, mlm_epsilon=None):
    """The model class with this epsilon in all its LayerNorm layers.

    Args:
        model: a bert4keras model class, or what `build_transformer_model` calls it.
        epsilon: float, or None: the model as it is.
        application: as for `build_transformer_model`, which refuses 'lm' and 'unilm' for the word 'electra' only.
        mlm_epsilon: float, that of MLM-Norm where it is another (in an enlarged model), or None.

    Returns:
        class; `model` itself where there is nothing to change.

    Raises:
        ValueError: ELECTRA as language model; an epsilon that is no small positive number.

    >>> extend_with_epsilon('bert', 1e-5).layer_norm_epsilon
    1e-05
    """
    name = model.lower() if isinstance(model, str) else None
    if (application or "encoder").lower() != "encoder":
        guard_mlm(model)
    base = CLASSES.get(name, model)
    if epsilon is None or isinstance(base, str):
        return base
    epsilon = checks.number(epsilon, "layer_norm_eps", base.__name__, above=0, below=1, remedy="1e-12 is usual")
    own = {"layer_norm_epsilon": epsilon, "mlm_layer_norm_epsilon": mlm_epsilon}
    return type(base.__name__, (_WithEpsilon, base), own)
