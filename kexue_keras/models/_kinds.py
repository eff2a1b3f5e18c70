"""Kinds of models: the classes of bert4keras, and which of them a checkpoint is for."""

from bert4keras import models as bert4keras_models

from kexue_keras.errors import WeightsError

CLASSES = {
    "bert": bert4keras_models.BERT,
    "roberta": bert4keras_models.BERT,
    "albert": bert4keras_models.ALBERT,
    "albert_unshared": bert4keras_models.ALBERT_Unshared,
    "nezha": bert4keras_models.NEZHA,
    "roformer": bert4keras_models.RoFormer,
    "roformer_v2": bert4keras_models.RoFormerV2,
    "electra": bert4keras_models.ELECTRA,
}


def kind_of(variables, config, source):
    """The model type as `build_transformer_model` calls it.

    Args:
        variables: names of the checkpoint's variables.
        config: dict, the configuration next to it.
        source: path, for messages.

    Returns:
        'bert', 'albert', 'electra', 'nezha', 'roformer' or 'roformer_v2'.

    Raises:
        WeightsError: it looks like none of these.

    >>> kind_of(['electra/embeddings/word_embeddings'], {}, 'folder')
    'electra'
    """
    names = set(variables)

    def has(part):
        return any(part in name for name in names)

    if has("electra/") or has("discriminator_predictions/"):
        return "electra"
    if has("shared/embedding") or has("/block_000/"):
        raise WeightsError(
            "%s is a T5 checkpoint: load it with kexue_keras.checkpoints.load_t5, or without kind=... and model=..."
            % source
        )
    if not has("bert/embeddings/word_embeddings"):
        raise WeightsError(
            "%s: expected the variable bert/embeddings/word_embeddings; found %s ... Give kind=... if you know what "
            "it is" % (source, ", ".join(sorted(names)[:3]))
        )
    if has("/group_0/inner_group_0/"):
        return "albert"
    if has("bert/embeddings/position_embeddings"):
        return "bert"
    # What remains has no table of absolute positions.
    if config.get("use_relative_position") or config.get("model_type") == "nezha" or has("relative_position"):
        return "nezha"
    if not has("attention/self/query/bias") and not has("LayerNorm/gamma"):
        return "roformer_v2"
    return "roformer"
