r"""The representation that tasks share: their gradients there stand for those of all shared weights.

多任务学习漫谈（二）：行梯度之事, kexue.fm/archives/8896; MGDA-UB, arXiv 1810.04650. With H the shared representation and
theta what is below it, $\Vert\sum_i w_i\,\partial L_i/\partial\theta\Vert^2\le\Vert\sum_i w_i\,\partial L_i/\partial
H\Vert^2\,\Vert\partial H/\partial\theta\Vert^2$: the weights w of the smallest bound need no backward pass through the
encoder, and one pass with these w is left.
"""

import re

import tensorflow as tf

from kexue_keras.backend import tf1
from kexue_keras.backend.graph import reached
from kexue_keras.optimizers.multitask._loss_terms import depends_on_data, scope_of


def shared_tensors(representation, losses):
    """The tensors of the representation in the graph of these losses.

    Args:
        representation: name of a layer, a tensor, or a list of these.
        losses: list of scalar tensors.

    Returns:
        list of tensors.

    Raises:
        ValueError: the losses are not computed from it.
    """
    ops = reached(losses, controls=False)
    found = []
    for entry in representation if isinstance(representation, (list, tuple)) else [representation]:
        here = _outputs_of_layer(entry, ops) if isinstance(entry, str) else [entry] * (entry.op in ops)
        if not here:
            raise ValueError(
                "representation holds %r, but the losses are not computed from it; give the name of the last layer "
                "that the tasks share, or its output" % (entry if isinstance(entry, str) else entry.name)
            )
        found += here
    return found


def layer_names(representation):
    """A representation in a saved configuration: names of layers, as far as tensors know theirs."""
    if representation is None or isinstance(representation, str):
        return representation
    if isinstance(representation, (list, tuple)):
        return [layer_names(entry) for entry in representation]
    history = getattr(representation, "_keras_history", None)
    return history[0].name if history is not None else scope_of(representation.op)


def gradients_at(tensors, losses):
    """For each of `tensors` the list of the losses' gradients, None where a loss does not see it.

    Raises:
        ValueError: fewer than two losses see any of them.
    """
    by_loss = [tf1.gradients(loss, tensors) for loss in losses]
    if sum(any(g is not None for g in of_loss) for of_loss in by_loss) < 2:
        raise ValueError(
            "fewer than two tasks are computed from the representation %s; give a layer that they share"
            % ", ".join(t.name for t in tensors)
        )
    dense = [[None if g is None else tf.convert_to_tensor(g) for g in of_loss] for of_loss in by_loss]
    return [list(of_tensor) for of_tensor in zip(*dense) if any(g is not None for g in of_tensor)]


def _outputs_of_layer(name, ops):
    """What leaves the scope of a layer towards the losses."""
    pattern = re.compile(r"%s(_\d+)?" % re.escape(name))

    def inside(op):
        return any(pattern.fullmatch(part) for part in op.name.split("/"))

    found = {}
    for op in ops:
        if inside(op):
            continue
        for tensor in op.inputs:
            if inside(tensor.op) and tensor.dtype.is_floating and depends_on_data(tensor):
                found[tensor.name] = tensor
    return list(found.values())
