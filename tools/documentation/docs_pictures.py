"""The pictures of docs/figures/, each for light and for dark pages, from benchmarks/results or a formula.

They are SVG with a clear background. A page includes both, marked as GitHub has it, and one is shown:

    ![what it is](figures/NAME-light.svg#gh-light-mode-only) ![what it is](figures/NAME-dark.svg#gh-dark-mode-only)
"""

import os

import numpy as np
from benchmark_tables import at, grouped, in_order, read
from repository import ROOT

FIGURES = os.path.join(ROOT, "docs", "figures")
STACKS = {"keras": "Keras 2.3.1", "tf.keras": "tf.keras", "tf2": "TensorFlow 2.21"}
# Colours that can be told apart by all; the first is that of text and axes.
MODES = {
    "light": ("#3c4043", "#3b6fb6", "#d9822b", "#2f8f5b", "#a34a8f", "#8a6d3b"),
    "dark": ("#c8ccd4", "#7fb0f0", "#f2a65a", "#6fcf97", "#e08ccb", "#d2b48c"),
}
FIGURE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 10,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "kexue_keras",
}


def axes_of(figure, count=1):
    """Axes side by side."""
    return [figure.add_subplot(1, count, i + 1) for i in range(count)]


def dots(ax, rows, by, value, colours, scale=1.0):
    """A line of points for each setting: the runs, and their median as a bar."""
    groups = grouped(rows, by)
    for place, (key, group) in enumerate(groups[::-1]):
        values = np.array([at(row, value) for row in group]) * scale
        ax.plot(values, [place] * len(values), "o", color=colours[1], alpha=0.75, markersize=6)
        ax.plot([np.median(values)] * 2, [place - 0.28, place + 0.28], "-", color=colours[2], linewidth=2.5)
    names = ["  ".join(str(part) for part in key if part is not None) for key, _ in groups[::-1]]
    ax.set_yticks(range(len(names)))
    ax.set_yticklabels(names)
    ax.grid(axis="y", alpha=0)
    ax.set_ylim(-0.6, len(names) - 0.4)


def recompute(figure, colours):
    """Peak memory of a step against its time, a policy a point."""
    (ax,) = axes_of(figure)
    rows = [row for row in read("recompute") if row["part"] == "step"]
    for colour, stack in zip(colours[1:], STACKS):
        some = [row for row in rows if row["stack"] == stack]
        ax.plot(
            [row["processor_ratio"] for row in some],
            [row["peak_mb"] for row in some],
            "o",
            color=colour,
            label=STACKS[stack],
        )
        for row in some if stack == "keras" else []:
            ax.annotate(row["policy"], (row["processor_ratio"], row["peak_mb"]), (6, 6), textcoords="offset points")
    ax.set_xlabel("processor time of a step / plain")
    ax.set_ylabel("peak memory of a step, MB")
    ax.set_ylim(0, 2400)
    ax.legend()


def few_shot(figure, colours):
    """Accuracy of the splits with few labels, with the head as it is bundled (earlier rows are of another one)."""
    (ax,) = axes_of(figure)
    rows = [row for row in read("few_shot") if row["stack"] == "tf2" and row["task"] == "eprstmt"]
    dots(ax, rows, ["method"], "accuracy", colours, 100)
    ax.set_xlabel("EPRSTMT, test accuracy, %, each split and the median")


def cosent(figure, colours):
    """Spearman of CoSENT and of Sentence-BERT."""
    rows = [row for row in read("quality") if row["example"] == "similarity_cosent"]
    for row in rows:
        row["method"] += ", head's rate x 1" if "--head-lr 1" in row["budget"] else ""
    for ax, name in zip(axes_of(figure, 2), ("STS-B", "LCQMC")):
        dots(ax, [row for row in rows if row["set"] == name], ["method"], "spearman", colours, 100)
        ax.set_title(name)
        ax.set_xlabel("Spearman x 100")


