"""R-Drop: every text twice in a batch, and the divergence of the two answers in the loss (kexue.fm/archives/8496)."""

import numpy as np

from kexue_keras.errors import UserError
from kexue_keras.finetune._options import number
from kexue_keras.finetune._recipe import Technique, technique
from kexue_keras.losses import RDropCrossentropy


@technique
class RDrop(Technique):
    """Doubles the rows of training batches; validation and prediction know nothing of it."""

    name = "rdrop"
    refuses = {"similarity": "it repeats the rows of a batch, of which two and two are a pair"}

    def add_arguments(self, parser):
        parser.add_argument(
            "--rdrop",
            type=number,
            metavar="ALPHA",
            default=0.0,
            help="R-Drop with this weight, the author's is 4 with --dropout 0.3; twice the time (default: off)",
        )

    def active(self, options):
        return options.rdrop != 0

    def check(self, options):
        if not 0 < options.rdrop < float("inf"):
            raise UserError("--rdrop is %g; it has to be a number above 0, e.g. 4" % options.rdrop)
        if options.dropout == 0:
            raise UserError("--rdrop compares two dropouts of the same text, so --dropout 0 leaves nothing to compare")

    def loss(self, recipe, loss):
        if recipe.head.name == "sigmoid":
            raise UserError("--rdrop goes with one label a text or with --multilabel-loss zlpr")
        several = recipe.head.name == "multi"
        return RDropCrossentropy(
            alpha=recipe.options.rdrop,
            from_logits=True,
            sparse=not several,
            divergence="multilabel" if several else "kl",
        )

    def batch(self, recipe, batch):
        return batch._replace(
            inputs=[np.repeat(x, 2, axis=0) for x in batch.inputs],
            targets=np.repeat(batch.targets, 2, axis=0),
            weights=np.repeat(batch.weights, 2, axis=0),
        )
