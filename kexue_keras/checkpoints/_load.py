"""`load`: a pretrained model with its tokenizer, from a bundled name or from a folder.

A folder is what Google, HIT, Zhuiyi, Huawei and others publish: a TensorFlow checkpoint, a configuration in JSON
and vocab.txt; or what Hugging Face's library writes: config.json and model.safetensors or pytorch_model.bin. Names and
shapes of all variables are compared before a single weight is set, so that nothing is ever half loaded.
"""

import os
import re
from typing import Any, Optional, Type, Union

from bert4keras.models import build_transformer_model

from kexue_keras.backend import refuse_eager
from kexue_keras.checkpoints._assign import check_marks, checked_keep_tokens, load_weights, record_trimming
from kexue_keras.checkpoints._bundled import ASSETS, BUNDLED, WEIGHTS, bundled_config, bundled_variables, changes_file
from kexue_keras.checkpoints._seeded_start import extend_with_seeded_start
from kexue_keras.checkpoints._sentence_transformers import transformer_folder
from kexue_keras.checkpoints._shapes import check_ranks
from kexue_keras.checkpoints._sources import local_folder
from kexue_keras.checkpoints._trial_build import is_doubtful, rehearse
from kexue_keras.checkpoints._variables import from_arrays, read_tensorflow
from kexue_keras.checkpoints._vocabulary import check_length, check_special, keep, read_vocabulary
from kexue_keras.checkpoints.hf.config import hf_kind
from kexue_keras.checkpoints.hf.folder import has_hf_weights, read_hf
from kexue_keras.checkpoints.hf.tokenizer_reading import read_fast_tokenizer
from kexue_keras.checkpoints.t5.loading import PretrainedT5, load_t5
from kexue_keras.checkpoints.t5.trimming import sentencepiece_tokenizer
from kexue_keras.errors import WeightsError
from kexue_keras.files import restore_interrupted
from kexue_keras.files.paths import matching, path_text
from kexue_keras.models._activations import check_activation
from kexue_keras.models._epsilon import extend_with_epsilon
from kexue_keras.models._fused import extend_with_fused
from kexue_keras.models._kinds import kind_of
from kexue_keras.models._language_models_only import guard_mlm
from kexue_keras.models._rotary import check_even_heads, extend_with_rotary_table
from kexue_keras.schemas import BERT_CONFIG, read_lower_case, read_object, read_settings
from kexue_keras.schemas.bert_config import build_arguments
from kexue_keras.tokenizing.widths import sentencepiece_settings, vocabulary_tokenizer
from kexue_keras.types import Config, Path, Tokenizer, Transformer


class PretrainedModel(object):
    """What `load` returns.

    Attributes:
        name: the name or path it came from.
        kind: model type as `build_transformer_model` calls it ('bert', 'roformer', ...), or the class given.
        bert: the bert4keras transformer object (`bert.layers`, `bert.inputs`, `bert.apply_...`).
        model: its Keras model; inputs token ids and segment ids `[B, n]`, output as the application says.
        transformer: the same, under the name that all pretrained models have.
        tokenizer: bert4keras tokenizer, or None if the folder has no vocabulary.
        config: dict, the configuration that the model was built from.
        fresh_variables: names that the checkpoint did not have (missing='initialise'); they are random.
    """

    def __init__(self, name: str, kind: str, bert: Transformer, tokenizer: Optional[Tokenizer], config: Config) -> None:
        self.name = name
        self.kind = kind
        self.bert = self.transformer = bert
        self.model = bert.model
        self.tokenizer = tokenizer
        self.config = config
        self.fresh_variables = []

    @property
    def max_positions(self) -> Optional[int]:
        """Longest row in tokens that the table of positions has room for; None if there is no such table (RoFormer)."""
        if "Embedding-Position" not in self.transformer.layers:
            return None
        return self.config.get("max_position_embeddings", self.config.get("max_position"))

    def __repr__(self):
        return "<PretrainedModel %s: %s, %d layers x %d, %d tokens>" % (
            self.name,
            self.kind if isinstance(self.kind, str) else self.kind.__name__,
            self.config["num_hidden_layers"],
            self.config["hidden_size"],
            self.config["vocab_size"],
        )


