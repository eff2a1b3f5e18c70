"""Where embeddings enter the graph of a loss, and what a perturbation of them is: of the matrix, or of each sample.

对抗训练浅谈：意义、方法和思考（附Keras实现）, kexue.fm/archives/7234. Papers: arXiv 1412.6572, 1605.07725.

The perturbed tensors are new ones, made by `SecondPass`; the weights themselves are never touched.
"""

import numpy as np
import tensorflow as tf

from kexue_keras.backend import K, widen
from kexue_keras.backend.graph import SecondPass, loop_of, reached, readers
from kexue_keras.distributed._collectives import all_gather, averaged
from kexue_keras.optimizers._gradients import dense, is_sparse

# As in the article's code: a gradient that is nothing but noise is not blown up.
TINY = 1e-8
_HANDS_ON = ("Identity", "Switch", "RefSwitch", "Enter")
_LOOKUPS = ("ResourceGather", "ResourceGatherNd", "Gather", "GatherV2", "GatherNd")


def perturbed_embeddings(layer, target, tensors, owner, distributed=False):
    """What of a layer is perturbed on the way to `tensors`: its `EmbeddingMatrix`, or its `LayerOutputs`."""
    matrix = getattr(layer, "embeddings", None)
    if target == "matrix":
        if matrix is None:
            raise ValueError(
                "%s: the layer %r has no embedding matrix; take target='output', or the layer that looks up the "
                "tokens" % (owner, layer.name)
            )
        return EmbeddingMatrix(matrix, tensors, owner, distributed)
    return LayerOutputs(outputs_of(layer, tensors, owner), owner)


def outputs_of(layer, tensors, owner):
    """The tensors that `layer` gave on the way to `tensors`: what was looked up in it, or its outputs."""
    ops = reached(tensors)
    matrix = getattr(layer, "embeddings", None)
    if matrix is not None:
        gathers = lookups(matrix, ops)
        _check_outside_loops(gathers, owner)
        found = [op.outputs[0] for op in gathers]
    else:
        made = (layer.get_output_at(i) for i in range(len(getattr(layer, "_inbound_nodes", ()))))
        made = [t for several in made for t in (several if isinstance(several, (list, tuple)) else [several])]
        met = {t.name for op in ops for t in op.outputs}
        found = [t for t in {t.name: t for t in made if t.name in met}.values() if t.dtype.is_floating]
    if not found:
        raise ValueError(
            "%s: the loss of this model does not depend on an output of the layer %r (in a model inside another one, "
            "only Embedding layers are found)" % (owner, layer.name)
        )
    return found


def _check_outside_loops(gathers, owner):
    for op in gathers:
        if loop_of(op) is not None:
            raise NotImplementedError(
                "%s: %s looks tokens up within a tf.while_loop (of a GradientCache, or a decoder), and what is looked "
                "up there cannot be perturbed" % (owner, op.name)
            )


def uses(matrix, ops):
    """Operations among `ops` that read the variable `matrix`: lists (of lookups, of reads of the whole)."""
    gathers, reads, known = [], [], set(ops)
    for op in {op.name: op for _, op in readers([matrix.handle], _HANDS_ON)}.values():
        if op not in known:
            continue
        if op.type == "ReadVariableOp":
            reads.append(op)
        elif op.type in _LOOKUPS:
            gathers.append(op)
        elif any(t.dtype.is_floating for t in op.outputs):
            raise NotImplementedError(
                "%s (%s) reads the embedding matrix in a way that cannot be perturbed; build the model outside "
                "of tf.function" % (op.name, op.type)
            )
    return gathers, reads


def lookups(matrix, ops):
    """All lookups in `matrix` among `ops`, also those that read it as a whole first."""
    gathers, reads = uses(matrix, ops)
    known = set(ops)
    for tensor, op in readers([t for op in reads for t in op.outputs], _HANDS_ON):
        if op in known and op.type in _LOOKUPS and op.inputs[0].name == tensor.name:
            gathers.append(op)
    return gathers


