"""How far a run has come, and whether what a checkpoint says about it is possible."""

import math

from kexue_keras.trainer._checkpoint import no_point


class Progress(object):
    """How far a run has come; all of it is saved.

    Args:
        steps: int, of the whole run.
        epoch_steps: int, in an epoch; the last one may be shorter.

    Attributes:
        step: steps done.
        sums: dict metric -> sum over the rows of this epoch; 'rows' -> their number.
        history: list of dicts, one per epoch.
        losses: list of floats, the loss of each step.
        best: {'epoch', 'score', 'loss'} or None.
        seconds: training time so far.
    """

    saved = ("step", "sums", "history", "best", "seconds")

    def __init__(self, steps, epoch_steps):
        self.steps, self.epoch_steps, self.step = steps, epoch_steps, 0
        self.sums, self.history, self.losses, self.best, self.seconds = {}, [], [], None, 0.0

    @property
    def epochs(self):
        """Epochs of the whole run."""
        return -(-self.steps // self.epoch_steps)

    @property
    def epoch(self):
        """Epochs whose steps are done."""
        return self.epochs if self.step == self.steps else self.step // self.epoch_steps

    @property
    def batch(self):
        """Steps done in the epoch that is under way."""
        return max(self.step - self.epoch * self.epoch_steps, 0)

    def add(self, names, values, rows):
        """Add what a batch of so many rows gave, a step."""
        for name, value in zip(names, values):
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * rows
        self.sums["rows"] = self.sums.get("rows", 0) + rows
        self.losses.append(float(values[0]))
        self.step += 1

    def means(self):
        """Dict metric -> mean over the rows of this epoch so far."""
        rows = max(self.sums.get("rows", 0), 1)
        return {name: value / rows for name, value in self.sums.items() if name != "rows"}

    def is_better(self, scores):
        """Whether these scores are better than the best so far; of equal ones the first stays."""
        best = self.best
        return best is None or (scores["score"], -scores.get("loss", 0.0)) > (best["score"], -best["loss"])

    def is_exhausted(self, patience):
        """Whether the last `patience` epochs brought nothing better; None never is.

        >>> progress = Progress(50, 10)
        >>> progress.step, progress.best = 30, {'epoch': 1, 'score': 0.5, 'loss': 1.0}
        >>> progress.is_exhausted(2), progress.is_exhausted(3), progress.is_exhausted(None)
        (True, False, False)
        """
        return patience is not None and self.best is not None and self.epoch - self.best["epoch"] >= patience

    def as_json(self):
        """What `restore` takes, but for the losses."""
        return {name: getattr(self, name) for name in self.saved}

    def restore(self, path, saved, losses):
        """Take what a point holds.

        Args:
            path: of the point, for the message.
            saved: what should be that of `as_json`.
            losses: what should be an array of all losses, or None.

        Raises:
            UserError: no run of this length can have written it; nothing is changed then.
        """
        if not isinstance(saved, dict) or set(saved) != set(self.saved):
            raise no_point(path, "the progress of a run has the entries %s" % ", ".join(sorted(self.saved)))
        if not is_count(saved["step"]) or saved["step"] > self.steps:
            raise no_point(path, "it is after step %.60r of %d" % (saved["step"], self.steps))
        there = Progress(self.steps, self.epoch_steps)
        vars(there).update(saved)
        try:
            there.losses = [float(loss) for loss in losses]
        except (TypeError, ValueError):
            there.losses = [math.nan]
        self._check(path, there)
        vars(self).update(vars(there))

    @staticmethod
    def _check(path, there):
        """What the entries have to do with each other."""
        if len(there.losses) != there.step or not all(map(math.isfinite, there.losses)):
            raise no_point(path, "there are not %d losses, all of them numbers" % there.step)
        if not isinstance(there.history, list) or len(there.history) != there.epoch:
            raise no_point(path, "the history has not %d epochs" % there.epoch)
        for number, row in enumerate(there.history, 1):
            if not isinstance(row, dict) or row.get("epoch") != number or not all(map(is_number, row.values())):
                raise no_point(path, "epoch %d of the history is %.60r" % (number, row))
        sums = there.sums
        if not isinstance(sums, dict) or not all(map(is_number, sums.values())) or bool(sums) != bool(there.batch):
            raise no_point(path, "the sums over the epoch are %.60r" % (sums,))
        if there.batch and not (is_count(sums.get("rows")) and sums["rows"]):
            raise no_point(path, "the sums count %.60r rows" % (sums.get("rows"),))
        # That of the next epoch, if a kill came between its best weights and its point, and it is trained once more.
        validated = any("valid_score" in row for row in there.history)
        if (there.best is not None or validated) and not is_best(there.best, min(there.epoch + 1, there.epochs)):
            raise no_point(path, "the best of %d epochs is %.60r" % (there.epoch, there.best))
        if not is_number(there.seconds) or there.seconds < 0:
            raise no_point(path, "it took %.60r seconds" % (there.seconds,))


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
