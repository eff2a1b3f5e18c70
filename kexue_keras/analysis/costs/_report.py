"""`model_report`: what each layer of a model costs."""

import re
import time
from collections import namedtuple
from typing import Any, List, Optional, Sequence

import numpy as np

from kexue_keras import checks
from kexue_keras.analysis.costs._inputs import example_inputs
from kexue_keras.analysis.costs._products import PRODUCTS, operations, shapes_of
from kexue_keras.backend import K, ModelSession, keras, layer_calls, refuse_eager
from kexue_keras.backend.graph import control_flow_contexts, reached
from kexue_keras.types import Array


class LayerCost(namedtuple("LayerCost", "name kind parameters applications flops milliseconds")):
    """What a layer, or several of the same name but for a number, costs.

    Attributes:
        name: str.
        kind: str, its class.
        parameters: int, numbers in its weights.
        applications: int, how many times it is computed in a pass; a shared layer is there once and applied often.
        flops: int, of all applications; a multiplication and an addition are two, elementwise ops are not counted. None
            if the layer runs in a loop, whose rounds are not seen.
        milliseconds: float, of all applications, each separately on the inputs that it has here; None: not timed.
    """


class CostReport(object):
    """What `model_report` found.

    Attributes:
        layers: list of `LayerCost`, one per layer, in computing order.
        batch_size, length: int.
        parameters: int; weights that several layers have are counted once.
        flops: int; what runs in a loop is left out.
        milliseconds: float, median of a whole pass, or None.
    """

    def __init__(
        self,
        layers: List[LayerCost],
        *,
        batch_size: int,
        length: int,
        parameters: int,
        milliseconds: Optional[float] = None,
    ) -> None:
        self.layers, self.batch_size, self.length = layers, batch_size, length
        self.parameters, self.milliseconds = parameters, milliseconds
        self.flops = sum(layer.flops or 0 for layer in layers)

    def grouped(self) -> List[LayerCost]:
        """The layers with those in one that have the same name but for a number ('Transformer-*-FeedForward')."""
        groups = {}
        for layer in self.layers:
            groups.setdefault((re.sub(r"(?<=-)\d+(?=-)", "*", layer.name), layer.kind), []).append(layer)
        return [
            LayerCost(
                name,
                kind,
                *(_total([getattr(layer, word) for layer in layers]) for word in ("parameters", "applications")),
                *(_total([getattr(layer, word) for layer in layers]) for word in ("flops", "milliseconds")),
            )
            for (name, kind), layers in groups.items()
        ]

    def table(self) -> List[str]:
        """Lines of text; layers without weights, products and 1% of the time are not listed."""
        lines = ["%14s %6s %10s %9s  %s" % ("parameters", "times", "GFLOPs", "ms", "layer")]
        for layer in self.grouped():
            noticeable = self.milliseconds and layer.milliseconds and layer.milliseconds > 0.01 * self.milliseconds
            if layer.parameters or layer.flops or noticeable:
                lines.append(_line(layer.parameters, layer.applications, layer.flops, layer.milliseconds, layer.name))
        times = sum(layer.applications for layer in self.layers)
        lines.append(_line(self.parameters, times, self.flops, self.milliseconds, "in all"))
        return lines


