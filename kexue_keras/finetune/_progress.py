"""Where a run stands, and whether what a saved point says about that can be."""

import math

from kexue_keras.errors import UserError


class Progress(object):
    """Where a run stands; all of it is saved.

    Attributes:
        epoch: epochs finished.
        batch: batches done in the epoch that is under way.
        step: batches done in all.
        sums: dict metric -> sum over the texts of this epoch; 'texts' -> their number.
        history: list of dicts, one an epoch.
        losses: list of floats, the loss of each step.
        best: {'epoch', 'score', 'loss'} or None.
        seconds: training time so far.
    """

    def __init__(self):
        self.epoch = self.batch = self.step = 0
        self.sums, self.history, self.losses, self.best, self.seconds = {}, [], [], None, 0.0

    def add(self, names, values, texts):
        """Add what a batch of `texts` rows gave."""
        for name, value in zip(names, values):
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * texts
        self.sums["texts"] = self.sums.get("texts", 0) + texts

    def means(self):
        """Dict metric -> mean over the texts of this epoch so far."""
        texts = max(self.sums.get("texts", 0), 1)
        return {name: value / texts for name, value in self.sums.items() if name != "texts"}


def is_count(value):
    """Whether a value read from JSON is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_number(value):
    """Whether a value read from JSON is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_best(value, epochs):
    """Whether a value is what is known of the best of `epochs` epochs."""
    if not isinstance(value, dict) or set(value) != {"epoch", "score", "loss"}:
        return False
    return all(map(is_number, value.values())) and is_count(value["epoch"]) and 1 <= value["epoch"] <= epochs


def check_progress(saved, *, epochs, batches, path):
    """Refuse a saved `vars(Progress())` that no run of this length can have written.

    Args:
        saved: what the point holds.
        epochs: int, of the whole run.
        batches: int, in an epoch.
        path: of the point, for the message.

    Raises:
        UserError: with what is wrong.
    """
    if not isinstance(saved, dict) or set(saved) != set(vars(Progress())):
        raise no_point(path, "the progress of a run has the entries %s" % ", ".join(sorted(vars(Progress()))))
    for name in ("epoch", "batch", "step"):
        if not is_count(saved[name]):
            raise no_point(path, "%s is %.60r" % (name, saved[name]))
    epoch, batch, step = saved["epoch"], saved["batch"], saved["step"]
    if epoch > epochs or batch >= max(batches, 1) or (epoch == epochs and batch):
        raise no_point(
            path, "it stands after epoch %d, batch %d of %d epochs with %d batches" % (epoch, batch, epochs, batches)
        )
    if step != epoch * batches + batch:
        raise no_point(path, "step %d is not after epoch %d, batch %d of %d" % (step, epoch, batch, batches))
    losses, history, sums = saved["losses"], saved["history"], saved["sums"]
    if not isinstance(losses, list) or len(losses) != step or not all(map(is_number, losses)):
        raise no_point(path, "there are not %d losses, all of them numbers" % step)
    if not isinstance(history, list) or len(history) != epoch:
        raise no_point(path, "the history has not %d epochs" % epoch)
    for number, row in enumerate(history, 1):
        if not isinstance(row, dict) or row.get("epoch") != number or not all(map(is_number, row.values())):
            raise no_point(path, "epoch %d of the history is %.60r" % (number, row))
    if not isinstance(sums, dict) or not all(map(is_number, sums.values())) or bool(sums) != bool(batch):
        raise no_point(path, "the sums over the epoch are %.60r" % (sums,))
    if batch and not (is_count(sums.get("texts")) and sums["texts"]):
        raise no_point(path, "the sums count %.60r texts" % (sums.get("texts"),))
    # That of the next epoch, if a kill came between its best weights and its point, and it is trained once more.
    if (saved["best"] is not None or epoch) and not is_best(saved["best"], min(epoch + 1, epochs)):
        raise no_point(path, "the best of %d epochs is %.60r" % (epoch, saved["best"]))
    if not is_number(saved["seconds"]) or saved["seconds"] < 0:
        raise no_point(path, "it took %.60r seconds" % (saved["seconds"],))


def check_arrays(arrays, like, *, path, what="weights"):
    """Refuse arrays that do not have the shapes of others; Keras sets as many as there are and says nothing.

    Args:
        arrays, like: lists of arrays.
        path: of the file, for the message.
        what: they are, for the message.

    Raises:
        UserError: with what is wrong.
    """
    if len(arrays) != len(like):
        raise no_point(path, "it has %d arrays of %s, the model %d" % (len(arrays), what, len(like)))
    for number, (array, other) in enumerate(zip(arrays, like)):
        if array.shape != other.shape or array.dtype.kind != other.dtype.kind:
            shown = (number, what, array.dtype, list(array.shape), other.dtype, list(other.shape))
            raise no_point(path, "array %d of the %s is %s %s, in the model %s %s" % shown)


def no_point(path, why):
    """`UserError` for a file that does not hold what it should."""
    return UserError("is no saved point of this run: %s; start anew with --overwrite" % why, path=path)
