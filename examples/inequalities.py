#! -*- coding: utf-8 -*-
"""logsumexp运算的几个不等式 (kexue.fm/archives/9070), 输入梯度惩罚与参数梯度惩罚的一个不等式 (kexue.fm/archives/8796).

How tight the bounds of log sum exp are on a model's logits, and how the gradient in the input stays below the one in
the parameters while a net is trained.
"""

import numpy as np

from kexue_keras.analysis import gradient_inequality, logsumexp_bounds
from kexue_keras.backend import keras, set_seed

epochs = 5
batch_size = 32
size = 16

set_seed(2021)
x = np.random.randn(1000, size)
y = np.sin(x[:, :1]) * x[:, 1:2]

layers = [keras.layers.Dense(64, activation="tanh", input_shape=(size,)), keras.layers.Dense(64, activation="tanh")]
model = keras.models.Sequential(layers + [keras.layers.Dense(1)])
model.compile(keras.optimizers.RMSprop(1e-3), "mse")

if __name__ == "__main__":
    for epoch in range(epochs + 1):
        found = gradient_inequality(model, x[:100])  # <-
        share = found.left / found.parameter_gradient
        print(
            "epoch %d: input %.4f, parameters %.2f, left side / right side %.3f, at most %.3f"
            % (epoch, found.input_gradient.mean(), found.parameter_gradient.mean(), share.mean(), share.max())
        )
        if epoch < epochs:
            model.fit(x, y, batch_size=batch_size, epochs=1, verbose=0)

    logits = 3 * np.random.randn(200, 50)
    bounds = logsumexp_bounds(logits, t=1.5, tau=0.1)  # <-
    for name in ("max", "mean", "renyi", "entropy", "lse", "upper"):
        print("%-8s %.4f" % (name, bounds[name].mean()))
