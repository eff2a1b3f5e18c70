"""config.json of a Hugging Face folder in the words of bert4keras, and back; what cannot be built is refused."""

from kexue_keras.errors import WeightsError
from kexue_keras.schemas.activations import OF_HUGGING_FACE
from kexue_keras.schemas.hf_config import HF_BERT, HF_MODEL, HF_T5, REQUIRED, SAME, T5_WORDS
from kexue_keras.schemas.messages import shown
from kexue_keras.schemas.reading import check_settings

ARCHITECTURES = {
    "bert": "BertForMaskedLM",
    "albert": "AlbertForMaskedLM",
    "roformer": "RoFormerForMaskedLM",
    "electra": "ElectraForPreTraining",
    "electra_generator": "ElectraForMaskedLM",
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
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
    kind = _checked(config, HF_MODEL, source).get("model_type")
    if kind in ("t5", "mt5"):
        return "t5", "t5"
    if kind not in ("bert", "albert", "electra", "roformer"):
        raise WeightsError(
            "%s: model_type is %s; read are bert (also RoBERTa-wwm, MacBERT), albert, electra, roformer, t5 and mt5"
            % (source, shown(kind))
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
        return _t5_from_hf(_checked(config, HF_T5, source), source)
    config = _checked(config, HF_BERT, source)
    for key, allowed in REQUIRED.items():
        if config.get(key, allowed[0]) not in allowed:
            raise WeightsError("%s: %s is %s, which bert4keras has no model for" % (source, key, shown(config[key])))
    own = {key: config[key] for key in SAME if key in config}
    own["model_type"] = config["model_type"]
    own["hidden_act"] = _activation(config.get("hidden_act", "gelu"), source)
    own.setdefault("layer_norm_eps", 1e-12)
    if kind.startswith(("electra", "albert")) and "embedding_size" not in own:
        own["embedding_size"] = 128  # what is left out has the default of the library that wrote the file
    return own


def _checked(config, settings, source):
    """Null is Hugging Face's word for what is left out."""
    return check_settings({key: value for key, value in config.items() if value is not None}, settings, source)


def _t5_from_hf(config, source):
    own = {ours: config[theirs] for theirs, ours in T5_WORDS.items() if theirs in config}
    own["model_type"] = config["model_type"]
    own.setdefault("tie_word_embeddings", config["model_type"] == "t5")
    projection = config.get("feed_forward_proj", "relu" if config["model_type"] == "t5" else "gated-gelu")
    name = projection[len("gated-") :] if projection.startswith("gated-") else projection
    if projection == "gated-gelu":
        name = "gelu_new"  # a slip in the first T5 1.1 configurations that the library that wrote them goes along with
    activation = _activation(name, source)
    own["hidden_act"] = [activation, "linear"] if projection.startswith("gated-") else activation
    return own


def _activation(name, source):
    if name not in OF_HUGGING_FACE:
        known = ", ".join(sorted(OF_HUGGING_FACE))
        raise WeightsError("%s: the activation %s is not known here; known are %s" % (source, shown(name), known))
    return OF_HUGGING_FACE[name]


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
        own.update({theirs: config[ours] for theirs, ours in T5_WORDS.items() if ours in config})
        # "gated-gelu" means gelu_new there, see `_t5_from_hf`; the one with erf has another name.
        name = {"gelu_new": "gelu", "gelu": "gelu_python"}.get(name, name) if gated else name
        own["feed_forward_proj"] = ("gated-" if gated else "") + name
        own.update(is_encoder_decoder=True, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    else:
        own.update({key: config[key] for key in SAME if key in config})
        own.update(hidden_act=name, pad_token_id=0)
    own["torch_dtype"] = "float32"
    return own


def _theirs(activation):
    names = {"gelu": "gelu"}
    for theirs, ours in OF_HUGGING_FACE.items():
        names.setdefault(ours, theirs)
    if activation not in names:
        raise WeightsError("the activation %r has no name in the Hugging Face format" % (activation,))
    return names[activation]
