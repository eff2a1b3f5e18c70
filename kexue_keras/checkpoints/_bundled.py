"""The bundled Chinese models: 4-bit weights of multilingual-e5-small with the embedding rows cut to Chinese, and on.

Matrices are stored in blocks of 32 weights, 18 bytes each: a float16 scale d, then 16 bytes of which the low
nibbles are weights 0..15 and the high nibbles weights 16..31; a weight is (nibble - 8) d. Matrices lie as
[out, in], so a Keras kernel is the transpose. A model that was trained further has a file with what differs from the
one that it began from (`_bundled_changes.py`).

Reference: multilingual-e5-small (MIT), paper arXiv 2402.05672; the files are described in assets/README.md.
"""

import os
from collections import namedtuple

import numpy as np

from kexue_keras.checkpoints._bundled_changes import apply_changes
from kexue_keras.checkpoints.formats.quantized_blocks import unpack_blocks
from kexue_keras.errors import WeightsError

ASSETS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "assets")
WEIGHTS = os.path.join(ASSETS, "me5_zh_q4.npz")

# kind: as bert4keras calls it; rows: which rows of the embedding; vocabulary: its file; base: the bundled model that it
# was trained on from, or None; changes: file of what was changed; without: variables of the base that it lacks
Bundled = namedtuple("Bundled", "kind rows vocabulary base changes without")
Bundled.__new__.__defaults__ = (None, None, ())
BUNDLED = {
    "me5-zh-char": Bundled("bert", "char_index", "me5_zh_q4.vocab.txt"),
    "me5-zh-char-mlm": Bundled("bert", "char_index", "me5_zh_q4.vocab.txt", "me5-zh-char", "me5_zh_mlm.npz"),
    "me5-zh-sp": Bundled("bert", "sp_index", "me5_zh_q4.spiece.model"),
    "roformer-sim-zh-small": Bundled(
        "roformer",
        "char_index",
        "me5_zh_q4.vocab.txt",
        "me5-zh-char-mlm",
        "roformer_sim_zh.npz",
        ("bert/embeddings/position_embeddings",),
    ),
}

CONFIG = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}

# short names in the file -> the variables of Google's BERT
_DENSE = {
    "q": "attention/self/query",
    "k": "attention/self/key",
    "v": "attention/self/value",
    "ao": "attention/output/dense",
    "fi": "intermediate/dense",
    "fo": "output/dense",
}
_NORM = {"aln": "attention/output/LayerNorm", "oln": "output/LayerNorm"}


def changes_file(name):
    """Path of the file with what differs from the bundled model that `name` was trained on from, or None.

    Raises:
        WeightsError: the file is not there.
    """
    model = BUNDLED[name]
    if model.changes is None:
        return None
    path = os.path.join(ASSETS, model.changes)
    if not os.path.exists(path):
        raise WeightsError(
            "%s: this installation lacks its file %s; what it was trained on from is %r" % (name, path, model.base)
        )
    return path


def bundled_config(name):
    """The configuration of the bundled model `name`, as `build_transformer_model` takes it."""
    changes_file(name)
    with np.load(WEIGHTS) as packed:
        rows = len(packed[BUNDLED[name].rows])
    return dict(CONFIG, vocab_size=rows)


def bundled_variables(name, layers=None):
    """The weights of the bundled model `name` under the variable names of Google's BERT.

    Args:
        name: a key of `BUNDLED`.
        layers: int, the lowest layers to unpack, which takes most of the time; None: all.

    Returns:
        dict variable name -> float32 array.

    Raises:
        WeightsError: a file of the model is not there.
    """
    model, changes = BUNDLED[name], changes_file(name)
    layers = CONFIG["num_hidden_layers"] if layers is None else min(layers, CONFIG["num_hidden_layers"])
    if model.base is None:
        return _encoder_variables(model.rows, layers)
    base = bundled_variables(model.base, layers)
    base = {name: value for name, value in base.items() if name not in model.without}
    higher = tuple("bert/encoder/layer_%d/" % i for i in range(layers, CONFIG["num_hidden_layers"]))
    return apply_changes(base, changes, without=higher)


def _encoder_variables(rows, layers):
    hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    variables = {}
    with np.load(WEIGHTS) as packed:
        words = packed["word_q4"][packed[rows]]
        embeddings = "bert/embeddings/"
        variables[embeddings + "word_embeddings"] = unpack_blocks(words.reshape(-1, 18)).reshape(-1, hidden)
        variables[embeddings + "position_embeddings"] = packed["emb.pos"].astype("float32").reshape(-1, hidden)
        variables[embeddings + "token_type_embeddings"] = packed["emb.type"].astype("float32").reshape(-1, hidden)
        norms = {"emb.ln": embeddings + "LayerNorm"}
        for i in range(layers):
            layer = "bert/encoder/layer_%d/" % i
            for short, long in _DENSE.items():
                inputs = inner if short == "fo" else hidden
                matrix = unpack_blocks(packed["l%d.%s.w" % (i, short)]).reshape(-1, inputs)
                variables[layer + long + "/kernel"] = matrix.T
                variables[layer + long + "/bias"] = packed["l%d.%s.b" % (i, short)].astype("float32")
            for short, long in _NORM.items():
                norms["l%d.%s" % (i, short)] = layer + long
        for short, long in norms.items():
            variables[long + "/gamma"] = packed[short + ".w"].astype("float32")
            variables[long + "/beta"] = packed[short + ".b"].astype("float32")
    return variables
