"""The peak of memory of a training step predicted from shapes, and `recompute_for_budget`, which chooses by it.

节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367. Paper: Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
"""

from collections import deque
from typing import Any, Callable

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import refuse_eager, tf1
from kexue_keras.training._randomness import replayed_dropout
from kexue_keras.training.recompute._memory import training_memory
from kexue_keras.types import Arrays, Config, Model, Say

# They hand their first input on (or, the last two, an input of the branch that runs) without a copy.
_ALIASES = {
    "Identity",
    "IdentityN",
    "Reshape",
    "Squeeze",
    "ExpandDims",
    "StopGradient",
    "PreventGradient",
    "Switch",
    "Merge",
}

# What they give is in memory anyhow, or is a few bytes.
_FREE = {"Const", "Placeholder", "PlaceholderWithDefault", "ReadVariableOp", "VarHandleOp", "NoOp", "Shape", "ShapeN"}

# They write into the memory of an input that nobody else needs.
_IN_PLACE = {
    "Add",
    "AddV2",
    "AddN",
    "Sub",
    "Mul",
    "RealDiv",
    "DivNoNan",
    "Maximum",
    "Minimum",
    "Pow",
    "SquaredDifference",
}
_IN_PLACE |= {"Neg", "Exp", "Log", "Sqrt", "Rsqrt", "Square", "Tanh", "Sigmoid", "Erf", "Relu", "Softmax", "Reciprocal"}
_IN_PLACE |= {"TanhGrad", "SigmoidGrad", "SqrtGrad", "RsqrtGrad", "ReluGrad", "BiasAdd", "Abs", "Floor", "LogSoftmax"}


def predict_peak(fetches, shapes):
    """The most bytes that live at the same time when a graph runs in the training phase, from shapes alone.

    The graph is read again with the shapes of its inputs filled in, so that TensorFlow infers all others, and then
    played through in the order in which a single worker would run it. Counted is what `trace_memory` measures:
    everything but variables. The fetched tensors live to the end. TensorFlow's several workers run ahead of a single
    one, and its optimizer fuses ops, which comes to a few percent.

    Args:
        fetches: list of tensors, for instance all gradients.
        shapes: dict placeholder -> shape (list of ints). Further placeholders must be scalars.

    Returns:
        int, bytes.

    Raises:
        ValueError: a tensor's size remains unknown.

    >>> x = tf.compat.v1.placeholder('float32', [None, 100])
    >>> 2 <= predict_peak(tf.gradients(tf.tanh(x * 2.) * tf.exp(x), x), {x: [1000, 100]}) / 400000 <= 5
    True
    """
    definition = fetches[0].graph.as_graph_def()
    with tf.Graph().as_default() as graph:
        fixed = {x.op.name: tf1.placeholder(x.dtype, shape) for x, shape in shapes.items() if x.consumers()}
        tf1.import_graph_def(definition, input_map=fixed, name="")
        peak = _Player([graph.get_tensor_by_name(t.name) for t in fetches]).play()
    return int(peak)


def recompute_for_budget(memory: float, *, batch_size: int, max_length: int, say: Say = print) -> "RecomputeBudget":
    """A policy for `models.extend_with_recompute`: recompute as little as possible, so that a step fits in `memory`.

    When the model is built, small models of two to four blocks with one plan after another (the fastest first, from no
    recompute to whole blocks) are built alongside; `predict_peak` of these gives that of all blocks, and the first plan
    that fits is used. Nothing is run for it.

    Args:
        memory: bytes for what a training step allocates: activations, gradients, temporary results. Weights and the
            state of the optimizer (12 bytes per parameter for Adam) come on top, and so do your own head and loss.
        batch_size, max_length: int, those of the largest batch.
        say: function that prints a line.

    Returns:
        `RecomputeBudget`; after building, `.plan` and `.predicted` say what was chosen.

    Raises:
        ValueError: an argument is not positive; or, when the model is built, no plan fits (the message says what the
            least would need).

    Reference: kexue.fm/archives/7367 (节省显存的重计算技巧也有了Keras版了), arXiv 1604.06174.

    >>> from bert4keras.models import BERT, build_transformer_model
    >>> budget = recompute_for_budget(4 * 2**20, batch_size=8, max_length=32, say=lambda line: None)
    >>> model = build_transformer_model(
    ...     model=kexue_keras.models.extend_with_recompute(BERT, budget), vocab_size=50, hidden_size=16,
    ...     num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, hidden_act='gelu')
    >>> budget.predicted <= 4 * 2**20
    True
    """
    return RecomputeBudget(memory, batch_size, max_length, say)


