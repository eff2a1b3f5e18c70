"""The training loop: batches, progress bar, validation after each epoch, saved points, going on from them.

Keras' own `fit` cannot begin in the middle of an epoch, which is what going on after a kill means; so the loop is
ours, and the callbacks are Keras'.
"""

import math
import os
import sys
import time

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kexue_keras.backend import K, nonfinite_weight
from kexue_keras.errors import UserError
from kexue_keras.finetune import _saved_files as checkpoint
from kexue_keras.finetune._progress import Progress, check_arrays, check_progress, is_best, is_number, no_point
from kexue_keras.optimizers._averaging import own_weights_in


class Diverged(UserError):
    """The loss, a score or the weights are no numbers any more."""


def report_divergence(metrics, folder):
    """End a run that has diverged with an error, although the best epoch before that was kept.

    Args:
        metrics: dict, the contents of metrics.json.
        folder: `RunFolder`, not yet finished where it replaces an earlier run, which then stays.

    Raises:
        UserError: the run has diverged.
    """
    if metrics.get("diverged") and folder.replaces:
        raise UserError(
            "training diverged: %s. The earlier run here was kept, the new one is gone; into another folder the model "
            "of its epoch %d would have been kept" % (metrics["diverged"], metrics["best_epoch"]),
            path=folder.home,
        )
    if metrics.get("diverged"):
        raise UserError(
            "training diverged: %s. The model of epoch %d, the best before that, is kept here and can be used"
            % (metrics["diverged"], metrics["best_epoch"]),
            path=folder.home,
        )


