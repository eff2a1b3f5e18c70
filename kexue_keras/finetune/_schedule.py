"""Learning rate schedule of the command: linear warm-up, then constant or linear decay to 0."""

from kexue_keras.errors import UserError
from kexue_keras.optimizers._schedules import PiecewiseLinear, linear_warmup


def schedule_of(options):
    """Function (optimizer, number of updates) that gives the optimizer with the schedule of the options, or None.

    Raises:
        UserError: a warm-up below 0.
    """
    if options.warmup < 0:
        raise UserError("--warmup is %g; it has to be 0 or more" % options.warmup)
    if options.warmup == 0 and options.schedule == "constant":
        return None

    def scheduled(optimizer, updates):
        total = updates if options.schedule == "linear" else None
        return PiecewiseLinear(optimizer, linear_warmup(warmup_updates(options.warmup, updates), total))

    return scheduled


def warmup_updates(warmup, updates):
    """Number of updates of the warm-up; at least one update is left after it.

    >>> warmup_updates(.1, 500), warmup_updates(30, 500), warmup_updates(30, 20)
    (50, 30, 19)
    """
    wanted = int(round(warmup * updates)) if warmup < 1 else int(warmup)
    return min(wanted, updates - 1)
