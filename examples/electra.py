#! -*- coding: utf-8 -*-
"""用ALBERT和ELECTRA之前，请确认你真的了解它们 (kexue.fm/archives/7846): ELECTRA, small and from random weights, on reviews.

Next to the discriminator's loss it prints that of a constant answer. As long as the generator is poor there is much to
find; the better it gets, the less a low loss means.
"""

import numpy as np
from bert4keras.models import build_transformer_model

from kexue_keras import models
from kexue_keras.analysis.costs import model_report
from kexue_keras.backend import set_seed
from kexue_keras.data import split_reviews
from kexue_keras.optimizers import AdamW

max_length = 32
batch_size = 32
steps = 200
learning_rate = 1e-3
generator_size = 1 / 4
rows = dict(train=2000, valid=0, test=200)
config = dict(
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=8,
    intermediate_size=512,
    hidden_act="gelu",
    max_position=64,
)

set_seed(2021)
train_data, _, test_data = [[text for text, _ in part] for part in split_reviews(**rows, seed=2021)]
tokenizer = models.load("me5-zh-char", num_hidden_layers=1).tokenizer


def encode(texts):
    """Token ids, padded with 0."""
    encoded = np.zeros([len(texts), max_length], dtype="int32")
    for row, text in zip(encoded, texts):
        token_ids = tokenizer.encode(text, maxlen=max_length)[0]
        row[: len(token_ids)] = token_ids
    return encoded


if __name__ == "__main__":
    train_ids, test_ids = encode(train_data), encode(test_data)
    discriminator = build_transformer_model(
        model="electra",
        with_discriminator="linear",
        vocab_size=tokenizer._vocab_size,
        return_keras_model=False,
        **config,
    )
    generator = models.build_electra_generator(discriminator, size=generator_size)  # <- shares the embeddings
    electra = models.ElectraPretraining(generator, discriminator)  # <-
    electra.training_model.compile(AdamW(learning_rate))
    print("\n".join(model_report(discriminator, max_length).table()))

    random = np.random.RandomState(2021)
    test_batch = electra.batch_of(tokenizer, test_ids, 0 * test_ids, np.random.RandomState(0))
    for step in range(1, steps + 1):
        tokens = train_ids[random.randint(0, len(train_ids), batch_size)]
        loss = electra.training_model.train_on_batch(electra.batch_of(tokenizer, tokens, 0 * tokens, random), None)
        if step % max(1, steps // 4) == 0:
            scores = electra.evaluate([test_batch])  # <-
            print(
                "step %d: generator %.3f, discriminator %.4f (always the same answer: %.4f), found %.2f"
                % (
                    step,
                    scores["generator_loss"],
                    scores["discriminator_loss"],
                    scores["constant_guess"],
                    scores["found"],
                )
            )
