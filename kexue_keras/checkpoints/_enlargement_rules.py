"""What becomes of each variable when a Transformer is enlarged k times without loss; noise that breaks the symmetry.

Every state x of the small model is rep(x) / sqrt k in the large one: each component k times, side by side. With s =
sqrt k, and rep for each axis:

    embeddings, norms               rep / s               query, key             rep / k k^(1/4)   bias rep / s k^(1/4)
    value, attention output         rep / k               biases                 rep / s
    feed-forward, first             rep / s               bias                   rep
    feed-forward, second            rep / (k s)           bias                   rep / s
    pooler, MLM-Dense               rep / s               bias                   rep
    classifier over the pooler      rep / k               output bias of MLM     as it is

k^(1/4) only where attention divides by the root of the head size (T5 does not). A head's components are repeated within
it; RoFormer's queries and keys pair by pair, as they are turned.

Reference: "无损放大的Transformer模型", kexue.fm/archives/8444. The article prints rep / k for the second bias of the
feed-forward layer, which is right for 0 only.
"""

import re

import numpy as np

from kexue_keras.errors import WeightsError

MODES = ("size", "heads")
# Attention, by the end of a name: Google's words, and T5's letters.
_QUERY_KEY = re.compile(r"(attention/self/(query|key)/(kernel|bias)|Attention/[qk])$")
_VALUE = re.compile(r"(attention/self/value/(kernel|bias)|Attention/v)$")
_OUTPUT = re.compile(r"(attention/output/dense/(kernel|bias)|Attention/o)$")
_FIRST = re.compile(r"(intermediate/dense/(kernel|bias)|DenseReluDense/wi(_[01])?/kernel)$")
_SECOND = re.compile(r"(layer_\d+/output/dense/(kernel|bias)|DenseReluDense/wo/kernel)$")
_UNSCALED = re.compile(r"(bert/pooler/dense|cls/predictions/transform/dense)/(kernel|bias)$")
_MAPPING = re.compile(r"embedding_hidden_mapping_in/(kernel|bias)$")
_VECTORS = re.compile(
    r"(embeddings/(word|position|token_type)_embeddings|shared/embedding|LayerNorm/(beta|gamma)|layer_norm/scale)$"
)


class Enlargement(object):
    """The rules for one model.

    Args:
        config: dict in the words of bert4keras.
        kind: 'bert', 'roberta', 'roformer' or 't5'.
        k: int.
        mode: 'size' (heads k times as large) or 'heads' (k times as many heads of the same size).

    >>> rules = Enlargement({'num_attention_heads': 1}, 'bert', 2, 'size')
    >>> rules.apply('bert/encoder/layer_0/output/dense/bias', np.array([2.0, 0.0])).round(3).tolist()
    [1.414, 1.414, 0.0, 0.0]
    """

    def __init__(self, config, kind, k, mode):
        self.config, self.kind, self.k, self.mode, self.s = config, kind, k, mode, float(k) ** 0.5

    def apply(self, name, value):
        """The variable of the large model, float64.

        Raises:
            WeightsError: there is no rule for it.
        """
        k, s, value = self.k, self.s, np.asarray(value, "float64")
        kernel = value.ndim == 2
        if _QUERY_KEY.search(name):
            return self._into_heads(value, k**0.25 if self.kind != "t5" else 1.0, pairs=self.kind == "roformer")
        if _VALUE.search(name):
            return self._into_heads(value, 1.0, pairs=False)
        if _OUTPUT.search(name):
            if not kernel:
                return self._rep(value, 0) / s
            if self.mode == "heads":
                return self._rep(self._blocks(value, 0), 1) / (k * s)
            return self._both(value) / k
        if _FIRST.search(name) or _UNSCALED.search(name):
            return self._both(value) / s if kernel else self._rep(value, 0)
        if _SECOND.search(name):
            return self._both(value) / (k * s) if kernel else self._rep(value, 0) / s
        if _MAPPING.search(name):
            return self._both(value) / k if kernel else self._rep(value, 0) / s
        if name == "decoder/final_layer_norm/scale" and self.config["scale_output"]:
            # The constant 1 / sqrt(size) behind it becomes smaller by s.
            return self._rep(value, 0)
        if _VECTORS.search(name):
            return self._rep(value, value.ndim - 1) / s
        if name == "decoder/logits/kernel":
            return self._rep(value, 0) / s
        if name == "cls/seq_relationship/output_weights":
            return self._rep(value, 1) / k
        if name in ("cls/predictions/output_bias", "cls/seq_relationship/output_bias"):
            return value
        if name.endswith("relative_attention_bias"):
            return np.repeat(value, k, axis=0) if self.mode == "heads" else value
        raise WeightsError("there is no rule by which %s is enlarged; nothing was written" % name)

    def noise(self, name, value, rng, std):
        """What may be added to an enlarged kernel: for the k copies of an input it adds up to 0; 0 for all else.

        The copies of an input are equal, so no output changes, but their gradients differ from then on.

        Args:
            std: its standard deviation as a share of the kernel's.
        """
        # Google's NSP head is stored as [classes, size].
        inputs = {"cls/seq_relationship/output_weights": 1}.get(name, 0)
        has_copies = value.ndim == 2 and not _VECTORS.search(name) and not name.endswith("relative_attention_bias")
        if not has_copies or not std:
            return np.zeros_like(value)
        rows = np.moveaxis(value, inputs, 0)
        if _OUTPUT.search(name) and self.mode == "heads":
            # Copies are whole heads there.
            grouped = (self.config["num_attention_heads"], self.k, -1, rows.shape[1])
        else:
            grouped = (-1, self.k, 1, rows.shape[1])
        noise = rng.standard_normal(rows.shape).reshape(grouped)
        noise -= noise.mean(axis=1, keepdims=True)
        return np.moveaxis(noise.reshape(rows.shape), 0, inputs) * std * value.std()

    def _rep(self, value, axis):
        return np.repeat(value, self.k, axis=axis)

    def _both(self, value):
        return self._rep(self._rep(value, 0), 1)

    def _blocks(self, value, axis):
        """Each head k times, whole."""
        shape = value.shape
        heads = self.config["num_attention_heads"]
        split = value.reshape(shape[:axis] + (heads, shape[axis] // heads) + shape[axis + 1 :])
        return self._rep(split, axis).reshape(shape[:axis] + (-1,) + shape[axis + 1 :])

    def _into_heads(self, value, factor, pairs):
        """Kernel [size, heads x head size] or bias of a query, key or value."""
        kernel = value.ndim == 2
        if self.mode == "heads":
            value = self._blocks(value, value.ndim - 1)
            return self._rep(value, 0) / self.s if kernel else value
        if pairs:
            shape = value.shape[:-1]
            value = self._rep(value.reshape(shape + (-1, 1, 2)), len(shape) + 1).reshape(shape + (-1,))
        else:
            value = self._rep(value, value.ndim - 1)
        return factor * (self._rep(value, 0) / self.k if kernel else value / self.s)