class RecomputeBudget(object):
    """What `recompute_for_budget` returns; `plan` (dict of arguments, or None) and `predicted` are set on building."""

    PLANS = (
        None,
        {"policy": "selective", "keep_cost": 2.0},
        {"policy": "selective", "keep_cost": 5.0},
        {"policy": "selective"},
        {"policy": "selective", "keep_cost": 8.0},
        {"policy": "blocks"},
    )

    def __init__(self, memory: float, batch_size: int, max_length: int, say: Say = print) -> None:
        owner = "recompute_for_budget"
        refuse_eager(owner)
        self.memory = checks.number(memory, "memory", owner, above=0)
        self.batch_size = checks.whole_number(batch_size, "batch_size", owner, least=1)
        self.max_length = checks.whole_number(max_length, "max_length", owner, least=1)
        self.say = say
        self.plan = self.predicted = None

    def choose(self, build: Callable[[Config, int], Model], blocks: int) -> Config:
        """Set and return the plan.

        Args:
            build: function of (plan, number of blocks) that builds a bert4keras model in the graph that is open and
                returns its Keras model.
            blocks: int, how many blocks the real model has.
        """
        least = None
        for plan in self.PLANS:
            peak = self._predict(build, plan, blocks)
            least = peak if least is None else min(least, peak)
            if peak <= self.memory:
                self.plan, self.predicted = plan, peak
                self.say(
                    "recompute: %s; predicted peak %s of %s for %d x %d tokens"
                    % (_describe(plan), _megabytes(peak), _megabytes(self.memory), self.batch_size, self.max_length)
                )
                return plan
        raise ValueError(
            "no plan fits in %s: the leanest needs about %s for a batch of %d x %d tokens. Take a batch of about %d"
            % (
                _megabytes(self.memory),
                _megabytes(least),
                self.batch_size,
                self.max_length,
                max(1, int(self.batch_size * self.memory / least)),
            )
        )

    def _predict(self, build, plan, blocks):
        # The first block adds less than the others. By default "selective" keeps more in every second one.
        period = 2 if plan == {"policy": "selective"} else 1
        if blocks <= 2 + period:
            return self._predict_blocks(build, plan, blocks)
        peaks = [self._predict_blocks(build, plan, n) for n in (2, 2 + period)]
        return peaks[0] + (blocks - 2) * max(0, peaks[1] - peaks[0]) // period

    def _predict_blocks(self, build, plan, blocks):
        # The key of the running step would belong to another graph.
        with tf.Graph().as_default(), replayed_dropout(tf.constant([0, 0], "int64")):
            model = build(plan, blocks)
            outputs = [tf.reduce_sum(tf.square(x)) for x in model.outputs]
            gradients = [g for g in tf.gradients(outputs, model.trainable_weights) if g is not None]
            dense = [tf.convert_to_tensor(g) for g in gradients]

            def peak(rows):
                return predict_peak(dense, {x: self._shape_of(x, rows) for x in model.inputs})

            # What one row is multiplied with may have one row or many: no shape follows. A peak is linear in rows.
            return peak(self.batch_size) if self.batch_size > 1 else max(0, 2 * peak(2) - peak(3))

    def _shape_of(self, x, rows):
        known = [tf1.dimension_value(d) for d in x.shape]
        return [rows] + [self.max_length if size is None else size for size in known[1:]]

    def measure(self, model: Model, inputs: Arrays, targets: Arrays, **options: Any) -> int:
        """Make one training step of the compiled model and print the predicted and the measured peak.

        Args:
            model, inputs, targets, **options: as `training_memory` takes them.

        Returns:
            int, the measured bytes.
        """
        _, trace = training_memory(model, inputs, targets, **options)
        self.say(
            "recompute: %s; predicted peak %s, measured %s (%+.0f%%)"
            % (
                _describe(self.plan),
                _megabytes(self.predicted),
                _megabytes(trace.peak),
                100.0 * (self.predicted / trace.peak - 1),
            )
        )
        return trace.peak


def _describe(plan):
    if plan is None:
        return "nothing"
    cost = plan.get("keep_cost")
    return plan["policy"] if cost is None else "%s (keep_cost=%g)" % (plan["policy"], cost)


