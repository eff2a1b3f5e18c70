"""The training loop: batches, progress bar, validation after each epoch, saved points, going on from them.

Keras' own `fit` cannot begin in the middle of an epoch, which is what going on after a kill means; so the loop is
ours, and the callbacks are Keras'.
"""

import math
import os
import sys
import time

import numpy as np
from tqdm import tqdm

from kexue_keras.backend import K
from kexue_keras.data import UserError
from kexue_keras.tasks import checkpoint


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


class Loop(object):
    """Trains `recipe.model`.

    Args:
        recipe: `Recipe`, compiled, with batches.
        folder: where the points are saved.
        evaluate: function without arguments; dict of validation metrics with the keys 'score' and 'loss' and others.
        callbacks: list of Keras callbacks.
    """

    def __init__(self, recipe, folder, evaluate, callbacks):
        self.recipe = recipe
        self.evaluate = evaluate
        self.callbacks = callbacks
        self.point = os.path.join(folder, "checkpoint.npz")
        self.best = os.path.join(folder, "best.npz")
        self.progress = Progress()

    def run(self):
        """Train to the end, leave the best epoch's weights in the model, return the `Progress`."""
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
        while p.epoch < options.epochs and not self.recipe.model.stop_training:
            self._epoch()
        self._call("on_train_end", {})
        if p.best is not None:
            arrays, _ = checkpoint.load_arrays(self.best)
            self.recipe.model.set_weights(checkpoint.from_numbered("model", arrays))
        return p

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
        scores = self.evaluate()
        row.update({"valid_" + name: value for name, value in scores.items()}, epoch=p.epoch + 1)
        is_best = p.best is None or (scores["score"], -scores["loss"]) > (p.best["score"], -p.best["loss"])
        if is_best:
            p.best = {"epoch": p.epoch + 1, "score": scores["score"], "loss": scores["loss"]}
            # Between the two calls, since a callback may have put averaged weights into the model.
            checkpoint.save_arrays(self.best, checkpoint.numbered("model", recipe.model.get_weights()))
        self._call("on_test_end", {})
        p.history.append(row)
        p.seconds += time.time() - began
        self._say_epoch(row, is_best)
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
        values = recipe.train_on_batch(recipe.make_batch(indices))
        if not math.isfinite(values[0]):
            raise UserError(
                "the loss became %s at step %d; a lower --learning-rate (now %g) or a longer --warmup usually helps"
                % (values[0], p.step + 1, recipe.options.learning_rate)
            )
        p.add(recipe.model.metrics_names, values, len(indices))
        p.losses.append(round(float(values[0]), 6))
        p.batch += 1
        p.step += 1
        logs.update(zip(recipe.model.metrics_names, map(float, values)))
        self._call("on_batch_end", p.batch - 1, logs)

    def _call(self, hook, *args):
        # Keras renamed the batch hooks; in both generations these names reach a callback that defines either.
        new = {"on_batch_begin": "on_train_batch_begin", "on_batch_end": "on_train_batch_end"}.get(hook, hook)
        for callback in self.callbacks:
            function = getattr(callback, new, None) or getattr(callback, hook, None)
            if function is not None:
                function(*args)

    def _say_epoch(self, row, is_best):
        shown = ["%s %.4f" % (name.replace("_", " "), row[name]) for name in sorted(row) if name != "epoch"]
        shown = [text for text in shown if not text.startswith("valid score")]
        self.recipe.say("epoch %d: %s%s" % (row["epoch"], ", ".join(shown), "  (best so far)" if is_best else ""))

    def save(self):
        """Save the point at which the run stands."""
        model = self.recipe.model
        random, keys = checkpoint.random_state()
        arrays = dict(checkpoint.numbered("model", model.get_weights()), random=keys)
        arrays.update(checkpoint.numbered("optimizer", model.optimizer.get_weights()))
        for technique in self.recipe.techniques:
            for name, value in technique.state(self.recipe).items():
                arrays["technique/%s/%s" % (technique.name, name)] = np.asarray(value)
        meta = {"progress": vars(self.progress), "random": random, "learning_rate": self._learning_rate()}
        checkpoint.save_arrays(self.point, arrays, meta)

    def restore(self):
        """Go back to the saved point; False if there is none."""
        if not os.path.exists(self.point):
            return False
        arrays, meta = checkpoint.load_arrays(self.point)
        recipe, model = self.recipe, self.recipe.model
        optimizer = checkpoint.from_numbered("optimizer", arrays)
        if meta["progress"]["epoch"] < recipe.options.epochs:
            # Keras makes an optimizer's variables at its first step. What this step does is overwritten below.
            recipe.train_on_batch(recipe.make_batch(recipe.batches.epoch(0)[0]))
            model.optimizer.set_weights(optimizer)
        model.set_weights(checkpoint.from_numbered("model", arrays))
        for technique in recipe.techniques:
            prefix = "technique/%s/" % technique.name
            technique.restore(recipe, {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)})
        if meta["learning_rate"] is not None:
            K.set_value(model.optimizer.learning_rate, meta["learning_rate"])
        vars(self.progress).update(meta["progress"])
        checkpoint.set_random_state(meta["random"], arrays["random"])
        return True

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
