"""Inputs of a `Generator`: lists and arrays of different lengths made into padded arrays, and batches of them."""

from collections import namedtuple

import numpy as np

# arrays; which of them are sequences `[B, n, ...]`; whether the first is an encoder's output
Inputs = namedtuple("Inputs", "arrays sequences from_context")


def padded_inputs(structure, inputs):
    """Check and pad what a user gives.

    Args:
        structure: `Structure`.
        inputs: list of inputs, see `Generator.greedy`.

    Returns:
        (`Inputs`, lengths int32 `[B]`).

    Raises:
        ValueError: a wrong number of inputs, or one of the wrong form.
    """
    if not isinstance(inputs, (list, tuple)) or not len(inputs) or not hasattr(inputs[0], "__len__"):
        raise ValueError(
            "inputs must be a list with one entry for each input of the model, each with a row for every text, "
            "not %.60r. A single text is [[token_ids]]: one input, one row" % (inputs,)
        )
    first = [np.asarray(row) for row in inputs[0]]
    if not first:
        raise ValueError("the inputs are empty; at least one row is needed")
    from_context = structure.context is not None and first[0].ndim == 2
    if any(row.ndim != (2 if from_context else 1) for row in first):
        raise ValueError(
            "each row of the first input must be a list of token ids%s; found an array of shape %s. A single "
            "text is [[token_ids]]: one input, one row"
            % (" or an array [n, d]" if structure.context is not None else "", first[0].shape)
        )
    padded = isinstance(inputs[0], np.ndarray) and not from_context
    lengths = np.array([_length(row) if padded else len(row) for row in first], "int32")
    if not lengths.min() > 0:
        raise ValueError("row %d of the inputs is empty; give it at least a start token" % lengths.argmin())
    arrays, sequences = [_pad(first, "float32" if from_context else "int32")], [True]
    rest = list(inputs[1:])
    if structure.context is None and structure.segments is not None:
        if rest:
            arrays.append(_pad([np.asarray(row) for row in rest.pop(0)], "int32"))
            if arrays[1].shape != arrays[0].shape:
                raise ValueError(
                    "token ids and segment ids differ in form: %s and %s" % (arrays[0].shape, arrays[1].shape)
                )
        else:
            arrays.append(np.zeros_like(arrays[0]))
        sequences.append(True)
    for x in rest:
        arrays.append(np.asarray(x, "float32"))
        sequences.append(False)
    known = (structure.encoder_tokens, structure.fed_context)
    conditions = [t for t in structure.given if all(t is not other for other in known)]
    if len(rest) != len(conditions) or any(len(x) != len(lengths) for x in arrays):
        raise ValueError(
            "%d inputs with %s rows; the model takes token ids%s%s, each with as many rows"
            % (
                len(inputs),
                ", ".join(str(len(x)) for x in inputs),
                ", segment ids" if structure.segments is not None else "",
                "".join(", " + t.name for t in conditions),
            )
        )
    return Inputs(arrays, sequences, from_context), lengths


def batches_of(lengths, batch_size):
    """Index arrays of batches of rows of similar lengths, the longest first; one of all rows if there is no size."""
    if batch_size is None:
        return [np.arange(len(lengths))]
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def _length(row):
    """Tokens of a row that is padded with 0."""
    return len(np.trim_zeros(row, "b"))


def _pad(rows, dtype):
    longest = max(len(row) for row in rows)
    result = np.zeros((len(rows), longest) + rows[0].shape[1:], dtype)
    for target, row in zip(result, rows):
        target[: len(row)] = row
    return result