def _megabytes(count):
    return "%.1f MB" % (count / 1e6)


class _Player(object):
    """Runs a graph without computing anything, and keeps the accounts of its memory."""

    def __init__(self, fetches):
        self.fetches = [(t.op, t.value_index) for t in fetches]
        self.ops = _needed([t.op for t in fetches])
        # Buffers: a tensor's key -> the key of the tensor that holds its memory; that one's size; who still needs it.
        self.holder, self.size, self.wanted = {}, {}, {}
        self.now = self.peak = 0

    def play(self):
        waits, users = {}, {op: [] for op in self.ops}
        for op in self.ops:
            before = {t.op for t in op.inputs} | set(op.control_inputs)
            waits[op] = len(before)
            for other in before:
                users[other].append(op)
        self.readers = {}
        for op in self.ops:
            for t in op.inputs:
                key = t.op, t.value_index
                self.readers[key] = self.readers.get(key, 0) + 1
        for key in self.fetches:
            self.readers[key] = self.readers.get(key, 0) + 1
        ready, dead = deque(op for op in self.ops if not waits[op]), set()
        while ready:
            op = ready.popleft()
            self._run(op, dead)
            for user in users[op]:
                waits[user] -= 1
                if not waits[user]:
                    # TensorFlow runs what costs nothing at once, and queues the rest.
                    (ready.appendleft if user.type in _ALIASES | _FREE else ready.append)(user)
        return self.peak

    def _run(self, op, dead):
        keys = [(t.op, t.value_index) for t in op.inputs]
        absent = [k in dead for k in keys]
        outputs = [(op, i) for i in range(len(op.outputs))]
        if op.type == "Merge":
            source = next((k for k, gone in zip(keys, absent) if not gone), None)
            dead.update(outputs if source is None else [])
            self._alias(outputs[0], source)
        elif any(absent) or any(c in dead for c in op.control_inputs):
            # The branch that does not run.
            dead.update(outputs)
            dead.add(op)
        elif op.type == "Switch":
            dead.add(outputs[0])
            self._alias(outputs[1], keys[0])
        elif op.type in _ALIASES:
            for out, key in zip(outputs, keys):
                self._alias(out, key)
        elif op.type not in _FREE:
            for out in outputs:
                self._allocate(op, out, keys)
        for key in keys:
            self._release(key)
        for out in outputs:
            if not self.readers.get(out):
                self._free_if_unread(out)

    def _alias(self, out, source):
        holder = self.holder.get(source)
        if holder is not None:
            self.holder[out] = holder
            self.wanted[holder] += self.readers.get(out, 0)

    def _allocate(self, op, out, keys):
        size = _bytes(op.outputs[out[1]])
        readers = self.readers.get(out, 0)
        if op.type in _IN_PLACE:
            for key in keys:
                holder = self.holder.get(key)
                if holder is not None and self.size[holder] == size and self.wanted[holder] == keys.count(key) == 1:
                    self.holder[out] = holder
                    self.wanted[holder] += readers
                    return
        self.holder[out], self.size[out], self.wanted[out] = out, size, readers
        self.now += size
        self.peak = max(self.peak, self.now)

    def _release(self, key):
        holder = self.holder.get(key)
        if holder is not None:
            self.wanted[holder] -= 1
            self._free_if_unread(key)

    def _free_if_unread(self, key):
        holder = self.holder.get(key)
        if holder is not None and not self.wanted[holder]:
            self.now -= self.size[holder]
            self.size[holder] = 0


def _needed(fetched):
    """The ops that are needed, in the reverse of the order in which they are met.

    Not that of `reached`: among ops that are ready at the same time the first here runs first, and with this order the
    predictions are those that were measured against TensorFlow's.
    """
    seen, order, stack = set(), [], list(fetched)
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            order.append(op)
            stack.extend(t.op for t in op.inputs)
            stack.extend(op.control_inputs)
    return order[::-1]


def _bytes(tensor):
    count = tensor.shape.num_elements()
    if count is None:
        # The arithmetic of shapes continues in vectors whose length is not inferred; they are tiny.
        if tensor.dtype.is_integer:
            return 0
        raise ValueError(
            "the size of %s (%s) does not follow from the shapes of the inputs" % (tensor.name, tensor.op.type)
        )
    return count * tensor.dtype.size
