"""Figures of logsumexp and of the gradient inequality.

    python benchmarks/small_analysis.py logsumexp    docs/analysis/logsumexp.png
    python benchmarks/small_analysis.py steps        docs/layers/smooth-steps.png: floor, ceil and round
    python benchmarks/small_analysis.py inequality   three layers trained on scikit-learn's digits, rows, figure
"""

import argparse
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
DOCS = os.path.join(HERE, "..", "docs", "analysis")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("logsumexp", "steps", "inequality"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    parser.add_argument("--docs", default=DOCS)
    return parser.parse_args()


def pictures():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def logsumexp(options):
    from kexue_keras.analysis import smooth_max

    plt, a = pictures(), np.linspace(-3, 3, 301)
    figure, axes = plt.subplots(figsize=(4.6, 3.0))
    for tau in (1.0, 0.5, 0.2):
        axes.plot(a, smooth_max(np.stack([a, -a, 0 * a], axis=1), tau), label="tau = %g" % tau)
    axes.plot(a, np.abs(a), "k:", label="max(a, -a, 0)")
    axes.set_xlabel("a")
    axes.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(os.path.join(options.docs, "logsumexp.png"), dpi=100)


def steps(options):
    from kexue_keras.backend import K
    from kexue_keras.layers import smooth_values

    plt, x = pictures(), np.linspace(-2.5, 2.5, 501)
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.7))
    for panel, (name, hard) in zip(axes, (("floor", np.floor), ("ceil", np.ceil), ("round", np.round))):
        for width in (0.2, 0.1, 0.03):
            panel.plot(
                x, K.eval(smooth_values(K.constant(x), name, kernel="logistic", width=width)), label="w = %g" % width
            )
        panel.plot(x, hard(x), "k:", linewidth=1)
        panel.set_title(name, fontsize=9)
    axes[0].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(os.path.join(options.docs, "..", "layers", "smooth-steps.png"), dpi=100)


def inequality(options):
    from record import record, recorded, rows
    from sklearn.datasets import load_digits

    from kexue_keras.analysis import gradient_inequality
    from kexue_keras.backend import K, keras, set_seed

    digits = load_digits()
    x, y = digits.data / 16.0, (digits.target % 2)[:, None]
    for seed in [int(s) for s in options.seeds.split(",")]:
        key = dict(benchmark="gradient inequality", seed=seed, epochs=options.epochs)
        if recorded("small_analysis", options.results, **key):
            continue
        K.clear_session()
        set_seed(seed)
        layers = [
            keras.layers.Dense(64, activation="tanh", input_shape=(64,)),
            keras.layers.Dense(64, activation="tanh"),
        ]
        model = keras.models.Sequential(layers + [keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
        course = []
        for epoch in range(options.epochs + 1):
            found = gradient_inequality(model, x[:100])
            point = {name: [float("%.4g" % v) for v in np.mean(getattr(found, name), axis=0)] for name in SHOWN}
            for name in ("input_gradient", "parameter_gradient"):
                point[name] = float("%.4g" % np.mean(getattr(found, name)))
            point["ratio"] = float("%.4g" % np.mean(found.left / found.parameter_gradient))
            point["largest_ratio"] = float("%.4g" % np.max(found.left / found.parameter_gradient))
            # How well one penalty tells the other over samples.
            point["correlation"] = float(
                "%.3g" % np.corrcoef(np.log(found.input_gradient), np.log(found.parameter_gradient))[0, 1]
            )
            course.append(point)
            if epoch < options.epochs:
                model.fit(x, y, batch_size=32, epochs=1, verbose=0)
        record("small_analysis", dict(key, course=course), options.results)
        print(seed, course[0], course[-1], flush=True)
    courses = [r["course"] for r in rows("small_analysis", options.results) if r["benchmark"] == "gradient inequality"]
    plt = pictures()
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.0))
    for name, style in zip(SHOWN, ("-", "--", ":")):
        for layer in range(3):
            values = np.mean([[point[name][layer] for point in course] for course in courses], axis=0)
            axes[0].plot(
                values, style, color="C%d" % layer, label="%s, layer %d" % (name.replace("_norm", ""), layer + 1)
            )
    for name in ("input_gradient", "parameter_gradient", "ratio"):
        axes[1].plot(
            np.mean([[point[name] for point in course] for course in courses], axis=0), label=name.replace("_", " ")
        )
    axes[1].set_yscale("log")
    for panel in axes:
        panel.set_xlabel("epoch")
        panel.legend(fontsize=6, frameon=False)
    figure.tight_layout()
    figure.savefig(os.path.join(options.docs, "gradient-inequality.png"), dpi=100)


SHOWN = ("hidden_norm", "weight_norm", "jacobian_norm")

if __name__ == "__main__":
    chosen = arguments()
    globals()[chosen.what](chosen)