class EmbeddingMatrix(object):
    """Perturbations of a whole embedding matrix; the norm is that of the matrix.

    A direction is a list with one tensor: the rows that occur in the batch, [rows, d], as no others count; where the
    matrix is also read as a whole (the output layer of a language model, tied to it), all rows.

    Args:
        matrix: the variable [V, d].
        tensors: what is computed with it.
        distributed: whether the direction is that of the batch of all ranks.
    """

    def __init__(self, matrix, tensors, owner, distributed=False):
        self.matrix, self.owner, self.distributed = matrix, owner, distributed
        gathers, reads = uses(matrix, reached(tensors))
        if not gathers and not reads:
            raise ValueError("%s: the loss of this model does not depend on %s" % (owner, matrix.name))
        _check_outside_loops(gathers, owner)
        self.rows = None
        if not reads:
            ids = tf.concat([tf.reshape(_ids(op), [-1]) for op in gathers], 0)
            self.rows, _ = tf.unique(all_gather(ids) if distributed else ids)
            self._position = tf.scatter_nd(self.rows[:, None], tf.range(tf.size(self.rows)), K.int_shape(matrix)[:1])

    def gradient(self, scalar):
        """Direction of steepest ascent."""
        found = tf.gradients(scalar, self.matrix)[0]
        if found is None:
            raise ValueError("%s: the loss has no gradient for %s" % (self.owner, self.matrix.name))
        if self.distributed:
            found = averaged(found)
        if self.rows is None:
            return [widen(dense(found, self.matrix))]
        if not is_sparse(found):
            return [widen(tf.gather(found, self.rows))]
        position = tf.gather(self._position, found.indices)
        return [tf.math.unsorted_segment_sum(widen(found.values), position, tf.size(self.rows))]

    def unit(self, direction):
        """The direction with norm 1; 0 stays 0."""
        return [d / (tf.norm(d) + TINY) for d in direction]

    def noise(self, draw):
        """Gaussian noise, of norm 1 over the whole matrix, of which only the rows that count are drawn.

        Args:
            draw: function (shape, tensor whose dtype is wanted) that gives normal random numbers.
        """
        if self.rows is None:
            return self.unit([draw(K.int_shape(self.matrix), self.matrix)])
        height, width = K.int_shape(self.matrix)
        # The norm of V * d normal numbers, up to one part in sqrt(2 V d).
        return [draw(tf.stack([tf.size(self.rows), width]), self.matrix) / float(np.sqrt(height * width))]

    def check_seen_by(self, attack):
        """The matrix is the same in every pass."""

    def moved(self, direction, name):
        """`SecondPass` with the matrix moved by `direction`."""
        shift = tf.stop_gradient(direction[0])

        def replace(ops):
            gathers, reads = uses(self.matrix, ops)
            new = {}
            for op in gathers:
                ids = _ids(op)
                position = ids if self.rows is None else tf.gather(self._position, ids)
                new[op.outputs[0].name] = _added(op.outputs[0], tf.gather(shift, position))
            for op in reads:
                # A read that comes up only now (in a gradient) may need rows that are not perturbed: they get 0.
                whole = (
                    shift if self.rows is None else tf.scatter_nd(self.rows[:, None], shift, K.int_shape(self.matrix))
                )
                new[op.outputs[0].name] = _added(op.outputs[0], whole)
            return new

        return SecondPass(replace, name=name)


class LayerOutputs(object):
    """Perturbations of the output of a layer, each sample separately: the norm is that of a sample.

    A direction is a list of tensors [B, ...], one for each of `tensors`.

    Args:
        tensors: outputs of the layer, with the samples along the first axis.
    """

    def __init__(self, tensors, owner):
        self.tensors, self.owner = tensors, owner

    def gradient(self, scalar):
        """Direction of steepest ascent."""
        found = tf.gradients(scalar, self.tensors)
        if all(g is None for g in found):
            raise ValueError(
                "%s: the loss has no gradient for %s; if it lies in a part that is recomputed, take target='matrix'"
                % (self.owner, ", ".join(t.name for t in self.tensors))
            )
        pairs = zip(found, self.tensors)
        return [widen(tf.zeros_like(t) if g is None else tf.convert_to_tensor(g)) for g, t in pairs]

    def unit(self, direction):
        """The direction with norm 1 for each sample; 0 stays 0."""
        # First by the largest entry: the squares of a confident sample's gradient would be below the smallest float.
        largest = [tf.reduce_max(tf.abs(d), list(range(1, d.shape.rank))) for d in direction]
        direction = _over(direction, tf.reduce_max(tf.stack(largest), 0))
        squares = [tf.reduce_sum(tf.square(d), list(range(1, d.shape.rank))) for d in direction]
        return _over(direction, tf.sqrt(tf.add_n(squares)))

    def check_seen_by(self, attack):
        """Raise ValueError if the outputs are others in the pass `attack`, which then cannot say how to move these."""
        for tensor in self.tensors:
            if attack.has_copied(tensor):
                raise ValueError(
                    "%s: with target='output' the attack has to see the batch of the step, but %s differs without "
                    "dropout (R-Drop repeats the batch in the training phase); set attack_dropout=True, or take "
                    "target='matrix'" % (self.owner, tensor.name)
                )

    def noise(self, draw):
        """Gaussian noise of norm 1 for each sample."""
        return self.unit([draw(tf.shape(t), t) for t in self.tensors])

    def moved(self, direction, name):
        """`SecondPass` with the outputs moved by `direction`."""
        new = {t.name: _added(t, tf.stop_gradient(d)) for t, d in zip(self.tensors, direction)}
        return SecondPass(
            lambda ops: {t.name: new[t.name] for op in ops for t in op.outputs if t.name in new}, name=name
        )


def _over(direction, norms):
    shaped = [tf.reshape(norms, [-1] + [1] * (d.shape.rank - 1)) for d in direction]
    return [tf.math.divide_no_nan(d, n) for d, n in zip(direction, shaped)]


def _ids(op):
    return tf.cast(op.inputs[1], tf.int32)


def _added(tensor, shift):
    result = tensor + tf.cast(shift, tensor.dtype)
    result.set_shape(tensor.shape)
    return result
