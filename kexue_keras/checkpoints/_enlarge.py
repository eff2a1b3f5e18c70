"""`enlarge`: a trained Transformer made k times as wide without changing what it computes.

Article: 无损放大的Transformer模型 (kexue.fm/archives/8444).
"""

from collections import namedtuple
from typing import Optional

import numpy as np

from kexue_keras import checks
from kexue_keras.backend import K
from kexue_keras.checkpoints._assign import check_marks
from kexue_keras.checkpoints._bundled import BUNDLED
from kexue_keras.checkpoints._enlargement_rules import MODES, Enlargement
from kexue_keras.checkpoints._load import higher_layers, is_t5, make_tokenizer, read_folder
from kexue_keras.checkpoints._shapes import check_floats, check_shapes
from kexue_keras.checkpoints._variables import is_optimizers
from kexue_keras.checkpoints._write import fill_folder
from kexue_keras.checkpoints.hf.folder import has_hf_weights
from kexue_keras.checkpoints.t5.loading import read_t5_folder, t5_tokenizer
from kexue_keras.errors import WeightsError
from kexue_keras.files import check_target, restore_interrupted, whole_folder
from kexue_keras.files.paths import path_text
from kexue_keras.models._rotary import ROTARY_TABLE, sinusoidal_table
from kexue_keras.options.choices import MODEL_FORMATS
from kexue_keras.types import Path

KINDS = ("bert", "roberta", "roformer", "t5")
ROPES = ("repeated", "standard")
_WIDTHS = ("hidden_size", "intermediate_size", "embedding_size")
_HEAD_SIZES = ("attention_head_size", "attention_key_size")


class Enlarged(namedtuple("Enlarged", "kind k mode hidden_size exactness left_out")):
    """What `enlarge` wrote.

    Attributes:
        kind: 'bert', 'roformer', 't5', ...
        k, mode: as given.
        hidden_size: int, of the large model.
        exactness: 'exact' up to rounding, epsilon included; 'exact but for epsilon' (the format has one epsilon for all
            norms, while that of MLM-Norm ought to stay); 'approximate' (RoPE with standard frequencies).
        left_out: names of variables that belong to no layer of the configuration.
    """


def enlarge(
    source: Path,
    target: Path,
    *,
    k: int = 2,
    mode: str = "size",
    rope: str = "repeated",
    noise_std: float = 0.02,
    seed: int = 0,
    format: Optional[str] = None,
    overwrite: bool = False,
) -> Enlarged:
    """Write a model that is k times as wide and computes the same, as a folder that `load` or `load_t5` reads.

    Hidden states become rep(x) / sqrt k, each component k times; logits stay as they are. The number of layers, the
    vocabulary and all lengths stay; matrices have k^2 times as many numbers.

    Args:
        source: folder as for `load`, or the name of a bundled model: a BERT (RoBERTa), RoFormer, T5 or mT5.
        target: str, a folder that does not exist or is empty.
        k: int, at least 2. Ratios such as 1.5 are refused: some components would be repeated more than others,
            and the mean and the variance in each LayerNorm would change.
        mode: 'size': heads k times as large. 'heads': k times as many heads of the same size.
        rope: for RoFormer with mode='size'. 'repeated': each frequency k times, which is exact; the angles are stored
            with the weights, for max_position_embeddings positions. 'standard': those of a RoFormer of that size, which
            is not, and recovers in training (the article's way).
        noise_std: number >= 0. The copies of a unit have equal gradients and would stay copies; so noise is added to
            all kernels, with this share of their standard deviation, that is 0 in sum over the copies of an input: it
            changes no output. 0 leaves it out.
        seed: int, of the noise.
        format: 'tensorflow' or 'hf'; None: that of `source`.
        overwrite: bool, replace a folder that this function (or `convert`, `save`) wrote.

    Returns:
        `Enlarged`. `check_lossless` compares the two models.

    Raises:
        ValueError: k that is no whole number from 2; unknown words.
        WeightsError: a kind of model without rules; see `convert`.

    Reference: 无损放大的Transformer模型, kexue.fm/archives/8444.

    >>> import os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> small, large = os.path.join(folder, 'small'), os.path.join(folder, 'large')
    >>> encoder = kexue_keras.models.load('me5-zh-char', num_hidden_layers=1, keep_tokens=list(range(200)))
    >>> kexue_keras.models.save(encoder, small)
    >>> report = kexue_keras.models.enlarge(small, large, k=2)
    >>> report.hidden_size, report.exactness
    (768, 'exact')
    >>> kexue_keras.models.check_lossless(small, large, rows=2, length=8).lossless
    True
    """
    k = checks.whole_number(
        k,
        "k",
        "enlarge",
        least=2,
        remedy="other ratios would repeat some components more often than others, and the mean and variance in each "
        "LayerNorm would change",
    )
    checks.choice(mode, MODES, "mode", "enlarge")
    checks.choice(rope, ROPES, "rope", "enlarge")
    checks.choice(format, MODEL_FORMATS + (None,), "format", "enlarge")
    noise_std = checks.number(noise_std, "noise_std", "enlarge", least=0)
    source, target = path_text(source), path_text(target)
    restore_interrupted(source)
    inputs = () if source in BUNDLED else (source,)
    check_target(target, overwrite=overwrite, inputs=inputs)
    kind, config, variables, tokenizer = _read(source)
    if format is None:
        format = "hf" if source not in BUNDLED and has_hf_weights(source) else "tensorflow"
    rules = Enlargement(config, kind, k, mode)
    higher = higher_layers(variables, config["num_hidden_layers"])
    arrays, rng = {}, np.random.RandomState(seed)
    for name in sorted(variables):
        if name in higher or is_optimizers(name) or name == ROTARY_TABLE:
            continue
        value = rules.apply(name, variables[name])
        arrays[name] = (value + rules.noise(name, value, rng, noise_std)).astype("float32")
    exactness = "exact"
    if kind == "roformer":
        table, exactness = _angles(config, variables, k, mode, rope)
        arrays.update({} if table is None else {ROTARY_TABLE: table})
    config = _enlarged_config(config, kind, k, mode)
    if format == "hf" and config.pop("mlm_layer_norm_eps", None) and exactness == "exact" and "t5" != kind:
        exactness = "exact but for epsilon"
    check_shapes(kind, config, arrays, "the enlarged model")
    with whole_folder(target, overwrite=overwrite, inputs=inputs) as folder:
        fill_folder(folder, kind, config, arrays, format=format, tokenizer=tokenizer)
    return Enlarged(kind, k, mode, config["hidden_size"], exactness, higher)


