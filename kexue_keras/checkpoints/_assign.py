"""Setting the weights of a bert4keras model from a checkpoint: all of them, or none and an error."""

import warnings

import numpy as np
import tensorflow as tf

from kexue_keras.backend import K, initialize
from kexue_keras.checkpoints._shapes import check_floats
from kexue_keras.errors import WeightsError
from kexue_keras.models._partial_weights import MARKS, marks_of


def load_weights(transformer, checkpoint, *, source, missing="error"):
    """Set all weights of a bert4keras transformer, or none and raise.

    Args:
        transformer: bert4keras transformer object, built.
        checkpoint: dict variable name -> array (`Variables` is one), or the prefix of a TensorFlow checkpoint.
        source: name of the file for messages.
        missing: see `load`.

    Returns:
        list of variable names that were not found (empty unless missing='initialise').

    Raises:
        WeightsError: variables are absent, have other shapes, or hold NaN; a model with another technique saved them.
    """
    check_marks(marks_of(transformer), checkpoint, source)
    mapping = {transformer.prefixed(k): v for k, v in transformer.variable_mapping().items()}
    pairs, absent, misshapen = [], [], []
    for layer_name, names in mapping.items():
        layer = transformer.layers.get(layer_name)
        if layer is None:
            continue
        for weight, name in zip(layer.trainable_weights, names):
            try:
                value = transformer.load_variable(checkpoint, name)
            except (KeyError, tf.errors.NotFoundError):
                absent.append(name)
                continue
            if value is None:
                continue
            check_floats(source, {name: value})
            if K.int_shape(weight) != np.shape(value):
                misshapen.append("%s: the model has %s, the file %s" % (name, K.int_shape(weight), np.shape(value)))
            if np.asarray(value).dtype.kind == "f" and not np.isfinite(value).all():
                raise WeightsError(
                    "%s: %s holds NaN or infinity; nothing was loaded. The training that wrote it has diverged, or the "
                    "file is damaged: take an earlier one" % (source, name)
                )
            pairs.append((weight, value))
    if misshapen and not transformer.autoresize_weights:
        raise WeightsError(
            "%s does not fit the model: %d variables differ in shape; nothing was loaded. %s. Give the configuration "
            "that belongs to the checkpoint." % (source, len(misshapen), "; ".join(misshapen[:5]))
        )
    if absent and missing == "error":
        raise WeightsError(
            "%s lacks %d variables that the model has; nothing was loaded. First of them: %s. If they are a new head "
            "that you want to train, give missing='initialise'; if not, the kind or the configuration is another."
            % (source, len(absent), ", ".join(absent[:5]))
        )
    if misshapen:
        # bert4keras' own resizing, asked for by autoresize_weights=True, lives in its own loader.
        transformer.load_weights_from_checkpoint(checkpoint)
        return absent
    initialize(pairs)
    if absent:
        warnings.warn("%s lacks %s: these start from random values" % (source, ", ".join(absent)))
    return absent


def check_marks(marks, checkpoint, source):
    """Refuse what a model with other techniques saved: its weights would compute something else here.

    Args:
        marks: list of str, those of the model that they are for (`marks_of`).
        checkpoint, source: see `load_weights`.

    Raises:
        WeightsError: with the techniques.
    """
    names = checkpoint if isinstance(checkpoint, dict) else [name for name, _ in tf.train.list_variables(checkpoint)]
    strange = sorted(set(name for name in names if name.startswith(MARKS)) - set(marks))
    if strange:
        raise WeightsError(
            "%s was saved by a model with %s, so its weights would compute something else here; nothing was done. "
            "Where there is an argument model=, give the class that it was built with"
            % (source, ", ".join(x[len(MARKS) :] for x in strange))
        )


def checked_keep_tokens(keep_tokens, rows, source, trimmed=None):
    """The ids to keep as a list of int, or None if the checkpoint has been cut to just these before.

    Args:
        keep_tokens: ids, each a row of the embedding in the file.
        rows: int, how many rows that has.
        source: name of the file for messages.
        trimmed: what the configuration records of an earlier trimming, see `record_trimming`.

    Raises:
        WeightsError: an id lies outside of the embedding; the message says if that is because it was trimmed before.
        ValueError: no flat list of whole numbers.
    """
    kept = np.asarray(keep_tokens)
    if kept.ndim != 1 or not kept.size or kept.dtype.kind not in "iu":
        raise ValueError("keep_tokens is %.60r; it is a list of token ids, at least one" % (keep_tokens,))
    kept = [int(i) for i in kept]
    if trimmed and kept == list(trimmed["keep_tokens"]):
        return None
    outside = [i for i in kept if not 0 <= i < rows]
    if outside and trimmed:
        raise WeightsError(
            "keep_tokens has the id %d, but the embedding in %s was trimmed from %d rows to %d when it was saved; load "
            "it without keep_tokens" % (outside[0], source, trimmed["rows"], rows)
        )
    if outside:
        raise WeightsError(
            "keep_tokens has the id %d, but the embedding in %s has %d rows; give ids of its own vocabulary"
            % (outside[0], source, rows)
        )
    return kept


def record_trimming(config, keep_tokens, rows):
    """The configuration of a trimmed model: its vocabulary's size, and which rows of the first one it has.

    >>> record_trimming({'vocab_size': 9}, [0, 5], 9)
    {'vocab_size': 2, 'trimmed': {'rows': 9, 'keep_tokens': [0, 5]}}
    """
    before = config.get("trimmed")
    if before:
        keep_tokens, rows = [before["keep_tokens"][i] for i in keep_tokens], before["rows"]
    return dict(config, vocab_size=len(keep_tokens), trimmed={"rows": rows, "keep_tokens": list(keep_tokens)})
