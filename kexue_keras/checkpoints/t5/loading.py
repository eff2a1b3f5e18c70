"""`load_t5`: T5 1.0, T5 1.1 and mT5 with their tokenizer, from a mesh-TensorFlow checkpoint or a Hugging Face folder.

那个屠榜的T5模型，现在可以在中文上玩玩了, kexue.fm/archives/7867. Papers: Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer, arXiv 1910.10683; mT5, arXiv 2010.11934.
"""

import os
from typing import Any, Optional, Sequence, Type, Union

from bert4keras.models import build_transformer_model

from kexue_keras.backend import refuse_eager
from kexue_keras.checkpoints._assign import checked_keep_tokens, load_weights, record_trimming
from kexue_keras.checkpoints._shapes import check_ranks, check_shapes
from kexue_keras.checkpoints._sources import local_folder
from kexue_keras.checkpoints._variables import read_tensorflow
from kexue_keras.checkpoints._vocabulary import check_length, check_special, keep, read_vocabulary
from kexue_keras.checkpoints.hf.config import hf_kind
from kexue_keras.checkpoints.hf.folder import has_hf_weights, read_hf
from kexue_keras.checkpoints.t5.config import t5_config, usual_t5_names
from kexue_keras.checkpoints.t5.trimming import keep_pieces, sentencepiece_tokenizer
from kexue_keras.errors import WeightsError
from kexue_keras.files import restore_interrupted
from kexue_keras.files.paths import is_path, matching, path_text
from kexue_keras.models._t5 import T5
from kexue_keras.schemas import read_lower_case, read_object
from kexue_keras.schemas.t5_config import build_arguments
from kexue_keras.tokenizing.widths import sentencepiece_settings, vocabulary_tokenizer
from kexue_keras.types import Config, Path, Tokenizer, Transformer

# mT5 has 12 more rows than pieces, T5 128; more than this is a vocabulary of another model.
_MOST_SPARE_ROWS = 1000


class PretrainedT5(object):
    """What `load_t5` returns.

    Attributes:
        name: the path it came from.
        kind: 't5.1.0' (shared output matrix), 't5.1.1' or 'mt5.1.1'.
        t5: the bert4keras transformer object.
        encoder: Keras model, token ids `[B, n]` -> hidden states `[B, n, d]`, zero where the input is padding.
        decoder: Keras model, [hidden states of the encoder, token ids `[B, m]`] -> probabilities `[B, m, V]`.
        model: both in one, [token ids, token ids of the decoder] -> probabilities `[B, m, V]`.
        tokenizer: bert4keras tokenizer, or None if the folder has no vocabulary.
        config: dict, the configuration in bert4keras' terms; `trimmed` records which rows were kept.
    """

    def __init__(self, name: str, kind: str, t5: Transformer, tokenizer: Optional[Tokenizer], config: Config) -> None:
        self.name = name
        self.kind = kind
        self.t5 = t5
        self.encoder, self.decoder, self.model = t5.encoder, t5.decoder, t5.model
        self.tokenizer = tokenizer
        self.config = config

    @property
    def transformer(self) -> Transformer:
        """The bert4keras object, under the name that all pretrained models have."""
        return self.t5

    def __repr__(self):
        return "<PretrainedT5 %s: %s, %d + %d layers x %d, %d tokens>" % (
            self.name,
            self.kind,
            self.config["num_hidden_layers"],
            self.config["num_decoder_layers"],
            self.config["hidden_size"],
            self.config["vocab_size"],
        )


