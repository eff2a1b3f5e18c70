"""An independent numpy BERT in float64: the oracle for what the Keras models must output."""

import numpy as np
from scipy.special import erf


def layer_norm(x, gamma, beta, eps=1e-12):
    """Layer normalisation over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * gamma + beta


def rotated(x):
    """Rotary positions on `[heads, n, d]`: each pair of neighbours turned by n 10000^(-2i/d)."""
    n, d = x.shape[1:]
    angles = np.arange(n)[:, None] * 10000.0 ** (-np.arange(0, d, 2) / d)
    pairs = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape)


def bert_forward(variables, token_ids, heads, layers, *, segment_ids=None, visible=None):
    """Last hidden state `[n, d]` of one unpadded sentence, variables under Google's names; without a table of positions
    it is a RoFormer.

    `segment_ids` are 0 if not given; `visible` bool `[n, n]` says which tokens (columns) each (rows) sees, all if None.
    """
    w = {name: np.asarray(value, "float64") for name, value in variables.items()}
    emb = "bert/embeddings/"
    n = len(token_ids)
    x, rotary = w[emb + "word_embeddings"][token_ids], emb + "position_embeddings" not in w
    x = x if rotary else x + w[emb + "position_embeddings"][:n]
    x = x + w[emb + "token_type_embeddings"][[0] * n if segment_ids is None else segment_ids]
    x = layer_norm(x, w[emb + "LayerNorm/gamma"], w[emb + "LayerNorm/beta"])

    def dense(x, name):
        return x @ w[name + "/kernel"] + w[name + "/bias"]

    for i in range(layers):
        p = "bert/encoder/layer_%d/" % i
        q, k, v = (
            dense(x, p + "attention/self/" + part).reshape(n, heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        q, k = (rotated(q), rotated(k)) if rotary else (q, k)
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        if visible is not None:
            scores = np.where(visible, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        context = (weights @ v).transpose(1, 0, 2).reshape(n, -1)
        norm = p + "attention/output/LayerNorm/"
        x = layer_norm(x + dense(context, p + "attention/output/dense"), w[norm + "gamma"], w[norm + "beta"])
        inner = dense(x, p + "intermediate/dense")
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        norm = p + "output/LayerNorm/"
        x = layer_norm(x + dense(inner, p + "output/dense"), w[norm + "gamma"], w[norm + "beta"])
    return x


def masked_language_model(variables, x):
    """Scores of all tokens `[..., vocabulary]` from the head on hidden states `[..., d]`."""
    head = "cls/predictions/transform/"
    x = x @ variables[head + "dense/kernel"] + variables[head + "dense/bias"]
    x = layer_norm(
        x * (1 + erf(x / np.sqrt(2))) / 2, variables[head + "LayerNorm/gamma"], variables[head + "LayerNorm/beta"]
    )
    return x @ variables["bert/embeddings/word_embeddings"].T + variables["cls/predictions/output_bias"]
