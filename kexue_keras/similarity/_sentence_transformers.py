"""`SentenceEncoder` as a folder of sentence-transformers, and back; the vectors are the same.

modules.json lists what a text goes through: the Transformer, Pooling, further Dense layers, Normalize. A whitening is
a Dense layer without activation, v W + b with W the kernel and b = -mean W; BERT's pooler is one behind the pooling
'cls'.
"""

import os

import numpy as np

from kexue_keras.backend import K, keras
from kexue_keras.checkpoints._convert import save_into
from kexue_keras.checkpoints._sentence_transformers import read_modules
from kexue_keras.checkpoints.formats.safetensors_file import read_safetensors, write_safetensors
from kexue_keras.checkpoints.formats.torch_file import read_torch
from kexue_keras.checkpoints.hf.fast_tokenizer import fast_tokenizer
from kexue_keras.errors import WeightsError, shorten
from kexue_keras.files import write_json
from kexue_keras.models._lengths import positions_of
from kexue_keras.schemas import read_object, read_settings
from kexue_keras.schemas.sentence_transformers import (
    DENSE,
    LEGACY_MODES,
    MODULES,
    POOLING,
    POOLING_FOLDER,
    PROMPTS,
    TRANSFORMER,
    pooling_modes,
)

SETTINGS, PROMPTS_FILE = "sentence_bert_config.json", "config_sentence_transformers.json"
ACTIVATIONS = {
    "linear": "torch.nn.modules.linear.Identity",
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
}
_OURS = {theirs.split(".")[-1]: ours for ours, theirs in ACTIVATIONS.items()}
# Where their library takes the module from; older versions know these names, newer ones too.
_TYPE = "sentence_transformers.models."


class DenseLayer(object):
    """What is behind the pooling: activation(v kernel + bias).

    Args:
        kernel: float32 `[d, k]`.
        bias: float32 `[k]`.
        activation: 'linear', 'tanh', 'relu', 'sigmoid'.
    """

    def __init__(self, kernel, bias, activation):
        self.kernel, self.bias, self.activation = np.asarray(kernel), np.asarray(bias), activation


def write_sentence_transformers(folder, encoder):
    """Fill an empty folder.

    Args:
        folder: str.
        encoder: `SentenceEncoder`.

    Raises:
        WeightsError: a pooling, a tokenizer or a model that has no form there.
    """
    pooling, layers = _pooling_of(encoder)
    layers += [DenseLayer(*(layer.get_weights() + [_name(layer)])) for layer in encoder.dense]
    if encoder.whitening is not None:
        kernel = encoder.whitening.kernel
        layers.append(DenseLayer(kernel, -encoder.whitening.mean @ kernel, "linear"))
    tokenizer, config = fast_tokenizer(encoder.tokenizer)
    save_into(folder, encoder.pretrained, format="hf")
    path = os.path.join(folder, "tokenizer_config.json")
    kept = read_object(path) if os.path.exists(path) else {}
    write_json(path, dict(kept, model_max_length=encoder.max_length, **config))
    write_json(os.path.join(folder, "tokenizer.json"), tokenizer)
    write_json(os.path.join(folder, SETTINGS), {"max_seq_length": encoder.max_length, "do_lower_case": False})
    prompts = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(os.path.join(folder, PROMPTS_FILE), prompts)
    modules = [("", "Transformer"), (POOLING_FOLDER, "Pooling")]
    size = encoder.pretrained.config["hidden_size"]
    chosen = {name: mode == pooling for name, mode in LEGACY_MODES.items()}
    _write(folder, POOLING_FOLDER, dict(chosen, word_embedding_dimension=size, include_prompt=True))
    for layer in layers:
        place = "%d_Dense" % len(modules)
        modules.append((place, "Dense"))
        _write_dense(folder, place, layer)
    if encoder.normalize:
        place = "%d_Normalize" % len(modules)
        modules.append((place, "Normalize"))
        _write(folder, place, {})
    listed = [{"idx": i, "name": "%d" % i, "path": at, "type": _TYPE + kind} for i, (at, kind) in enumerate(modules)]
    write_json(os.path.join(folder, MODULES), listed)


def _pooling_of(encoder):
    """(their name, list of `DenseLayer` that make it the same)."""
    if encoder.pooling in ("mean", "cls", "max"):
        return encoder.pooling, []
    if encoder.pooling in ("pooler", "linear-pooler"):
        transformer = encoder.pretrained.transformer
        layer = transformer.layers[transformer.prefixed("Pooler-Dense")]
        return "cls", [DenseLayer(*(K.batch_get_value([layer.kernel, layer.bias]) + [_name(layer)]))]
    raise WeightsError(
        "pooling %r has no form in a sentence-transformers folder (mean, cls, max, pooler and linear-pooler have); "
        "save it with format='tensorflow'" % encoder.pooling
    )


def _name(layer):
    return keras.activations.serialize(layer.activation)


def _write(folder, place, config):
    os.mkdir(os.path.join(folder, place))
    write_json(os.path.join(folder, place, "config.json"), config)