def load(
    name_or_path: Path,
    *,
    kind: Optional[str] = None,
    model: Optional[Type[Transformer]] = None,
    tokenizer: Optional[Tokenizer] = None,
    missing: str = "error",
    extra: str = "error",
    **build: Any,
) -> Union[PretrainedModel, PretrainedT5]:
    """Load a pretrained model with its tokenizer.

    Args:
        name_or_path: 'me5-zh-char', 'me5-zh-sp', 'me5-zh-char-mlm', 'roformer-sim-zh-small' (bundled), or a folder:
            with `*.ckpt.index`, a JSON configuration and vocab.txt, or with Hugging Face's config.json and weights
            (also within a folder of sentence-transformers); str or any path type; or the name of such a folder on the
            hub, 'organisation/model', if there is no folder here of that name (`presets` lists some). A T5 goes on to
            `load_t5`.
        kind: 'bert', 'roberta', 'albert', 'nezha', 'roformer', 'roformer_v2', 'electra', ...; None reads it from the
            checkpoint's variables and the configuration.
        model: a subclass of a bert4keras model class to build instead of the one of that kind.
        tokenizer: a tokenizer instance to use instead of the one made from the folder's vocabulary (word based
            vocabularies such as WoBERT's want their own with `pre_tokenize`).
        missing: what happens to variables that the model has and the checkpoint lacks: 'error', or 'initialise' (they
            keep their random start; a warning names them), for a new head over an old encoder.
        extra: what happens if the checkpoint has variables in the encoder that such a model does not have: 'error',
            or 'ignore'. Heads that are not asked for are no matter.
        **build: all other arguments of `build_transformer_model`: num_hidden_layers (the lowest ones; None: all),
            application, with_mlm, with_pool, keep_tokens, dropout_rate, hierarchical_position, ...

    Returns:
        `PretrainedModel`; for a T5 `PretrainedT5`.

    Raises:
        WeightsError: no such name or folder, a missing or damaged file, a vocabulary whose size differs from the
            embedding's, a variable that is absent, of another shape or superfluous; the message names the file, what
            was expected and what was found; a folder that a model with another technique saved. Nothing is half
            loaded.
        ValueError: words that are none of those above; an ELECTRA with an MLM head, or as language model.

    Reference: bert4keras, https://github.com/bojone/bert4keras.

    >>> encoder = kexue_keras.models.load('me5-zh-char', num_hidden_layers=1)  # the lowest of its 12
    >>> token_ids, segment_ids = encoder.tokenizer.encode('今天天气不错')
    >>> encoder.model.predict([np.array([token_ids]), np.array([segment_ids])]).shape
    (1, 8, 384)
    """
    refuse_eager("models.load")
    name = path_text(name_or_path)
    if missing not in ("error", "initialise"):
        raise ValueError("missing=%r; it is 'error' or 'initialise'" % (missing,))
    if extra not in ("error", "ignore"):
        raise ValueError("extra=%r; it is 'error' or 'ignore'" % (extra,))
    if build.get("num_hidden_layers", 0) is None:  # all, as scripts with a setting for it say
        del build["num_hidden_layers"]
    name_or_path = local_folder(name)
    restore_interrupted(name_or_path)
    name_or_path = transformer_folder(name_or_path)
    if kind is None and is_t5(name_or_path):
        if model is not None:
            build["model"] = model
        return load_t5(name_or_path, tokenizer=tokenizer, missing=missing, extra=extra, **build)
    detected, config, checkpoint, vocabulary = read_folder(
        name_or_path,
        kind=model or kind,
        extra=extra if "num_hidden_layers" not in build else "ignore",
        num_hidden_layers=build.get("num_hidden_layers"),
    )
    if build.get("with_mlm") or build.get("application") in ("lm", "unilm"):
        guard_mlm(model or kind or detected)
    if model is None:
        check_marks([], checkpoint, checkpoint.source)
    kind = kind or detected
    rows = _embedding_rows(checkpoint, config)
    if build.get("keep_tokens") is not None:
        kept = checked_keep_tokens(build["keep_tokens"], rows, checkpoint.source, config.get("trimmed"))
        build["keep_tokens"] = kept
    if tokenizer is None and vocabulary is not None:
        tokenizer = make_tokenizer(vocabulary, rows, checkpoint.source, build)
    check_even_heads(model or kind, dict(config, **build), checkpoint.source)
    epsilons = config.get("layer_norm_eps"), config.get("mlm_layer_norm_eps")
    built_class = extend_with_epsilon(model or kind, epsilons[0], build.get("application"), epsilons[1])
    built_class = extend_with_rotary_table(built_class, checkpoint)
    if model is None and isinstance(built_class, type):
        built_class = extend_with_fused(built_class)
    built_class = extend_with_seeded_start(built_class)
    built = dict(build_arguments(config), **build)

    def build_and_load():
        transformer = build_transformer_model(config_path=None, model=built_class, return_keras_model=False, **built)
        return transformer, load_weights(transformer, checkpoint, source=checkpoint.source, missing=missing)

    if missing == "error":
        check_layers(built["num_hidden_layers"], checkpoint)
    if is_doubtful(built, checkpoint, kind=kind, missing=missing):
        rehearse(build_and_load)
    transformer, absent = build_and_load()
    if build.get("keep_tokens") is not None:
        config = record_trimming(config, build["keep_tokens"], rows)
    pretrained = PretrainedModel(name, model or kind, transformer, tokenizer, config)
    pretrained.fresh_variables = absent
    return pretrained


