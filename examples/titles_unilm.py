#! -*- coding: utf-8 -*-
"""从语言模型到Seq2Seq：Transformer如戏，全靠Mask (kexue.fm/archives/6933): a BERT writes, with cached decoding.

A task that needs no labels: write the beginning of a review, up to its first comma, from the rest of it. An MLM head
that has been trained helps a lot; `me5-zh-char-mlm` has one.
"""

import time

import numpy as np
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import models
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import split_reviews
from kexue_keras.decoding import Generator
from kexue_keras.losses import MaskedCrossentropy
from kexue_keras.optimizers import AdamW

max_source_length = 64
max_target_length = 16
batch_size = 16
epochs = 2
learning_rate = 2e-4
rows = dict(train=2000, valid=0, test=200)
num_hidden_layers = 6  # the lowest 6 of 12, for time

model_path = "me5-zh-char-mlm"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-char_L-12_H-768_A-12"
# num_hidden_layers, learning_rate = None, 2e-5  # for these two


def load_data(reviews):
    """List of (source, target)."""
    texts = [text for text, _ in reviews if 4 <= text.find("，") <= 14]
    return [(text[text.find("，") + 1 :], text[: text.find("，")]) for text in texts]


set_seed(2021)
train_data, _, test_data = [load_data(part) for part in split_reviews(**rows, seed=2021)]

pretrained = models.load(model_path, application="unilm", with_mlm="linear", num_hidden_layers=num_hidden_layers)
tokenizer, model = pretrained.tokenizer, pretrained.model


class data_generator(DataGenerator):
    """Batches of token ids and segment ids, and the next token wherever the target is written."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids = [], []
        for is_end, (source, target) in self.sample(random):
            source_ids = tokenizer.encode(source, maxlen=max_source_length)[0]
            target_ids = tokenizer.encode(target, maxlen=max_target_length)[0][1:]
            batch_token_ids.append(source_ids + target_ids)
            batch_segment_ids.append([0] * len(source_ids) + [1] * len(target_ids))
            if len(batch_token_ids) == self.batch_size or is_end:
                token_ids, segment_ids = sequence_padding(batch_token_ids), sequence_padding(batch_segment_ids)
                next_ids = np.pad((token_ids * segment_ids)[:, 1:], ((0, 0), (0, 1)), "constant")
                yield [token_ids, segment_ids], next_ids[:, :, None]
                batch_token_ids, batch_segment_ids = [], []


train_generator = data_generator(train_data, batch_size)

model.compile(loss=MaskedCrossentropy(), optimizer=AdamW(learning_rate))  # <- only where next_ids is not 0
generator = Generator(model, end_id=tokenizer._token_end_id)  # <- keys and values of the prefix are cached


def write(sources):
    """A target for each source."""
    ids = [tokenizer.encode(source, maxlen=max_source_length)[0] for source in sources]
    found = generator.beam_search([ids], max_length=max_target_length, beams=3, batch_size=32)
    return [tokenizer.decode(best[0]) for best in found.lists(end_id=tokenizer._token_end_id)]


class Evaluator(keras.callbacks.Callback):
    """Writes after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        sources, targets = zip(*test_data)
        start = time.time()
        written = write(sources)
        seconds = time.time() - start
        overlap = [len(set(a) & set(b)) / len(set(b)) for a, b in zip(written, targets)]
        print("share of the target's characters generated: %.4f; %.0f s" % (np.mean(overlap), seconds))
        for line in list(zip(written, targets, sources))[:3]:
            print("  written: %s   target: %s   source: %s" % line)


if __name__ == "__main__":
    model.fit(train_generator.forfit(), steps_per_epoch=len(train_generator), epochs=epochs, callbacks=[Evaluator()])
