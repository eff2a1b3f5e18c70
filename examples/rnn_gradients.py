#! -*- coding: utf-8 -*-
"""也来谈谈RNN的梯度消失/爆炸问题 (kexue.fm/archives/7888): which lags a recurrent net learns from, before and after training.

The task is to remember the first symbol of a row over many blanks.
"""

import numpy as np

from kexue_keras.analysis import rnn_gradient_profile
from kexue_keras.backend import keras, set_seed
from kexue_keras.layers import OutputGateGRU

recurrent = OutputGateGRU  # <- or TiedGRU, keras.layers.GRU, keras.layers.LSTM, keras.layers.SimpleRNN
maxlen = 20
units = 32
batch_size = 32
steps = 600
symbols = 8


def batch(size):
    """One-hot rows [size, maxlen, 9] whose first symbol is to be told at the end."""
    first = np.random.randint(0, symbols, size)
    ids = np.full((size, maxlen), symbols)
    ids[:, 0] = first
    return np.eye(symbols + 1)[ids], first[:, None]


def train_generator():
    """Batches without end."""
    while True:
        yield batch(batch_size)


set_seed(2021)
x = keras.layers.Input((maxlen, symbols + 1))
layer = recurrent(units)
model = keras.models.Model(x, keras.layers.Dense(symbols, activation="softmax")(layer(x)))
model.compile(keras.optimizers.RMSprop(3e-3, clipnorm=1.0), "sparse_categorical_crossentropy", metrics=["accuracy"])


def report(when):
    """Contributions to the gradient relative to the last step's, and accuracy."""
    profile = rnn_gradient_profile(layer, batch(4)[0])  # <-
    shares = profile.contribution / profile.contribution[0]
    lags = [lag for lag in (1, 5, 10, maxlen - 1) if lag < maxlen]
    print("%s: %s" % (when, ", ".join("lag %d: %.1e" % (lag, shares[lag]) for lag in lags)))
    print("accuracy: %.4f" % model.evaluate(*batch(500), verbose=0)[1])


if __name__ == "__main__":
    report("at the start")
    model.fit(train_generator(), steps_per_epoch=steps, epochs=1, verbose=0)
    report("after training")
