"""`check_lossless`: whether an enlarged model computes what the small one computes, by running both.

Article: 无损放大的Transformer模型 (kexue.fm/archives/8444).
"""

from collections import namedtuple
from typing import Any

import numpy as np

from kexue_keras import checks
from kexue_keras.backend import keras, preserved_random_state, scratch_graph
from kexue_keras.checkpoints._load import is_t5, load, read_folder
from kexue_keras.checkpoints.t5.loading import load_t5
from kexue_keras.types import Path


class Lossless(namedtuple("Lossless", "k hidden_error logits_error tolerance lossless")):
    """What `check_lossless` found.

    Attributes:
        k: int, ratio of the widths.
        hidden_error: largest difference between the last hidden states of the large model, times sqrt k, and those of
            the small one, each repeated k times.
        logits_error: largest difference of the logits (MLM, or T5's), as a share of their largest absolute value; None
            without a head.
        tolerance: as given.
        lossless: bool, both errors are at most the tolerance.
    """


def check_lossless(
    small: Path, large: Path, *, rows: int = 4, length: int = 24, tolerance: float = 1e-5, seed: int = 0, **build: Any
) -> Lossless:
    """Compare a model with its enlargement on random tokens, part of them padding.

    Args:
        small, large: folders as for `load` or `load_t5`, or names of bundled models. Both are built in a graph of their
            own that is thrown away.
        rows, length: size of the batch.
        tolerance: number > 0.
        seed: int, of the tokens.
        **build: arguments of `load` for both, for instance num_hidden_layers=2.

    Returns:
        `Lossless`.

    Raises:
        ValueError: the width of the large one is no multiple of the small one's.
        WeightsError: see `load`.

    Reference: kexue.fm/archives/8444.

    >>> options = dict(num_hidden_layers=1, rows=2, length=8)
    >>> kexue_keras.models.check_lossless('me5-zh-char', 'me5-zh-char', **options).k  # itself
    1
    """
    checks.whole_number(rows, "rows", "check_lossless", least=1)
    checks.whole_number(length, "length", "check_lossless", least=2)
    checks.number(tolerance, "tolerance", "check_lossless", above=0)
    outputs = _t5_outputs if is_t5(small) else _encoder_outputs
    (states, logits), (large_states, large_logits) = [
        outputs(path, rows, length, seed, build) for path in (small, large)
    ]
    widths = states.shape[-1], large_states.shape[-1]
    if widths[1] % widths[0]:
        raise ValueError(
            "%s has the width %d, which is no multiple of the %d of %s" % (large, widths[1], widths[0], small)
        )
    k = widths[1] // widths[0]
    hidden = float(np.abs(large_states * np.sqrt(k) - np.repeat(states, k, axis=-1)).max())
    of_logits = None
    if logits is not None and large_logits is not None:
        of_logits = float(np.abs(large_logits - logits).max() / np.abs(logits).max())
    lossless = hidden <= tolerance and (of_logits is None or of_logits <= tolerance)
    return Lossless(k, hidden, of_logits, tolerance, bool(lossless))


def _tokens(rows, length, vocabulary, seed):
    rng = np.random.RandomState(seed)
    tokens = rng.randint(1, vocabulary, (rows, length))
    # Rows of several lengths, the first one whole.
    tokens[np.arange(length)[None, :] >= length - np.arange(rows)[:, None] * length // (2 * rows)] = 0
    return tokens


def _encoder_outputs(path, rows, length, seed, build):
    """Last hidden states where there are tokens, and logits of MLM or None."""
    _, _, variables, _ = read_folder(path, extra="ignore")
    head = "cls/predictions/transform/dense/kernel" in variables
    options = dict({"with_mlm": "linear"} if head else {}, **build)
    with preserved_random_state(), scratch_graph(optimize=False):
        loaded = load(path, **options)
        tokens = _tokens(rows, length, loaded.config["vocab_size"], seed)
        transformer = loaded.transformer
        last = "Transformer-%d-FeedForward-Norm" % (transformer.num_hidden_layers - 1)
        wanted = [transformer.layers[transformer.prefixed(last)].output] + ([loaded.model.output] if head else [])
        found = keras.models.Model(loaded.model.inputs, wanted).predict_on_batch([tokens, 0 * tokens])
    found = [np.asarray(x, "float64")[tokens > 0] for x in (found if head else [found])]
    return found[0], found[1] if head else None


def _t5_outputs(path, rows, length, seed, build):
    """States of the encoder, and logits of the decoder."""
    with preserved_random_state(), scratch_graph(optimize=False):
        loaded = load_t5(path, with_lm="linear", **build)
        tokens = _tokens(rows, length, loaded.config["vocab_size"], seed)
        states = np.asarray(loaded.encoder.predict_on_batch(tokens), "float64")
        logits = np.asarray(loaded.model.predict_on_batch([tokens, tokens[:, : length // 2]]), "float64")
    return states[tokens > 0], logits
