"""The configuration of a T5 from what is next to its weights: config.json, gin, or the shapes of the variables."""

import ast
import os
import re

from kexue_keras.checkpoints._variables import is_optimizers
from kexue_keras.checkpoints.hf.config import from_hf, is_hf_config
from kexue_keras.errors import WeightsError
from kexue_keras.files.paths import matching
from kexue_keras.models._activations import check_activation
from kexue_keras.schemas import T5_CONFIG, check_settings, read_object
from kexue_keras.schemas.reading import read_text
from kexue_keras.schemas.t5_config import known_words

# Of a gin file, in characters: what says more than a list of names is nothing that is read here.
_LONGEST_VALUE = 300
_RELATIVE = "/block_000/layer_000/SelfAttention/relative_attention_bias"


def usual_t5_names(variables):
    """T5's variables under one set of names, whichever of them a checkpoint has; the optimizer's are left out.

    Args:
        variables: `Variables` of a mesh-TensorFlow checkpoint.

    Returns:
        (`Variables` with `layer_norm`, the word that the checkpoint has: 'layer_norm' or 'rms_norm').

    Raises:
        WeightsError: it is no T5.
    """
    own = [name for name in variables if not is_optimizers(name)]
    if "shared/embedding" not in own:
        raise WeightsError(
            "%s is no T5: expected the variable shared/embedding, for encoder and decoder; found %s ..."
            % (variables.source, ", ".join(sorted(own)[:3]))
        )
    word = "rms_norm" if any("/rms_norm/" in name for name in own) else "layer_norm"
    names = {}
    for name in own:
        usual = re.sub("^(encoder|decoder)/(rms|layer)_norm/", r"\1/final_layer_norm/", name)
        names[name] = (usual.replace("/rms_norm/", "/layer_norm/"), False)
    return variables.renamed(names), word


def config_from_shapes(variables):
    """All that the variables tell: sizes, numbers of layers and heads, gated or not, shared output matrix or not.

    Args:
        variables: `Variables` under the names of `usual_t5_names`.

    Raises:
        WeightsError: a variable is missing that every T5 has.
    """

    def shape(name):
        if name not in variables:
            raise WeightsError("%s lacks %s, which every T5 has" % (variables.source, name))
        return variables.shape(name)

    first = "encoder/block_000/"
    gated = first + "layer_001/DenseReluDense/wi_0/kernel" in variables
    heads, buckets = shape("encoder" + _RELATIVE)
    vocabulary, size = shape("shared/embedding")
    return {
        "vocab_size": vocabulary,
        "hidden_size": size,
        "num_hidden_layers": _layers(variables, "encoder"),
        "num_decoder_layers": _layers(variables, "decoder"),
        "num_attention_heads": heads,
        "attention_head_size": shape(first + "layer_000/SelfAttention/q")[1] // heads,
        "intermediate_size": shape(first + "layer_001/DenseReluDense/%s/kernel" % ("wi_0" if gated else "wi"))[1],
        "relative_attention_num_buckets": buckets,
        "hidden_act": ["gelu_tanh", "linear"] if gated else "relu",
        "tie_word_embeddings": "decoder/logits/kernel" not in variables,
    }


def _layers(variables, part):
    numbers = {int(m.group(1)) for m in (re.match(part + r"/block_(\d+)/", name) for name in variables) if m}
    return len(numbers)


def read_gin(path):
    """What a gin file (`operative_config.gin`) says about the model: its macros and the activation.

    Args:
        path: str.

    Returns:
        dict in the words of bert4keras, with what it finds.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'operative_config.gin')
    >>> _ = open(path, 'w').write("d_model = 512\\ndecoder/DenseReluDense.activation = ['gelu', 'linear']\\n")
    >>> sorted(read_gin(path).items())
    [('hidden_act', ['gelu_tanh', 'linear']), ('hidden_size', 512)]
    """
    text = re.sub(r"\\\n\s*", " ", read_text(path))
    found = {}
    for name, value in re.findall(r"^([\w./]+)[ \t]*=(.*)$", text, re.MULTILINE):
        try:
            found[name] = ast.literal_eval(value.strip()[:_LONGEST_VALUE])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass  # a reference to something else, or nonsense
    words = {
        "d_model": "hidden_size",
        "d_ff": "intermediate_size",
        "d_kv": "attention_head_size",
        "num_heads": "num_attention_heads",
        "dropout_rate": "hidden_dropout_prob",
    }
    config = {ours: found[theirs] for theirs, ours in words.items() if found.get(theirs) is not None}
    for name, value in found.items():
        if name.endswith("DenseReluDense.activation"):
            listed = list(value) if isinstance(value, (list, tuple)) else [value]
            # mesh_tensorflow's gelu is the one with tanh.
            listed = ["gelu_tanh" if a == "gelu" else a for a in listed]
            config["hidden_act"] = listed if len(listed) != 1 else listed[0]
    return config


