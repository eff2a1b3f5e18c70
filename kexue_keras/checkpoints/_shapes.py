"""What shape each variable of a model has by its configuration, and whether those of a checkpoint fit.

One table for all kinds and both formats: names come from `hf_names`, shapes from the end of a name. `convert` and
`save` ask it before anything is written, so that no folder is written that cannot be loaded.
"""

import re
import warnings

import numpy as np

from kexue_keras.checkpoints.hf.names import hf_names
from kexue_keras.errors import WeightsError

# The end of a name -> its dimensions; the first that fits. The letters are those of `_sizes`.
_SHAPES = tuple(
    (re.compile(pattern + "$"), dimensions.split())
    for pattern, dimensions in (
        ("embeddings/word_embeddings", "V E"),
        ("embeddings/position_embeddings", "P E"),
        ("embeddings/token_type_embeddings", "S E"),
        ("embeddings/LayerNorm/(beta|gamma)", "E"),
        ("encoder/embed_positions", "P D"),
        ("(embedding_hidden_mapping_in|embeddings_project)/kernel", "E H"),
        ("(embedding_hidden_mapping_in|embeddings_project)/bias", "H"),
        ("attention(_1)?/self/(query|key)/kernel", "H K"),
        ("attention(_1)?/self/(query|key)/bias", "K"),
        ("attention(_1)?/self/value/kernel", "H A"),
        ("attention(_1)?/self/value/bias", "A"),
        ("attention(_1)?/output/dense/kernel", "A H"),
        ("attention(_1)?/output/dense/bias", "H"),
        ("cls/predictions/transform/dense/kernel", "H E"),
        ("cls/predictions/transform/(dense/bias|LayerNorm/beta|LayerNorm/gamma)", "E"),
        ("cls/predictions/output_bias", "V"),
        ("cls/seq_relationship/output_weights", "2 H"),
        ("cls/seq_relationship/output_bias", "2"),
        ("discriminator_predictions/dense_1/kernel", "H 1"),
        ("discriminator_predictions/dense_1/bias", "1"),
        ("(pooler|discriminator_predictions)/dense/kernel", "H H"),
        ("(pooler|discriminator_predictions)/dense/bias", "H"),
        ("intermediate/dense/kernel", "H I"),
        ("intermediate/dense/bias", "I"),
        (r"(layer_\d+|intermediate)/output/dense/kernel", "I H"),
        (r"(layer_\d+|intermediate)/output/dense/bias", "H"),
        (r"(layer_\d+/(attention/)?output|inner_group_0)/LayerNorm(_1)?/(beta|gamma)", "H"),
        ("shared/embedding", "V H"),
        ("decoder/logits/kernel", "H V"),
        ("SelfAttention/relative_attention_bias", "N B"),
        (r"block_\d+/layer_\d+/(Self|EncDec)Attention/[qkv]", "H A"),
        (r"block_\d+/layer_\d+/(Self|EncDec)Attention/o", "A H"),
        ("DenseReluDense/wi(_0|_1)?/kernel", "H I"),
        ("DenseReluDense/wo/kernel", "I H"),
        ("layer_norm/scale", "H"),
    )
)
# Heads: there as a whole, or not at all.
_HEADS = ("bert/pooler/", "cls/predictions/", "cls/seq_relationship/", "discriminator_predictions/")
# These kinds have the names of another one, less some.
_LIKE = {"roberta": "bert", "nezha": "bert", "roformer_v2": "roformer"}


def dimensions_of(name):
    """The letters of a variable's dimensions, or None if the table does not have it.

    >>> dimensions_of('bert/encoder/layer_3/output/dense/kernel'), dimensions_of('my_head/kernel')
    (['I', 'H'], None)
    """
    return next((dimensions for pattern, dimensions in _SHAPES if pattern.search(name)), None)


def check_ranks(variables):
    """Refuse variables that have more or fewer dimensions than their names ask for, such as a scalar for a matrix.

    Args:
        variables: `Variables`.

    Raises:
        WeightsError: with the first such variable.
    """
    for name in variables:
        dimensions, shape = dimensions_of(name), variables.shape(name)
        if dimensions is not None and len(dimensions) != len(shape):
            raise WeightsError(
                "%s: %s has the shape %s; %d dimensions are expected. Nothing was loaded"
                % (variables.source, name, shape, len(dimensions))
            )


