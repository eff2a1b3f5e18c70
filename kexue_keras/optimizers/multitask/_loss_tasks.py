"""Which parts of a model's loss are the tasks of `MultiTask`: names, positions, tensors, regularizers, weights.

多任务学习漫谈（三）：分主次之序, kexue.fm/archives/8907 (L2 regularization as an auxiliary task).
"""

from collections import namedtuple

import tensorflow as tf

from kexue_keras.optimizers.multitask._loss_terms import (
    depends_on_data,
    describe,
    loss_terms,
    named_term,
    reaches,
    same_value,
)

# `config` is what stands for the task in a saved optimizer.
Task = namedtuple("Task", "loss name config")
REGULARIZATION, L2 = "regularization", "l2"


def find_tasks(loss, entries, params):
    """The tasks that `entries` mean, and the terms of the loss that belong to none of them.

    Args:
        loss: scalar tensor, the model's loss.
        entries: None for all terms that depend on data; or a list of what `MultiTask` takes as `losses`.
        params: the trainable variables.

    Returns:
        (list of `Task`, list of tensors whose gradient is only added).

    Raises:
        ValueError: an entry that means no task, or two that mean the same.
    """
    found = _Terms(loss, params)
    if entries is None:
        entries = list(range(len(found.data)))
    tasks = [found.task(entry) for entry in entries]
    if len({str(task.config) for task in tasks}) < max(2, len(tasks)):
        raise ValueError(
            "MultiTask needs two or more different tasks, but found %s among the terms of the loss: %s; compile a "
            "model with several outputs and losses, or add_loss each task's mean loss separately%s"
            % (
                [task.config for task in tasks],
                ", ".join(describe(t) for t in found.data) or "none that depends on data",
                "; the regularizers are a task if losses=[..., 'regularization'] names them" if found.plain else "",
            )
        )
    return tasks, [term for term in found.terms if not any(term is taken for taken in found.taken)]


class _Terms(object):
    """The terms of a loss: `data`, those that depend on data, and `plain`, the others."""

    def __init__(self, loss, params):
        self.loss, self.params = loss, params
        self.terms = loss_terms(loss)
        self.data = [term for term in self.terms if depends_on_data(term)]
        self.plain = [term for term in self.terms if not any(term is d for d in self.data)]
        self.taken = []

    def task(self, entry):
        """The `Task` that one entry means."""
        if isinstance(entry, str):
            if entry in (REGULARIZATION, L2) and not self._is_named(entry):
                return self._regularization() if entry == REGULARIZATION else self._l2()
            return self._of([self.data[named_term(self.data, entry)]])
        if isinstance(entry, int) and not isinstance(entry, bool):
            if 0 <= entry < len(self.data):
                return self._of([self.data[entry]])
        elif isinstance(entry, (list, tuple)) and entry:
            parts = [self.task(part) for part in entry]
            loss = tf.add_n([part.loss for part in parts])
            return Task(loss, " + ".join(part.name for part in parts), [part.config for part in parts])
        elif isinstance(entry, dict) and entry.get("without_data", len(self.plain)) < len(self.plain):
            return self._of([self.plain[entry["without_data"]]])
        elif isinstance(entry, dict) and "tensor" in entry:
            raise ValueError(
                "this MultiTask was saved with the task %s, a tensor that is no part of the model's loss and so was "
                "not saved; compile the model again and give the tensor to MultiTask" % entry["tensor"]
            )
        elif callable(entry) and not tf.is_tensor(entry):
            return self._of_tensor(tf.convert_to_tensor(entry()))
        elif tf.is_tensor(entry):
            return self._of_tensor(entry)
        raise ValueError(
            "losses holds %r; the model's loss has %d terms with data: %s"
            % (entry, len(self.data), ", ".join("%d: %s" % (i, describe(t)) for i, t in enumerate(self.data)))
        )

    def _of(self, terms, loss=None):
        self.taken += terms
        configs = [self._position(term) for term in terms]
        loss = terms[0] if loss is None else loss
        return Task(loss, describe(loss), configs[0] if len(configs) == 1 else configs)

    def _position(self, term):
        for i, other in enumerate(self.data):
            if other is term:
                return i
        return {"without_data": next(i for i, other in enumerate(self.plain) if other is term)}

    def _of_tensor(self, tensor):
        if tensor.shape.rank != 0:
            raise ValueError(
                "the task %s has shape %s; MultiTask needs scalars, take its mean" % (tensor, tensor.shape)
            )
        parts, found = loss_terms(tensor), []
        for part in parts:
            # Keras may have built the tensor a second time: tf.keras does so for each regularizer, whenever asked.
            left = [term for term in self.terms if not any(term is other for other in found)]
            found += [term for term in left if term is part][:1] or [t for t in left if same_value(t, part)][:1]
        if parts and len(found) == len(parts):
            return self._of(found, tensor if len(found) > 1 else found[0])
        if found or reaches(self.loss, tensor):
            raise ValueError(
                "%s is no term of the model's loss, though the loss is computed from it; call model.add_loss(loss) for "
                "each loss of the list (a weight belongs into the loss), then give the same tensors to MultiTask"
                % tensor.name
            )
        # Not in the loss, so that its value is not shown; but its gradient is as good as any.
        return Task(tensor, describe(tensor), {"tensor": tensor.name})

    def _regularization(self):
        if not self.plain:
            raise ValueError(
                "'regularization' means the terms of the loss without data, but it has none; give layers a "
                "kernel_regularizer, or take 'l2', half the sum of the squares of all weights"
            )
        self.taken += self.plain
        return Task(tf.add_n([tf.cast(t, self.loss.dtype) for t in self.plain]), REGULARIZATION, REGULARIZATION)

    def _l2(self):
        squares = [tf.cast(tf.nn.l2_loss(tf.convert_to_tensor(p)), self.loss.dtype) for p in self.params]
        return Task(tf.add_n(squares), L2, L2)

    def _is_named(self, name):
        try:
            return named_term(self.data, name) >= 0
        except ValueError:
            return False
