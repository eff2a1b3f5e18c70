"""The schedule of SimBERT and Sentence-BERT, which train for a number of steps."""

from kexue_keras.optimizers import AdamW, PiecewiseLinear
from kexue_keras.optimizers._schedules import linear_warmup


def warmed_up(learning_rate, warmup=0.1, weight_decay=0.01):
    """(AdamW, schedule) whose rate rises over a share `warmup` of the updates, then falls to 0."""

    def schedule(optimizer, updates):
        first = min(max(1, int(warmup * updates)), max(1, updates - 1))
        return PiecewiseLinear(optimizer, linear_warmup(first, max(updates, first + 1)))

    return AdamW(learning_rate, weight_decay=weight_decay), schedule
