"""UniVAE：基于Transformer的单模型、多尺度的VAE模型 (kexue.fm/archives/8475): encoder, codes and decoder in one Transformer."""

from kexue_keras.models.univae._model import UniVAE
