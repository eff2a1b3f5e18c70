"""Texts to codes and codes to texts with a UniVAE: samples of the prior, reconstruction, interpolation, replacement.

Reference: "UniVAE：基于Transformer的单模型、多尺度的VAE模型", kexue.fm/archives/8475.
"""

from typing import List, Optional, Sequence

import numpy as np
from scipy.spatial import geometric_slerp

from kexue_keras import checks
from kexue_keras.backend import K, ModelSession
from kexue_keras.data import encode
from kexue_keras.data._batches import pad
from kexue_keras.decoding._generator import Generator
from kexue_keras.types import Array, ArrayLike, Tokenizer, Transformer


class LatentTexts(object):
    """What a trained UniVAE writes.

    Args:
        vae: bert4keras transformer object of a class that `models.UniVAE` made.
        tokenizer: bert4keras tokenizer.
        beams: int, width of the beam search; 1 is greedy.
        batch_size: texts or codes computed together.

    Raises:
        TypeError: `vae` is no UniVAE.

    Reference: kexue.fm/archives/8475.

    >>> from bert4keras.models import BERT
    >>> vae = kexue_keras.models.load('me5-zh-char-mlm', num_hidden_layers=2,
    ...     model=kexue_keras.models.UniVAE(BERT, num_latent_layers=1, max_length=8, length_leak='restart'))
    >>> latent = kexue_keras.decoding.LatentTexts(vae.bert, vae.tokenizer)
    >>> codes = latent.encode(['今天天气好', '我要买书'])
    >>> codes.shape, len(latent.decode(codes)), len(latent.sample(3))
    ((2, 16), 2, 3)
    """

    def __init__(self, vae: Transformer, tokenizer: Tokenizer, *, beams: int = 1, batch_size: int = 64) -> None:
        if getattr(vae, "technique", None) != "univae":
            raise TypeError("LatentTexts takes a transformer of a class that models.UniVAE made, not %r" % (vae,))
        self.vae, self.tokenizer = vae, tokenizer
        self.beams = checks.whole_number(beams, "beams", "LatentTexts", least=1)
        self.batch_size = checks.whole_number(batch_size, "batch_size", "LatentTexts", least=1)
        self.session = ModelSession(vae.encoder)
        self.generator = Generator(vae.decoder, start_id=tokenizer._token_start_id, end_id=tokenizer._token_end_id)

    def encode(self, texts: Sequence[str]) -> Array:
        """Codes of texts, the means of the latents: float32 [B, num_latent_layers z_dim]."""
        encoded, _ = encode(self.tokenizer, texts, self.vae.max_length)
        parts = []
        for i in range(0, len(encoded), self.batch_size):
            part = encoded[i : i + self.batch_size]
            inputs = pad(part, max(len(token_ids) for token_ids, _ in part))
            parts.append(np.asarray(self.session.predict_on_batch(self.vae.encoder, list(inputs))))
        return np.concatenate(parts)

    def decode(self, codes: ArrayLike) -> List[str]:
        """The most likely text (greedy, or by beam search) of each code.

        Args:
            codes: [B, num_latent_layers z_dim]; for 'vmf' each layer's part is scaled to length 1.

        Raises:
            ValueError: codes of another shape, or with NaN or infinity.
        """
        codes = self._checked(codes)
        # The source that the decoder does not see but for its first place, where the latents are put.
        padding = self.vae.max_length - 1 if self.vae.length_leak == "pad" else 0
        source = [[self.tokenizer._token_start_id] + [0] * padding] * len(codes)
        inputs = [source, [[0] * len(source[0])] * len(codes), codes]
        options = {"max_length": self.vae.max_length - 1, "batch_size": self.batch_size}
        if self.beams == 1:
            found = self.generator.greedy(inputs, **options)
        else:
            found = self.generator.beam_search(inputs, beams=self.beams, **options)
        return [self.tokenizer.decode(best[0]) for best in found.lists(self.tokenizer._token_end_id)]

    def reconstruct(self, texts: Sequence[str]) -> List[str]:
        """The texts after encoding and decoding."""
        return self.decode(self.encode(texts))

    def random_codes(self, n: int, *, seed: int = 0) -> Array:
        """Codes of the prior, float32 [n, num_latent_layers z_dim]: uniform on the spheres, normal, or of the tables.

        Raises:
            ValueError: latent='none' has no prior.
        """
        checks.whole_number(n, "n", "LatentTexts.random_codes", least=1)
        vae, rng = self.vae, np.random.RandomState(seed)
        if vae.latent == "none":
            raise ValueError("UniVAE with latent='none' is an autoencoder without a prior; sample with 'vmf'")
        if vae.latent == "vq":
            with self.session.entered():
                names = [vae.prefixed("Latent-%d-Codebook" % i) for i in range(vae.num_latent_layers)]
                tables = K.batch_get_value([vae.layers[name].codebook for name in names])
            return np.concatenate([table[rng.randint(0, len(table), n)] for table in tables], axis=1)
        codes = rng.standard_normal((n, vae.num_latent_layers * vae.z_dim)).astype("float32")
        return self._checked(codes)

    def sample(self, n: int, *, seed: int = 0) -> List[str]:
        """n texts of random codes; see `random_codes`."""
        return self.decode(self.random_codes(n, seed=seed))

    def interpolate(self, first: str, second: str, *, steps: int = 5) -> List[str]:
        """Texts on the way from one to the other, both included: codes on the line, for 'vmf' on the great circle.

        Raises:
            ValueError: fewer than two steps.
        """
        checks.whole_number(steps, "steps", "LatentTexts.interpolate", least=2)
        first, second = self._layers(self.encode([first, second]))
        t = np.linspace(0, 1, steps)
        if self.vae.latent == "vmf":
            # scipy wants length 1 in float64.
            ends = [
                x.astype("float64") / np.linalg.norm(x.astype("float64"), axis=-1, keepdims=True)
                for x in (first, second)
            ]
            codes = np.concatenate([geometric_slerp(a, b, t) for a, b in zip(*ends)], axis=1)
        else:
            codes = np.array([((1 - x) * first + x * second).ravel() for x in t])
        return self.decode(codes)

    def replace(
        self, texts: Sequence[str], *, start: int = 0, stop: Optional[int] = None, other: ArrayLike
    ) -> List[str]:
        """Texts whose codes have columns `start` to `stop` from another code: the first 32, say, or the last 16.

        Args:
            texts: list of str.
            start, stop: as of a slice of the code; negative from its end.
            other: code [num_latent_layers z_dim], or one for each text.

        Raises:
            ValueError: `other` has another shape, or the part is empty.
        """
        codes = self.encode(texts)
        other = np.broadcast_to(self._checked(np.atleast_2d(np.asarray(other, "float32"))), codes.shape)
        if not codes[:, start:stop].shape[1]:
            raise ValueError("start=%r, stop=%r is an empty part of %d columns" % (start, stop, codes.shape[1]))
        codes[:, start:stop] = other[:, start:stop]
        return self.decode(codes)

    def _layers(self, codes):
        return np.reshape(codes, (len(codes), self.vae.num_latent_layers, self.vae.z_dim))

    def _checked(self, codes):
        codes = np.asarray(codes, "float32")
        size = self.vae.num_latent_layers * self.vae.z_dim
        if codes.ndim != 2 or codes.shape[1] != size or not np.isfinite(codes).all():
            raise ValueError(
                "codes of shape %s; [texts, %d] of finite numbers are needed (num_latent_layers x z_dim)"
                % (codes.shape, size)
            )
        if self.vae.latent == "vmf":
            parts = self._layers(codes)
            codes = (parts / np.maximum(np.linalg.norm(parts, axis=-1, keepdims=True), 1e-12)).reshape(codes.shape)
        return codes
