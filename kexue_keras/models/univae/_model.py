"""UniVAE: encoder, latent variables of several layers and decoder in one Transformer.

Article: UniVAE：基于Transformer的单模型、多尺度的VAE模型 (kexue.fm/archives/8475); the sphere: 变分自编码器（七）：球面上的VAE（vMF-VAE）
(kexue.fm/archives/8404).
"""

from typing import Any, Dict, List, Optional, Type

from bert4keras.layers import PositionEmbedding, SinusoidalPositionEmbedding
from bert4keras.models import NEZHA, RoFormer

from kexue_keras import checks
from kexue_keras.backend import keras, register
from kexue_keras.layers import GaussianSampling, VectorQuantization, VonMisesFisherSampling
from kexue_keras.losses import TextAutoencoderLoss
from kexue_keras.models._partial_weights import extended_bases
from kexue_keras.models.univae._layers import (
    CLOSED,
    OPEN,
    Columns,
    FirstToken,
    ReplaceFirst,
    RestartingPositionEmbedding,
    RestartingSinusoidalPositionEmbedding,
    UniAEMask,
    UnitLength,
)
from kexue_keras.types import Transformer

LATENTS = ("vmf", "gaussian", "vq", "none")
LENGTH_LEAKS = ("pad", "restart")
_RESTARTING = {
    PositionEmbedding: RestartingPositionEmbedding,
    SinusoidalPositionEmbedding: RestartingSinusoidalPositionEmbedding,
}


