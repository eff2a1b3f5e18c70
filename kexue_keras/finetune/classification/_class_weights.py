"""Class weights: rare classes count more."""

import os

import numpy as np

from kexue_keras.data import read_table
from kexue_keras.errors import UserError


def check_class_weights(options):
    """Refuse class weights that are no file, or where there are no classes; before anything is read.

    Raises:
        UserError: with what to do.
    """
    if options.class_weights == "none":
        return
    if options.task == "similarity":
        raise UserError("--class-weights does not go with --task similarity: there are scores, no classes")
    if options.class_weights != "balanced" and not os.path.isfile(options.class_weights):
        raise UserError("no such file (--class-weights is balanced, none or a file)", path=options.class_weights)


def class_weights(options, head, targets, labels, say):
    """Weight of each class in the loss, float64 `[C]`, or None.

    'balanced' is N / (C N_c), whose mean over the training texts is 1, so that the learning rate keeps its meaning.

    Args:
        options: namespace.
        head: head of the task.
        targets: int `[N]`, classes of the training texts.
        labels: list of their names.
        say: function that takes a line.

    Raises:
        UserError: texts with several labels, or a file that is not as it should be.
    """
    if options.class_weights == "none":
        return None
    if head.name != "single":
        raise UserError("--class-weights needs texts with one label each; these have several")
    counts = np.bincount(targets, minlength=len(labels))
    if options.class_weights == "balanced":
        weights = counts.sum() / (len(counts) * counts)
    else:
        weights = read_weights(options.class_weights, labels)
    shown = ", ".join("%s %.3g" % pair for pair in list(zip(labels, weights))[:10])
    say("class weights: %s%s" % (shown, ", ..." if len(counts) > 10 else ""))
    return weights


def read_weights(path, labels):
    """Weights in the order of `labels` from a file of LABEL<TAB>WEIGHT.

    Raises:
        UserError: an unknown label, a label without weight, a weight that is no positive number.
    """
    table = read_table(path, header="no", format="tsv")
    weights = {}
    for row, line in zip(table.rows, table.lines):
        if len(row) != 2:
            raise UserError("LABEL<TAB>WEIGHT is expected", path=path, line=line)
        label, value = row[0].strip(), row[1].strip()
        if label not in labels:
            raise UserError("unknown label %r; the data have %s" % (label, ", ".join(labels)), path=path, line=line)
        if label in weights:
            raise UserError("the label %r appears twice" % label, path=path, line=line)
        try:
            weights[label] = float(value)
        except ValueError:
            weights[label] = float("nan")
        if not 0 < weights[label] < float("inf"):
            raise UserError("the weight %r is no positive number" % value, path=path, line=line)
    missing = [label for label in labels if label not in weights]
    if missing:
        raise UserError("no weight for %s" % ", ".join(missing), path=path)
    return np.array([weights[label] for label in labels])
