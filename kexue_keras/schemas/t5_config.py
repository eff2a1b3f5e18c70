"""t5_config.json, and what a gin file says: the configuration of a T5 in the words of bert4keras."""

from kexue_keras.schemas.bert_config import READ, REMEDY
from kexue_keras.schemas.reading import Settings
from kexue_keras.schemas.token_ids import wrong_trimming
from kexue_keras.schemas.words import (
    FLAG,
    HEADS,
    LAYERS,
    NAME,
    POSITIONS,
    SHARE,
    VOCABULARY,
    WIDTH,
    either,
    keys,
    list_of,
    number,
    one_of,
    whole,
)

# What is passed on to `build_transformer_model`; nothing else is.
BUILT = {
    "vocab_size": whole(1, VOCABULARY),
    "hidden_size": whole(1, WIDTH),
    "num_hidden_layers": whole(1, LAYERS),
    "num_decoder_layers": whole(1, LAYERS),
    "num_attention_heads": whole(1, HEADS),
    "attention_head_size": whole(1, WIDTH),
    "intermediate_size": whole(1, 16 * WIDTH),
    "hidden_act": either(NAME, list_of(NAME, 1, 2)),
    "hidden_dropout_prob": SHARE,
    "layer_norm_eps": number(above=0, below=1),
    "relative_attention_num_buckets": whole(2, WIDTH),
    "relative_attention_max_distance": whole(2, POSITIONS),
    "scale_output": FLAG,
    "cross_position_bias": FLAG,
}
_READ = {
    "dropout_rate": SHARE,
    "tie_word_embeddings": FLAG,
    "norm_name": one_of("layer_norm", "rms_norm"),
    "model_type": READ["model_type"],
    "trimmed": READ["trimmed"],
}


def _check(config):
    buckets, most = (config.get("relative_attention_" + name) for name in ("num_buckets", "max_distance"))
    # Half of the buckets are for one position each, the others for the rest up to the greatest distance.
    if buckets and most and most <= buckets // 2:
        return "relative_attention_max_distance is %d, which %d buckets reach without it" % (most, buckets)
    return wrong_trimming(config["trimmed"]) if config.get("trimmed") else None


# Nothing is required: the variables' shapes tell what is absent.
T5_CONFIG = Settings(keys(dict(BUILT, **_READ)), remedy=REMEDY, check=_check)


def known_words(config):
    """The part of a configuration that T5_CONFIG knows, without what is null.

    >>> known_words({'hidden_size': 16, 'checkpoint_path': 'x', 'norm_name': None})
    {'hidden_size': 16}
    """
    known = T5_CONFIG.schema["properties"]
    return {key: value for key, value in config.items() if key in known and value is not None}


def build_arguments(config):
    """The part of a configuration that `build_transformer_model` gets."""
    return {key: value for key, value in config.items() if key in BUILT}
