#! -*- coding: utf-8 -*-
"""Google新作Synthesizer：我们还不够了解自注意力 (kexue.fm/archives/7430), 也来盘点一些最近的非Transformer工作 (8431).

Sentiment of reviews by small models from scratch, in which something other than attention mixes the tokens.
"""

import numpy as np
from bert4keras.models import BERT, build_transformer_model
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import models
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import split_reviews
from kexue_keras.models import extend_with_mixer, extend_with_synthesizer
from kexue_keras.optimizers import AdamW

mixer = "gmlp"  # or "synthesizer", "mlp", "resmlp", "amlp", "external", "fnet", "conv", "attention"
max_length = 64
batch_size = 32
epochs = 4
learning_rate = 1e-3
rows = dict(train=4000, valid=0, test=1000)

set_seed(2021)
train_data, _, test_data = split_reviews(**rows, seed=2021)
labels = ["负面", "正面"]
tokenizer = models.load("me5-zh-char", num_hidden_layers=1).tokenizer  # for its vocabulary of 14,001 tokens


class data_generator(DataGenerator):
    """Batches of token ids, segment ids and labels."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids, batch_labels = [], [], []
        for is_end, (text, label) in self.sample(random):
            token_ids, segment_ids = tokenizer.encode(text, maxlen=max_length)
            batch_token_ids.append(token_ids)
            batch_segment_ids.append(segment_ids)
            batch_labels.append([labels.index(label)])
            if len(batch_token_ids) == self.batch_size or is_end:
                batch = [sequence_padding(batch_token_ids), sequence_padding(batch_segment_ids)]
                yield batch, np.array(batch_labels)
                batch_token_ids, batch_segment_ids, batch_labels = [], [], []


train_generator = data_generator(train_data, batch_size)
test_generator = data_generator(test_data, 64)

model_class = BERT
if mixer == "synthesizer":
    model_class = extend_with_synthesizer(BERT, variants=("random", "vanilla"), max_length=max_length)  # <-
elif mixer != "attention":
    model_class = extend_with_mixer(BERT, mixer, max_length=max_length)  # <-
bert = build_transformer_model(
    model=model_class,
    vocab_size=tokenizer._vocab_size,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=128,
    hidden_act="gelu",
    max_position=max_length,
    segment_vocab_size=2,
)
output = keras.layers.GlobalAveragePooling1D()(bert.output)
output = keras.layers.Dense(len(labels), activation="softmax")(output)
model = keras.models.Model(bert.inputs, output)
model.compile(loss="sparse_categorical_crossentropy", optimizer=AdamW(learning_rate), metrics=["accuracy"])


def evaluate(data):
    """Share of the texts whose label is right."""
    right = total = 0
    for x_true, y_true in data:
        right += (model.predict(x_true).argmax(axis=1) == y_true[:, 0]).sum()
        total += len(y_true)
    return right / total


class Evaluator(keras.callbacks.Callback):
    """Measures after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        print("%s, test accuracy: %.4f" % (mixer, evaluate(test_generator)))


if __name__ == "__main__":
    model.fit(train_generator.forfit(), steps_per_epoch=len(train_generator), epochs=epochs, callbacks=[Evaluator()])
