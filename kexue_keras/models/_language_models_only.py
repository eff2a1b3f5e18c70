"""ELECTRA's discriminator is no language model: refused wherever one is wanted.

用ALBERT和ELECTRA之前，请确认你真的了解它们, kexue.fm/archives/7846.
"""

from typing import Any

from bert4keras import models as bert4keras_models

ELECTRA = bert4keras_models.ELECTRA


def is_electra(model):
    """Whether a kind, a class, a transformer or a Keras model is ELECTRA's discriminator.

    >>> is_electra('electra'), is_electra(bert4keras_models.ELECTRA), is_electra(bert4keras_models.BERT)
    (True, True, False)
    """
    if isinstance(model, str):
        return model.lower() == "electra"
    if issubclass(model if isinstance(model, type) else type(model), ELECTRA):
        return True
    # A Keras model: bert4keras' names of layers. In a transformer they are the keys of a dict.
    layers = getattr(model, "layers", None) or ()
    return any(getattr(layer, "name", layer).endswith("Discriminator-Prediction") for layer in layers)


def guard_mlm(model: Any, *, use: str = "a language model") -> None:
    """Refuse ELECTRA's discriminator where words are to be predicted: UniLM, MLM, prompts, Gibbs sampling.

    It was trained to say whether a token is the right one, and has no matrix of outputs. bert4keras refuses the string
    'electra' with application='lm' or 'unilm', and lets the class through.

    Args:
        model: kind as bert4keras calls it, model class, transformer, Keras model, or what `models.load` returned.
        use: what it is wanted for, for the message.

    Raises:
        ValueError: it is an ELECTRA, or a class made from it.

    Reference: kexue.fm/archives/7846; arXiv 2003.10555.

    >>> kexue_keras.models.guard_mlm('bert')
    >>> kexue_keras.models.guard_mlm('electra')
    Traceback (most recent call last):
    ...
    ValueError: 'electra' cannot be a language model: ELECTRA's discriminator tells replaced tokens, ...
    """
    transformer = getattr(model, "bert", model)
    if is_electra(transformer):
        raise ValueError(
            "%r cannot be %s: ELECTRA's discriminator tells replaced tokens, it predicts none; take a BERT or a "
            "RoFormer with an MLM head (ELECTRA's generator is such a BERT, though a small one)" % (transformer, use)
        )
