"""Tiny Hugging Face folders with random weights, and their outputs in float64 numpy: names and formulas by hand.

An oracle of the loaders of its own, beside the outputs of the library itself in tests/fixtures/hf.
"""

import json
import os
import struct

import numpy as np
from scipy.special import erf

SIZES = {"bert": (16, 16), "albert": (8, 16), "electra": (12, 16), "roformer": (16, 16)}  # embedding, hidden
CONFIG = dict(vocab_size=50, num_attention_heads=2, intermediate_size=24, type_vocab_size=2, max_position_embeddings=20)
T5 = dict(vocab_size=50, d_model=16, d_kv=6, d_ff=24, num_heads=2, dropout_rate=0.1, layer_norm_epsilon=1e-6)


def shapes_of(kind, layers=1):
    """Hugging Face name -> shape of a model with its head, matrices as [out, in]."""
    e, h = SIZES[kind]
    inner, shapes = CONFIG["intermediate_size"], {}

    def dense(name, inputs, outputs):
        shapes[name + ".weight"], shapes[name + ".bias"] = (outputs, inputs), (outputs,)

    def norm(name, size):
        shapes[name + ".weight"], shapes[name + ".bias"] = (size,), (size,)

    for part, rows in (("word", 50), ("token_type", 2), ("position", 20))[: 2 if kind == "roformer" else 3]:
        shapes["%s.embeddings.%s_embeddings.weight" % (kind, part)] = (rows, e)
    norm(kind + ".embeddings.LayerNorm", e)
    if kind == "albert":
        dense("albert.encoder.embedding_hidden_mapping_in", e, h)
        names = ["albert.encoder.albert_layer_groups.0.albert_layers.0."]
    elif e != h:
        dense(kind + ".embeddings_project", e, h)
    if kind != "albert":
        names = ["%s.encoder.layer.%d." % (kind, i) for i in range(layers)]
    for name in names:
        q, k, v, o, attention_norm, up, down, last_norm = parts_of(kind, name)
        for part in (q, k, v, o):
            dense(part, h, h)
        norm(attention_norm, h)
        dense(up, h, inner)
        dense(down, inner, h)
        norm(last_norm, h)
    if kind == "electra":
        dense("discriminator_predictions.dense", h, h)
        dense("discriminator_predictions.dense_prediction", h, 1)
    else:
        head = "predictions." if kind == "albert" else "cls.predictions."
        middle = "" if kind == "albert" else "transform."
        dense(head + middle + "dense", h, e)
        norm(head + middle + "LayerNorm", e)
        shapes[head + "bias"] = (50,)
    return shapes


def parts_of(kind, name):
    if kind == "albert":
        parts = "attention.query attention.key attention.value attention.dense attention.LayerNorm ffn ffn_output"
        return [name + part for part in (parts + " full_layer_layer_norm").split()]
    parts = "attention.self.query attention.self.key attention.self.value attention.output.dense"
    return [
        name + p
        for p in (parts + " attention.output.LayerNorm intermediate.dense output.dense output.LayerNorm").split()
    ]


