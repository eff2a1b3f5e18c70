"""Contrastive training with a large batch and the memory of a small one, dropout included.

A contrastive loss compares every sentence of a batch with every other, so the gradients of small batches do not add up
to that of the large one. Here the embeddings H of all chunks are computed first and nothing else of them is kept; the
loss of all of them gives dL/dH; then each chunk is computed once more, and dL/dH sent back through it. The article
gives up dropout for this, and SimCSE with it: both computations need the same masks. Stateless dropout has them.

对比学习可以使用梯度累积吗？, kexue.fm/archives/8471. Paper: GradCache, arXiv 2101.06983.
"""

import warnings
from typing import Any, List, Optional, Sequence, Union

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, call_again, is_tf_keras, keras, refuse_eager, register
from kexue_keras.losses._rdrop import never_random
from kexue_keras.training._randomness import fold_in, own_key, replayed_dropout
from kexue_keras.training.gradient_cache._encoder_checks import check_encoder, check_randomness
from kexue_keras.training.gradient_cache._micro_batches import in_micro_batches
from kexue_keras.types import Config, Mask, Model, Phase, Shape, Shapes, Tensor, Tensors

# Keras 2.3.1 does not export it.
_Wrapper = keras.layers.TimeDistributed.__bases__[0]


@register
class GradientCache(_Wrapper):
    r"""A layer that embeds its batch with `encoder`, chunk by chunk, with the memory of one chunk.

    $$\frac{dL}{d\theta}=\sum_{c}\Big\langle\frac{dL}{dH_c},\frac{dH_c}{d\theta}\Big\rangle,$$

    where $H_c$ are the embeddings of chunk c and L is any function of all of them. Forward, nothing of a chunk but
    its embeddings is kept; backward, it is computed once more with the same dropout. Gradients are those of one pass
    over the whole batch; the price is one more forward pass. `gradient_cache` makes the training model of it.

    Args:
        layer: Keras model with symbolic inputs, one output [batch, dimension], and no randomness but Keras' Dropout.
        chunk_size: int, most rows of the encoder in memory at a time (each view counts).
        views: int, how many times each row is embedded, each with its own dropout (2 for SimCSE). Outside the training
            phase it is embedded once and the embedding is repeated.
        name: default "gradient_cache".

    Input: what the encoder takes. Output: [batch, dimension], with `views` above 1 [batch, views, dimension].

    Raises:
        TypeError: `layer` is no model.
        ValueError: the encoder has several outputs, or another than [batch, dimension], BatchNormalization, a
            stateful layer, an activity regularizer or `add_loss`, a fixed batch size, random numbers that cannot be
            repeated; `chunk_size` or `views` is no whole number from 1.

    Reference: 对比学习可以使用梯度累积吗？, kexue.fm/archives/8471; GradCache, arXiv 2101.06983.

    >>> x = keras.layers.Input([4])
    >>> encoder = keras.models.Model(x, keras.layers.Dense(3)(keras.layers.Dropout(0.1)(x)))
    >>> first, second = keras.layers.Input([4]), keras.layers.Input([4])
    >>> cached = kexue_keras.training.gradient_cache.GradientCache(encoder, chunk_size=2)
    >>> model = keras.models.Model([first, second], keras.layers.dot([cached(first), cached(second)], -1))
    >>> model.predict([np.ones([5, 4])] * 2).shape
    (5, 1)
    """

    def __init__(self, layer: Model, *, chunk_size: int, views: int = 1, **kwargs: Any) -> None:
        refuse_eager("GradientCache")
        check_encoder(layer)
        self.chunk_size = checks.whole_number(chunk_size, "chunk_size", "GradientCache", least=1)
        self.views = checks.whole_number(views, "views", "GradientCache", least=1)
        if self.views > 1 and never_random(layer.outputs[0]):
            warnings.warn(
                "GradientCache: nothing random feeds the output of %r, so its %d views of a row are the same; let it "
                "have dropout (dropout_rate=0.1 in build_transformer_model)" % (layer.name, self.views),
                stacklevel=2,
            )
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    @property
    def encoder(self) -> Model:
        """The model that embeds; its weights are those that are trained."""
        return self.layer

    def build(self, input_shape: Optional[Shapes] = None) -> None:
        self.built = True

    def call(self, inputs: Tensors, mask: Mask = None, training: Phase = None) -> Tensor:
        if training is not None and not is_tf_keras:
            raise ValueError(
                "GradientCache: on Keras 2.3.1 a model takes no argument `training`, but training=%r was given; use "
                "K.set_learning_phase" % (training,)
            )
        # Autograph would rewrite the loops, which know what they are.
        return tf.autograph.experimental.do_not_convert(self._embed)(inputs, mask, training)

    def _embed(self, inputs, mask, training):
        inputs = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if len(inputs) != len(self.encoder.inputs):
            raise ValueError(
                "GradientCache: the encoder %r has %d inputs, but is called with %d"
                % (self.encoder.name, len(self.encoder.inputs), len(inputs))
            )
        masks = list(mask) if isinstance(mask, (list, tuple)) else [mask] * len(inputs)
        # Made here, since it would otherwise belong to the loop in which it is first asked for.
        K.learning_phase()
        key = own_key()

        tensors = inputs + masks
        if self.views > 1:
            views = K.in_train_phase(lambda: tf.constant(self.views), lambda: tf.constant(1), training=training)
            tensors = [None if t is None else _repeated(t, views) for t in tensors]
        embeddings = in_micro_batches(
            self._micro_batch_function(key, len(inputs), training),
            tensors,
            size=self.chunk_size,
            dtype=self.encoder.outputs[0].dtype,
            weights=[w for w in self.encoder.weights if w.dtype.is_floating],
            trainable=lambda: self.encoder.trainable_weights,
        )
        if self.views > 1:
            embeddings = tf.reshape(embeddings, [-1, views, K.int_shape(self.encoder.outputs[0])[1]])
            embeddings = tf.tile(embeddings, [1, self.views // views, 1])
            embeddings.set_shape([None, self.views, None])
        # Keras 2.3.1 feeds the phase only to models that declare that they use it, and cannot see into a loop.
        embeddings._uses_learning_phase = True
        return embeddings

    def _micro_batch_function(self, key, inputs, training):
        def function(tensors, number):
            mask = tensors[inputs:] if any(t is not None for t in tensors[inputs:]) else None
            with replayed_dropout(fold_in(key, number)):
                result = call_again(self.encoder, tensors[:inputs], mask=mask, training=training)
            result = result[0] if isinstance(result, (list, tuple)) else result
            check_randomness(result, self.encoder.name, stop=[key, number] + [t for t in tensors if t is not None])
            return result

        return function

    def compute_mask(self, inputs: Tensors, mask: Mask = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Shapes) -> Shape:
        shape = input_shape[0] if isinstance(input_shape[0], (list, tuple)) else input_shape
        views = (self.views,) if self.views > 1 else ()
        return (shape[0],) + views + (K.int_shape(self.encoder.outputs[0])[1],)

    def get_config(self) -> Config:
        return dict(super().get_config(), chunk_size=self.chunk_size, views=self.views)


def gradient_cache(
    encoder: Union[Model, Sequence[Model]], *, chunk_size: int, views: int = 1, name: Optional[str] = None
) -> Model:
    """A model for contrastive training of `encoder` with large batches and the memory of one chunk.

    Compile it with any optimizer and any loss on embeddings, and fit it as any model: the loss that is shown is the
    loss of the whole batch, and so is the gradient. A row of the data is what must not be torn apart by shuffling.

    | for | `encoder` | output, the loss's y_pred |
    |---|---|---|
    | SimCSE: two views of a sentence | a model, `views=2` | [batch, 2, dimension] |
    | pairs, and hard negatives | a list: `[model, model]`, or `[a, b]` for two towers | [batch, towers, dimension] |
    | single rows (labels, or pairs in rows 2i and 2i+1) | a model | [batch, dimension] |

    After training use the encoder: its weights are the trained ones.

    Args:
        encoder: Keras model with one output [batch, dimension], or a list of them (the same one may
            appear repeatedly); `GradientCache` lists what it may not contain.
        chunk_size: int, most rows in memory at a time. As many as fit.
        views: int, how many times each row is embedded, each with its own dropout.
        name: str, of the new model; that of the encoder + "_cached" by default.

    Returns:
        Keras model. Its inputs are those of the encoder, or of all towers one after the other.

    Raises:
        TypeError, ValueError: as `GradientCache`; towers with different dimensions; `views` with several towers.

    Reference: 对比学习可以使用梯度累积吗？, kexue.fm/archives/8471; GradCache, arXiv 2101.06983.

    >>> x = keras.layers.Input([4])
    >>> encoder = keras.models.Model(x, keras.layers.Dense(3)(keras.layers.Dropout(0.1)(x)))
    >>> model = kexue_keras.training.gradient_cache.gradient_cache(encoder, chunk_size=2, views=2)
    >>> model.compile("sgd", kexue_keras.losses.InfoNCE(0.05))
    >>> history = model.fit(np.random.randn(9, 4), np.zeros([9, 1, 1]), batch_size=9, verbose=0)
    >>> encoder.predict(np.ones([5, 4])).shape, model.predict(np.ones([5, 4])).shape
    ((5, 3), (5, 2, 3))
    """
    towers = list(encoder) if isinstance(encoder, (list, tuple)) else [encoder]
    if not towers:
        raise ValueError("gradient_cache: the list of encoders is empty")
    if len(towers) > 1 and checks.whole_number(views, "views", "gradient_cache", least=1) > 1:
        raise ValueError(
            "gradient_cache: views=%d with %d towers; views are for one encoder and unpaired texts"
            % (views, len(towers))
        )
    layers, inputs, outputs = {}, [], []
    for tower in towers:
        if id(tower) not in layers:
            # Not the encoder's own name, which Keras keeps apart from it in files of weights.
            cached = "%s_cached_%d" % (getattr(tower, "name", None), len(layers))
            layers[id(tower)] = GradientCache(tower, chunk_size=chunk_size, views=views, name=cached)
        fresh = [_input_like(x) for x in tower.inputs]
        inputs += fresh
        outputs.append(layers[id(tower)](fresh if len(fresh) > 1 else fresh[0]))
    dimensions = {K.int_shape(x)[-1] for x in outputs}
    if len(dimensions) > 1:
        raise ValueError(
            "gradient_cache: the towers embed into different dimensions (%s); end one of them with a Dense layer"
            % ", ".join(map(str, sorted(dimensions)))
        )
    output = outputs[0] if len(outputs) == 1 else Towers(name="embeddings")(outputs)
    return keras.models.Model(inputs if len(inputs) > 1 else inputs[0], output, name=name or towers[0].name + "_cached")


@register
class Towers(keras.layers.Layer):
    """Puts embeddings [batch, dimension] of several towers side by side: [batch, towers, dimension].

    >>> a, b = keras.layers.Input([3]), keras.layers.Input([3])
    >>> pairs = keras.models.Model([a, b], kexue_keras.training.gradient_cache.Towers()([a, b]))
    >>> pairs.predict([np.ones([5, 3])] * 2).shape
    (5, 2, 3)
    """

    def call(self, inputs: List[Tensor]) -> Tensor:
        return tf.stack(inputs, axis=1)

    def compute_output_shape(self, input_shape: List[Shape]) -> Shape:
        return (input_shape[0][0], len(input_shape), input_shape[0][1])


def _input_like(x):
    return keras.layers.Input(batch_shape=(None,) + K.int_shape(x)[1:], dtype=K.dtype(x))


def _repeated(tensor, times):
    result = tf.repeat(tensor, times, axis=0)
    result.set_shape([None] + tensor.shape.as_list()[1:])
    return result
