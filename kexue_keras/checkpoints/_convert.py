"""Model folders from one format to the other, and models back into folders: `convert`, `save`.

Converting builds no model and needs no PyTorch: names are exchanged and matrices turned, values stay bit for bit.
"""

import os
from typing import List, Optional, Sequence, Union

from kexue_keras.checkpoints._assign import checked_keep_tokens, record_trimming
from kexue_keras.checkpoints._bundled import BUNDLED
from kexue_keras.checkpoints._load import PretrainedModel, higher_layers, is_t5, make_tokenizer, read_folder
from kexue_keras.checkpoints._shapes import check_floats, check_shapes, warn_of_untold
from kexue_keras.checkpoints._sources import local_folder
from kexue_keras.checkpoints._vocabulary import check_length
from kexue_keras.checkpoints._write import fill_folder, weights_of
from kexue_keras.checkpoints.hf.folder import has_hf_weights
from kexue_keras.checkpoints.t5.loading import PretrainedT5, read_t5_folder, t5_tokenizer
from kexue_keras.errors import WeightsError
from kexue_keras.files import check_target, restore_interrupted, whole_folder
from kexue_keras.files.paths import path_text
from kexue_keras.models._kinds import kind_of
from kexue_keras.models._partial_weights import MARKS
from kexue_keras.options.choices import MODEL_FORMATS
from kexue_keras.types import Path


def save(
    pretrained: Union[PretrainedModel, PretrainedT5], path: Path, *, format: str = "tensorflow", overwrite: bool = False
) -> None:
    """Write a loaded (and trained) model as a folder that `load` or `load_t5` reads again, bit for bit.

    The tokenizer is written with all that it was made with. What no file can hold (a `pre_tokenize` function, a class
    of your own) is recorded instead: such a folder is not loaded without `tokenizer=`, so that no text silently
    gets other tokens.

    Args:
        pretrained: what `load` or `load_t5` returned. Its bert4keras part is written, with the heads that it has; what
            was put on top of it (a classifier) is not.
        path: str, a folder that does not exist or is empty; it appears when it is complete.
        format: 'tensorflow' (checkpoint, JSON configuration, vocabulary, as bert4keras reads them too) or 'hf'
            (config.json, model.safetensors, vocabulary).
        overwrite: bool, replace a folder that this function (or `convert`) wrote; others are never deleted.

    Raises:
        WeightsError: there is something in `path` that is not to be replaced, an empty name, the current folder, the
            kind of model has no form in that format, or configuration or tokenizer do not fit the weights (a
            model built with other sizes than it says).
        OSError: a full disk and the like; what was in `path` is as before.

    >>> import os, tempfile
    >>> folder = os.path.join(tempfile.mkdtemp(), 'hf')
    >>> save(kexue_keras.models.load('me5-zh-char', num_hidden_layers=1), folder, format='hf')
    >>> sorted(os.listdir(folder))
    ['.kexue_keras-contents.json', 'config.json', 'model.safetensors', 'tokenizer_config.json', 'vocab.txt']
    """
    with whole_folder(path, overwrite=overwrite) as folder:
        save_into(folder, pretrained, format=format)


def save_into(folder, pretrained, *, format="tensorflow"):
    """What `save` writes, into an empty folder of which other files are made as well.

    Args:
        folder, pretrained, format: see `save`.

    Raises:
        WeightsError: see `save`.
    """
    transformer, kind = pretrained.transformer, pretrained.kind
    own_class = not isinstance(kind, str)
    arrays = weights_of(transformer)
    if "t5" in str(kind):
        kind = "t5"
    elif own_class:
        kind = kind_of(arrays, pretrained.config, kind.__name__)
    config = dict(pretrained.config, num_hidden_layers=transformer.num_hidden_layers)
    config["vocab_size"] = next(
        len(v) for n, v in arrays.items() if n.endswith(("word_embeddings", "word_embed", "shared/embedding"))
    )
    source = "the model %s" % pretrained.name
    check_shapes(kind, config, arrays, source, complete=not own_class)
    tokens = getattr(pretrained.tokenizer, "_vocab_size", None)
    if tokens is not None and (kind != "t5" or tokens > config["vocab_size"]):  # a T5 has spare rows
        check_length(tokens, config["vocab_size"], "the tokenizer", source)
    fill_folder(folder, kind, config, arrays, format=format, tokenizer=pretrained.tokenizer)


