"""A VAE on the sphere for scikit-learn's digits, and a Gaussian one: 4 dimensions, kappa 20 (kexue.fm/archives/8404).

    python benchmarks/vmf_digits.py [--seeds 0,1,2]    a minute; docs/models/vmf-digits.png

1,500 digits of 8 x 8 pixels are trained on, 297 measured: the cross-entropy of the pixels in nats a digit with the
digit's own code and with that of another one, and the KL divergence, which on the sphere is a constant of the layer.
"""

import argparse
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]
PLOT = os.path.join(HERE, "..", "docs", "models", "vmf-digits.png")
D, KAPPA, TRAINED = 4, 20.0, 1500


def build(latent):
    """(model that trains, encoder, decoder)."""
    import tensorflow as tf

    from kexue_keras.backend import K, keras
    from kexue_keras.layers import GaussianSampling, VonMisesFisherSampling
    from kexue_keras.models.univae._layers import Columns, UnitLength

    layers = keras.layers
    x = layers.Input((64,))
    hidden = layers.Dense(128, activation="relu")(x)
    kl = None
    if latent == "vmf":
        direction = layers.Dense(D)(hidden)
        mean, z = UnitLength()(direction), VonMisesFisherSampling(KAPPA)(direction)
    else:
        parts = layers.Dense(2 * D)(hidden)
        mean, (z, kl) = Columns(0, D)(parts), GaussianSampling()(parts)
    code, first, second = layers.Input((D,)), layers.Dense(128, activation="relu"), layers.Dense(64)
    decoder = keras.models.Model(code, second(first(code)))
    logits = second(first(z))
    model = keras.models.Model(x, logits)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
    costs = K.sum(losses, axis=1) + (0 if kl is None else kl)
    model.add_loss(K.mean(costs))
    divergence = None if kl is None else K.function([x], [kl])
    return model, keras.models.Model(x, mean), decoder, divergence


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    options = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from record import record
    from sklearn.datasets import load_digits

    from kexue_keras.backend import K, keras, set_seed
    from kexue_keras.layers import vmf_kl

    digits = load_digits().data[np.random.RandomState(2021).permutation(1797)] / 16.0
    train, test = digits[:TRAINED], digits[TRAINED:]
    for seed in map(int, options.seeds.split(",")):
        for latent in ("gaussian", "vmf"):
            K.clear_session()
            set_seed(seed)
            model, encoder, decoder, divergence = build(latent)
            model.compile(keras.optimizers.RMSprop(2e-3))
            model.fit(train, epochs=options.epochs, batch_size=64, verbose=0)
            codes = encoder.predict(test)

            def loss(given):
                logits = decoder.predict(given).astype("float64")
                return float((np.logaddexp(0, logits) - test * logits).sum(1).mean())

            kl = vmf_kl(D, KAPPA) if latent == "vmf" else float(np.mean(divergence([test])[0]))
            row = {"benchmark": "vmf digits", "latent": latent, "seed": seed, "epochs": options.epochs, "d": D}
            row.update(
                kappa=KAPPA, own=round(loss(codes), 3), other=round(loss(np.roll(codes, 1, 0)), 3), kl=round(kl, 4)
            )
            pixels = test.mean(0).clip(1e-6, 1 - 1e-6)
            row["mean_digit"] = round(
                float(-(test * np.log(pixels) + (1 - test) * np.log(1 - pixels)).sum(1).mean()), 3
            )
            record("univae", row, options.results)
            print(row, flush=True)

    def pictures(rows):
        framed = [np.pad(row.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)), "constant") for row in rows]
        return np.concatenate([np.concatenate(list(row), axis=1) for row in framed])

    def drawn(given):
        return 1 / (1 + np.exp(-decoder.predict(np.asarray(given))))

    z = np.random.RandomState(0).standard_normal((60, D))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    rows = [part for i in (0, 10, 20) for part in (test[i : i + 10], drawn(codes[i : i + 10]))]
    left.imshow(pictures(rows), cmap="gray_r")
    left.set_title("held-out digits, and below each what its code gives")
    right.imshow(pictures([drawn(z[i : i + 10]) for i in range(0, 60, 10)]), cmap="gray_r")
    right.set_title("uniform points of the sphere")
    for axes in (left, right):
        axes.axis("off")
    figure.tight_layout()
    os.makedirs(os.path.dirname(PLOT), exist_ok=True)
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    main()
