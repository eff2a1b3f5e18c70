#! -*- coding: utf-8 -*-
"""UniVAE：基于Transformer的单模型、多尺度的VAE模型 (kexue.fm/archives/8475): texts to codes and back in one BERT.

The lowest layers of the bundled encoder learn clauses of book reviews. Readable samples take half an hour of one CPU
core (steps = 2500); what this prints after a few minutes has the right words in it, no more.
"""

import numpy as np
from bert4keras.models import BERT
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras.backend import keras, set_seed
from kexue_keras.data import split_reviews
from kexue_keras.decoding import LatentTexts
from kexue_keras.models import UniVAE, load
from kexue_keras.optimizers import AdamW

max_length = 14
batch_size = 32
steps = 300
learning_rate = 5e-4
rows = dict(train=6000, valid=0, test=200)
num_latent_layers = 3  # the upper 3 of the lowest 4 of 12, for time

model_path = "me5-zh-char-mlm"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-char_L-12_H-768_A-12"  # and RoFormer instead of BERT below

set_seed(2021)


def clauses(reviews):
    """Short pieces between punctuation marks."""
    texts = [piece for text, _ in reviews for piece in text.replace("。", "，").replace("！", "，").split("，")]
    return [text for text in texts if 4 <= len(text) <= 12]


train_data, _, test_data = [clauses(part) for part in split_reviews(**rows, seed=2021)]

vae_class = UniVAE(  # <- "gaussian", "vq" and "none" are the other latents
    BERT,
    latent="vmf",
    kappa=32,
    num_latent_layers=num_latent_layers,
    z_dim=16,
    max_length=max_length,
    length_leak="restart",
)
pretrained = load(model_path, model=vae_class, num_hidden_layers=num_latent_layers + 1, dropout_rate=0.0)
tokenizer, vae = pretrained.tokenizer, pretrained.bert


class data_generator(DataGenerator):
    """[text ; text] and its segment ids; the loss is in the model."""

    def __iter__(self, random=False):
        batch_token_ids = []
        for is_end, text in self.sample(random):
            batch_token_ids.append(tokenizer.encode(text, maxlen=max_length)[0])
            if len(batch_token_ids) == self.batch_size or is_end:
                segment_ids = [[0] * len(ids) + [1] * len(ids) for ids in batch_token_ids]
                yield [sequence_padding([ids + ids for ids in batch_token_ids]), sequence_padding(segment_ids)], None
                batch_token_ids = []


model = vae.training_model  # <-
model.compile(AdamW(learning_rate))
latent = LatentTexts(vae, tokenizer)  # <-


class Evaluator(keras.callbacks.Callback):
    """Shows what can be done with codes."""

    def on_epoch_end(self, epoch, logs=None):
        texts = test_data[:4]
        written = latent.reconstruct(texts)
        kept = np.mean([len(set(a) & set(b)) / len(set(a)) for a, b in zip(texts, written)])
        print("\nreconstructed, %.2f of the characters kept: %s" % (kept, list(zip(texts, written))))
        print("samples: %s" % latent.sample(5, seed=1))
        print("from the first to the second: %s" % latent.interpolate(*texts[:2], steps=5))
        other = latent.encode(texts[1:2])[0]
        print("the first with the second's first 32 dimensions: %s" % latent.replace(texts[:1], stop=32, other=other))
        print("the first with the second's last 16 dimensions: %s" % latent.replace(texts[:1], start=-16, other=other))


if __name__ == "__main__":
    train_generator = data_generator(train_data, batch_size)
    model.fit(train_generator.forfit(), steps_per_epoch=steps, epochs=1, callbacks=[Evaluator()])
