#! -*- coding: utf-8 -*-
"""那个屠榜的T5模型，现在可以在中文上玩玩了 (kexue.fm/archives/7867): titles with mT5, its vocabulary cut to Chinese.

No mT5 comes with the package: without `model_path` a tiny untrained T5 shows that the script runs. Data: the
beginning of a review, up to its first comma, from the rest of it.
"""

import numpy as np
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import checkpoints
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import split_reviews
from kexue_keras.decoding import Generator
from kexue_keras.finetune._seq2seq import small_t5
from kexue_keras.losses import MaskedCrossentropy
from kexue_keras.optimizers import AdamW

max_source_length = 64
max_target_length = 16
batch_size = 16
epochs = 2
learning_rate = 2e-3  # for mT5: 2e-4, about ten times BERT's
rows = dict(train=2000, valid=0, test=100)

model_path = None
# model_path = "/root/kg/mt5-small"  # config.json, pytorch_model.bin or model.safetensors, spiece.model


def load_data(reviews):
    """List of (source, target)."""
    texts = [text for text, _ in reviews if 4 <= text.find("，") <= 14]
    return [(text[text.find("，") + 1 :], text[: text.find("，")]) for text in texts]


set_seed(2021)
train_data, _, test_data = [load_data(part) for part in split_reviews(**rows, seed=2021)]

if model_path:
    texts = [text for pair in train_data for text in pair]
    kept = checkpoints.trim_sentencepiece(
        model_path + "/spiece.model", texts
    ).keep_tokens  # <- 250,000 pieces to some 1,000s
    pretrained = checkpoints.load_t5(
        model_path, keep_tokens=kept, with_lm="linear"
    )  # <- embedding and head cut to these
else:
    pretrained = small_t5(hidden_size=128, num_hidden_layers=2)
tokenizer, model = pretrained.tokenizer, pretrained.model


class data_generator(DataGenerator):
    """Batches of source ids and target ids shifted by one, and the target ids."""

    def __iter__(self, random=False):
        batch_source_ids, batch_target_ids = [], []
        for is_end, (source, target) in self.sample(random):
            batch_source_ids.append(tokenizer.encode(source, maxlen=max_source_length)[0])
            batch_target_ids.append([0] + tokenizer.encode(target, maxlen=max_target_length)[0])  # 0 is where T5 starts
            if len(batch_source_ids) == self.batch_size or is_end:
                source_ids, target_ids = sequence_padding(batch_source_ids), sequence_padding(batch_target_ids)
                yield [source_ids, target_ids[:, :-1]], target_ids[:, 1:, None]
                batch_source_ids, batch_target_ids = [], []


train_generator = data_generator(train_data, batch_size)

model.compile(loss=MaskedCrossentropy(), optimizer=AdamW(learning_rate))
generator = Generator(model, start_id=0, end_id=tokenizer._token_end_id)  # <- the encoder runs once, keys are cached


def write(sources):
    """A target for each source."""
    ids = [tokenizer.encode(source, maxlen=max_source_length)[0] for source in sources]
    found = generator.beam_search([ids], max_length=max_target_length, beams=3, batch_size=32)
    return [tokenizer.decode(best[0]) for best in found.lists(end_id=tokenizer._token_end_id)]


class Evaluator(keras.callbacks.Callback):
    """Writes after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        sources, targets = zip(*test_data)
        written = write(sources)
        overlap = [len(set(a) & set(b)) / len(set(b)) for a, b in zip(written, targets)]
        print("share of the target's characters generated: %.4f" % np.mean(overlap))
        for line in list(zip(written, targets))[:3]:
            print("  written: %s   target: %s" % line)


if __name__ == "__main__":
    model.fit(train_generator.forfit(), steps_per_epoch=len(train_generator), epochs=epochs, callbacks=[Evaluator()])