@register
def UniVAE(
    BaseModel: Type[Transformer],
    *,
    latent: str = "vmf",
    num_latent_layers: int = 4,
    z_dim: int = 16,
    kappa: float = 32.0,
    num_codes: int = 512,
    max_length: int = 32,
    length_leak: str = "pad",
    kl_weight: float = 1.0,
    seed: Optional[int] = None,
) -> Type[Transformer]:
    """Subclass of a bert4keras model class that is an autoencoder of texts with latent variables.

    A sample is [text ; text]. The first one is read in both directions, the second one only backwards, and sees of the
    first nothing but its [CLS]. At the input of each of the last `num_latent_layers` layers [CLS] is made into a latent
    variable, z = sample(Dense(x_0)), and Dense(z) takes its place.

    The transformer has, besides `model` (token ids and segment ids [B, n] -> logits [B, n, V]):
    `training_model`: the same with its loss (`TextAutoencoderLoss`) in it; compile it with an optimizer alone.
    `encoder`: token ids, segment ids (0) -> codes [B, num_latent_layers z_dim], the means.
    `decoder`: token ids, segment ids, codes -> logits. Its source is only [CLS] and padding.
    `decoding.LatentTexts` makes texts of codes and codes of texts.

    Args:
        BaseModel: class, BERT or RoFormer.
        latent: 'vmf' (von Mises-Fisher on the sphere, fixed kappa: no KL term, no collapse); 'gaussian' (with its KL
            divergence); 'vq' (the nearest of a learned table); 'none' (UniAE: no noise).
        num_latent_layers: int, less than the number of layers (the first layer's [CLS] is the same for all texts).
        z_dim: int, size of a layer's latent.
        kappa: number >= 0, concentration for 'vmf'.
        num_codes: int, rows of the table for 'vq'.
        max_length: int, longest text in tokens, [CLS] and [SEP] included.
        length_leak: the target's position must not reveal the source's length, which is its own. 'pad': both are
            padded to max_length. 'restart': the target's positions follow [CLS], whatever the source; nothing is
            padded, which takes less time where texts are short.
        kl_weight: number >= 0, weight of the latents' costs in the loss ('gaussian' and 'vq').
        seed: int or None, of the sampling.

    Returns:
        class for `build_transformer_model(..., model=...)` and `kexue_keras.models.load(..., model=...)`; checkpoints
        of ordinary models are loaded, and the latents' weights start fresh.

    Raises:
        ValueError: BaseModel is no model class of bert4keras; unknown words; sizes out of range; when the model is
            built, too few layers or positions, or no segment ids.

    Reference:
        UniVAE：基于Transformer的单模型、多尺度的VAE模型, kexue.fm/archives/8475;
        变分自编码器（七）：球面上的VAE（vMF-VAE）, kexue.fm/archives/8404

    >>> from bert4keras.models import BERT, build_transformer_model
    >>> vae = build_transformer_model(
    ...     model=kexue_keras.models.UniVAE(BERT, num_latent_layers=1, z_dim=4, max_length=8), return_keras_model=False,
    ...     vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    ...     hidden_act='gelu', max_position=16)
    >>> tokens = np.array([[2, 7, 9, 3, 0, 0, 0, 0]])
    >>> vae.encoder.predict([tokens, 0 * tokens]).shape
    (1, 4)
    """
    bases = extended_bases(BaseModel, "UniVAE")
    checks.choice(latent, LATENTS, "latent", "UniVAE")
    checks.choice(length_leak, LENGTH_LEAKS, "length_leak", "UniVAE")
    # Under other names, since a class body would look for its own.
    latents = checks.whole_number(num_latent_layers, "num_latent_layers", "UniVAE", least=1)
    size = checks.whole_number(z_dim, "z_dim", "UniVAE", least=2 if latent == "vmf" else 1)
    longest = checks.whole_number(max_length, "max_length", "UniVAE", least=3)
    weight = checks.number(kl_weight, "kl_weight", "UniVAE", least=0)
    kind, leak = latent, length_leak
    if leak == "restart" and issubclass(BaseModel, NEZHA) and not issubclass(BaseModel, RoFormer):
        raise ValueError("UniVAE: length_leak='restart' is for BERT and RoFormer; %s needs 'pad'" % BaseModel.__name__)

    class UniVAEModel(*bases):
        """`BaseModel` as an autoencoder of texts."""

        technique = "univae"
        allow_pretrained = True
        latent, num_latent_layers, z_dim, max_length, length_leak = kind, latents, size, longest, leak

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.with_mlm = self.with_mlm or "linear"
            self._mode, self._codes, self._costs, self._masks = "train", [], [], {}

        @property
        def first_latent_layer(self) -> int:
            """Number of the lowest layer that has a latent."""
            return self.num_hidden_layers - self.num_latent_layers

        def build(self, **kwargs: Any) -> None:
            self._check_sizes()
            super().build(**kwargs)
            costs = self._costs
            loss = TextAutoencoderLoss(weight=weight, name=self.prefixed("Autoencoder-Loss"))
            self.training_model = keras.models.Model(self.inputs, loss(self.inputs + [self.model.output] + costs))
            self._call("encode")
            codes = self.apply(self._codes, keras.layers.Concatenate, axis=1, name="Codes") if latents > 1 else None
            self.encoder = keras.models.Model(self.inputs, self._codes[0] if codes is None else codes)
            self.codes_in = self.apply(layer=keras.layers.Input, shape=(latents * size,), name="Input-Codes")
            self.decoder = keras.models.Model(self.inputs + [self.codes_in], self._call("decode"))

        def _call(self, mode):
            self._mode, self._codes, self._costs, self.position_bias = mode, [], [], None
            return self.call(self.inputs)

        def _check_sizes(self):
            if self.first_latent_layer < 1:
                raise ValueError(
                    "num_latent_layers is %d and num_hidden_layers %d; below the first latent a layer is needed that "
                    "reads the text" % (latents, self.num_hidden_layers)
                )
            if not self.segment_vocab_size > 1:
                raise ValueError("UniVAE tells source from target by segment ids 0 and 1; the model has none")
            needed = 2 * longest if leak == "pad" else longest + 1
            room = float("inf") if issubclass(BaseModel, NEZHA) or self.hierarchical_position else self.max_position
            if needed > room:
                raise ValueError(
                    "max_length=%d needs %d positions with length_leak=%r, but the model has %d; give a smaller "
                    "max_length" % (longest, needed, leak, room)
                )

        def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
            if layer in _RESTARTING and leak == "restart":
                inputs, layer = [inputs, self.inputs[1]], _RESTARTING[layer]
            return super().apply(inputs, layer, arguments, **kwargs)

        def compute_attention_bias(self, inputs=None):
            opened = inputs >= self.first_latent_layer
            if opened not in self._masks:
                self._masks[opened] = self.apply(
                    self.inputs[1], UniAEMask, opened=opened, name=OPEN if opened else CLOSED
                )
            return self._masks[opened]

        def apply_main_layers(self, inputs, index):
            if index >= self.first_latent_layer:
                number = index - self.first_latent_layer
                z = self._given_code(number) if self._mode == "decode" else self._latent(inputs, number)
                z = self.apply(
                    z,
                    keras.layers.Dense,
                    units=self.hidden_size,
                    # About as large as the states beside it; codes have length 1, or entries of size 1.
                    kernel_initializer=keras.initializers.RandomNormal(
                        stddev=0.5 if kind == "vmf" else 0.5 * size**-0.5
                    ),
                    name="Latent-%d-Out" % number,
                )
                inputs = self.apply([inputs, z], ReplaceFirst, name="Latent-%d-Replace" % number)
            return super().apply_main_layers(inputs, index)

        def _given_code(self, number):
            span = {"start": number * size, "stop": (number + 1) * size}
            return self.apply(self.codes_in, Columns, name="Code-%d" % number, **span)

        def _latent(self, x, number):
            """The code in mode 'encode', a sample of it in mode 'train'."""
            name = "Latent-%d-" % number
            x = self.apply(x, FirstToken, name=name + "CLS")
            units = 2 * size if kind == "gaussian" else size
            mean = self.apply(x, keras.layers.Dense, units=units, name=name + "In")
            cost = None
            if kind == "vq":
                mean, cost = self.apply(mean, VectorQuantization, num_codes=num_codes, name=name + "Codebook")
                z = mean
            elif self._mode == "encode":
                if kind == "vmf":
                    mean = self.apply(mean, UnitLength, name=name + "Mean")
                elif kind == "gaussian":
                    mean = self.apply(mean, Columns, start=0, stop=size, name=name + "Mean")
                z = mean
            elif kind == "gaussian":
                z, cost = self.apply(mean, GaussianSampling, seed=_seed(number), name=name + "Sample")
            elif kind == "vmf":
                z = self.apply(mean, VonMisesFisherSampling, kappa=kappa, seed=_seed(number), name=name + "Sample")
            else:
                z = mean
            self._codes.append(z)
            self._costs += [] if cost is None else [cost]
            return z

        def variable_mapping(self) -> Dict[str, List[str]]:
            """As of the base model, and the latents under names of their own."""
            mapping = dict(super().variable_mapping())
            for i in range(latents):
                for part in ("In", "Out"):
                    start = "univae/latent_%d/%s/" % (i, part.lower())
                    mapping["Latent-%d-%s" % (i, part)] = [start + "kernel", start + "bias"]
                mapping["Latent-%d-Codebook" % i] = ["univae/latent_%d/codebook" % i]
            return mapping

    def _seed(number):
        return None if seed is None else seed + 2 * number

    return UniVAEModel