def t5_config(path, variables, config):
    """The whole configuration: what the file says, checked against the shapes, which fill in the rest.

    Args:
        path: str, the folder.
        variables: `Variables` under the names of `usual_t5_names`.
        config: None (a JSON or gin file of the folder, or nothing), 'hf' or 'gin' (only such a file), the path of one,
            or a dict in the words of bert4keras.

    Raises:
        WeightsError: they contradict each other, or no such file is there.
    """
    said, source = _read(path, config)
    shapes = config_from_shapes(variables)
    own = dict(shapes)
    for key, value in said.items():
        if key in shapes and key != "hidden_act" and value != shapes[key] and value is not None:
            if key == "vocab_size":
                raise WeightsError(
                    "%s says vocab_size %s, but the embedding in %s has %s rows; put the number of rows into the "
                    "configuration, or take the checkpoint that belongs to it" % (source, value, path, shapes[key])
                )
            raise WeightsError(
                "%s says %s %r, but the variables in %s say %r; nothing was loaded. Give the configuration that "
                "belongs to the checkpoint" % (source, key, value, path, shapes[key])
            )
        own[key] = value
    activation = own["hidden_act"]
    check_activation(activation, source)
    gated = isinstance(activation, (list, tuple))
    if gated != isinstance(shapes["hidden_act"], list):
        raise WeightsError(
            "%s says the activation %r, but the feed-forward layers in %s are %sgated (wi_0, wi_1)"
            % (source, activation, path, "not " if gated else "")
        )
    # bert4keras' "gelu" is whichever `set_gelu` chose last; its default is the one with erf.
    own["hidden_act"] = [_named(a) for a in activation] if gated else _named(activation)
    own.setdefault("hidden_dropout_prob", own.pop("dropout_rate", 0.1))
    own.setdefault("layer_norm_eps", 1e-6)
    own.setdefault("relative_attention_max_distance", 128)
    own.setdefault("scale_output", own["tie_word_embeddings"])
    own.setdefault("cross_position_bias", False)
    own.setdefault("model_type", "t5" if own["tie_word_embeddings"] else "mt5")
    return own


def _named(activation):
    return "gelu_erf" if activation == "gelu" else activation


def _read(path, config):
    if isinstance(config, dict):
        source = "the configuration given"
        return check_settings(known_words(config), T5_CONFIG, source), source
    if config not in (None, "hf", "gin"):
        files = [config]
        if not os.path.isfile(config):
            raise WeightsError("config=%r is no file; it is 'hf', 'gin', a dict or the path of a file" % (config,))
    else:
        patterns = {"hf": ["config.json", "*config*.json"], "gin": ["operative_config.gin", "*.gin"]}
        patterns = sum((patterns[k] for k in ([config] if config else ["hf", "gin"])), [])
        files = matching(path, *patterns)
        files = [f for f in files if os.path.basename(f) not in ("generation_config.json", "tokenizer_config.json")]
        if not files:
            if config is None:
                return {}, path
            raise WeightsError("%s: expected %s; found %s" % (path, patterns[0], ", ".join(sorted(os.listdir(path)))))
    said = (read_gin if files[0].endswith(".gin") else read_object)(files[0])
    if is_hf_config(said) or "d_model" in said:
        return from_hf(said, files[0]), files[0]
    return check_settings(known_words(said), T5_CONFIG, files[0]), files[0]
