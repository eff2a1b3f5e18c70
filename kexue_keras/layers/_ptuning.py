"""The token embedding of P-tuning: a few rows are trained, all others stay as they are.

Reference: "P-tuning：自动构建模版，释放语言模型潜能", kexue.fm/archives/8295; Liu et al., arXiv 2103.10385.
"""

from typing import Any, Iterable

import numpy as np
import tensorflow as tf
from bert4keras.layers import Embedding

from kexue_keras.backend import K, register
from kexue_keras.types import Array, ArrayLike, Config, Shape, Tensor


@register
class PTuningEmbedding(Embedding):
    """bert4keras' token embedding with two weights: the frozen table, and the rows of `trainable_ids`.

    E = table, but row trainable_ids[i] is prompt[i]. The author's code trains one table and stops the gradient of the
    other rows; then weight decay, and the moments of an optimizer that has seen other gradients, still move them.
    Here no optimizer sees them, and its state is as small as the prompt. Both modes of the layer (embedding, and
    projection of the tied MLM head) use the same rows.

    Args:
        input_dim: int, size of the vocabulary.
        output_dim: int, size of an embedding.
        trainable_ids: iterable of different token ids, such as range(1, 9) for [unused1] to [unused8].
        **kwargs: as for `Embedding`: `mask_zero`, `embeddings_initializer`, ...

    Call arguments:
        int tensor [batch, n] with mode="embedding", or float tensor [batch, n, output_dim] with mode="dense".

    Returns:
        float tensor [batch, n, output_dim], or [batch, n, input_dim].

    Raises:
        ValueError: no ids, an id twice, or one outside the vocabulary.

    Reference: kexue.fm/archives/8295.

    >>> layer = kexue_keras.layers.PTuningEmbedding(50, 16, trainable_ids=range(1, 9), mask_zero=True)
    >>> vectors = layer(keras.layers.Input((None,)))
    >>> [K.int_shape(w) for w in layer.trainable_weights], [K.int_shape(w) for w in layer.non_trainable_weights]
    ([(8, 16)], [(50, 16)])
    """

    def __init__(self, input_dim: int, output_dim: int, *, trainable_ids: Iterable[int], **kwargs: Any) -> None:
        super().__init__(input_dim, output_dim, **kwargs)
        ids = [int(i) for i in trainable_ids]
        wrong = sorted({i for i in ids if not 0 <= i < input_dim or ids.count(i) > 1})
        if not ids or wrong:
            raise ValueError(
                "PTuningEmbedding: trainable_ids must be different token ids from 0 to %d, at least one, but are %r%s"
                % (input_dim - 1, ids, "; wrong: %r" % wrong if wrong else "")
            )
        self.trainable_ids = ids

    def build(self, input_shape: Shape) -> None:
        options = {"initializer": self.embeddings_initializer, "constraint": self.embeddings_constraint}
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.input_dim, self.output_dim), trainable=False, **options
        )
        self.prompt = self.add_weight(
            name="prompt",
            shape=(len(self.trainable_ids), self.output_dim),
            regularizer=self.embeddings_regularizer,
            **options,
        )
        self.built = True

    def call(self, inputs: Tensor, mode: str = "embedding") -> Tensor:
        if mode != "embedding":
            ids = np.array(self.trainable_ids)[:, None]
            table = tf.tensor_scatter_nd_update(tf.convert_to_tensor(self.embeddings), ids, self.prompt)
            return K.dot(inputs, K.transpose(table))
        # Looking twice is cheaper than copying the table: its gradient would have the size of the vocabulary.
        places = np.full(self.input_dim, -1)
        places[self.trainable_ids] = np.arange(len(self.trainable_ids))
        tokens = K.cast(inputs, "int32")
        place = tf.gather(tf.constant(places, tf.int32), tokens)
        prompt = tf.gather(tf.convert_to_tensor(self.prompt), tf.maximum(place, 0))
        frozen = tf.gather(tf.convert_to_tensor(self.embeddings), tokens)
        chosen = tf.cast(tf.expand_dims(place >= 0, -1), frozen.dtype)
        return chosen * prompt + (1 - chosen) * frozen

    def set_table(self, table: ArrayLike) -> None:
        """Take over a pretrained table: the frozen one, and its rows of `trainable_ids` as the prompt's start.

        Args:
            table: array [input_dim, output_dim].

        Raises:
            ValueError: the layer is not built, or the shape is another one.
        """
        table = np.asarray(table)
        if not self.built:
            raise ValueError("%s has no weights yet; call it, or build the model, before set_table" % self.name)
        if table.shape != (self.input_dim, self.output_dim):
            raise ValueError(
                "%s: the table must have the shape %s, but has %s"
                % (self.name, (self.input_dim, self.output_dim), table.shape)
            )
        K.batch_set_value([(self.embeddings, table), (self.prompt, table[self.trainable_ids])])

    def get_table(self) -> Array:
        """The whole table as an array [input_dim, output_dim], with the prompt in its rows."""
        table, prompt = K.batch_get_value([self.embeddings, self.prompt])
        table[self.trainable_ids] = prompt
        return table

    def get_config(self) -> Config:
        return dict(super().get_config(), trainable_ids=self.trainable_ids)