def check_shapes(kind, config, variables, source, *, complete=True, outcome="nothing was written"):
    """Refuse a configuration and variables that do not belong together.

    Args:
        kind: 'bert', 'albert', 'electra', 'nezha', 'roformer', 'roformer_v2' or 't5'.
        config: dict in the words of bert4keras.
        variables: dict name -> array, or `Variables`, of which only shapes are asked for.
        source: what messages call the variables.
        complete: whether all that such a model needs must be there; not so for model classes of one's own.
        outcome: what messages say of what became of it.

    Returns:
        list of keys of the configuration that no shape reveals, 'num_attention_heads' for most kinds.

    Raises:
        WeightsError: shapes that differ, variables that are absent.
    """
    shape_of = variables.shape if hasattr(variables, "shape") else lambda name: np.shape(variables[name])
    like = _LIKE.get(kind, kind)
    if like not in ("bert", "albert", "electra", "roformer", "t5"):
        return []
    sizes = _sizes(kind, config, source)
    names = [ours for ours, _ in hf_names(like, config).values()]
    if kind == "roformer_v2":
        names = [name for name in names if not re.search("beta|gamma|bias", name)]
    wrong = [_difference(name, shape_of(name), sizes) for name in names if name in variables]
    wrong = [text for text in wrong if text]
    if wrong:
        raise WeightsError(
            "%s does not fit its configuration: %d variables differ in shape; %s. %s. Give the configuration that "
            "belongs to it" % (source, len(wrong), outcome, "; ".join(wrong[:3]))
        )
    present = {name for name in names if name in variables}
    absent = [name for name in names if name not in present and _needed(name, kind, config, present)]
    if absent and complete:
        raise WeightsError(
            "%s lacks %d variables that its configuration asks for (num_hidden_layers %s, ...); %s. First of them: %s"
            % (source, len(absent), config["num_hidden_layers"], outcome, ", ".join(absent[:5]))
        )
    untold = [] if "bert/encoder/embed_positions" in variables or kind == "t5" else ["num_attention_heads"]
    return untold + (["num_hidden_layers"] if kind == "albert" else [])


def warn_of_untold(untold, config, source):
    """Warn that some words of a configuration cannot be checked by any shape; nothing if there are none."""
    if untold:
        warnings.warn(
            "%s: no variable's shape tells whether %s is right; it is taken as the configuration says"
            % (source, " and ".join("%s %s" % (key, config[key]) for key in untold)),
            stacklevel=3,
        )


def check_floats(source, arrays):
    """Refuse arrays that hold anything but floating-point numbers under the names of weights.

    Args:
        source: what messages call the file.
        arrays: dict name -> array.

    Raises:
        WeightsError: with the first of them.
    """
    for name, value in arrays.items():
        dtype = np.asarray(value).dtype
        if dimensions_of(name) is not None and dtype.kind != "f":
            raise WeightsError(
                "%s: %s holds numbers of the type %s; weights are floating-point numbers. Nothing was done"
                % (source, name, dtype)
            )


def _sizes(kind, config, source):
    """Letter of a dimension -> (word of the configuration, number)."""

    def size(letter, *words, default=None):
        word = next((word for word in words if config.get(word) is not None), words[-1])
        value = config.get(word, default)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise WeightsError("%s: its configuration says %s %r; a whole number is needed" % (source, word, value))
        sizes[letter] = (word, value)
        return value

    sizes = {"1": ("one", 1), "2": ("two classes", 2)}
    hidden, heads = size("H", "hidden_size"), size("N", "num_attention_heads")
    if not heads:
        raise WeightsError("%s: its configuration says num_attention_heads 0" % source)
    head = size("D", "attention_head_size", default=hidden // heads)
    key = size("D", "attention_key_size", default=head)
    inner = "num_attention_heads %d x " % heads
    sizes["A"] = (inner + "%d =" % head, heads * head)
    sizes["K"] = (inner + "%d =" % key, heads * key)
    sizes["D"] = ("hidden_size / num_attention_heads =", key)
    size("V", "vocab_size")
    size("I", "intermediate_size")
    size("E", "embedding_size", "hidden_size")
    size("P", "max_position", "max_position_embeddings", default=512)
    size("S", "segment_vocab_size", "type_vocab_size", default=2)
    size("B", "relative_attention_num_buckets", default=32)
    return sizes


def _difference(name, shape, sizes):
    expected = [sizes[letter] for letter in dimensions_of(name)]
    numbers = tuple(number for _, number in expected)
    if tuple(shape) == numbers or (name.endswith("token_type_embeddings") and not numbers[0]):
        return None
    transposed = " (it is transposed)" if tuple(shape) == numbers[::-1] else ""
    said = ", ".join("%s %d" % pair for pair in expected)
    return "%s has the shape %s; expected (%s)%s" % (name, tuple(shape), said, transposed)


def _needed(name, kind, config, present):
    """Whether a model of this configuration needs a variable that is not there."""
    if "embedding_hidden_mapping_in" in name or "embeddings_project" in name:
        return config.get("embedding_size", config["hidden_size"]) != config["hidden_size"]
    if name.endswith("position_embeddings"):
        return kind in ("bert", "roberta", "albert", "electra")
    if name.endswith("token_type_embeddings"):
        segments = config.get("segment_vocab_size", config.get("type_vocab_size", 2))
        return bool(segments) and not config.get("shared_segment_embeddings")
    if name.endswith("embed_positions"):
        return False
    if kind == "t5":
        gated = isinstance(config["hidden_act"], (list, tuple))
        if name == "decoder/logits/kernel":
            return not config.get("tie_word_embeddings")
        if "/wi" in name:
            return gated == bool(re.search("wi_[01]/", name))
        return True
    head = next((head for head in _HEADS if name.startswith(head)), None)
    return head is None or any(other.startswith(head) for other in present)