def convert(
    source: Path,
    target: Path,
    *,
    format: Optional[str] = None,
    keep_tokens: Optional[Sequence[int]] = None,
    extra: str = "error",
    overwrite: bool = False,
) -> List[str]:
    """Convert a model folder from one format to the other, or trim its vocabulary, without building the model.

    Args:
        source: folder with a TensorFlow checkpoint or with Hugging Face's weights; or the name of a bundled model.
        target: str, a folder that does not exist or is empty.
        format: 'tensorflow' or 'hf'; None takes the one that `source` does not have, with keep_tokens the same one.
        keep_tokens: token ids to keep, as from `trim_sentencepiece`; the vocabulary is cut in the same way, and the
            configuration records it.
        extra: 'error' or 'ignore': variables that have no place in such a model, or no name in the other format.
        overwrite: bool, replace a folder that this function (or `save`) wrote, `source` itself too; others are never
            deleted.

    Returns:
        names of the variables that were left out: other heads than those of pretraining, with extra='ignore' also
        layers that the configuration does not have.

    Raises:
        WeightsError: see `load`; variables and configuration that do not fit each other; or `target` is no place where
            something may be written, see `save`.
        OSError: a full disk and the like; what was in `target` is as before.

    Reference: kexue.fm/archives/7867 (那个屠榜的T5模型，现在可以在中文上玩玩了), for trimming.

    >>> import os, tempfile
    >>> folder = os.path.join(tempfile.mkdtemp(), 'hf')
    >>> convert('me5-zh-char', folder, keep_tokens=list(range(200)), format='hf')
    []
    >>> kexue_keras.models.load(folder, num_hidden_layers=1)
    <PretrainedModel ...: bert, 12 layers x 384, 200 tokens>
    """
    if format not in MODEL_FORMATS + (None,):
        raise ValueError("format=%r; it is %s" % (format, " or ".join(map(repr, MODEL_FORMATS))))
    source, target = local_folder(source), path_text(target)
    restore_interrupted(source)
    check_target(target, overwrite=overwrite, inputs=() if source in BUNDLED else (source,))
    theirs = os.path.isdir(source) and has_hf_weights(source)
    if format is None:
        format = "hf" if theirs == (keep_tokens is not None) else "tensorflow"
    if is_t5(source):
        kind, vocabulary, tokens_in = "t5", None, "shared/embedding"
        config, variables = read_t5_folder(source, None, extra)
    else:
        kind, config, variables, vocabulary = read_folder(source, extra=extra)
        tokens_in = next((n for n in variables if n.endswith("embeddings/word_embeddings")), None)
    if tokens_in is None:
        raise WeightsError("%s has no token embedding; nothing was written" % variables.source)
    rows, name = variables.shape(tokens_in)[0], variables.source
    # Models with another technique need not have all that an ordinary one has.
    marked = any(n.startswith(MARKS) for n in variables)
    untold = check_shapes(kind, config, variables, name, complete=not marked)
    if keep_tokens is not None:
        keep_tokens = checked_keep_tokens(keep_tokens, rows, name, config.get("trimmed"))
    if kind == "t5":
        tokenizer = t5_tokenizer(source, None, keep_tokens, rows, name)
    else:
        tokenizer = make_tokenizer(vocabulary, rows, name, {"keep_tokens": keep_tokens}) if vocabulary else None
    # What belongs to layers above those of the configuration is here only if it is to be ignored.
    higher = higher_layers(variables, config["num_hidden_layers"])
    arrays = {n: variables[n] for n in variables if n not in higher}
    check_floats(name, arrays)
    if source not in BUNDLED:
        warn_of_untold(untold, config, name)
    if keep_tokens is not None:
        config = record_trimming(config, keep_tokens, rows)
        for n in arrays:
            if n in (tokens_in, "cls/predictions/output_bias"):
                arrays[n] = arrays[n][keep_tokens]
            elif n == "decoder/logits/kernel":
                arrays[n] = arrays[n][:, keep_tokens]
    with whole_folder(target, overwrite=overwrite, inputs=() if source in BUNDLED else (source,)) as folder:
        fill_folder(folder, kind, config, arrays, format=format, tokenizer=tokenizer, extra=extra)
    return higher + list(getattr(variables, "left_out", []))