def _write_dense(folder, place, layer):
    rows, columns = layer.kernel.shape
    config = {"in_features": rows, "out_features": columns, "bias": True}
    _write(folder, place, dict(config, activation_function=ACTIVATIONS[layer.activation]))
    arrays = {"linear.weight": layer.kernel.T.astype("float32"), "linear.bias": layer.bias.astype("float32")}
    write_safetensors(os.path.join(folder, place, "model.safetensors"), arrays)


class Modules(object):
    """What a sentence-transformers folder says, read and checked.

    Args:
        path: str, the folder.

    Attributes:
        transformer: folder for `models.load`.
        pooling: 'mean', 'cls' or 'max'.
        dense: list of `DenseLayer`.
        normalize: bool.
        max_length: longest text in tokens, or None: what the model has positions for.

    Raises:
        WeightsError: modules, poolings, activations or prompts that are not known here.
    """

    def __init__(self, path):
        self.path, modules = path, read_modules(path)
        self.transformer, self.dense, self.normalize = modules[0].folder, [], False
        kinds = [module.kind for module in modules if module.kind != "Dropout"]
        expected = ["Transformer", "Pooling"] + ["Dense"] * kinds.count("Dense") + ["Normalize"]
        if kinds not in (expected, expected[:-1]):
            raise WeightsError(
                "%s has the modules %s; known here are Transformer, Pooling, any number of Dense, and Normalize, in "
                "this order. models.load takes the Transformer alone" % (path, ", ".join(kinds))
            )
        self.pooling = _read_pooling(modules[kinds.index("Pooling")].folder)
        self.dense = [_read_dense(module.folder) for module in modules if module.kind == "Dense"]
        self.normalize = "Normalize" in kinds
        self.max_length = _read_length(self.transformer)
        _check_prompts(path)

    def length_for(self, model):
        """Longest text in tokens for a model that has been loaded."""
        positions = positions_of(model)
        lengths = [length for length in (self.max_length, positions) if length]
        return min(lengths) if lengths else 512


def _read_pooling(folder):
    file = os.path.join(folder, "config.json")
    modes = pooling_modes(read_settings(file, POOLING))
    if len(modes) != 1 or modes[0] not in ("mean", "cls", "max"):
        raise WeightsError(
            "%s asks for the pooling %s; known here are mean, cls and max, one of them"
            % (file, shorten(" and ".join(modes), 80))
        )
    return modes[0]


def _read_dense(folder):
    file = os.path.join(folder, "config.json")
    config = read_settings(file, DENSE)
    activation = _OURS.get(config.get("activation_function", "Tanh").split(".")[-1])
    if activation is None:
        raise WeightsError(
            "%s: the activation %s is not known here; %s are"
            % (file, shorten(ascii(config["activation_function"])[1:-1], 60), ", ".join(sorted(_OURS)))
        )
    names = {config.get("module_input_name", "sentence_embedding"), config.get("module_output_name")}
    if config.get("use_residual") or not names <= {"sentence_embedding", None}:
        raise WeightsError("%s: a Dense beside the sentence's vector, or with a residual, is not known here" % file)
    path = os.path.join(folder, "model.safetensors")
    if os.path.exists(path):
        arrays = read_safetensors(path)
    else:
        path = os.path.join(folder, "pytorch_model.bin")
        arrays = read_torch(path)
    shape = config["out_features"], config["in_features"]
    expected = {"linear.weight": shape, "linear.bias": shape[:1]}
    if not config.get("bias", True):
        del expected["linear.bias"]
    for name, wanted in expected.items():
        if name not in arrays or tuple(arrays.shape(name)) != wanted:
            found = "%s" % list(arrays.shape(name)) if name in arrays else "nothing"
            raise WeightsError(
                "%s: expected %s of the shape %s, found %s; nothing was loaded" % (path, name, list(wanted), found)
            )
    values = {name: np.asarray(arrays[name], "float32") for name in expected}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise WeightsError("%s has numbers that are not finite; nothing was loaded" % path)
    return DenseLayer(values["linear.weight"].T, values.get("linear.bias", np.zeros(shape[0], "float32")), activation)


def _read_length(folder):
    file = os.path.join(folder, SETTINGS)
    said = read_settings(file, TRANSFORMER) if os.path.exists(file) else {}
    path = os.path.join(folder, "tokenizer_config.json")
    tokenizer = read_object(path) if os.path.exists(path) else {}
    if said.get("do_lower_case") and tokenizer.get("do_lower_case") is False:
        raise WeightsError(
            "%s makes texts lower case and %s does not; with the accents that this leaves there is no tokenizer here"
            % (file, path)
        )
    lengths = [said.get("max_seq_length"), tokenizer.get("model_max_length")]
    # What has no limit says 10^30 there.
    lengths = [n for n in lengths if isinstance(n, (int, float)) and not isinstance(n, bool) and 2 <= n < 10**6]
    return int(lengths[0]) if lengths else None


def _check_prompts(path):
    file = os.path.join(path, PROMPTS_FILE)
    said = read_settings(file, PROMPTS) if os.path.exists(file) else {}
    name = said.get("default_prompt_name")
    prompt = (said.get("prompts") or {}).get(name) if name else None
    if prompt:
        raise WeightsError(
            "%s puts the prompt %s before every text, which is not done here: set default_prompt_name to null there, "
            "and put it before your texts yourself" % (file, shorten(repr(prompt), 80))
        )
