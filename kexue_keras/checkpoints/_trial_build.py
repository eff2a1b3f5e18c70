"""Whether a checkpoint may turn out not to fit a model: then the model is built in a graph that is thrown away first.

TensorFlow takes nothing out of a graph again, so a model that is refused after it was built would stay in the user's
graph, and each later run in it would take longer. Names and shapes tell cheaply which loads are in doubt; what exactly
is wrong only the model itself knows.
"""

import re
import warnings

from kexue_keras.backend import preserved_random_state, scratch_graph

_LAYER = re.compile(r"/encoder/layer_(\d+)/(.*)")
_NORM = re.compile(r"/LayerNorm/(gamma|beta)$")
# Argument of build_transformer_model -> the variables of its head.
_HEADS = {"with_pool": "pooler/dense/", "with_nsp": "cls/seq_relationship/", "with_mlm": "cls/predictions/"}


def is_doubtful(config, variables, *, kind="bert", missing="error"):
    """Whether a load may be refused, by the names and shapes of the usual variables.

    Args:
        config: dict, the arguments of `build_transformer_model`.
        variables: `Variables`.
        kind: what `build_transformer_model` calls it.
        missing: see `load`.

    Returns:
        bool; False promises nothing.

    >>> from kexue_keras.checkpoints._variables import from_arrays
    >>> config = {'vocab_size': 9, 'hidden_size': 4, 'num_hidden_layers': 0, 'num_attention_heads': 2}
    >>> [is_doubtful(config, from_arrays('f', {'bert/embeddings/word_embeddings': np.zeros([9, d])})) for d in (4, 5)]
    [False, True]
    """
    if any(_has_other_shape(name, variables.shape(name), config) for name in variables):
        return True
    if missing != "error":
        return False
    shared = any("/inner_group" in name for name in variables)  # ALBERT's layers are one
    if str(kind).startswith("albert") != shared:
        return True
    layers = [{} for _ in range(config["num_hidden_layers"])]
    for name in variables:
        found = _LAYER.search(name)
        if found and int(found.group(1)) < len(layers):
            layers[int(found.group(1))][found.group(2)] = name
    if not shared and any(set(one) != set(layers[0]) for one in layers):
        return True
    if not any(name.endswith("embeddings/word_embeddings") for name in variables):
        return True
    asked = dict(config, with_mlm=config.get("with_mlm") or config.get("application") in ("lm", "unilm"))
    asked["with_pool"] = asked.get("with_pool") or asked.get("with_nsp")
    heads = [prefix for argument, prefix in _HEADS.items() if asked.get(argument)]
    return any(not any(prefix in name for name in variables) for prefix in heads)


def _has_other_shape(name, shape, config):
    hidden, rows = config["hidden_size"], config["vocab_size"]
    width = config.get("embedding_size") or hidden
    inner = config.get("intermediate_size")
    positions = config.get("max_position", config.get("max_position_embeddings"))
    heads, size = config["num_attention_heads"], config.get("attention_head_size")
    keys = config.get("attention_key_size") or size
    values, keys = (heads * n if n else hidden for n in (size, keys))
    expected = {
        "embeddings/word_embeddings": (rows, width),
        "embeddings/position_embeddings": (positions, width),
        "embeddings/token_type_embeddings": (config.get("type_vocab_size", config.get("segment_vocab_size")), width),
        "attention/self/query/kernel": (hidden, keys),
        "attention/self/key/kernel": (hidden, keys),
        "attention/self/value/kernel": (hidden, values),
        "attention/output/dense/kernel": (values, hidden),
        "intermediate/dense/kernel": (hidden, inner),
        "pooler/dense/kernel": (hidden, hidden),
        "cls/predictions/transform/dense/kernel": (hidden, width),
        "cls/predictions/output_bias": (rows,),
    }
    for ending, wanted in expected.items():
        if name.endswith(ending):
            return None not in wanted and shape != wanted
    return bool(_NORM.search(name)) and shape not in ((hidden,), (width,))


def rehearse(build_and_load):
    """Call a function in a graph of its own that is thrown away; what it raises is raised, all else is forgotten."""
    with preserved_random_state(), scratch_graph(optimize=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build_and_load()
