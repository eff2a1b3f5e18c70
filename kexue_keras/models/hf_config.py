"""config.json of a Hugging Face folder in the words of bert4keras, and back; what cannot be built is refused."""

from kexue_keras.errors import WeightsError

# Words that are the same on both sides.
_SAME = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "embedding_size",
    "layer_norm_eps",
    "trimmed",
)
_T5 = {
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
# bert4keras' "gelu" is whichever of the two was set last, so both are named.
_ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "swish",
    "swish": "swish",
    "tanh": "tanh",
}
ARCHITECTURES = {
    "bert": "BertForMaskedLM",
    "albert": "AlbertForMaskedLM",
    "roformer": "RoFormerForMaskedLM",
    "electra": "ElectraForPreTraining",
    "electra_generator": "ElectraForMaskedLM",
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
}
# What must have this value, or be absent, for bert4keras to build the same model.
_REQUIRED = {
    "position_embedding_type": ("absolute",),
    "rotary_value": (False,),
    "is_decoder": (False,),
    "norm_type": ("layer_norm",),
    "num_hidden_groups": (1,),
    "inner_group_num": (1,),
}


def is_hf_config(config):
    """Whether a dict read from config.json is Hugging Face's (it says what model it is)."""
    return "model_type" in config and ("architectures" in config or "transformers_version" in config)


def hf_kind(config, source):
    """Which table of `hf_names` a configuration goes with, and what bert4keras calls the model.

    Returns:
        (kind for `hf_names`, kind for `build_transformer_model`).

    Raises:
        WeightsError: a model that is not read here.

    >>> hf_kind({'model_type': 'electra', 'architectures': ['ElectraForMaskedLM']}, 'a folder')
    ('electra_generator', 'bert')
    """
    kind = config.get("model_type")
    if kind in ("t5", "mt5"):
        return "t5", "t5"
    if kind not in ("bert", "albert", "electra", "roformer"):
        raise WeightsError(
            "%s: model_type is %r; read are bert (also RoBERTa-wwm, MacBERT), albert, electra, roformer, t5 and mt5"
            % (source, kind)
        )
    if kind == "electra" and "ElectraForMaskedLM" in (config.get("architectures") or ()):
        return "electra_generator", "bert"
    return kind, kind


def from_hf(config, source):
    """The configuration for bert4keras, from a Hugging Face one.

    Args:
        config: dict read from config.json.
        source: its path, for messages.

    Returns:
        dict in the words of bert4keras, with `layer_norm_eps` and, for T5, what `load_t5` wants to know.

    Raises:
        WeightsError: an unknown model, a missing entry, or one that bert4keras cannot build.

    >>> from_hf({'model_type': 't5', 'vocab_size': 9, 'd_model': 4, 'd_kv': 2, 'd_ff': 8, 'num_layers': 1,
    ...          'num_heads': 2}, 'x')['hidden_act']
    'relu'
    """
    kind, _ = hf_kind(config, source)
    if kind == "t5":
        return _t5_from_hf(config, source)
    for key, allowed in _REQUIRED.items():
        if config.get(key, allowed[0]) not in allowed:
            raise WeightsError("%s: %s is %r, which bert4keras has no model for" % (source, key, config[key]))
    own = {key: config[key] for key in _SAME if config.get(key) is not None}
    own["model_type"] = config["model_type"]
    own["hidden_act"] = _activation(config.get("hidden_act", "gelu"), source)
    own.setdefault("layer_norm_eps", 1e-12)
    if kind.startswith(("electra", "albert")) and "embedding_size" not in own:
        own["embedding_size"] = 128  # what is left out has the default of the library that wrote the file
    _need(own, ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"), source)
    return own


def _t5_from_hf(config, source):
    own = {ours: config[theirs] for theirs, ours in _T5.items() if config.get(theirs) is not None}
    own["model_type"] = config["model_type"]
    own["tie_word_embeddings"] = bool(config.get("tie_word_embeddings", config["model_type"] == "t5"))
    projection = config.get("feed_forward_proj", "relu" if config["model_type"] == "t5" else "gated-gelu")
    name = projection[len("gated-") :] if projection.startswith("gated-") else projection
    if projection == "gated-gelu":
        name = "gelu_new"  # a slip in the first T5 1.1 configurations that the library that wrote them goes along with
    activation = _activation(name, source)
    own["hidden_act"] = [activation, "linear"] if projection.startswith("gated-") else activation
    _need(own, [_T5[k] for k in ("vocab_size", "d_model", "num_layers", "num_heads", "d_kv", "d_ff")], source)
    return own


def _activation(name, source):
    if name not in _ACTIVATIONS:
        raise WeightsError(
            "%s: the activation %r is not known here; known are %s" % (source, name, ", ".join(sorted(_ACTIVATIONS)))
        )
    return _ACTIVATIONS[name]


def _need(config, keys, source):
    absent = [key for key in keys if key not in config]
    if absent:
        raise WeightsError("%s: expected the entries %s; found %s" % (source, ", ".join(absent), ", ".join(config)))
    for key in keys:
        if not isinstance(config[key], int) or isinstance(config[key], bool) or config[key] < 1:
            raise WeightsError("%s: %s is %r; it must be a whole number, 1 or more" % (source, key, config[key]))


def to_hf(config, kind):
    """The Hugging Face configuration of a model, from that of bert4keras.

    Args:
        config: dict in the words of bert4keras.
        kind: 'bert', 'albert', 'electra', 'electra_generator', 'roformer', 't5' or 'mt5'.

    Returns:
        dict for config.json.

    Raises:
        WeightsError: an activation that the format has no word for.
    """
    own = {"model_type": kind.replace("_generator", ""), "architectures": [ARCHITECTURES[kind]]}
    activation = config["hidden_act"]
    gated = isinstance(activation, (list, tuple))
    name = _theirs(activation[0] if gated else activation)
    if kind.endswith("t5"):
        own.update({theirs: config[ours] for theirs, ours in _T5.items() if ours in config})
        # "gated-gelu" means gelu_new there, see `_t5_from_hf`; the one with erf has another name.
        name = {"gelu_new": "gelu", "gelu": "gelu_python"}.get(name, name) if gated else name
        own["feed_forward_proj"] = ("gated-" if gated else "") + name
        own.update(is_encoder_decoder=True, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    else:
        own.update({key: config[key] for key in _SAME if key in config})
        own.update(hidden_act=name, pad_token_id=0)
    own["torch_dtype"] = "float32"
    return own


def _theirs(activation):
    names = {"gelu": "gelu"}
    for theirs, ours in _ACTIVATIONS.items():
        names.setdefault(ours, theirs)
    if activation not in names:
        raise WeightsError("the activation %r has no name in the Hugging Face format" % (activation,))
    return names[activation]