class Loop(object):
    """Trains `recipe.model`.

    Args:
        recipe: `Recipe`, compiled, with batches.
        folder: where the points are saved.
        evaluate: function without arguments; dict of validation metrics with the keys 'score' and 'loss' and others.
        callbacks: list of Keras callbacks.

    Attributes:
        progress: `Progress`.
        diverged: what happened, if training ended with an epoch before the last because numbers were not finite.
    """

    def __init__(self, recipe, folder, evaluate, callbacks):
        self.recipe = recipe
        self.evaluate = evaluate
        self.callbacks = callbacks
        self.point = os.path.join(folder, "checkpoint.npz")
        self.best = os.path.join(folder, "best.npz")
        self.progress, self.diverged = Progress(), None

    def run(self):
        """Train to the end, leave the best epoch's weights in the model, return the `Progress`.

        Raises:
            UserError: training diverged before an epoch was finished, or the best weights cannot be read again.
        """
        options, p = self.recipe.options, self.progress
        self.recipe.model.stop_training = False
        for callback in self.callbacks:
            callback.set_model(self.recipe.model)
            callback.set_params(
                {
                    "epochs": options.epochs,
                    "batch_size": options.batch_size,
                    "steps": len(self.recipe.batches),
                    "samples": len(self.recipe.train),
                    "verbose": 0,
                    "do_validation": True,
                    "metrics": list(self.recipe.model.metrics_names),
                }
            )
        self._call("on_train_begin", {})
        try:
            while p.epoch < options.epochs and not self.recipe.model.stop_training:
                self._epoch()
        except Diverged as error:
            if p.best is None:
                raise
            self.diverged = error.message
            self.recipe.say("%s; training ends here, with the model of epoch %d" % (error, p.best["epoch"]))
        self._call("on_train_end", {})
        if p.best is not None:
            self.recipe.model.set_weights(self._read_best()[0])
        return p

    def remarks(self):
        """What metrics.json says beyond the numbers; `report_divergence` reads it."""
        return {} if self.diverged is None else {"diverged": self.diverged}

    def _epoch(self):
        recipe, p = self.recipe, self.progress
        batches = recipe.batches.epoch(p.epoch)
        began = time.time()
        self._call("on_epoch_begin", p.epoch, {})
        bar = tqdm(
            total=len(batches),
            initial=p.batch,
            desc="epoch %d/%d" % (p.epoch + 1, recipe.options.epochs),
            unit="batch",
            disable=recipe.options.quiet,
            file=sys.stderr,
            mininterval=0.2 if sys.stderr.isatty() else 15,
            dynamic_ncols=True,
        )
        with bar:
            while p.batch < len(batches):
                self._step(batches[p.batch])
                shown = ["%s %.4f" % pair for pair in p.means().items()]
                bar.set_postfix_str(", ".join(shown), refresh=False)
                bar.update()
                every = recipe.options.save_every
                # At the end of an epoch a point is saved anyway, after the validation.
                if every and p.step % every == 0 and p.batch < len(batches):
                    p.seconds, began = p.seconds + time.time() - began, time.time()
                    self.save()
        row = {"train_" + name: value for name, value in p.means().items()}
        self._call("on_test_begin", {})
        self._check_weights()
        scores = self.evaluate()
        for name, value in scores.items():
            if not math.isfinite(value):
                raise Diverged("the validation %s became %s after epoch %d" % (name, value, p.epoch + 1))
        row.update({"valid_" + name: value for name, value in scores.items()}, epoch=p.epoch + 1)
        is_better = p.best is None or (scores["score"], -scores["loss"]) > (p.best["score"], -p.best["loss"])
        if is_better:
            p.best = {"epoch": p.epoch + 1, "score": scores["score"], "loss": scores["loss"]}
            # Between the two calls, since a callback may have put averaged weights into the model.
            checkpoint.save_arrays(self.best, checkpoint.numbered("model", recipe.model.get_weights()), p.best)
        self._call("on_test_end", {})
        p.history.append(row)
        p.seconds += time.time() - began
        self._say_epoch(row, is_better)
        logs = dict(p.means(), **{"val_" + name: value for name, value in scores.items()})
        self._call("on_epoch_end", p.epoch, logs)
        p.epoch, p.batch, p.sums = p.epoch + 1, 0, {}
        self.save()

    def _step(self, indices):
        recipe, p = self.recipe, self.progress
        logs = {"batch": p.batch, "size": len(indices)}
        self._call("on_batch_begin", p.batch, logs)
        recipe.step = p.step
        recipe.random_step.set(p.step)
        try:
            values = recipe.train_on_batch(recipe.make_batch(indices))
        except tf.errors.InvalidArgumentError as error:
            # It makes no step without finite gradients, and gives up after many of them.
            if "LossScale:" not in str(error):
                raise
            raise Diverged("the loss scale found no finite gradients at step %d; %s" % (p.step + 1, self._remedy()))
        if not math.isfinite(values[0]):
            raise Diverged("the loss became %s at step %d; %s" % (values[0], p.step + 1, self._remedy()))
        p.add(recipe.model.metrics_names, values, len(indices))
        p.losses.append(round(float(values[0]), 6))
        p.batch += 1
        p.step += 1
        logs.update(zip(recipe.model.metrics_names, map(float, values)))
        self._call("on_batch_end", p.batch - 1, logs)

    def _check_weights(self):
        name = nonfinite_weight(self.recipe.model.weights)
        if name is not None:
            raise Diverged(
                "the weights became NaN or infinite at step %d (%s); %s" % (self.progress.step, name, self._remedy())
            )

    def _remedy(self):
        rate = self.recipe.options.learning_rate
        return "a lower --learning-rate (now %g) or a longer --warmup usually helps" % rate

    def _call(self, hook, *args):
        # Keras renamed the batch hooks; in both generations these names reach a callback that defines either.
        new = {"on_batch_begin": "on_train_batch_begin", "on_batch_end": "on_train_batch_end"}.get(hook, hook)
        for callback in self.callbacks:
            function = getattr(callback, new, None) or getattr(callback, hook, None)
            if function is not None:
                function(*args)

    def _say_epoch(self, row, is_better):
        shown = ["%s %.4f" % (name.replace("_", " "), row[name]) for name in sorted(row) if name != "epoch"]
        shown = [text for text in shown if not text.startswith("valid score")]
        self.recipe.say("epoch %d: %s%s" % (row["epoch"], ", ".join(shown), "  (best so far)" if is_better else ""))

    def save(self):
        """Save the point at which the run stands.

        Raises:
            Diverged: with the weights as they are there is nothing to go on from.
        """
        model = self.recipe.model
        random, keys = checkpoint.random_state()
        # A callback may have left averages in it.
        with own_weights_in(model):
            self._check_weights()
            arrays = dict(checkpoint.numbered("model", model.get_weights()), random=keys)
        arrays.update(checkpoint.numbered("optimizer", model.optimizer.get_weights()))
        for technique in self.recipe.techniques:
            for name, value in technique.state(self.recipe).items():
                arrays["technique/%s/%s" % (technique.name, name)] = np.asarray(value)
        meta = {"progress": vars(self.progress), "random": random, "learning_rate": self._learning_rate()}
        checkpoint.save_arrays(self.point, arrays, meta)

    def restore(self):
        """Go back to the saved point; False if there is none.

        Raises:
            UserError: the point, or the best weights that belong to it, cannot be of this run.
        """
        if not os.path.exists(self.point):
            return False
        arrays, meta = checkpoint.load_arrays(self.point)
        recipe, model = self.recipe, self.recipe.model
        weights = self._check_point(arrays, meta)
        if meta["progress"]["epoch"] < recipe.options.epochs:
            # Keras makes an optimizer's variables at its first step. What this step does is overwritten below.
            recipe.train_on_batch(recipe.make_batch(recipe.batches.epoch(0)[0]))
            try:
                model.optimizer.set_weights(checkpoint.from_numbered("optimizer", arrays))
            except ValueError as error:
                raise no_point(self.point, error)
        model.set_weights(weights)
        for technique in recipe.techniques:
            prefix = "technique/%s/" % technique.name
            technique.restore(recipe, {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)})
        if meta["learning_rate"] is not None:
            K.set_value(model.optimizer.learning_rate, meta["learning_rate"])
        vars(self.progress).update(meta["progress"])
        try:
            checkpoint.set_random_state(meta["random"], arrays["random"])
        except (TypeError, ValueError, LookupError, OverflowError, AttributeError) as error:
            raise no_point(self.point, "the state of the random numbers cannot be set (%s)" % error)
        return True

    def _check_point(self, arrays, meta):
        """The model's weights of a point that can be one of this run; adopts what best.npz knows better."""
        recipe, path = self.recipe, self.point
        if not isinstance(meta, dict) or set(meta) != {"progress", "random", "learning_rate"}:
            raise no_point(path, "it has no progress, state of random numbers and learning rate")
        rate = meta["learning_rate"]
        if rate is not None and not (is_number(rate) and rate >= 0):
            raise no_point(path, "the learning rate is %.60r" % (rate,))
        check_progress(meta["progress"], epochs=recipe.options.epochs, batches=len(recipe.batches), path=path)
        weights = checkpoint.from_numbered("model", arrays)
        check_arrays(weights, recipe.model.get_weights(), path=path)
        if not all(np.isfinite(w).all() for w in weights):
            raise no_point(path, "its weights are NaN or infinite")
        if meta["progress"]["best"] is not None:
            # A kill between the writing of the two leaves the better one of an epoch that is trained once more.
            meta["progress"]["best"] = self._read_best(meta["progress"]["best"])[1]
        return weights

    def _read_best(self, known=None):
        """(weights, what is known of them) of the best epoch, which is `known`, by default that of the progress."""
        known = known or self.progress.best
        if not os.path.exists(self.best):
            raise no_point(self.best, "the file with the weights of epoch %d, the best, is missing" % known["epoch"])
        arrays, meta = checkpoint.load_arrays(self.best)
        weights = checkpoint.from_numbered("model", arrays)
        check_arrays(weights, self.recipe.model.get_weights(), path=self.best)
        if not all(np.isfinite(w).all() for w in weights):
            raise no_point(self.best, "its weights are NaN or infinite")
        # Earlier versions wrote nothing beside the weights.
        if meta is not None and not (is_best(meta, self.recipe.options.epochs) and meta["epoch"] >= known["epoch"]):
            raise no_point(self.best, "it is that of %.80r, not of epoch %d" % (meta, known["epoch"]))
        return weights, meta or known

    def forget(self):
        """Remove the saved points; the run is finished."""
        for path in (self.point, self.best):
            if os.path.exists(path):
                os.remove(path)

    def _learning_rate(self):
        """The rate that a callback may have changed; it is no weight of the optimizer."""
        rate = getattr(self.recipe.model.optimizer, "learning_rate", None)
        try:
            return float(K.get_value(rate))
        except Exception:  # a schedule object, or no rate at all
            return None
