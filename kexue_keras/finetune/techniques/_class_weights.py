"""Class weights: rare classes count more."""

import os

import numpy as np

from kexue_keras.data import read_table
from kexue_keras.errors import UserError
from kexue_keras.finetune._recipe import Technique, technique


@technique
class ClassWeights(Technique):
    """Each text's loss is multiplied by the weight of its class.

    'balanced' is N / (C N_c), whose mean over the training texts is 1, so that the learning rate keeps its meaning.
    """

    name = "class-weights"
    refuses = {"similarity": "there are scores, no classes"}

    def add_arguments(self, parser):
        parser.add_argument(
            "--class-weights",
            metavar="balanced|none|FILE",
            default="none",
            help="weight of each class in the loss; FILE has lines LABEL<TAB>WEIGHT (default: none)",
        )

    def active(self, options):
        return options.class_weights != "none"

    def check(self, options):
        if options.class_weights != "balanced" and not os.path.isfile(options.class_weights):
            raise UserError("no such file (--class-weights is balanced, none or a file)", path=options.class_weights)

    def data_ready(self, recipe):
        if recipe.head.name != "single":
            raise UserError("--class-weights needs texts with one label each; these have several")
        counts = np.bincount(recipe.targets, minlength=len(recipe.labels))
        if recipe.options.class_weights == "balanced":
            self.weights = counts.sum() / (len(counts) * counts)
        else:
            self.weights = read_weights(recipe.options.class_weights, recipe.labels)
        shown = ", ".join("%s %.3g" % pair for pair in list(zip(recipe.labels, self.weights))[:10])
        recipe.say("class weights: %s%s" % (shown, ", ..." if len(counts) > 10 else ""))

    def batch(self, recipe, batch):
        weights = self.weights[np.asarray(batch.targets).reshape(-1)].astype("float32")
        return batch._replace(weights=batch.weights * weights)


def read_weights(path, labels):
    """Weights in the order of `labels` from a file of LABEL<TAB>WEIGHT.

    Raises:
        UserError: an unknown label, a label without weight, a weight that is no positive number.
    """
    table = read_table(path, header="no", kind="tsv")
    weights = {}
    for row, line in zip(table.rows, table.lines):
        if len(row) != 2:
            raise UserError("LABEL<TAB>WEIGHT is expected", path=path, line=line)
        label, value = row[0].strip(), row[1].strip()
        if label not in labels:
            raise UserError("unknown label %r; the data have %s" % (label, ", ".join(labels)), path=path, line=line)
        if label in weights:
            raise UserError("the label %r stands twice" % label, path=path, line=line)
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