def read_folder(name_or_path, *, kind=None, extra="error", num_hidden_layers=None):
    """What a bundled name or a folder holds, nothing of it built: for `load`, for converting, for looking.

    Args:
        name_or_path: as for `load`, but no T5.
        kind: the kind if it is known (then it is not looked for).
        extra: as for `load`.
        num_hidden_layers: int, how many layers of a bundled model will do; None: all.

    Returns:
        (kind as `build_transformer_model` calls it, configuration, `Variables`, path of the vocabulary or None).

    Raises:
        WeightsError: see `load`.
    """
    name_or_path = transformer_folder(local_folder(name_or_path))
    if name_or_path in BUNDLED:
        source = changes_file(name_or_path) or WEIGHTS
        vocabulary = os.path.join(ASSETS, BUNDLED[name_or_path].vocabulary)
        variables = from_arrays(source, bundled_variables(name_or_path, num_hidden_layers))
        return BUNDLED[name_or_path].kind, bundled_config(name_or_path), variables, vocabulary
    if os.path.isdir(name_or_path) and has_hf_weights(name_or_path):
        config_file = os.path.join(name_or_path, "config.json")
        config = read_object(config_file)
        _, detected = hf_kind(config, config_file)
        config, variables = read_hf(name_or_path, config, extra=extra)
        check_ranks(variables)
        return kind or detected, config, variables, _vocabulary(name_or_path)
    config_file, prefix, vocabulary = find_files(name_or_path)
    config = read_settings(config_file, BERT_CONFIG)
    check_activation(config["hidden_act"], config_file)
    variables = read_tensorflow(prefix)
    check_ranks(variables)
    beyond = higher_layers(variables, config["num_hidden_layers"])
    if beyond and extra == "error":
        raise WeightsError(
            "%s says num_hidden_layers %d, but %s has %d variables of higher layers, first of them %s; nothing was "
            "loaded. Give the configuration that belongs to it, num_hidden_layers=..., or extra='ignore'."
            % (config_file, config["num_hidden_layers"], prefix, len(beyond), beyond[0])
        )
    return kind or kind_of(list(variables), config, name_or_path), config, variables, vocabulary


def higher_layers(variables, layers):
    """Names of the variables of a BERT or an ELECTRA that belong to layers from number `layers` on.

    >>> higher_layers(['bert/encoder/layer_0/x', 'bert/encoder/layer_2/x'], 2)
    ['bert/encoder/layer_2/x']
    """
    return [name for name, number in _layer_numbers(variables) if number >= layers]


def check_layers(layers, variables):
    """Refuse more layers than a checkpoint has, before they are built: a thousand take minutes.

    Raises:
        WeightsError: it has fewer.
    """
    found = 1 + max((number for _, number in _layer_numbers(variables)), default=-1)
    if 0 < found < layers:
        raise WeightsError(
            "%s has %d layers, but num_hidden_layers is %d; nothing was loaded. Give the configuration that belongs to "
            "it, or missing='initialise' for new layers on top" % (variables.source, found, layers)
        )


def _layer_numbers(variables):
    numbers = ((n, re.match(r"(?:bert|electra)/encoder/layer_(\d+)/", n)) for n in variables)
    return [(name, int(number.group(1))) for name, number in numbers if number]


