"""bert_config.json: a BERT, ALBERT, NEZHA, RoFormer or ELECTRA in the words of Google and bert4keras."""

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
    keys,
    nullable,
    number,
    whole,
)

REMEDY = "Give the configuration that belongs to the checkpoint."

_SIZES = {
    "hidden_size": whole(1, WIDTH),
    "num_hidden_layers": whole(1, LAYERS),
    "num_attention_heads": whole(1, HEADS),
    "vocab_size": whole(1, VOCABULARY),
    "intermediate_size": whole(1, 16 * WIDTH),
}
# What is passed on to `build_transformer_model`; nothing else is: a file may not say which checkpoint is read or which
# class is built.
BUILT = dict(
    _SIZES,
    # Which there are is known where Keras is, see `models/_activations.py`.
    hidden_act=NAME,
    max_position=whole(1, POSITIONS),
    max_position_embeddings=whole(1, POSITIONS),
    type_vocab_size=whole(0, WIDTH),
    segment_vocab_size=whole(0, WIDTH),
    shared_segment_embeddings=FLAG,
    hidden_dropout_prob=SHARE,
    attention_probs_dropout_prob=SHARE,
    dropout_rate=SHARE,
    attention_dropout_rate=SHARE,
    embedding_size=nullable(whole(1, WIDTH)),
    attention_head_size=nullable(whole(1, WIDTH)),
    attention_key_size=nullable(whole(1, WIDTH)),
)
# What is read besides: for the kind of model, and what we write ourselves.
READ = {
    "use_relative_position": FLAG,
    "model_type": NAME,
    "layer_norm_eps": nullable(number(above=0, below=1)),
    "mlm_layer_norm_eps": nullable(number(above=0, below=1)),
    "trimmed": keys({"rows": whole(1, VOCABULARY), "keep_tokens": {"type": "array"}}, ["rows", "keep_tokens"]),
}


def wrong_sizes(config):
    """What is wrong with the sizes of a configuration taken together, or None.

    >>> wrong_sizes({'hidden_size': 16, 'num_attention_heads': 3})
    'hidden_size is 16 and num_attention_heads 3, but the heads have equal parts of hidden_size'
    """
    width, heads = config["hidden_size"], config["num_attention_heads"]
    if not config.get("attention_head_size") and width % heads:
        return "hidden_size is %d and num_attention_heads %d, but the heads have equal parts of hidden_size" % (
            width,
            heads,
        )
    if config.get("trimmed"):
        return wrong_trimming(config["trimmed"])
    return None


BERT_CONFIG = Settings(keys(dict(BUILT, **READ), list(_SIZES) + ["hidden_act"]), remedy=REMEDY, check=wrong_sizes)


def build_arguments(config):
    """The part of a configuration that `build_transformer_model` gets.

    >>> build_arguments({'hidden_size': 16, 'checkpoint_path': '/etc/passwd', 'directionality': 'bidi'})
    {'hidden_size': 16}
    """
    return {key: value for key, value in config.items() if key in BUILT}