def t5_shapes(gated, layers=(1, 1)):
    """The same for T5; an output matrix of its own if it is gated."""
    d, inner, ff, heads = T5["d_model"], T5["d_kv"] * T5["num_heads"], T5["d_ff"], T5["num_heads"]
    shapes = {"shared.weight": (50, d)}
    if gated:
        shapes["lm_head.weight"] = (50, d)
    for part, count in zip(("encoder", "decoder"), layers):
        shapes[part + ".final_layer_norm.weight"] = (d,)
        shapes[part + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (32, heads)
        kinds = ["SelfAttention", "EncDecAttention", "DenseReluDense"]
        for i in range(count):
            for j, kind in enumerate(kinds if part == "decoder" else kinds[::2]):
                name = "%s.block.%d.layer.%d." % (part, i, j)
                shapes[name + "layer_norm.weight"] = (d,)
                if kind == "DenseReluDense":
                    for up in ("wi_0", "wi_1") if gated else ("wi",):
                        shapes["%s%s.%s.weight" % (name, kind, up)] = (ff, d)
                    shapes["%s%s.wo.weight" % (name, kind)] = (d, ff)
                else:
                    for matrix in "qkv":
                        shapes["%s%s.%s.weight" % (name, kind, matrix)] = (inner, d)
                    shapes["%s%s.o.weight" % (name, kind)] = (d, inner)
    return shapes


def random_weights(shapes, rng):
    return {
        name: (rng.normal(0, 0.3, shape) + ("orm" in name and name.endswith("weight"))).astype("float32")
        for name, shape in sorted(shapes.items())
    }


def safetensors_bytes(weights):
    """A safetensors file by hand."""
    header, data = {}, b""
    for name, value in weights.items():
        start = len(data)
        data += value.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode("utf-8")
    return struct.pack("<Q", len(text)) + text + data


def write_folder(path, config, weights, vocabulary=True):
    os.makedirs(str(path), exist_ok=True)
    with open(os.path.join(str(path), "config.json"), "w") as handle:
        json.dump(config, handle)
    with open(os.path.join(str(path), "model.safetensors"), "wb") as handle:
        handle.write(safetensors_bytes(weights))
    if vocabulary and "d_model" not in config:
        with open(os.path.join(str(path), "vocab.txt"), "w") as handle:
            handle.write("\n".join("[PAD] [UNK] [CLS] [SEP] [MASK]".split() + ["w%d" % i for i in range(45)]) + "\n")
    return str(path)


def bert_folder(path, kind="bert", layers=1, rng=None, **changes):
    """Write a folder; returns (path, config, weights)."""
    config = dict(CONFIG, model_type=kind, architectures=["x"], num_hidden_layers=layers, hidden_act="gelu")
    config.update(embedding_size=SIZES[kind][0], hidden_size=SIZES[kind][1], layer_norm_eps=1e-12)
    config.update(changes)
    weights = random_weights(shapes_of(kind, layers), rng or np.random.RandomState(7))
    return write_folder(path, config, weights), config, weights


def t5_folder(path, gated=True, layers=(1, 1), rng=None, **changes):
    config = dict(T5, model_type="mt5" if gated else "t5", architectures=["x"], num_layers=layers[0])
    config.update(num_decoder_layers=layers[1], tie_word_embeddings=not gated)
    config["feed_forward_proj"] = "gated-gelu" if gated else "relu"
    config.update(changes)
    weights = random_weights(t5_shapes(gated, layers), rng or np.random.RandomState(7))
    return write_folder(path, config, weights), config, weights


ACTIVATIONS = {
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "gelu_new": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: np.maximum(x, 0),
}


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def bert_outputs(weights, config, ids, segments, mask, angles=None):
    """(hidden states, logits of the head) of a padded batch; `angles` are RoFormer's, if not the usual ones."""
    w = {name: value.astype("float64") for name, value in weights.items()}
    kind, eps, heads = config["model_type"], config["layer_norm_eps"], config["num_attention_heads"]
    act = ACTIVATIONS[config["hidden_act"]]

    def dense(x, name):
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * w[name + ".weight"] + w[name + ".bias"]

    def split(x):
        return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3)

    words = w[kind + ".embeddings.word_embeddings.weight"]
    x = words[ids] + w[kind + ".embeddings.token_type_embeddings.weight"][segments]
    if kind != "roformer":
        x = x + w[kind + ".embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(x, kind + ".embeddings.LayerNorm")
    mapping = "albert.encoder.embedding_hidden_mapping_in" if kind == "albert" else kind + ".embeddings_project"
    if mapping + ".weight" in w:
        x = dense(x, mapping)
    for i in range(config["num_hidden_layers"]):
        shared = "albert.encoder.albert_layer_groups.0.albert_layers.0."
        name = shared if kind == "albert" else "%s.encoder.layer.%d." % (kind, i)
        q, k, v, o, attention_norm, up, down, last_norm = parts_of(kind, name)
        queries, keys, values = split(dense(x, q)), split(dense(x, k)), split(dense(x, v))
        if kind == "roformer":
            queries, keys = rotate(queries, angles), rotate(keys, angles)
        scores = queries @ keys.transpose(0, 1, 3, 2) / np.sqrt(queries.shape[-1])
        scores = np.where(mask[:, None, None, :] > 0, scores, -1e30)
        context = (softmax(scores) @ values).transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(x + dense(context, o), attention_norm)
        x = norm(x + dense(act(dense(x, up)), down), last_norm)
    if kind == "electra":
        hidden = act(dense(x, "discriminator_predictions.dense"))
        return x, dense(hidden, "discriminator_predictions.dense_prediction")
    head, middle = ("predictions.", "") if kind == "albert" else ("cls.predictions.", "transform.")
    hidden = norm(act(dense(x, head + middle + "dense")), head + middle + "LayerNorm")
    return x, hidden @ words.T + w[head + "bias"]


def rotate(x, angles=None):
    if angles is None:
        angles = np.arange(x.shape[2])[:, None] / 10000 ** (np.arange(0, x.shape[3], 2) / x.shape[3])
    angles = angles[: x.shape[2]]
    turned = np.empty_like(x)
    turned[..., ::2] = x[..., ::2] * np.cos(angles) - x[..., 1::2] * np.sin(angles)
    turned[..., 1::2] = x[..., 1::2] * np.cos(angles) + x[..., ::2] * np.sin(angles)
    return turned


def bucket(distance, bidirectional, buckets=32, farthest=128):
    """T5's bucket of key - query, one number at a time, in exact arithmetic as far as it goes."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    part = np.log(distance / exact) / np.log(farthest / exact) * (buckets - exact)
    return first + min(exact + int(part + 1e-9), buckets - 1)


def t5_outputs(weights, config, ids, mask, decoder_ids):
    """(hidden states of the encoder, logits) of a padded batch."""
    w = {name: value.astype("float64") for name, value in weights.items()}
    heads, eps = config["num_heads"], config["layer_norm_epsilon"]
    gated = config["feed_forward_proj"].startswith("gated")

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * w[name + ".weight"]

    def attend(x, c, name, allowed, bias):
        def split(y, matrix):
            return (y @ w["%s.%s.weight" % (name, matrix)].T).reshape(*y.shape[:2], heads, -1).transpose(0, 2, 1, 3)

        scores = split(x, "q") @ split(c, "k").transpose(0, 1, 3, 2) + bias
        out = softmax(np.where(allowed, scores, -1e30)) @ split(c, "v")
        return out.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1) @ w[name + ".o.weight"].T

    def stack(part, ids, count, allowed, c=None, c_allowed=None):
        x, n = w["shared.weight"][ids], ids.shape[1]
        table = w[part + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        numbers = [[bucket(k - q, part == "encoder") for k in range(n)] for q in range(n)]
        bias = table[np.array(numbers)].transpose(2, 0, 1)
        for i in range(count):
            name = "%s.block.%d.layer." % (part, i)
            y = norm(x, name + "0.layer_norm")
            x = x + attend(y, y, name + "0.SelfAttention", allowed, bias)
            if c is not None:
                x = x + attend(norm(x, name + "1.layer_norm"), c, name + "1.EncDecAttention", c_allowed, 0.0)
            name += "%d." % (1 if c is None else 2)
            y, ff = norm(x, name + "layer_norm"), name + "DenseReluDense."
            if gated:
                inner = ACTIVATIONS["gelu_new"](y @ w[ff + "wi_0.weight"].T) * (y @ w[ff + "wi_1.weight"].T)
            else:
                inner = ACTIVATIONS["relu"](y @ w[ff + "wi.weight"].T)
            x = x + inner @ w[ff + "wo.weight"].T
        return norm(x, part + ".final_layer_norm")

    seen = mask[:, None, None, :] > 0
    hidden = stack("encoder", ids, config["num_layers"], seen)
    m = decoder_ids.shape[1]
    x = stack("decoder", decoder_ids, config["num_decoder_layers"], np.tri(m, dtype=bool), hidden, seen)
    if config["tie_word_embeddings"]:
        return hidden, x @ w["shared.weight"].T / np.sqrt(x.shape[-1])
    return hidden, x @ w["lm_head.weight"].T
