"""Gradients of recurrent nets by lag, before and after training on the task of copying from memory.

    python benchmarks/rnn_gradients.py train [--seeds 0,1,2]    six cells; a minute each
    python benchmarks/rnn_gradients.py clip                     SimpleRNN: nothing, gradients or parameters clipped
    python benchmarks/rnn_gradients.py sides                    size of the side terms at the start, D = 64
    python benchmarks/rnn_gradients.py plot                     docs/analysis/rnn-gradients.png

The task: three symbols of eight, then `delay` blanks, then the three symbols in order have to be told. Rows that are
in benchmarks/results/rnn_gradients.jsonl are not computed again.
"""

import argparse
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
PLOT = os.path.join(HERE, "..", "docs", "analysis", "rnn-gradients.png")
SYMBOLS, COPIED = 8, 3
CELLS = ("SimpleRNN tanh", "SimpleRNN relu", "LSTM", "GRU", "TiedGRU", "OutputGateGRU")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("train", "clip", "sides", "plot"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--delay", type=int, default=20)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    parser.add_argument("--plot", default=PLOT)
    return parser.parse_args()


def batch(rng, size, delay):
    """Inputs [size, delay + 2 * 3, 10] (symbols, blank, "now"), and the symbols to tell [size, 3, 1]."""
    symbols = rng.randint(0, SYMBOLS, (size, COPIED))
    ids = np.full((size, delay + 2 * COPIED), SYMBOLS)
    ids[:, :COPIED] = symbols
    ids[:, COPIED + delay :] = SYMBOLS + 1
    return np.eye(SYMBOLS + 2, dtype="float32")[ids], symbols[:, :, None]


def recurrent(name, units, **options):
    from kexue_keras import layers
    from kexue_keras.backend import keras

    kind, _, activation = name.partition(" ")
    if activation:
        options["activation"] = activation
    return getattr(layers, kind, getattr(keras.layers, kind, None))(units, return_sequences=True, **options)


def build(name, options, seed, optimizer=None, **arguments):
    from kexue_keras.backend import K, keras, set_seed

    if optimizer is None:
        K.clear_session()
    set_seed(seed)
    x = keras.layers.Input((options.delay + 2 * COPIED, SYMBOLS + 2))
    layer = recurrent(name, options.units, **arguments)
    y = keras.layers.Lambda(lambda h: h[:, -COPIED:])(layer(x))
    model = keras.models.Model(x, keras.layers.Dense(SYMBOLS, activation="softmax")(y))
    model.compile(
        optimizer or keras.optimizers.RMSprop(2e-3, clipnorm=1.0),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model, layer


def profile(layer, options, seed):
    from kexue_keras.analysis import rnn_gradient_profile

    found = rnn_gradient_profile(layer, batch(np.random.RandomState(10**6 + seed), 4, options.delay)[0])
    row = {}
    for name, value in found._asdict().items():
        if isinstance(value, np.ndarray):
            row[name] = [float("%.4g" % v) for v in value]
        else:
            row[name] = value if isinstance(value, str) else (float("%.4g" % value) if np.isfinite(value) else None)
    return row


def train(options):
    from record import record, recorded

    for seed in [int(s) for s in options.seeds.split(",")]:
        for name in CELLS:
            row = dict(benchmark="copy", cell=name, seed=seed, delay=options.delay, units=options.units)
            row["steps"] = options.steps
            if recorded("rnn_gradients", options.results, **row):
                continue
            model, layer = build(name, options, seed)
            row["start"] = profile(layer, options, seed)
            losses = fit(model, options, seed)
            row["trained"] = profile(layer, options, seed)
            x, y = batch(np.random.RandomState(999), 500, options.delay)
            loss, accuracy = model.evaluate(x, y, verbose=0)
            row.update(loss=round(float(loss), 4), accuracy=round(float(accuracy), 4), losses=losses)
            record("rnn_gradients", row, options.results)
            print(name, seed, row["loss"], row["accuracy"], flush=True)


def fit(model, options, seed):
    rng, losses = np.random.RandomState(seed), []
    for step in range(options.steps):
        loss = float(model.train_on_batch(*batch(rng, 32, options.delay))[0])
        if step % 50 == 0:
            losses.append(round(loss, 4) if np.isfinite(loss) else None)
        if not np.isfinite(loss):
            break
    return losses


def clip(options):
    """Recurrent kernel 1.5 times a rotation: gradients explode at the start."""
    from record import record, recorded

    from kexue_keras.backend import keras

    ways = {
        "nothing": {},
        "gradients clipped to norm 1": {"clip": 1.0},
        "columns of the recurrent kernel clipped to norm 1": {"recurrent_constraint": keras.constraints.MaxNorm(1.0)},
    }
    for seed in [int(s) for s in options.seeds.split(",")]:
        for way, settings in ways.items():
            row = dict(benchmark="clipping", way=way, seed=seed, delay=options.delay, units=options.units)
            if recorded("rnn_gradients", options.results, **row):
                continue
            settings = dict(settings)
            norm = settings.pop("clip", None)
            keras.backend.clear_session()
            sgd = keras.optimizers.SGD(0.1) if norm is None else keras.optimizers.SGD(0.1, clipnorm=norm)
            model, layer = build("SimpleRNN relu", options, seed, sgd, **settings)
            weights = layer.get_weights()
            weights[1] = 1.5 * np.linalg.qr(np.random.RandomState(seed).standard_normal(weights[1].shape))[0]
            layer.set_weights(weights)
            row["start"] = profile(layer, options, seed)
            row["losses"] = fit(model, options, seed)
            row["diverged"] = row["losses"][-1] is None
            record("rnn_gradients", row, options.results)
            print(way, seed, row["losses"][-1], flush=True)


def sides(options):
    """At the start with orthogonal recurrent kernels a gate, D = 64, standard normal inputs."""
    from record import record

    from kexue_keras.analysis import Cell, rnn_gradient_profile

    gates = {"LSTM": 4, "GRU": 3, "TiedGRU": 2, "OutputGateGRU": 3}
    for kind, count in gates.items():
        found = []
        for seed in range(5):
            rng = np.random.RandomState(seed)
            U = np.concatenate([np.linalg.qr(rng.standard_normal((64, 64)))[0] for _ in range(count)], axis=1)
            W = rng.standard_normal((64, count * 64)) / 8
            cell = Cell(kind, W, U, np.zeros(count * 64))
            found.append(rnn_gradient_profile(cell, rng.standard_normal((2, 30, 64))))
        row = dict(benchmark="side terms", cell=kind, size=64, seeds=5)
        for name in ("main", "side", "main_share", "spectral_radius"):
            row[name] = [round(float(getattr(f, name)), 4) for f in found]
        record("rnn_gradients", row, options.results)
        print(kind, {n: round(float(np.mean(row[n])), 3) for n in ("main", "side", "main_share", "spectral_radius")})


def plot(options):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from record import rows

    found = [r for r in rows("rnn_gradients", options.results) if r["benchmark"] == "copy"]
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.2))
    for name in CELLS:
        group = [r for r in found if r["cell"] == name]
        if not group:
            continue
        for panel, when in zip(axes, ("start", "trained")):
            shares = [np.array(r[when]["contribution"]) / r[when]["contribution"][0] for r in group]
            panel.plot(np.exp(np.mean(np.log(np.maximum(shares, 1e-12)), axis=0)), label=name)
        axes[2].plot(50 * np.arange(len(group[0]["losses"])), np.mean([r["losses"] for r in group], axis=0), label=name)
    for panel, title in zip(axes, ("at the start", "after training", "loss")):
        panel.set_title(title, fontsize=9)
        panel.set_xlabel("training step" if title == "loss" else "lag")
    for panel in axes[:2]:
        panel.set_yscale("log")
        panel.set_ylim(1e-7, 1e3)
    axes[0].set_ylabel("contribution to the gradient, lag 0 = 1")
    axes[2].axhline(np.log(SYMBOLS), color="k", linewidth=0.6, linestyle=":")
    axes[0].legend(fontsize=6, frameon=False)
    figure.tight_layout()
    figure.savefig(options.plot, dpi=100)


if __name__ == "__main__":
    chosen = arguments()
    globals()[chosen.what](chosen)
