"""The T5 of the papers in bert4keras: what its own class has fixed is read from the configuration.

bert4keras' T5 scales the decoder's output by 1/sqrt(d) also where the output matrix is one of its own, and adds
the decoder's table of relative positions to the attention over the input. T5 does neither (mesh_tensorflow scales only
a shared matrix, and its released configurations say `EncDecAttention.relative_attention_type = None`), so logits of
T5 1.1 and mT5 come out too small by sqrt(d) there. What was trained with bert4keras (T5-PEGASUS) needs both.

那个屠榜的T5模型，现在可以在中文上玩玩了, kexue.fm/archives/7867. Papers: arXiv 1910.10683, 2002.05202, 2010.11934.
"""

from typing import Any, Dict, List, Optional

from bert4keras import models as bert4keras_models
from bert4keras.layers import LayerNormalization, RelativePositionEmbeddingT5

from kexue_keras.backend import K, TruncatedNormal, keras, register


@register
class ZeroMasked(keras.layers.Layer):
    """Sets what is masked to zero, so that the mask survives where only arrays are handed on.

    T5's encoder ends with it, and the decoder takes all-zero rows of its context for padding. So
    `decoder.predict([encoder.predict(ids), ...])` gives what the joint model gives, for padded batches too.

    >>> x = keras.layers.Input([2, 3])
    >>> K.int_shape(ZeroMasked()(keras.layers.Masking(1.)(x)))
    (None, 2, 3)
    """

    def __init__(self, **kwargs):
        super(ZeroMasked, self).__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        if mask is None:
            return inputs
        return inputs * K.expand_dims(K.cast(mask, K.dtype(inputs)), -1)

    def compute_mask(self, inputs, mask=None):
        return mask

    def compute_output_shape(self, input_shape):
        return input_shape


class _Part(object):
    """What encoder, decoder and the whole have in common."""

    def __init__(
        self,
        layer_norm_eps: float = 1e-6,
        relative_attention_num_buckets: int = 32,
        relative_attention_max_distance: int = 128,
        scale_output: Optional[bool] = None,
        cross_position_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        if isinstance(self, bert4keras_models.T5_Decoder):
            kwargs["cross_position_bias"] = cross_position_bias
        super(_Part, self).__init__(**kwargs)
        self.layer_norm_eps = layer_norm_eps
        self.buckets = relative_attention_num_buckets
        self.max_distance = relative_attention_max_distance
        self.scale_output = self.version == "t5.1.0" if scale_output is None else scale_output

    @property
    def initializer(self) -> TruncatedNormal:
        return TruncatedNormal(stddev=0.02)  # as in bert4keras, but of the seed alone

    def apply(
        self, inputs: Any = None, layer: Any = None, arguments: Optional[Dict[str, Any]] = None, **kwargs: Any
    ) -> Any:
        if layer is LayerNormalization:
            kwargs["epsilon"] = self.layer_norm_eps
        elif layer is RelativePositionEmbeddingT5:
            kwargs.update(input_dim=self.buckets, max_distance=self.max_distance)
        elif kwargs.get("name") == "Decoder-Output-Scale" and not self.scale_output:
            return inputs
        return super(_Part, self).apply(inputs, layer, arguments, **kwargs)


class T5Encoder(_Part, bert4keras_models.T5_Encoder):
    """bert4keras' encoder with zeros where its input is padding."""

    def apply_final_layers(self, inputs):
        x = super(T5Encoder, self).apply_final_layers(inputs)
        return self.apply(inputs=x, layer=ZeroMasked, name="Encoder-Output-Mask")


class T5Decoder(_Part, bert4keras_models.T5_Decoder):
    """bert4keras' decoder that takes all-zero rows of the context for padding."""

    def apply_embeddings(self, inputs):
        c, x = super(T5Decoder, self).apply_embeddings(inputs)
        c = self.apply(inputs=c, layer=keras.layers.Masking, mask_value=0.0, name="Decoder-Context-Mask")
        return [c, x]


class T5(_Part, bert4keras_models.T5_Base):
    """bert4keras' T5, with the output and the attention of the papers; any class of it can be given to `load_t5`.

    Args:
        version: 't5.1.0' (the output matrix is the embedding) or 't5.1.1' (it has its own).
        num_decoder_layers: int, if it differs from the encoder's.
        layer_norm_eps, relative_attention_num_buckets, relative_attention_max_distance: as in the papers by default.
        scale_output: whether the decoder's output is multiplied by 1/sqrt(d); None: where the matrix is shared.
        cross_position_bias: whether the decoder's relative positions are added to the attention over the input.
        **kwargs: what bert4keras' T5 takes.

    Reference: kexue.fm/archives/7867 (那个屠榜的T5模型，现在可以在中文上玩玩了).

    >>> t5 = T5(version='t5.1.1', vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    ...         intermediate_size=32, hidden_act=['gelu_tanh', 'linear'])
    >>> t5.build()
    >>> t5.model.predict([np.ones([1, 5]), np.ones([1, 3])]).shape
    (1, 3, 50)
    """

    def __init__(self, num_decoder_layers: Optional[int] = None, **kwargs: Any) -> None:
        parts = dict(kwargs)
        name = parts.pop("name", None)
        prefix = "" if name is None else name + "_"
        super(T5, self).__init__(**kwargs)
        parts["layers"] = self.layers
        self._encoder = T5Encoder(name=prefix + "Encoder", **parts)
        parts["num_hidden_layers"] = num_decoder_layers or self.num_hidden_layers
        self._decoder = T5Decoder(name=prefix + "Decoder", **parts)

    # That class itself would make bert4keras' encoder and decoder.
    build = bert4keras_models.T5.build

    def variable_mapping(self) -> Dict[str, List[str]]:
        """Names as in T5's own checkpoints; those of mT5 say rms_norm instead of layer_norm."""
        own = self.num_hidden_layers
        self.num_hidden_layers = max(own, self._decoder.num_hidden_layers)
        try:
            mapping = super(T5, self).variable_mapping()
        finally:
            self.num_hidden_layers = own
        kernels = ["wi_0", "wi_1", "wo"] if isinstance(self.hidden_act, (list, tuple)) else ["wi", "wo"]
        for layer, names in mapping.items():
            if layer.endswith("-FeedForward"):
                start = names[0].split("DenseReluDense/")[0]
                mapping[layer] = ["%sDenseReluDense/%s/kernel" % (start, kernel) for kernel in kernels]
        return {layer: names for layer, names in mapping.items() if self.prefixed(layer) in self.layers}
