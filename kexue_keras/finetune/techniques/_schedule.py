"""Learning rate schedule: linear warm-up, then constant or linear decay to 0."""

from kexue_keras.errors import UserError
from kexue_keras.finetune._options import number
from kexue_keras.finetune._recipe import Technique, technique
from kexue_keras.optimizers._schedules import PiecewiseLinear, linear_warmup


@technique
class Schedule(Technique):
    """Rises in a straight line during the warm-up, then falls in a straight line to 0 at the last update."""

    name = "schedule"
    # Close round the optimizer itself: what wraps it further out counts other steps than real updates.
    order = 20

    def add_arguments(self, parser):
        parser.add_argument(
            "--warmup",
            type=number,
            metavar="W",
            default=0.1,
            help="updates of rising learning rate; below 1 it is a share of all updates (default: 0.1)",
        )
        parser.add_argument(
            "--schedule",
            choices=("linear", "constant"),
            default="linear",
            help="learning rate after the warm-up: linear decay to 0, or constant (default: linear)",
        )

    def active(self, options):
        return options.warmup != 0 or options.schedule != "constant"

    def check(self, options):
        if options.warmup < 0:
            raise UserError("--warmup is %g; it has to be 0 or more" % options.warmup)

    def optimizer(self, recipe, optimizer):
        warmup = warmup_updates(recipe.options.warmup, recipe.updates)
        total = recipe.updates if recipe.options.schedule == "linear" else None
        return PiecewiseLinear(optimizer, linear_warmup(warmup, total))


def warmup_updates(warmup, updates):
    """Number of updates of the warm-up; at least one update is left after it.

    >>> warmup_updates(.1, 500), warmup_updates(30, 500), warmup_updates(30, 20)
    (50, 30, 19)
    """
    wanted = int(round(warmup * updates)) if warmup < 1 else int(warmup)
    return min(wanted, updates - 1)
