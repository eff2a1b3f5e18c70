"""Gradient accumulation: several batches make one update, in buffers or hidden in the optimizer's momentum."""

from kexue_keras.backend import keras
from kexue_keras.finetune._options import positive
from kexue_keras.finetune._recipe import Technique, technique
from kexue_keras.optimizers import GradientAccumulation, accumulate_in_momentum


def windows(batches, epochs, steps):
    """Updates of a run in which each epoch's last window may be short.

    >>> windows(10, epochs=2, steps=4)
    6
    """
    return -(-batches // steps) * epochs


@technique
class Accumulation(Technique):
    """Exact accumulation: the outermost wrapper, so that everything inside it sees real updates only."""

    name = "accumulation"
    order = 90

    def add_arguments(self, parser):
        parser.add_argument(
            "--accumulate", type=positive, metavar="K", default=1, help="batches that make one update (%(default)s)"
        )
        parser.add_argument(
            "--accumulate-in",
            choices=("buffers", "momentum"),
            default="buffers",
            help="buffers: exact, memory of one more copy of the weights; momentum: no memory, Adam's second moment "
            "is that of the single batches (%(default)s)",
        )

    def active(self, options):
        return options.accumulate > 1 and options.accumulate_in == "buffers"

    def model_built(self, recipe):
        recipe.updates = windows(len(recipe.batches), recipe.options.epochs, recipe.options.accumulate)

    def optimizer(self, recipe, optimizer):
        return GradientAccumulation(optimizer, recipe.options.accumulate)

    def callbacks(self, recipe):
        return [FlushBeforeValidation()]


class FlushBeforeValidation(keras.callbacks.Callback):
    """Applies an epoch's short last window before the epoch is validated, so that what is measured is what is kept."""

    def on_test_begin(self, logs=None):
        """Called by the training loop before each validation."""
        self.model.optimizer.flush()


@technique
class MomentumAccumulation(Technique):
    """Accumulation in the momentum: another optimizer, so it comes before everything that wraps one."""

    name = "momentum-accumulation"
    order = 10

    def active(self, options):
        return options.accumulate > 1 and options.accumulate_in == "momentum"

    def model_built(self, recipe):
        # A window goes on over the end of an epoch.
        recipe.updates = max(1, recipe.steps // recipe.options.accumulate)

    def optimizer(self, recipe, optimizer):
        return accumulate_in_momentum(optimizer, recipe.options.accumulate)