def load_t5(
    path: Path,
    *,
    config: Optional[Union[Path, Config]] = None,
    keep_tokens: Optional[Sequence[int]] = None,
    tokenizer: Optional[Union[Tokenizer, Path]] = None,
    model: Type[Transformer] = T5,
    missing: str = "error",
    extra: str = "error",
    **build: Any,
) -> PretrainedT5:
    """Load T5 1.0, T5 1.1 or mT5 with its tokenizer.

    Args:
        path: a folder with a mesh-TensorFlow checkpoint (`*.index` and its data; `layer_norm` or `rms_norm` in its
            names) or with Hugging Face's config.json and weights; in it spiece.model or another SentencePiece model,
            or vocab.txt.
        config: where sizes come from: None (the JSON or gin file in the folder; without one the variables' shapes tell
            all but the activation), 'hf', 'gin', the path of such a file, or a dict in bert4keras' terms. What it
            says is compared with the shapes.
        keep_tokens: token ids to keep, as from `trim_sentencepiece`: rows of the embedding and of the output matrix.
            The tokenizer of the folder is cut in the same way. Saved models record it, and are loaded without it.
        tokenizer: instance, or path of a SentencePiece model, to use instead of the one of the folder. Of a trimmed
            one give also its keep_tokens.
        model: `kexue_keras.models.T5` or a subclass of it, such as `extend_with_recompute(T5)`.
        missing: see `load`.
        extra: 'error' or 'ignore', see `load`.
        **build: what bert4keras' T5 takes: with_lm ('linear' for logits), dropout_rate, attention_dropout_rate, name,
            prefix, ...; and scale_output=True, cross_position_bias=True for models pretrained with bert4keras' T5
            (T5-PEGASUS).

    Returns:
        `PretrainedT5`.

    Raises:
        WeightsError: a missing or damaged file; configuration, variables, vocabulary or keep_tokens that contradict
            each other; the message names what was expected and found. Nothing is half loaded.
        ValueError: application='lm' or 'unilm', which T5 has no meaning for.

    Reference: kexue.fm/archives/7867 (那个屠榜的T5模型，现在可以在中文上玩玩了), arXiv 1910.10683, arXiv 2010.11934.

    >>> load_t5('no-such-folder')
    Traceback (most recent call last):
    ...
    kexue_keras.errors.WeightsError: no model 'no-such-folder': it is not a folder
    """
    refuse_eager("load_t5")
    if build.pop("application", "encoder") != "encoder":
        raise ValueError("T5 is an encoder and a decoder; there is no application='lm' or 'unilm' of it")
    path = local_folder(path)
    config = path_text(config) if is_path(config) else config
    restore_interrupted(path)
    if not os.path.isdir(path):
        raise WeightsError("no model %r: it is not a folder" % (path,))
    config, variables = read_t5_folder(path, config, extra)
    rows = variables.shape("shared/embedding")[0]
    if missing == "error" and not build:
        # Before anything is built: TensorFlow takes nothing out of a graph again.
        check_shapes("t5", dict(config, vocab_size=rows), variables, variables.source, outcome="nothing was loaded")
    if keep_tokens is not None:
        keep_tokens = checked_keep_tokens(keep_tokens, rows, variables.source, config.get("trimmed"))
    tokenizer = t5_tokenizer(path, tokenizer, keep_tokens, rows, variables.source)
    own = dict(config)
    if keep_tokens is not None:
        own = record_trimming(config, keep_tokens, rows)
    own.update({key: build[key] for key in ("scale_output", "cross_position_bias") if key in build})
    tied = own["tie_word_embeddings"]
    given = build_arguments(own)
    given.update(version="t5.1.0" if tied else "t5.1.1", keep_tokens=keep_tokens, **build)
    given.setdefault("attention_dropout_rate", own["hidden_dropout_prob"])
    transformer = build_transformer_model(config_path=None, model=model, return_keras_model=False, **given)
    load_weights(transformer, variables, source=variables.source, missing=missing)
    kind = "t5.1.0" if tied else "mt5.1.1" if own["norm_name"] == "rms_norm" else "t5.1.1"
    return PretrainedT5(path, kind, transformer, tokenizer, own)


def read_t5_folder(path, config, extra):
    """Configuration and `Variables` of a T5 folder, nothing of it built; arguments as for `load_t5`."""
    if has_hf_weights(path):
        config_file = os.path.join(path, "config.json")
        theirs = read_object(config_file)
        kind, _ = hf_kind(theirs, config_file)
        if kind != "t5":
            raise WeightsError("%s is of a %s, not a T5; load it with kexue_keras.models.load" % (config_file, kind))
        own, variables = read_hf(path, theirs, extra=extra)
        check_ranks(variables)
        own = t5_config(path, variables, own if config in (None, "hf") else config)
        own.setdefault("norm_name", "rms_norm" if own["model_type"] == "mt5" else "layer_norm")
        return own, variables
    indexes = matching(path, "*.index")
    if len(indexes) != 1:
        raise WeightsError(
            "%s: expected one TensorFlow checkpoint (*.index and its data) or Hugging Face's weights; found %d "
            "checkpoints among %s" % (path, len(indexes), ", ".join(sorted(os.listdir(path))) or "nothing")
        )
    variables, word = usual_t5_names(read_tensorflow(indexes[0][: -len(".index")]))
    check_ranks(variables)
    return dict(t5_config(path, variables, config), norm_name=word), variables


def t5_tokenizer(path, tokenizer, keep_tokens, rows, source):
    """The tokenizer of a folder cut to `keep_tokens`, or the one given; None if there is none.

    Raises:
        WeightsError: it does not go with the `rows` of the embedding.
    """
    whole = keep_tokens is None
    if tokenizer is None:
        names = matching(path, "spiece.model", "sentencepiece*.model", "*.model", "vocab.txt")
        if not names:
            return None
        if names[0].endswith(".txt"):
            tokens = read_vocabulary(names[0])
            check_length(len(tokens), rows, names[0], source)
            if not whole:
                tokens = keep(tokens, keep_tokens)
                check_special(tokens, "keep_tokens (of %s)" % names[0])
            tokenizer = vocabulary_tokenizer(tokens, path, do_lower_case=read_lower_case(path))
        else:
            pieces = names[0] if whole else keep_pieces(names[0], keep_tokens)
            tokenizer = sentencepiece_tokenizer(pieces, **sentencepiece_settings(path))
    elif is_path(tokenizer):
        tokenizer = sentencepiece_tokenizer(tokenizer)
    size = getattr(tokenizer, "_vocab_size", None)
    rows = rows if whole else len(keep_tokens)
    if size is not None and not size <= rows <= size + _MOST_SPARE_ROWS:
        raise WeightsError(
            "the vocabulary of the tokenizer has %d tokens, but the embedding of %s %s%d rows; give the tokenizer that "
            "belongs to it%s"
            % (
                size,
                source,
                "has " if whole else "with keep_tokens has ",
                rows,
                ", or with a trimmed tokenizer its keep_tokens" if whole and size < rows else "",
            )
        )
    return tokenizer