def _read(source):
    """(kind, configuration, variables, tokenizer) of a folder of a kind that there are rules for."""
    if is_t5(source):
        config, variables = read_t5_folder(source, None, "error")
        rows = variables.shape("shared/embedding")[0]
        check_floats(variables.source, {name: variables[name] for name in variables})
        return "t5", config, variables, t5_tokenizer(source, None, None, rows, variables.source)
    kind, config, variables, vocabulary = read_folder(source)
    if kind not in KINDS:
        raise WeightsError(
            "%s is of the kind %r; there are rules for BERT, RoFormer, T5 and mT5: those of other kinds (shared or "
            "factorised layers, norms without weights, relative positions by vectors) are not worked out"
            % (source, kind)
        )
    check_marks([], variables, variables.source)
    check_shapes(kind, config, variables, variables.source)
    check_floats(variables.source, {name: variables[name] for name in variables})
    rows = variables.shape("bert/embeddings/word_embeddings")[0]
    tokenizer = make_tokenizer(vocabulary, rows, variables.source, {}) if vocabulary else None
    return kind, config, variables, tokenizer


def _angles(config, variables, k, mode, rope):
    """(RoPE's table of angles, or None for the standard ones; exactness)."""
    table = variables.get(ROTARY_TABLE)
    if mode == "heads":
        return table, "exact"
    if rope == "standard":
        return None, "approximate"
    size = config.get("attention_key_size") or config.get("attention_head_size")
    size = size or config["hidden_size"] // config["num_attention_heads"]
    usual = sinusoidal_table(config.get("max_position") or config.get("max_position_embeddings", 512), size)
    # Sines in the first half, cosines in the second: each pair of components stands k times side by side.
    return np.repeat(usual if table is None else table, k, axis=1), "exact"


def _enlarged_config(config, kind, k, mode):
    larger = dict(config)
    for word in _WIDTHS + (_HEAD_SIZES if mode == "size" else ()):
        if config.get(word):
            larger[word] = config[word] * k
    if mode == "heads":
        larger["num_attention_heads"] = config["num_attention_heads"] * k
    # States are smaller by sqrt k wherever they are normalised, but for MLM-Norm, whose input is not scaled.
    epsilon = config.get("layer_norm_eps") or {"roformer": K.epsilon(), "t5": 1e-6}.get(kind, 1e-12)
    larger["layer_norm_eps"] = epsilon / k
    if kind != "t5":
        larger["mlm_layer_norm_eps"] = config.get("mlm_layer_norm_eps") or epsilon
    return larger
