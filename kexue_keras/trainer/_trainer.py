"""The trainer of all tasks: steps whose batches depend on their numbers alone, so that a run resumes where it stopped.

Keras' own `fit` cannot begin in the middle of an epoch, which is what resuming after a kill needs; so the loop is
ours, and the callbacks are Keras'.
"""

import contextlib
import json
import math
import os
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kexue_keras.backend import nonfinite_weight, whole_graph_first
from kexue_keras.errors import UserError
from kexue_keras.files import FolderLock, remove_leftovers
from kexue_keras.optimizers import SwapAveragedWeights
from kexue_keras.optimizers._averaging import average_of, own_weights_in
from kexue_keras.trainer._checkpoint import (
    load_arrays,
    model_weights,
    no_point,
    numbered,
    restore_point,
    save_arrays,
    save_point,
)
from kexue_keras.trainer._progress import Progress, is_best
from kexue_keras.trainer._ranks import Ranks
from kexue_keras.training._randomness import Step
from kexue_keras.types import Model, Path, Say

POINT, BEST = "checkpoint.npz", "best.npz"


class Diverged(UserError):
    """The loss, a score or the weights are no longer finite."""


class Trainer(object):
    """Trains a compiled Keras model; `run` resumes from the checkpoint in `folder`, to bit-identical weights.

    At the end of an epoch a short window of accumulated gradients is applied, `evaluate` is asked (with averaged
    weights, if the optimizer has such), and the weights of the epoch with the best score are kept; training ends with
    these, also where it diverges later.

    Args:
        model: compiled Keras model, see `wrapped`.
        make_batch: function of the step's number, from 0, to (inputs, targets) or (inputs, targets, sample weights);
            the same batch each time.
        steps: int, steps of the whole run.
        epoch_steps: int, steps per epoch; None: all are one epoch.
        evaluate: function without arguments; dict of validation metrics with the key 'score' and others, where 'loss'
            decides between equal scores.
        patience: int, epochs without a better score after which training ends; None: it runs to the last one.
        callbacks: list of Keras callbacks.
        folder: where the checkpoint and the best weights are kept; None keeps the latter in memory.
        facts: JSON-able dict that a checkpoint must have in common with the run.
        save_every: int, steps between two checkpoints, besides the ends of epochs; None: only there.
        ranks: `trainer._ranks.Ranks` of `wrapped(..., distributed=True)`, if several processes train the model
            together.
        random_step: `training.randomness.Step` by which the model draws its random numbers, or None.
        is_locked: bool, whether the caller holds the folder's lock.
        remedy: what to try if training diverges, for messages.
        quiet: no progress bar.
        say: function that takes a line, or None.

    Attributes:
        progress: `Progress`.
        losses: list of float, of the steps done here.
        diverged: what happened, if training ended with an epoch before the last because numbers were not finite.

    Raises:
        UserError: an empty folder name, or less than one step.

    >>> from kexue_keras.optimizers import AdamW
    >>> from kexue_keras.trainer import Trainer
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(AdamW(1e-3), 'mse')
    >>> x, y = np.ones((40, 3)), np.ones((40, 1))
    >>> trainer = Trainer(model, lambda step: (x[4 * step : 4 * step + 4], y[4 * step : 4 * step + 4]), steps=10)
    >>> len(trainer.run())
    10
    """

    def __init__(
        self,
        model: Model,
        make_batch: Callable[[int], Tuple[Any, ...]],
        *,
        steps: int,
        epoch_steps: Optional[int] = None,
        evaluate: Optional[Callable[[], Dict[str, Any]]] = None,
        patience: Optional[int] = None,
        callbacks: Sequence[Any] = (),
        folder: Optional[Path] = None,
        facts: Optional[Dict[str, Any]] = None,
        save_every: Optional[int] = None,
        random_step: Optional[Step] = None,
        ranks: Optional[Ranks] = None,
        is_locked: bool = False,
        remedy: str = "a lower learning_rate usually helps",
        quiet: bool = True,
        say: Optional[Say] = None,
    ) -> None:
        if folder is not None and not os.fspath(folder):
            raise UserError(
                "the name of the folder for the checkpoint is empty (a variable that is not set?); give a name"
            )
        for name, value in (("steps", steps), ("epoch_steps", steps if epoch_steps is None else epoch_steps)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise UserError("%s is %r; a whole number from 1 is needed" % (name, value))
        self.model, self.make_batch, self.evaluate = model, make_batch, evaluate
        self.ranks = ranks or Ranks(alone=True)
        self.folder, self.save_every, self.random_step = self.ranks.folder(folder), save_every, random_step
        self.patience, self.is_locked = patience, is_locked and self.ranks.is_first
        self.remedy, self.quiet, self.say = remedy, quiet, say or (lambda line: None)
        if not self.ranks.is_first:
            self.quiet, self.say = True, lambda line: None
        self.progress = Progress(int(steps), int(epoch_steps or steps))
        self.losses, self.diverged = [], None
        facts = dict(facts or {}, steps=self.progress.steps, epoch_steps=self.progress.epoch_steps)
        # As they come back from a file: lists for tuples.
        self.facts = json.loads(json.dumps(facts))
        self.callbacks = _with_averages(model, list(callbacks), keep=evaluate is None)
        # Of the best epoch, where there is no folder to keep them in.
        self._best = None

    def run(self) -> List[float]:
        """Train to the end; returns `losses`.

        Raises:
            UserError: training diverged before an epoch was finished; a point or best weights in the folder that are of
                another run or cannot be; another process is at work there.
        """
        with self._held():
            with self.ranks.together([self._path(name) for name in (POINT, BEST)] if self.folder is not None else []):
                if not self.restore():
                    self.ranks.broadcast_weights(self.model)
                first = self.progress.step
                self._train()
        self.losses = self.progress.losses[first:]
        return self.losses

    def forget(self) -> None:
        """Remove the checkpoints; the run is finished."""
        for path in (self._path(POINT), self._path(BEST)):
            if os.path.exists(path):
                os.remove(path)

    # The run

    def _train(self):
        p, model = self.progress, self.model
        model.stop_training = False
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(
                {
                    "epochs": p.epochs,
                    "steps": p.epoch_steps,
                    "verbose": 0,
                    "do_validation": self.evaluate is not None,
                    "metrics": list(getattr(model, "metrics_names", ["loss"])),
                }
            )
        self._call("on_train_begin", {})
        try:
            while p.step < p.steps and not model.stop_training and not p.is_exhausted(self.patience):
                self._epoch()
            if p.step < p.steps and p.is_exhausted(self.patience):
                self.say(
                    "training ends after epoch %d of %d: no better score for %d epochs"
                    % (p.epoch, p.epochs, p.epoch - p.best["epoch"])
                )
        except Diverged as error:
            if p.best is None:
                raise
            self.diverged = error.message
            self.say("%s; training ends here, with the model of epoch %d" % (error, p.best["epoch"]))
        self._call("on_train_end", {})
        if p.best is not None:
            if self.ranks.is_first:
                model.set_weights(self._best_weights(p.best)[0])
            self.ranks.broadcast_weights(model)

    def _epoch(self):
        p, model, epoch, began = self.progress, self.model, self.progress.epoch, time.time()
        end = min((epoch + 1) * p.epoch_steps, p.steps)
        self._call("on_epoch_begin", epoch, {})
        with self._bar(epoch, end) as bar:
            while p.step < end:
                self._step(p.step - epoch * p.epoch_steps)
                shown = ["%s %.4f" % pair for pair in p.means().items()]
                bar.set_postfix_str(", ".join(shown), refresh=False)
                bar.update()
                # At the end of an epoch a point is saved anyway, after the validation.
                if self.save_every and p.step % self.save_every == 0 and p.step < end:
                    p.seconds, began = p.seconds + time.time() - began, time.time()
                    self._save()
        if hasattr(self.model.optimizer, "flush"):
            # An epoch's short last window, so that what is measured is what is kept.
            self.model.optimizer.flush()
        self._check_weights()
        row = {"train_" + name: value for name, value in p.means().items()}
        scores = self._validate(epoch) if self.evaluate is not None else {}
        row.update({"valid_" + name: value for name, value in scores.items()}, epoch=epoch + 1)
        p.history.append(row)
        p.seconds += time.time() - began
        self._say_epoch(row)
        logs = dict(p.means(), **{"val_" + name: value for name, value in scores.items()})
        self._call("on_epoch_end", epoch, logs)
        model.stop_training = self.ranks.of_first(lambda: bool(model.stop_training))
        p.sums = {}
        self._save()

    def _step(self, batch):
        p, names = self.progress, list(getattr(self.model, "metrics_names", ["loss"]))
        made = self.make_batch(p.step)
        rows = _rows(made[0])
        logs = {"batch": batch, "size": rows}
        self._call("on_batch_begin", batch, logs)
        values, rows = self.ranks.means(self._train_on_batch(p.step, made), rows)
        if not math.isfinite(values[0]):
            raise Diverged("the loss became %s at step %d; %s" % (values[0], p.step + 1, self.remedy))
        p.add(names, values, rows)
        logs.update(zip(names, map(float, values)))
        self._call("on_batch_end", batch, logs)

    def _train_on_batch(self, step, made):
        if self.random_step is not None:
            # Each rank has numbers of its own.
            self.random_step.set(step + self.ranks.rank * 2**40)
        weights = {"sample_weight": made[2]} if len(made) > 2 else {}
        try:
            with whole_graph_first(self.model):
                return np.atleast_1d(self.model.train_on_batch(made[0], made[1], **weights))
        except tf.errors.InvalidArgumentError as error:
            # It makes no step without finite gradients, and gives up after many of them.
            if "LossScale:" not in str(error):
                raise
            raise Diverged("the loss scale found no finite gradients at step %d; %s" % (step + 1, self.remedy))

    def _validate(self, epoch):
        p = self.progress
        self._call("on_test_begin", {})
        scores = self.ranks.of_first(self.evaluate)
        for name, value in scores.items():
            if not math.isfinite(value):
                raise Diverged("the validation %s became %s after epoch %d" % (name, value, epoch + 1))
        if p.is_better(scores):
            p.best = {"epoch": epoch + 1, "score": scores["score"], "loss": scores.get("loss", 0.0)}
            # Between the two calls, since a callback may have put averaged weights into the model.
            self._keep_best()
        self._call("on_test_end", {})
        return scores

    def _check_weights(self):
        name = nonfinite_weight(self.model.weights)
        if name is not None:
            raise Diverged(
                "the weights became NaN or infinite at step %d (%s); %s" % (self.progress.step, name, self.remedy)
            )

    # What the user sees

    def _call(self, hook, *args):
        # Keras renamed the batch hooks; in both generations these names reach a callback that defines either.
        new = {"on_batch_begin": "on_train_batch_begin", "on_batch_end": "on_train_batch_end"}.get(hook, hook)
        for callback in self.callbacks:
            function = getattr(callback, new, None) or getattr(callback, hook, None)
            if function is not None:
                function(*args)

    def _bar(self, epoch, end):
        p = self.progress
        return tqdm(
            total=end - epoch * p.epoch_steps,
            initial=p.step - epoch * p.epoch_steps,
            desc="epoch %d/%d" % (epoch + 1, p.epochs) if p.epochs > 1 else "training",
            unit="batch",
            disable=self.quiet,
            file=sys.stderr,
            mininterval=0.2 if sys.stderr is not None and sys.stderr.isatty() else 15,
            dynamic_ncols=True,
        )

    def _say_epoch(self, row):
        best = self.progress.best
        shown = ["%s %.4f" % (name.replace("_", " "), row[name]) for name in sorted(row) if name != "epoch"]
        shown = [text for text in shown if not text.startswith("valid score")]
        mark = "  (best so far)" if best is not None and best["epoch"] == row["epoch"] else ""
        self.say("epoch %d: %s%s" % (row["epoch"], ", ".join(shown), mark))

    # The folder

    def _path(self, name):
        return "" if self.folder is None else os.path.join(os.fspath(self.folder), name)

    @contextlib.contextmanager
    def _held(self):
        """The folder made, and locked unless it is."""
        if self.folder is None or self.is_locked:
            yield
            return
        os.makedirs(os.fspath(self.folder), exist_ok=True)
        with FolderLock(os.fspath(self.folder)):
            remove_leftovers(os.fspath(self.folder))
            yield

    def _save(self):
        """Save the state of the run, unless nothing could be resumed from these weights."""
        if self.folder is None:
            return
        self.ranks.agree_on_window(self.model.optimizer)
        if not self.ranks.is_first:
            return
        # A callback may have left averages in the model.
        with own_weights_in(self.model):
            self._check_weights()
            meta = {"facts": self.facts, "progress": self.progress.as_json()}
            losses = np.array(self.progress.losses, "float64")
            save_point(self._path(POINT), self.model, meta, losses=losses)

    def restore(self) -> bool:
        """Go back to the checkpoint; False if there is none.

        Raises:
            UserError: the point, or the best weights that belong to it, cannot be of this run; nothing is set then.
        """
        path, p = self._path(POINT), self.progress
        if not os.path.exists(path):
            return False
        arrays, meta = load_arrays(path)
        if not isinstance(meta, dict) or set(meta) != {"facts", "progress", "random", "learning_rate"}:
            raise no_point(path, "it has no facts, progress, state of random numbers and learning rate")
        if meta["facts"] != self.facts:
            raise UserError(
                "holds a point of another run (%s, not %s); give another folder" % (meta["facts"], self.facts),
                path=path,
            )
        rate = meta["learning_rate"]
        if rate is not None and not (type(rate) in (int, float) and math.isfinite(rate) and rate >= 0):
            raise no_point(path, "the learning rate is %.60r" % (rate,))
        there = Progress(p.steps, p.epoch_steps)
        there.restore(path, meta["progress"], arrays.get("losses"))
        model_weights(path, self.model, arrays)
        if there.best is not None:
            # A kill between the writing of the two leaves the better one of an epoch that is trained once more.
            there.best = self._best_weights(there.best)[1]
        # Keras makes an optimizer's variables at its first step. What this step does is overwritten below.
        self._train_on_batch(0, self.make_batch(0))
        restore_point(path, self.model, arrays, meta)
        self.progress = there
        self.say(
            "resuming after epoch %d, batch %d (step %d of %d)" % (there.epoch, there.batch, there.step, there.steps)
        )
        return True

    def _keep_best(self):
        if not self.ranks.is_first:
            return
        weights = self.model.get_weights()
        if self.folder is None:
            self._best = weights
        else:
            save_arrays(self._path(BEST), numbered("model", weights), self.progress.best)

    def _best_weights(self, known):
        """(weights, what is known of them) of the best epoch, which is `known` or a later one."""
        path = self._path(BEST)
        if self.folder is None:
            return self._best, known
        if not os.path.exists(path):
            raise no_point(path, "the file with the weights of epoch %d, the best, is missing" % known["epoch"])
        arrays, meta = load_arrays(path)
        weights = model_weights(path, self.model, arrays)
        if not (is_best(meta, self.progress.epochs) and meta["epoch"] >= known["epoch"]):
            raise no_point(path, "it is that of %.80r, not of epoch %d" % (meta, known["epoch"]))
        return weights, meta


def _rows(inputs):
    return len(inputs[0] if isinstance(inputs, (list, tuple)) else inputs)


def _with_averages(model, callbacks, keep):
    """The callbacks, before them the one that validates with averaged weights, if the optimizer has such."""
    given = any(isinstance(callback, SwapAveragedWeights) for callback in callbacks)
    if average_of(getattr(model, "optimizer", None)) is None or given:
        return callbacks
    return [SwapAveragedWeights(keep=keep)] + callbacks
