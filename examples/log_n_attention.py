#! -*- coding: utf-8 -*-
"""从熵不变性看Attention的Scale操作 (kexue.fm/archives/8823): attention scaled by log n, read at lengths it never saw.

A language model of characters is trained on 64 of them and measured on 64, 128, 256 and 512.
"""

import numpy as np
from bert4keras.models import RoFormer, build_transformer_model

from kexue_keras.backend import set_seed
from kexue_keras.data import read_reviews
from kexue_keras.models import extend_with_entropy_invariance
from kexue_keras.optimizers import AdamW, WarmupCosine

log_n = True  # False: the ordinary scale
max_length = 64
lengths = [64, 128, 256, 512]
batch_size = 32
steps = 400
learning_rate = 3e-3
vocabulary = 1000

set_seed(2021)
text = "\n".join(text for text, _ in read_reviews())
characters, counts = np.unique(list(text), return_counts=True)
order = np.argsort(-counts)[: vocabulary - 1]
numbers = {character: i + 1 for i, character in enumerate(characters[order])}  # 0: all others
stream = np.array([numbers.get(character, 0) for character in text])
train_stream, test_stream = stream[:-20000], stream[-20000:]


def windows(stream, starts, length):
    """Token ids, segment ids and the next token of each."""
    ids = stream[np.asarray(starts)[:, None] + np.arange(length + 1)]
    return [ids[:, :-1], np.zeros_like(ids[:, :-1])], ids[:, 1:, None]


def train_generator():
    """Batches without end."""
    while True:
        yield windows(train_stream, np.random.randint(0, len(train_stream) - max_length - 1, batch_size), max_length)


model = build_transformer_model(
    model=extend_with_entropy_invariance(RoFormer, base=max_length) if log_n else RoFormer,  # <-
    application="lm",
    with_mlm=True,
    vocab_size=vocabulary,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=256,
    hidden_act="gelu",
)
optimizer = WarmupCosine(AdamW(learning_rate), warmup=steps // 10, total=steps)
model.compile(loss="sparse_categorical_crossentropy", optimizer=optimizer, metrics=["accuracy"])

if __name__ == "__main__":
    model.fit(train_generator(), steps_per_epoch=steps, epochs=1)
    for length in lengths:
        x, y = windows(test_stream, range(0, len(test_stream) - length - 1, length), length)
        print(
            "%d characters: test loss %.4f, accuracy %.4f" % (length, *model.evaluate(x, y, batch_size=16, verbose=0))
        )