def is_t5(path):
    """Whether a folder is T5's; anything wrong with it is reported later, by whoever reads it."""
    if path_text(path) in BUNDLED:
        return False
    try:
        path = transformer_folder(local_folder(path))
        if not os.path.isdir(path):
            return False
        if has_hf_weights(path):
            return read_object(os.path.join(path, "config.json")).get("model_type") in ("t5", "mt5")
        indexes = matching(path, "*.index")
        return len(indexes) == 1 and "shared/embedding" in read_tensorflow(indexes[0][: -len(".index")])
    except WeightsError:
        return False


def find_files(path):
    """Configuration, checkpoint prefix and vocabulary (None if there is none) of a model folder.

    Raises:
        WeightsError: no such folder, or a file is missing or ambiguous.
    """
    if not os.path.isdir(path):
        raise WeightsError(
            "no model %r: it is neither a bundled name (%s) nor a folder, nor a name of the hub such as "
            "hfl/chinese-macbert-base" % (path, ", ".join(sorted(BUNDLED)))
        )
    listing = ", ".join(sorted(os.listdir(path))) or "nothing"
    configs = _candidates(path, "bert_config.json", "config.json", "*config*.json")
    if not configs:
        raise WeightsError("%s: expected a configuration such as bert_config.json; found %s" % (path, listing))
    if len(configs) > 1:
        raise WeightsError("%s: several configurations (%s); keep one" % (path, ", ".join(map(str, configs))))
    indexes = matching(path, "*.index")
    if len(indexes) != 1:
        raise WeightsError(
            "%s: expected one TensorFlow checkpoint (*.index and its data file), or Hugging Face's weights; found %d "
            "checkpoints among %s" % (path, len(indexes), listing)
        )
    prefix = indexes[0][: -len(".index")]
    if not any(name.startswith(os.path.basename(prefix) + ".data-") for name in os.listdir(path)):
        raise WeightsError("%s: %s.data-00000-of-00001 is missing; found %s" % (path, prefix, listing))
    return configs[0], prefix, _vocabulary(path)


def _vocabulary(path):
    found = _candidates(path, "vocab.txt", "vocab*.txt", "*.model", "tokenizer.json")
    return found[0] if found else None


def _candidates(path, *patterns):
    return next((found for found in (matching(path, pattern) for pattern in patterns) if found), [])


def _embedding_rows(variables, config):
    """Rows of the token embedding as the checkpoint has it, before keep_tokens."""
    for name in variables:
        if name.endswith("embeddings/word_embeddings"):
            return variables.shape(name)[0]
    return config["vocab_size"]


def make_tokenizer(vocabulary, rows, source, build):
    """The tokenizer of a vocabulary file, cut to `build["keep_tokens"]`.

    Raises:
        WeightsError: the vocabulary is damaged, has not as many tokens as the embedding has rows, or belongs to a
            tokenizer that no file can hold.
    """
    kept, folder = build.get("keep_tokens"), os.path.dirname(vocabulary)
    if vocabulary.endswith(".model"):
        settings = sentencepiece_settings(folder, token_start="<s>", token_end="</s>")
        tokenizer = sentencepiece_tokenizer(vocabulary, **settings)
        check_length(tokenizer._vocab_size, rows, vocabulary, source)
        return tokenizer
    lower = None
    if vocabulary.endswith(".json"):
        found = read_fast_tokenizer(vocabulary)
        if isinstance(found, bytes):
            tokenizer = sentencepiece_tokenizer(found, token_start="<s>", token_end="</s>")
            check_length(tokenizer._vocab_size, rows, vocabulary, source)
            return tokenizer
        tokens, lower = found
        check_special(tokens, vocabulary)
    else:
        tokens = read_vocabulary(vocabulary)
    check_length(len(tokens), rows, vocabulary, source)
    if build.get("compound_tokens") is not None:
        raise ValueError("with compound_tokens only you know what the new tokens are called: give tokenizer=...")
    if kept is not None:
        tokens = keep(tokens, kept)
        check_special(tokens, "keep_tokens (of %s)" % vocabulary)
    return vocabulary_tokenizer(tokens, folder, do_lower_case=read_lower_case(folder) if lower is None else lower)
