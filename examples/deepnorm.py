#! -*- coding: utf-8 -*-
"""训练1000层的Transformer究竟有什么困难？ (kexue.fm/archives/8978): a deep language model of characters, from scratch.

With `rule = None` the same model is plain post-norm and stays where it starts, at the frequencies of the characters.
"""

import numpy as np
from bert4keras.models import RoFormer, build_transformer_model

from kexue_keras.backend import set_seed
from kexue_keras.data import read_reviews
from kexue_keras.models import extend_with_deepnorm
from kexue_keras.optimizers import AdamW, WarmupCosine

rule = "adam"  # or "paper", "sgd", "lamb"; None: plain post-norm
num_hidden_layers = 48
max_length = 32
batch_size = 16
steps = 300
learning_rate = 3e-3
vocabulary = 1000

set_seed(2021)
text = "\n".join(text for text, _ in read_reviews())
characters, counts = np.unique(list(text), return_counts=True)
order = np.argsort(-counts)[: vocabulary - 1]
numbers = {character: i + 1 for i, character in enumerate(characters[order])}  # 0: all others
stream = np.array([numbers.get(character, 0) for character in text])
train_stream, test_stream = stream[:-20000], stream[-20000:]


def windows(stream, starts):
    """Token ids, segment ids and the next token of each."""
    ids = stream[np.asarray(starts)[:, None] + np.arange(max_length + 1)]
    return [ids[:, :-1], np.zeros_like(ids[:, :-1])], ids[:, 1:, None]


def train_generator():
    """Batches without end."""
    while True:
        yield windows(train_stream, np.random.randint(0, len(train_stream) - max_length - 1, batch_size))


model = build_transformer_model(
    model=extend_with_deepnorm(RoFormer, rule=rule) if rule else RoFormer,  # <-
    application="lm",
    with_mlm=True,
    vocab_size=vocabulary,
    hidden_size=32,
    num_hidden_layers=num_hidden_layers,
    num_attention_heads=2,
    intermediate_size=64,
    hidden_act="gelu",
)
optimizer = WarmupCosine(AdamW(learning_rate), warmup=steps // 10, total=steps)
model.compile(loss="sparse_categorical_crossentropy", optimizer=optimizer)

if __name__ == "__main__":
    x, y = windows(test_stream, range(0, len(test_stream) - max_length - 1, max_length))
    shares = np.bincount(train_stream, minlength=vocabulary) / len(train_stream)
    print("test loss of the characters' frequencies alone: %.4f" % -np.log(shares[y] + 1e-9).mean())
    model.fit(train_generator(), steps_per_epoch=steps, epochs=1)
    print("test loss of %d layers: %.4f" % (num_hidden_layers, model.evaluate(x, y, batch_size=64, verbose=0)))