def model_report(
    model: Any,
    length: int = 128,
    *,
    batch_size: int = 1,
    repeats: int = 0,
    inputs: Optional[Sequence[Array]] = None,
) -> CostReport:
    """Parameters, applications, floating point operations and time of a model, by layer.

    FLOPs are those of matrix products and convolutions, 2 m k n for [m, k] x [k, n], found by running the model once;
    a Transformer layer of BERT has 2 n (4 h^2 + 2 h I) + 4 n^2 h of them.

    Args:
        model: Keras model, bert4keras transformer, or what `models.load` returned.
        length: int, tokens per row.
        batch_size: int, rows.
        repeats: int, passes whose median time is taken; 0: nothing is timed. A single layer takes some 0.1 ms to be
            called, so their sum is more than a whole pass.
        inputs: list of arrays for models whose inputs are special; None: random ids and numbers.

    Returns:
        `CostReport`.

    Raises:
        RuntimeError: eager execution, or a model whose session is gone.
        ValueError: sizes out of range; `inputs` do not fit.

    Reference: 用ALBERT和ELECTRA之前，请确认你真的了解它们, kexue.fm/archives/7846; arXiv 1909.11942.

    >>> x = keras.layers.Input((None, 8))
    >>> report = kexue_keras.analysis.costs.model_report(keras.models.Model(x, keras.layers.Dense(4)(x)), 10)
    >>> report.parameters, report.flops
    (36, 640)
    """
    refuse_eager("model_report")
    checks.whole_number(length, "length", "model_report", least=1)
    checks.whole_number(batch_size, "batch_size", "model_report", least=1)
    checks.whole_number(repeats, "repeats", "model_report", least=0)
    model = getattr(model, "model", model)
    if inputs is None:
        inputs = example_inputs(model, batch_size=batch_size, length=length)
    if len(inputs) != len(model.inputs):
        raise ValueError("model_report: %d inputs for a model that takes %d" % (len(inputs), len(model.inputs)))
    calls = [call for call in layer_calls(model) if not isinstance(call.layer, keras.layers.InputLayer)]
    session = ModelSession(model)
    # Keras makes the weights ready at the first prediction.
    session.predict_on_batch(model, list(inputs))
    with session.building() as running:
        feed = dict(zip(model.inputs, inputs))
        feed.update({K.learning_phase(): 0} if hasattr(K.learning_phase(), "graph") else {})
        counts = _count(calls, running, feed)
        times, whole = [None] * len(calls), None
        if repeats:
            times = _times(calls, running, feed, repeats)
            whole = _median(running, [tensor.op for tensor in model.outputs], feed, repeats)
    layers = {}
    for call, flops, time_taken in zip(calls, counts, times):
        layers.setdefault(id(call.layer), (call.layer, []))[1].append((flops, time_taken))
    found = [
        LayerCost(
            layer.name,
            type(layer).__name__,
            _size(layer.weights),
            len(of_calls),
            _total([flops for flops, _ in of_calls]),
            _total([time_taken for _, time_taken in of_calls]),
        )
        for layer, of_calls in layers.values()
    ]
    return CostReport(found, batch_size=batch_size, length=length, parameters=_size(model.weights), milliseconds=whole)


def _count(calls, session, feed):
    """FLOPs of each call, None where it runs in a loop."""
    claimed, products, looping = set(), [], []
    for call in calls:
        # Masks come from further back, from the tokens; what they are made with belongs to nobody twice.
        ops = [op for op in reached(call.outputs, stop=call.inputs, controls=False) if op.name not in claimed]
        claimed.update(op.name for op in ops)
        ops = [op for op in ops if op.type in PRODUCTS]
        looping.append(any(control_flow_contexts(op) for op in ops))
        products.append([] if looping[-1] else ops)
    shapes = session.run([shapes_of(ops) for ops in products], feed)
    return [
        None if loops else sum(operations(op, ins, out) for op, (ins, out) in zip(ops, of_ops))
        for ops, of_ops, loops in zip(products, shapes, looping)
    ]


def _times(calls, session, feed, repeats):
    """Milliseconds of each single call, given its inputs."""
    inputs = list({tensor.name: tensor for call in calls for tensor in call.inputs}.values())
    values = dict(zip((tensor.name for tensor in inputs), session.run(inputs, feed)))
    times = []
    for call in calls:
        given = dict(feed)
        given.update((tensor, values[tensor.name]) for tensor in call.inputs)
        times.append(_median(session, [tensor.op for tensor in call.outputs], given, repeats))
    return times


def _median(session, ops, feed, repeats):
    session.run(ops, feed)
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        session.run(ops, feed)
        times.append(1000 * (time.perf_counter() - begin))
    return float(np.median(times))


def _size(weights):
    sizes = {weight.name: int(np.prod(K.int_shape(weight), dtype="int64")) for weight in weights}
    return sum(sizes.values())


def _total(numbers):
    return None if any(number is None for number in numbers) else sum(numbers)


def _line(parameters, times, flops, milliseconds, name):
    shown = "?" if flops is None else "%.4g" % (flops / 1e9)
    return "%14s %6d %10s %9s  %s" % (
        "{:,}".format(parameters),
        times,
        shown,
        "" if milliseconds is None else "%.2f" % milliseconds,
        name,
    )
