"""The bundled Chinese encoder: 4-bit weights of multilingual-e5-small with the embedding rows cut to Chinese.

Matrices are stored in blocks of 32 weights, 18 bytes each: a float16 scale d, then 16 bytes of which the low
nibbles are weights 0..15 and the high nibbles weights 16..31; a weight is (nibble - 8) d. Matrices lie as
[out, in], so a Keras kernel is the transpose.

Reference: multilingual-e5-small (MIT), paper arXiv 2402.05672; the file is described in assets/README.md.
"""

import os

import numpy as np

ASSETS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "assets")
WEIGHTS = os.path.join(ASSETS, "me5_zh_q4.npz")

# name -> (which embedding rows, vocabulary file, kind of vocabulary)
BUNDLED = {
    "me5-zh-char": ("char_index", "me5_zh_q4.vocab.txt", "wordpiece"),
    "me5-zh-sp": ("sp_index", "me5_zh_q4.spiece.model", "sentencepiece"),
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


def unpack_blocks(blocks):
    """Unpack 4-bit blocks to float32.

    Args:
        blocks: uint8 `[n, 18]`.

    Returns:
        float32 `[n * 32]`.

    >>> one = np.float16(.5).tobytes() + bytes([0x9F] + [0x88] * 15)   # nibbles 15 and 9, the others 8
    >>> unpack_blocks(np.frombuffer(one, 'uint8').reshape(1, 18))[[0, 16, 1]]
    array([3.5, 0.5, 0. ], dtype=float32)
    """
    scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype("float32")
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return ((nibbles.astype("float32") - 8) * scale).reshape(-1)


def bundled_config(name):
    """The configuration of the bundled model `name`, as `build_transformer_model` takes it."""
    with np.load(WEIGHTS) as packed:
        rows = len(packed[BUNDLED[name][0]])
    return dict(CONFIG, vocab_size=rows)


def bundled_variables(name):
    """The weights of the bundled model `name` under the variable names of Google's BERT.

    Args:
        name: 'me5-zh-char' or 'me5-zh-sp'.

    Returns:
        dict variable name -> float32 array.
    """
    hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    variables = {}
    with np.load(WEIGHTS) as packed:
        words = packed["word_q4"][packed[BUNDLED[name][0]]]
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
    return variables