def entities(figure, colours):
    """F1 of the heads for named entities."""
    (ax,) = axes_of(figure)
    # The dictionary of the training part, at 52, would squeeze the rest.
    rows = [row for row in read("ner") if row["method"] != "dictionary"]
    dots(ax, rows, ["method"], "f1", colours, 100)
    ax.set_xlabel("F1 x 100, each seed and the median (a dictionary of the training part: 52)")


def electra(figure, colours):
    """Accuracy after pretraining for the same time."""
    (ax,) = axes_of(figure)
    rows = [row for row in read("electra") if row.get("budget") == 400.0]
    dots(ax, rows, ["arm"], "fine_tuned", colours, 100)
    ax.set_xlabel("accuracy after fine-tuning, %, each seed and the median")


def multitask(figure, colours):
    """Both tasks of each seed."""
    (ax,) = axes_of(figure)
    rows = [row for row in read("quality") if row["example"] == "multitask"]
    for colour, (key, group) in zip(colours[1:], grouped(rows, ["method"])):
        points = 100 * np.array([[row["sentiment"], row["topic"]] for row in group])
        ax.plot(points[:, 0], points[:, 1], "o", color=colour, alpha=0.8, label=key[0])
    ax.set_xlabel("sentiment, accuracy, %")
    ax.set_ylabel("topic, accuracy, %")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def length(figure, colours):
    """Test loss by length, and the entropy of attention with and without the factor log n."""
    left, right = axes_of(figure, 2)
    rows = read("length")
    for colour, (key, group) in zip(colours[1:], grouped(rows, ["variant"])):
        lengths = sorted(int(n) for n in group[0]["test_loss"])
        losses = np.array([[row["test_loss"][str(n)] for n in lengths] for row in group])
        left.plot(lengths, np.median(losses, 0), "o-", color=colour, label=key[0])
        left.fill_between(lengths, losses.min(0), losses.max(0), color=colour, alpha=0.2, linewidth=0)
    left.set_xscale("log", base=2)
    left.set_xlabel("characters (trained at 64)")
    left.set_ylabel("test loss, 3 seeds")
    left.legend()
    random = np.random.RandomState(0)
    lengths, size = 2 ** np.arange(4, 13), 64
    curves = {"ordinary": [], "log n": []}
    for n in lengths:
        scores = 2 * random.randn(64, size) @ random.randn(n, size).T / np.sqrt(size)
        for name, factor in (("ordinary", 1.0), ("log n", np.log(n) / np.log(512))):
            logits = factor * scores
            logits -= logits.max(1, keepdims=True)
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            curves[name].append(-(p * np.log(p + 1e-300)).sum(1).mean())
    for colour, (name, values) in zip(colours[1:], curves.items()):
        right.plot(lengths, values, "o-", color=colour, label=name)
    right.plot(lengths, np.log(lengths), "--", color=colours[0], label="uniform")
    right.set_xscale("log", base=2)
    right.set_xlabel("keys n (random queries and keys)")
    right.set_ylabel("entropy of attention, nats")
    right.legend()


def activations(figure, colours):
    """ReLU and its smooth forms, with derivatives."""
    from scipy.special import erf, expit

    x = np.linspace(-3, 3, 241)
    normal, density = (1 + erf(x / np.sqrt(2))) / 2, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    curves = {
        "ReLU": np.maximum(x, 0),
        "SquarePlus, b = 2": (x + np.sqrt(x**2 + 2)) / 2,
        "softplus": np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
        "smooth relu, gauss": x * normal + density,
        "SAU, slope 0.25": 0.25 * x + 0.75 * (x * normal + density),
    }
    slopes = {
        "ReLU": np.where(x > 0, 1.0, 0.0),
        "SquarePlus, b = 2": (1 + x / np.sqrt(x**2 + 2)) / 2,
        "softplus": expit(x),
        "smooth relu, gauss": normal,
        "SAU, slope 0.25": 0.25 + 0.75 * normal,
    }
    left, right = axes_of(figure, 2)
    for ax, what, title in ((left, curves, "value"), (right, slopes, "derivative")):
        for colour, (name, values) in zip(colours, what.items()):
            ax.plot(x, values, "--" if name == "ReLU" else "-", color=colour, label=name)
        ax.set_title(title)
    left.legend(fontsize=8)


