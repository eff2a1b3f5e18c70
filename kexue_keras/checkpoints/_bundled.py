"""The bundled Chinese encoder: 4-bit weights of multilingual-e5-small with the embedding rows cut to Chinese.

Matrices are stored in blocks of 32 weights, 18 bytes each: a float16 scale d, then 16 bytes of which the low
nibbles are weights 0..15 and the high nibbles weights 16..31; a weight is (nibble - 8) d. Matrices lie as
[out, in], so a Keras kernel is the transpose. A model that was trained further has a second file, which holds what is
different (`bundled_changes.py`).

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

# rows: which rows of the embedding; vocabulary: its file; changes: file of what was trained further, or None
Bundled = namedtuple("Bundled", "rows vocabulary changes")
BUNDLED = {
    "me5-zh-char": Bundled("char_index", "me5_zh_q4.vocab.txt", None),
    "me5-zh-char-mlm": Bundled("char_index", "me5_zh_q4.vocab.txt", "me5_zh_mlm.npz"),
    "me5-zh-sp": Bundled("sp_index", "me5_zh_q4.spiece.model", None),
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
    """Path of the second file of the bundled model `name`, or None if it has none.

    Raises:
        WeightsError: the file is not there.
    """
    if BUNDLED[name].changes is None:
        return None
    path = os.path.join(ASSETS, BUNDLED[name].changes)
    if not os.path.exists(path):
        raise WeightsError("%s: this installation lacks its file %s; 'me5-zh-char' has no MLM head" % (name, path))
    return path


def bundled_config(name):
    """The configuration of the bundled model `name`, as `build_transformer_model` takes it."""
    changes_file(name)
    with np.load(WEIGHTS) as packed:
        rows = len(packed[BUNDLED[name].rows])
    return dict(CONFIG, vocab_size=rows)


def bundled_variables(name):
    """The weights of the bundled model `name` under the variable names of Google's BERT.

    Args:
        name: a key of `BUNDLED`.

    Returns:
        dict variable name -> float32 array.

    Raises:
        WeightsError: a file of the model is not there.
    """
    changes = changes_file(name)
    hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    variables = {}
    with np.load(WEIGHTS) as packed:
        words = packed["word_q4"][packed[BUNDLED[name].rows]]
        embeddings = "bert/embeddings/"
        variables[embeddings + "word_embeddings"] = unpack_blocks(words.reshape(-1, 18)).reshape(-1, hidden)
        variables[embeddings + "position_embeddings"] = packed["emb.pos"].astype("float32").reshape(-1, hidden)
        variables[embeddings + "token_type_embeddings"] = packed["emb.type"].astype("float32").reshape(-1, hidden)
        norms = {"emb.ln": embeddings + "LayerNorm"}
        for i in range(CONFIG["num_hidden_layers"]):
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
    return variables if changes is None else apply_changes(variables, changes)
