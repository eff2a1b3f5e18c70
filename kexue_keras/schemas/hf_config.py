"""config.json of Hugging Face's library: which model it is, and the words that are read for BERT's kinds and for T5."""

from kexue_keras.schemas.bert_config import BUILT, READ, REMEDY, wrong_sizes
from kexue_keras.schemas.reading import Settings
from kexue_keras.schemas.t5_config import BUILT as T5_BUILT
from kexue_keras.schemas.token_ids import wrong_trimming
from kexue_keras.schemas.words import FLAG, NAME, SHARE, TEXT, VOCABULARY, either, keys, list_of, whole

# What every one of them has; read before anything else is.
HF_MODEL = Settings(keys({"model_type": NAME, "architectures": list_of(TEXT)}), remedy=REMEDY)

# Words that bert4keras has too.
SAME = {
    word: {**BUILT, **READ}[word]
    for word in (
        "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings "
        "type_vocab_size hidden_dropout_prob attention_probs_dropout_prob embedding_size layer_norm_eps trimmed"
    ).split()
}
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
# What must have the first of these values, or be absent, for bert4keras to build the same model.
REQUIRED = {
    "position_embedding_type": ("absolute",),
    "rotary_value": (False,),
    "is_decoder": (False,),
    "norm_type": ("layer_norm",),
    "num_hidden_groups": (1,),
    "inner_group_num": (1,),
}
_TYPES = {str: TEXT, bool: either(FLAG, whole(0, 1)), int: whole(0, VOCABULARY)}
HF_BERT = Settings(
    keys(
        dict(
            SAME,
            model_type=NAME,
            hidden_act=TEXT,
            **{word: _TYPES[type(values[0])] for word, values in REQUIRED.items()},
        ),
        SIZES,
    ),
    remedy=REMEDY,
    check=wrong_sizes,
)

# Theirs -> ours.
T5_WORDS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_decoder_layers": "num_decoder_layers",
    "num_heads": "num_attention_heads",
    "d_kv": "attention_head_size",
    "d_ff": "intermediate_size",
    "dropout_rate": "hidden_dropout_prob",
    "layer_norm_epsilon": "layer_norm_eps",
    "relative_attention_num_buckets": "relative_attention_num_buckets",
    "relative_attention_max_distance": "relative_attention_max_distance",
    "tie_word_embeddings": "tie_word_embeddings",
    "scale_output": "scale_output",
    "cross_position_bias": "cross_position_bias",
    "norm_name": "norm_name",
    "trimmed": "trimmed",
}
_OTHERS = {"tie_word_embeddings": FLAG, "norm_name": NAME, "trimmed": READ["trimmed"], "dropout_rate": SHARE}
HF_T5 = Settings(
    keys(
        dict(
            {theirs: T5_BUILT.get(ours) or _OTHERS[theirs] for theirs, ours in T5_WORDS.items()},
            model_type=NAME,
            feed_forward_proj=TEXT,
        ),
        ("vocab_size", "d_model", "num_layers", "num_heads", "d_kv", "d_ff"),
    ),
    remedy=REMEDY,
    check=lambda config: wrong_trimming(config["trimmed"]) if config.get("trimmed") else None,
)