def math_word_problems(figure, colours):
    """Right answers on the validation part, epoch by epoch."""
    (ax,) = axes_of(figure)
    for colour, (key, group) in zip(colours[1:], grouped(read("math_word_problems"), ["seed"])):
        history = 100 * np.array(group[0]["history"])
        ax.plot(range(1, len(history) + 1), history, "o-", color=colour, label="seed %d" % key[0])
    nearest = 100 * read("math_word_problems_nearest")[0]["accuracy"]
    ax.axhline(nearest, color=colours[0], linestyle="--", label="nearest question (test)")
    ax.set_xlabel("epoch")
    ax.set_ylabel("right answers, validation, %")
    ax.legend(loc="upper left", bbox_to_anchor=(0, 0.95))


def depth(figure, colours):
    """How much one step changes the logits, by depth."""
    axes = axes_of(figure, 3)
    rows = [r for r in read("depth") if r["benchmark"].startswith("change") and "norm" not in r]
    for ax, step in zip(axes, ("sgd", "sign", "relative")):
        some = [row for row in rows if row["step"] == step]
        for colour, (key, group) in zip(colours[1:], grouped(some, ["scheme"])):
            layers = in_order(sorted({row["layers"] for row in group}))
            medians = [np.median([r["median"] for r in group if r["layers"] == n]) for n in layers]
            ax.plot(layers, medians, "o-", color=colour, label=key[0])
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_title("step: %s" % step)
        ax.set_xlabel("layers")
    axes[0].set_ylabel("change of the logits")
    axes[2].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)


def decoding(figure, colours):
    """How many times as fast as bert4keras."""
    (ax,) = axes_of(figure)
    rows = [row for row in read("decoding") if "throughput_ratio" in row]
    names = [(row["model"], row["beams"], row["stack"]) for row in rows][::-1]
    ax.barh(range(len(rows)), [row["throughput_ratio"] for row in rows][::-1], color=colours[1], height=0.6)
    ax.set_yticks(range(len(rows)))
    ax.set_yticklabels(["%s, %d beam%s, %s" % (m, b, "s" * (b > 1), STACKS[s]) for m, b, s in names])
    ax.grid(axis="y", alpha=0)
    ax.set_xlabel("tokens a second / bert4keras' decoder")


# Name -> (what draws it, inches).
PICTURES = {
    "recompute": (recompute, (7, 3.6)),
    "few-shot": (few_shot, (7, 3.2)),
    "cosent": (cosent, (9, 2.2)),
    "entities": (entities, (7, 2.4)),
    "electra-fine-tuned": (electra, (7, 2.8)),
    "multitask": (multitask, (7, 3.4)),
    "length": (length, (9, 3.4)),
    "activations": (activations, (9, 3.4)),
    "math-word-problems": (math_word_problems, (7, 3.2)),
    "depth": (depth, (9.5, 3.2)),
    "decoding": (decoding, (7, 3.2)),
}


def draw(name, mode, folder=FIGURES):
    """Write FOLDER/NAME-MODE.svg."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    function, size = PICTURES[name]
    colours = MODES[mode]
    keys = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    with matplotlib.rc_context(dict(FIGURE, **dict.fromkeys(keys, colours[0]))):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        function(figure, colours)
        figure.tight_layout()
        figure.savefig(os.path.join(folder, "%s-%s.svg" % (name, mode)), metadata={"Date": None, "Creator": None})


def draw_all(folder=FIGURES):
    """Write all pictures."""
    os.makedirs(folder, exist_ok=True)
    for name in PICTURES:
        for mode in MODES:
            draw(name, mode, folder)
    print("%d pictures in docs/figures/" % (len(PICTURES) * len(MODES)))
