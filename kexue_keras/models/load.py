"""`load`: a pretrained model with its tokenizer, from a bundled name or from a folder.

A folder is what Google, HIT, Zhuiyi, Huawei and others publish: a TensorFlow checkpoint, a configuration in JSON
and vocab.txt. Names and shapes of all variables are compared before a single weight is set, so that nothing is
ever loaded by half.
"""

import glob
import json
import os
import warnings

import numpy as np
import tensorflow as tf
from bert4keras.models import build_transformer_model
from bert4keras.tokenizers import SpTokenizer, Tokenizer, load_vocab

from kexue_keras.backend import K
from kexue_keras.models.bundled import ASSETS, BUNDLED, bundled_config, bundled_variables
from kexue_keras.models.kinds import kind_of


class WeightsError(ValueError):
    """A model folder, a vocabulary or a checkpoint does not fit the model that is to be built."""


class PretrainedModel(object):
    """What `load` returns.

    Attributes:
        name: the name or path it came from.
        kind: model type as `build_transformer_model` calls it ('bert', 'roformer', ...), or the class given.
        bert: the bert4keras transformer object (`bert.layers`, `bert.inputs`, `bert.apply_...`).
        model: its Keras model; inputs token ids and segment ids `[B, n]`, output as the application says.
        tokenizer: bert4keras tokenizer, or None if the folder has no vocabulary.
        config: dict, the configuration that the model was built from.
    """

    def __init__(self, name, kind, bert, tokenizer, config):
        self.name = name
        self.kind = kind
        self.bert = bert
        self.model = bert.model
        self.tokenizer = tokenizer
        self.config = config

    def __repr__(self):
        return "<PretrainedModel %s: %s, %d layers x %d, %d tokens>" % (
            self.name,
            self.kind if isinstance(self.kind, str) else self.kind.__name__,
            self.config["num_hidden_layers"],
            self.config["hidden_size"],
            self.config["vocab_size"],
        )


def load(name_or_path, *, kind=None, model=None, tokenizer=None, missing="error", **build):
    """Load a pretrained encoder with its tokenizer.

    Args:
        name_or_path: 'me5-zh-char' or 'me5-zh-sp' (bundled), or a folder with `*.ckpt.index`, a JSON configuration
            and vocab.txt.
        kind: 'bert', 'roberta', 'albert', 'nezha', 'roformer', 'roformer_v2', 'electra', ...; None reads it from the
            checkpoint's variables and the configuration.
        model: a subclass of a bert4keras model class to build instead of the one of that kind.
        tokenizer: a tokenizer instance to use instead of the one made from the folder's vocabulary (word based
            vocabularies such as WoBERT's want their own with `pre_tokenize`).
        missing: what happens to variables that the model has and the checkpoint lacks: 'error', or 'initialise' (they
            keep their random start; a warning names them), for a new head over an old encoder.
        **build: all other arguments of `build_transformer_model`: application, with_mlm, with_pool, keep_tokens,
            dropout_rate, hierarchical_position, ...

    Returns:
        `PretrainedModel`.

    Raises:
        WeightsError: no such name or folder, a missing file, a vocabulary whose size differs from the embedding's, a
            variable that is absent or has another shape; the message names the file, what was expected and what was
            found. The model's weights are then untouched.

    Reference: bert4keras, https://github.com/bojone/bert4keras.

    >>> encoder = kexue_keras.models.load('me5-zh-char', num_hidden_layers=1)  # the lowest of its 12
    >>> token_ids, segment_ids = encoder.tokenizer.encode('今天天气不错')
    >>> encoder.model.predict([np.array([token_ids]), np.array([segment_ids])]).shape
    (1, 8, 384)
    """
    if missing not in ("error", "initialise"):
        raise ValueError("missing=%r; it is 'error' or 'initialise'" % (missing,))
    if name_or_path in BUNDLED:
        source = os.path.join(ASSETS, "me5_zh_q4.npz")
        config, checkpoint = bundled_config(name_or_path), bundled_variables(name_or_path)
        vocabulary, detected = os.path.join(ASSETS, BUNDLED[name_or_path][1]), "bert"
    else:
        config_file, source, vocabulary = find_files(name_or_path)
        config, checkpoint = _read_config(config_file), source
        detected = kind
        if kind is None and model is None:
            names = [n for n, _ in tf.train.list_variables(source)]
            detected = kind_of(names, config, name_or_path)
    kind = model or kind or detected
    if tokenizer is None and vocabulary is not None:
        rows = _embedding_rows(checkpoint, config)
        tokenizer = _make_tokenizer(vocabulary, rows, source, build)
    transformer = build_transformer_model(
        config_path=None, model=kind, return_keras_model=False, **dict(config, **build)
    )
    load_weights(transformer, checkpoint, source=source, missing=missing)
    return PretrainedModel(name_or_path, kind, transformer, tokenizer, config)


