"""What a finished run leaves: metrics, two pictures, the predictions."""

import math

import numpy as np

from kexue_keras.data._cells import join, join_probabilities, label_cell, one_line
from kexue_keras.files import atomic
from kexue_keras.pictures._figure import drawable, has_matplotlib, new_figure, save


def wilson_interval(correct, total, z=1.959964):
    """95% interval of a proportion (Wilson).

    >>> low, high = wilson_interval(90, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    share, square = correct / total, z * z / total
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    return middle - half, middle + half


def measure(head, logits, targets, names):
    """Metrics of a set of texts.

    Args:
        head: head of the task.
        logits: `[N, C]`.
        targets: as the head makes them.
        names: list of label names.

    Returns:
        JSON-able dict: texts, loss, accuracy (all labels of a text right), its 95% interval, macro_f1, micro_f1, and
        classes: label -> precision, recall, f1, texts.
    """
    decided = head.decide(head.probabilities(logits))
    right = (decided == targets) if targets.ndim == 1 else (decided == targets).all(axis=-1)
    counts = class_counts(targets, decided, len(names))
    rows = precision_recall_f1(*counts) + (counts[2],)
    micro = precision_recall_f1(*(np.sum(count) for count in counts))
    return {
        "texts": len(targets),
        "loss": head.cross_entropy(logits, targets),
        "accuracy": float(np.mean(right)),
        "accuracy_interval": list(wilson_interval(int(np.sum(right)), len(right))),
        "macro_f1": float(np.mean(rows[2])),
        "micro_f1": float(micro[2]),
        "classes": {
            name: {
                "precision": float(rows[0][i]),
                "recall": float(rows[1][i]),
                "f1": float(rows[2][i]),
                "texts": int(rows[3][i]),
            }
            for i, name in enumerate(names)
        },
    }


def class_counts(targets, decided, classes):
    """Three int arrays `[C]`: how often each class is predicted rightly, predicted, and true."""
    if targets.ndim == 1:
        targets, decided = (np.equal.outer(labels, np.arange(classes)) for labels in (targets, decided))
    targets, decided = targets > 0, decided > 0
    return tuple(np.sum(which, axis=0) for which in (targets & decided, decided, targets))


def precision_recall_f1(right, predicted, true):
    """The three scores of each class; 0 where nothing is divided by nothing."""
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(true, 1)
    total = precision + recall
    return precision, recall, 2 * precision * recall / np.where(total == 0, 1, total)


def can_draw(say):
    """Whether matplotlib is installed; if not, a note says so."""
    if not has_matplotlib():
        say("no pictures are drawn, which takes matplotlib: pip install matplotlib")
    return has_matplotlib()


def draw_curves(path, losses, history, metric):
    """Loss of each step (smoothed) with the validation loss, and the metric of each epoch."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, len(losses) + 1)
    left.plot(steps, losses, color="0.8", linewidth=0.8)
    window = max(1, len(losses) // 30)
    if len(losses) >= window:
        smooth = np.convolve(losses, np.ones(window) / window, "valid")
        left.plot(steps[window - 1 :], smooth, label="training")
    ends = [len(losses) * row["epoch"] / history[-1]["epoch"] for row in history]
    left.plot(ends, [row["valid_loss"] for row in history], "o-", label="validation")
    left.set_xlabel("step")
    left.set_ylabel("loss")
    left.legend()
    epochs = [row["epoch"] for row in history]
    for part in ("train", "valid"):
        values = [row.get("%s_%s" % (part, metric)) for row in history]
        if None not in values:
            right.plot(epochs, values, "o-", label={"train": "training", "valid": "validation"}[part])
    right.set_xlabel("epoch")
    right.set_ylabel(metric.replace("_", " "))
    right.set_xticks(epochs if len(epochs) <= 12 else epochs[:: len(epochs) // 10])
    right.legend()
    save(figure, path)


def confusion_matrix(head, logits, targets, names):
    """int `[C, C]` (rows: true) for single labels; float `[C, 3]` precision, recall, F1 for several labels."""
    decided = head.decide(head.probabilities(logits))
    if targets.ndim == 1:
        matrix = np.zeros([len(names)] * 2, "int64")
        np.add.at(matrix, (targets, decided), 1)
        return matrix
    return np.stack(precision_recall_f1(*class_counts(targets, decided, len(names))), axis=1)


def draw_confusion(path, matrix, names):
    """The matrix as a picture; without a font for the labels they are numbered as in confusion.tsv.

    Args:
        path: .png.
        matrix: from `confusion_matrix`.
        names: list of label names.

    Returns:
        bool, whether the labels could be drawn.
    """
    shown, font = drawable(names)
    square = matrix.shape[0] == matrix.shape[1] and matrix.dtype.kind in "iu"
    size = min(4 + 0.3 * len(names), 16)
    figure = new_figure(size if square else 6, size)
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1) if square else matrix
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="equal" if square else "auto")
    across = shown if square else ["precision", "recall", "F1"]
    axes.set_xticks(range(len(across)))
    axes.set_xticklabels(across, rotation=90 if max(map(len, across)) > 3 else 0, **(font or {}))
    axes.set_yticks(range(len(shown)))
    axes.set_yticklabels(shown, **(font or {}))
    if square:
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
    if len(names) <= 30:
        for i, j in np.ndindex(*matrix.shape):
            text = "%d" % matrix[i, j] if square else "%.2f" % matrix[i, j]
            axes.text(j, i, text, ha="center", va="center", color="white" if shares[i, j] > 0.6 else "black", size=8)
    if font is None:
        axes.set_title("labels are numbered as in confusion.tsv", size=8)
    save(figure, path)
    return font is not None


def write_confusion(path, matrix, names):
    """The matrix as TSV, the labels with their numbers."""
    square = matrix.shape[0] == matrix.shape[1] and matrix.dtype.kind in "iu"
    with atomic(path, "w") as handle:
        names = [label_cell(name) for name in names]
        handle.write("\t".join(["number", "label"] + (names if square else ["precision", "recall", "f1"])) + "\n")
        for i, (name, row) in enumerate(zip(names, matrix)):
            cells = ["%d" % v if square else "%.6f" % v for v in row]
            handle.write("\t".join([str(i + 1), name] + cells) + "\n")


def write_predictions(path, examples, described):
    """TSV: line, label, predicted, probability, text (and text_b).

    Args:
        path: file.
        examples: `Examples` with labels.
        described: list from the head's `describe`.
    """
    with atomic(path, "w") as handle:
        columns = ["line", "label", "predicted", "probability", "text"] + ["text_b"] * examples.is_pairs
        handle.write("\t".join(columns) + "\n")
        for text, label, line, (predicted, probability) in zip(
            examples.texts, examples.labels, examples.lines, described
        ):
            texts = [one_line(t) for t in (text if isinstance(text, tuple) else (text,))]
            cells = [str(line), join(label), join(predicted), join_probabilities(probability)]
            handle.write("\t".join(cells + texts) + "\n")
