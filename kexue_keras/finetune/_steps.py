"""Training by steps: each batch is made from the number of its step alone, so a run goes on where it stopped."""

import contextlib
import math
import os
import time

import numpy as np

from kexue_keras.backend import K, nonfinite_weight
from kexue_keras.errors import UserError
from kexue_keras.files import FolderLock, remove_leftovers
from kexue_keras.finetune import _saved_files as checkpoint
from kexue_keras.finetune._progress import check_arrays, is_count, no_point
from kexue_keras.optimizers import GradientAccumulation

POINT = "checkpoint.npz"


def train_steps(model, make_batch, *, steps, folder=None, facts=None, save_every=200, after_step=None, say=None):
    """Train a compiled Keras model.

    Args:
        model: compiled Keras model.
        make_batch: function of the step's number, from 0, to (inputs, targets); the same batch each time.
        steps: int, steps of the whole run.
        folder: where the point is saved every `save_every` steps; the run goes on from a point that is there.
        facts: JSON-able dict that a point must have in common with the run.
        save_every: steps.
        after_step: function of the number of steps done, called after each one; or None.
        say: function that takes a line, every 50 steps.

    Returns:
        list of float, the loss of each step done here.

    Raises:
        UserError: a loss or weights that are not finite (the last point saved before is still there), a point in
            `folder` that is of another run or cannot be, or another process at work there.
    """
    facts = dict(facts or {}, steps=steps)
    with _held(folder):
        step = 0 if folder is None else _restore(model, make_batch, folder, facts)
        return _train(model, make_batch, step, steps, folder, facts, save_every, after_step, say)


@contextlib.contextmanager
def _held(folder):
    """The folder of the point, made and locked; None is nothing."""
    if folder is None:
        yield
        return
    if not os.fspath(folder):
        raise UserError("the name of the folder for the point is empty (a variable that is not set?); give a name")
    os.makedirs(folder, exist_ok=True)
    with FolderLock(folder):
        remove_leftovers(folder)
        yield


def _train(model, make_batch, step, steps, folder, facts, save_every, after_step, say):
    if say and step:
        say("going on after step %d" % step)
    losses, began = [], time.time()
    while step < steps:
        loss = float(np.ravel(model.train_on_batch(*make_batch(step)))[0])
        if not math.isfinite(loss):
            raise UserError("the loss became %s at step %d; a lower learning_rate usually helps" % (loss, step + 1))
        losses.append(loss)
        step += 1
        if step == steps and isinstance(model.optimizer, GradientAccumulation):
            model.optimizer.flush()  # the last window, if steps is no multiple of it
        if say and step % 50 == 0:
            speed = (time.time() - began) / len(losses)
            say("step %d of %d: loss %.3f, %.2f s a step" % (step, steps, np.mean(losses[-50:]), speed))
        if step == steps or (folder is not None and step % save_every == 0):
            name = nonfinite_weight(model.trainable_weights)
            if name is not None:
                raise UserError(
                    "the weights became NaN or infinite by step %d (%s); a lower learning_rate usually helps"
                    % (step, name)
                )
        if folder is not None and (step % save_every == 0 or step == steps):
            _save(model, folder, facts, step)
        if after_step is not None:
            after_step(step)
    return losses


def number_of_updates(steps, accumulate):
    """How many updates so many batches make.

    Raises:
        UserError: `accumulate` is no whole number above 0.

    >>> number_of_updates(10, 4)
    3
    """
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise UserError("accumulate=%r; a whole number of batches is needed, 1 for none" % (accumulate,))
    return -(-steps // accumulate)


def accumulated(optimizer, accumulate):
    """The optimizer, making one update of so many batches."""
    return optimizer if accumulate == 1 else GradientAccumulation(optimizer, accumulate)


def further_facts(optimizer, accumulate):
    """What a saved point also has to have in common with a run that is not on the default optimizer."""
    facts = {} if optimizer is None else {"optimizer": type(optimizer).__name__}
    return facts if accumulate == 1 else dict(facts, accumulate=accumulate)


def _save(model, folder, facts, step):
    arrays = checkpoint.numbered("model", K.batch_get_value(model.trainable_weights))
    arrays.update(checkpoint.numbered("optimizer", model.optimizer.get_weights()))
    checkpoint.save_arrays(os.path.join(folder, POINT), arrays, dict(facts, step=step))


def _restore(model, make_batch, folder, facts):
    path = os.path.join(folder, POINT)
    if not os.path.exists(path):
        return 0
    arrays, meta = checkpoint.load_arrays(path)
    step = meta.pop("step", None) if isinstance(meta, dict) else None
    if meta != facts:
        raise UserError("holds a point of another run (%s, not %s); give another folder" % (meta, facts), path=path)
    if not is_count(step) or not 1 <= step <= facts["steps"]:
        raise no_point(path, "it stands after step %.60r of %d" % (step, facts["steps"]))
    weights = checkpoint.from_numbered("model", arrays)
    check_arrays(weights, K.batch_get_value(model.trainable_weights), path=path)
    if not all(np.isfinite(w).all() for w in weights):
        raise no_point(path, "its weights are NaN or infinite")
    # Keras makes an optimizer's variables at its first step. What this step does is overwritten below.
    model.train_on_batch(*make_batch(0))
    try:
        model.optimizer.set_weights(checkpoint.from_numbered("optimizer", arrays))
    except ValueError as error:
        raise no_point(path, error)
    K.batch_set_value(list(zip(model.trainable_weights, weights)))
    return step
