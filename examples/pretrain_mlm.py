#! -*- coding: utf-8 -*-
"""Masked language modelling on texts of your own: the head that PET and P-tuning need (kexue.fm/archives/7764).

A minute on book reviews; for real use give `path`, a file with one text per line, and some hours. The result is a
folder that models.load(folder, with_mlm="linear") reads.
"""

import numpy as np
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import models
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import gather_places, random_masking, split_reviews
from kexue_keras.losses import MaskedCrossentropy
from kexue_keras.optimizers import AdamW, LayerwiseLearningRate

max_length = 64
batch_size = 32
epochs = 1
learning_rate = 2e-4
rows = dict(train=3000, valid=0, test=500)
num_hidden_layers = 6  # the lowest 6 of 12, for time
saved = "runs/pretrain_mlm"

model_path = "me5-zh-char"  # bundled with the package; without such a head
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"

path = None  # "/root/texts.txt"

set_seed(2021)
train_data, _, test_data = [[text for text, _ in part] for part in split_reviews(**rows, seed=2021)]
if path:
    with open(path, encoding="utf-8") as f:
        train_data = [line.strip() for line in f if line.strip()]

encoder = models.load(model_path, with_mlm="linear", missing="initialise", num_hidden_layers=num_hidden_layers)
tokenizer = encoder.tokenizer
special = [tokenizer._token_start_id, tokenizer._token_end_id]


class data_generator(DataGenerator):
    """Batches of damaged token ids, segment ids, places to predict; and what stood there."""

    def __iter__(self, random=False):
        batch_token_ids, state = [], np.random if random else np.random.RandomState(0)
        for is_end, text in self.sample(random):
            batch_token_ids.append(tokenizer.encode(text, maxlen=max_length)[0])
            if len(batch_token_ids) == self.batch_size or is_end:
                token_ids = sequence_padding(batch_token_ids)
                seen, labels = random_masking(
                    token_ids,
                    state,
                    mask_id=tokenizer._token_mask_id,
                    vocab_size=tokenizer._vocab_size,
                    protected=special,
                )
                places, labels = gather_places(labels)
                yield [seen, np.zeros_like(seen), places], labels[:, :, None]
                batch_token_ids = []


train_generator = data_generator(train_data, batch_size)
test_generator = data_generator(test_data, 64)

model = models.predict_at(encoder.bert)  # <- logits at the masked positions only, which saves most of the head's time
optimizer = LayerwiseLearningRate(AdamW(learning_rate), multipliers={"MLM": 5.0})  # <- the head is new
model.compile(loss=MaskedCrossentropy(), optimizer=optimizer)


def evaluate(data):
    """Share of the hidden tokens that are predicted."""
    right = total = 0
    for x_true, y_true in data:
        labels = y_true[:, :, 0]
        right += ((model.predict(x_true).argmax(axis=-1) == labels) & (labels > 0)).sum()
        total += (labels > 0).sum()
    return right / total


class Evaluator(keras.callbacks.Callback):
    """Measures after each epoch, and saves."""

    def on_epoch_end(self, epoch, logs=None):
        print("accuracy on masked tokens: %.4f" % evaluate(test_generator))
        models.save(encoder, saved, overwrite=True)


if __name__ == "__main__":
    print("accuracy on masked tokens before training: %.4f" % evaluate(test_generator))
    model.fit(train_generator.forfit(), steps_per_epoch=len(train_generator), epochs=epochs, callbacks=[Evaluator()])