def load_weights(transformer, checkpoint, *, source, missing="error"):
    """Set all weights of a bert4keras transformer, or none and raise.

    Args:
        transformer: bert4keras transformer object, built.
        checkpoint: dict variable name -> array, or the prefix of a TensorFlow checkpoint.
        source: name of the file for messages.
        missing: see `load`.

    Returns:
        list of variable names that were not found (empty unless missing='initialise').

    Raises:
        WeightsError: variables are absent or have other shapes.
    """
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
            if K.int_shape(weight) != np.shape(value):
                misshapen.append("%s: the model has %s, the file %s" % (name, K.int_shape(weight), np.shape(value)))
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
    K.batch_set_value(pairs)
    if absent:
        warnings.warn("%s lacks %s: these start from random values" % (source, ", ".join(absent)))
    return absent


def find_files(path):
    """Configuration, checkpoint prefix and vocabulary (None if there is none) of a model folder.

    Raises:
        WeightsError: no such folder, or a file is missing or ambiguous.
    """
    if not os.path.isdir(path):
        raise WeightsError(
            "no model %r: it is neither a bundled name (%s) nor a folder" % (path, ", ".join(sorted(BUNDLED)))
        )
    listing = ", ".join(sorted(os.listdir(path))) or "nothing"
    configs = _candidates(path, "bert_config.json", "config.json", "*config*.json")
    if not configs:
        raise WeightsError("%s: expected a configuration such as bert_config.json; found %s" % (path, listing))
    if len(configs) > 1:
        raise WeightsError("%s: several configurations (%s); keep one" % (path, ", ".join(map(str, configs))))
    indexes = sorted(glob.glob(os.path.join(path, "*.index")))
    if len(indexes) != 1:
        if glob.glob(os.path.join(path, "*.safetensors")) or glob.glob(os.path.join(path, "pytorch_model*.bin")):
            hint = "; this is a Hugging Face folder, which is not read yet"
        else:
            hint = ""
        raise WeightsError(
            "%s: expected one TensorFlow checkpoint (*.index and its data file); found %d of them among %s%s"
            % (path, len(indexes), listing, hint)
        )
    prefix = indexes[0][: -len(".index")]
    if not glob.glob(prefix + ".data-*"):
        raise WeightsError("%s: %s.data-00000-of-00001 is missing; found %s" % (path, prefix, listing))
    vocabularies = _candidates(path, "vocab.txt", "vocab*.txt", "*.model")
    return configs[0], prefix, vocabularies[0] if vocabularies else None


def _candidates(path, *patterns):
    for pattern in patterns:
        found = sorted(glob.glob(os.path.join(path, pattern)))
        if found:
            return found
    return []


def _read_config(path):
    try:
        with open(path, encoding="utf-8") as handle:
            config = json.load(handle)
    except ValueError as error:
        raise WeightsError("%s is no JSON: %s" % (path, error))
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if key not in config:
            raise WeightsError("%s: expected the key %r; found %s" % (path, key, ", ".join(sorted(config))))
    return config


def _embedding_rows(checkpoint, config):
    """Rows of the token embedding as the checkpoint has it, before keep_tokens."""
    if isinstance(checkpoint, dict):
        return len(checkpoint["bert/embeddings/word_embeddings"])
    for name, shape in tf.train.list_variables(checkpoint):
        if name.endswith("embeddings/word_embeddings"):
            return shape[0]
    return config["vocab_size"]


def _make_tokenizer(vocabulary, rows, source, build):
    if vocabulary.endswith(".model"):
        tokenizer = SpTokenizer(vocabulary, token_start="<s>", token_end="</s>")
        tokens = tokenizer._vocab_size
    else:
        token_dict = load_vocab(vocabulary)
        tokens = len(token_dict)
    if tokens != rows:
        raise WeightsError(
            "%s has %d tokens, but the token embedding of %s has %d rows; give the vocabulary that belongs to it"
            % (vocabulary, tokens, source, rows)
        )
    if vocabulary.endswith(".model"):
        return tokenizer
    keep, compound = build.get("keep_tokens"), build.get("compound_tokens")
    if compound is not None:
        raise ValueError("with compound_tokens only you know what the new tokens are called: give tokenizer=...")
    if keep is not None:
        by_id = {i: token for token, i in token_dict.items()}
        token_dict = {by_id[i]: new for new, i in enumerate(keep)}
    return Tokenizer(token_dict, do_lower_case=True)
