"""Exponential moving average of the weights, used for validation and in the saved model."""

from kexue_keras.errors import UserError
from kexue_keras.finetune._options import number
from kexue_keras.finetune._recipe import Technique, technique
from kexue_keras.optimizers import ExponentialMovingAverage, SwapAveragedWeights


@technique
class Averaging(Technique):
    """Validates with the averaged weights and keeps those of the best epoch."""

    name = "averaging"
    order = 60

    def add_arguments(self, parser):
        parser.add_argument(
            "--ema",
            type=number,
            metavar="DECAY",
            default=0.0,
            help="average the weights with this decay, e.g. 0.99, and validate and save the average (default: off)",
        )

    def active(self, options):
        return options.ema != 0

    def check(self, options):
        if not 0 < options.ema < 1:
            raise UserError("--ema is %g; it has to lie between 0 and 1, e.g. 0.99" % options.ema)

    def optimizer(self, recipe, optimizer):
        return ExponentialMovingAverage(optimizer, recipe.options.ema)

    def callbacks(self, recipe):
        return [SwapAveragedWeights()]
