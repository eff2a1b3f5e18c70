"""Hugging Face folders: config.json with model.safetensors or pytorch_model.bin, in one file or in shards.

Their variables are given the names of Google's checkpoints, which are those of bert4keras, so what comes after knows
no difference. Nothing of PyTorch is needed or executed.
"""

import collections
import os

import numpy as np

from kexue_keras.checkpoints._variables import Variables
from kexue_keras.checkpoints.formats.safetensors_file import read_safetensors
from kexue_keras.checkpoints.formats.torch_file import read_torch
from kexue_keras.checkpoints.hf.config import from_hf, hf_kind
from kexue_keras.checkpoints.hf.names import hf_copies, hf_names, hf_needless
from kexue_keras.errors import WeightsError, shorten
from kexue_keras.files.paths import matching
from kexue_keras.schemas import read_object

# In the order in which they are preferred.
_FILES = (
    ("model.safetensors", read_safetensors),
    ("model.safetensors.index.json", read_safetensors),
    ("pytorch_model.bin", read_torch),
    ("pytorch_model.bin.index.json", read_torch),
)


def has_hf_weights(path):
    """Whether a folder has weights of Hugging Face (and no TensorFlow checkpoint)."""
    patterns = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.index.json")
    return bool(matching(path, *patterns)) and not matching(path, "*.index")


def read_hf(path, config, *, extra="error"):
    """The variables of a Hugging Face folder under the names of Google's checkpoints.

    Args:
        path: str, the folder.
        config: dict read from its config.json.
        extra: 'error' or 'ignore': variables of the encoder or decoder that such a model does not have. Other
            heads than those of pretraining (a classifier) are left out anyway.

    Returns:
        (configuration in the words of bert4keras, `Variables`).

    Raises:
        WeightsError: a missing or broken file, another architecture, variables without a place, tied matrices that
            differ.
    """
    own = from_hf(config, os.path.join(path, "config.json"))
    kind, _ = hf_kind(config, path)
    variables = _with_usual_names(_read_files(path), kind)
    table = hf_names(kind, own)
    copies = {name: of for name, of in hf_copies(kind, own).items() if name in variables}
    left = [n for n in variables if n not in table and n not in copies and not hf_needless(kind, n)]
    bases = ("encoder.", "decoder.") if kind == "t5" else (kind.split("_")[0] + ".",)
    placeless = [name for name in left if name.startswith(bases)]
    if not any(name in variables for name in table):
        raise WeightsError(
            "%s: config.json says %s, but no variable has a name of such a model; found %s ... Nothing was loaded"
            % (variables.source, config["model_type"], ", ".join(sorted(variables)[:3]))
        )
    if placeless and extra == "error":
        raise WeightsError(
            "%s has %d variables that a %s with the configuration next to it does not have; nothing was loaded. "
            "First of them: %s. Give the configuration that belongs to it, or extra='ignore' to do without them."
            % (variables.source, len(placeless), config["model_type"], ", ".join(placeless[:5]))
        )
    for copy, original in copies.items():
        if original in variables and not np.array_equal(variables[copy], variables[original]):
            raise WeightsError(
                "%s: %s differs from %s, but bert4keras builds this model with one matrix for both; nothing was "
                "loaded" % (variables.source, copy, original)
            )
    table = {name: place for name, place in table.items() if name not in copies}
    found = variables.renamed(table)
    found.left_out = left
    return own, found


def _with_usual_names(variables, kind):
    """Old files say gamma and beta, some lack the model's name in front, some have `module.` there."""
    base = kind.split("_")[0] + "."
    names = {}
    bare = kind != "t5" and "embeddings.word_embeddings.weight" in variables
    for name in variables:
        usual = name[len("module.") :] if name.startswith("module.") else name
        if usual.endswith("LayerNorm.gamma"):
            usual = usual[: -len("gamma")] + "weight"
        elif usual.endswith("LayerNorm.beta"):
            usual = usual[: -len("beta")] + "bias"
        if bare and usual.startswith(("embeddings.", "embeddings_project.", "encoder.", "pooler.")):
            usual = base + usual
        names[name] = (usual, False)
    return variables.renamed(names)


def _read_files(path):
    for name, read in _FILES:
        file = os.path.join(path, name)
        if os.path.exists(file):
            return _read_shards(path, file, read) if name.endswith(".json") else read(file)
    found = ", ".join(sorted(os.listdir(path)))
    raise WeightsError("%s: expected model.safetensors or pytorch_model.bin (or their index); found %s" % (path, found))


def _read_shards(path, index, read):
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise WeightsError("%s is no index of shards (a JSON object with weight_map)" % index)
    # Of each file at once, not file by file through all names: an index can name any number of both.
    promised = collections.defaultdict(list)
    for variable, file in places.items():
        if not isinstance(file, str) or not file.isprintable():
            raise WeightsError("%s names %s as a file; a name is needed" % (index, shorten(ascii(file))))
        promised[file].append(variable)
    entries = {}
    for name in sorted(promised):
        if os.path.basename(name) != name or name in ("", ".", ".."):
            raise WeightsError("%s names %r, which lies outside of the folder" % (index, name))
        if not os.path.exists(os.path.join(path, name)):
            raise WeightsError("%s: the shard %s is missing; nothing was loaded" % (path, name))
        shard = read(os.path.join(path, name))
        absent = [n for n in promised[name] if n not in shard]
        if absent:
            raise WeightsError("%s promises %s in %s, which is not there" % (index, ", ".join(absent[:3]), name))
        entries.update({n: (shard.shape(n), lambda n=n, s=shard: s[n]) for n in promised[name]})
    return Variables(index, entries)
