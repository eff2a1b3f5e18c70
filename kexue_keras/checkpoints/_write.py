"""Writing a model folder: TensorFlow checkpoint or Hugging Face's safetensors, configuration and vocabulary."""

import os

import numpy as np
import tensorflow as tf

from kexue_keras.backend import K, tf1
from kexue_keras.checkpoints._variables import is_optimizers
from kexue_keras.checkpoints.formats.safetensors_file import write_safetensors
from kexue_keras.checkpoints.hf.config import to_hf
from kexue_keras.checkpoints.hf.names import hf_names
from kexue_keras.errors import WeightsError
from kexue_keras.files import write_json
from kexue_keras.models._partial_weights import MARKS, marks_of
from kexue_keras.models._rotary import ROTARY_TABLE, sinusoidal_table
from kexue_keras.options.choices import MODEL_FORMATS
from kexue_keras.tokenizing.widths import CONFIG, OURS, written_settings


def weights_of(transformer):
    """The weights of a bert4keras transformer under the names of its checkpoints.

    Args:
        transformer: bert4keras transformer object.

    Returns:
        dict name -> float32 array.

    Raises:
        WeightsError: it has several weights that go by one name (ALBERT with its layers unshared).
    """
    arrays = {}
    mapping = {transformer.prefixed(k): v for k, v in transformer.variable_mapping().items()}
    for layer, names in mapping.items():
        if layer not in transformer.layers:
            continue
        for name, value in zip(names, K.batch_get_value(_weights_when_trained(transformer.layers[layer]))):
            if name in arrays:
                raise WeightsError(
                    "the model has several weights called %s (are its layers unshared?), so no checkpoint of that kind "
                    "can hold it; save it with Keras' save_weights" % name
                )
            # These two lie the other way round in checkpoints than in bert4keras.
            turned = name.endswith(("relative_attention_bias", "cls/seq_relationship/output_weights"))
            arrays[name] = value.T if turned else value
    # So that no other model takes them for its own.
    arrays.update((mark, np.float32(1)) for mark in marks_of(transformer))
    if hasattr(transformer, "rotary_table"):
        arrays[ROTARY_TABLE] = transformer.rotary_table
    return arrays


def _weights_when_trained(layer):
    """A layer's trainable weights, also while the layer is frozen: freezing takes nothing out of the model."""
    if layer.trainable:
        return layer.trainable_weights
    layer.trainable = True
    try:
        return layer.trainable_weights
    finally:
        layer.trainable = False


def fill_folder(path, kind, config, variables, *, format, tokenizer=None, extra="error"):
    """Write the files of a model, which `load` or `load_t5` reads, into an empty folder (see `files.whole_folder`).

    Args:
        path: str, an empty folder.
        kind: 'bert', 'albert', 'electra', 'roformer', 't5', 'nezha', ...
        config: dict in the words of bert4keras.
        variables: dict name -> array, names as in TensorFlow checkpoints.
        format: 'tensorflow' or 'hf'.
        tokenizer: bert4keras tokenizer to write, or None.
        extra: 'error' or 'ignore': what happens to variables that Hugging Face's format has no name for.

    Raises:
        WeightsError: the kind has no form in that format; variables without a name there.
        OSError: a full disk and the like.
    """
    if format not in MODEL_FORMATS:
        raise ValueError("format=%r; it is %s" % (format, " or ".join(map(repr, MODEL_FORMATS))))
    own = {name: variables[name] for name in variables if not is_optimizers(name)}
    (_write_hf if format == "hf" else _write_tensorflow)(path, kind, config, own, extra)
    if tokenizer is not None:
        _write_vocabulary(path, tokenizer, kind)


def _write_tensorflow(path, kind, config, variables, extra):
    table = variables.get(ROTARY_TABLE)
    if table is not None and np.array_equal(table, sinusoidal_table(*table.shape)):
        variables = {name: value for name, value in variables.items() if name != ROTARY_TABLE}
    if kind == "t5" and config.get("norm_name") == "rms_norm":
        # mT5's checkpoints say rms_norm, and bert4keras' 'mt5.1.1' looks for that.
        variables = {n.replace("final_layer_norm", "rms_norm"): v for n, v in variables.items()}
        variables = {n.replace("layer_norm", "rms_norm"): v for n, v in variables.items()}
    words = dict(config)
    act = words["hidden_act"]
    # The one with erf is bert4keras' and Google's "gelu"; in a T5 the word would leave it open which one.
    if kind != "t5" and act == "gelu_erf":
        words["hidden_act"] = "gelu"
    write_json(os.path.join(path, "t5_config.json" if kind == "t5" else "bert_config.json"), words)
    write_tensorflow(os.path.join(path, "t5_model.ckpt" if kind == "t5" else "bert_model.ckpt"), variables)


def write_tensorflow(prefix, variables):
    """Write a TensorFlow checkpoint.

    Args:
        prefix: str, path without `.index`.
        variables: dict name -> array.

    Raises:
        OSError: a full disk and the like.
    """
    names = sorted(variables)
    with tf.Graph().as_default(), tf1.Session() as session:
        # Fed, since a graph with the weights as constants may not have more than 2 GB.
        feeds = [tf1.placeholder(variables[name].dtype, variables[name].shape) for name in names]
        save = tf.raw_ops.SaveV2(
            prefix=os.fsencode(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=feeds
        )
        try:
            session.run(save, {feed: variables[name] for feed, name in zip(feeds, names)})
        except tf.errors.OpError as error:
            # A full disk is an error of TensorFlow's own here, many lines long, with a temporary name.
            reason = error.message.splitlines()[0].split("; ")[-1]
            raise OSError("%s cannot be written: %s" % (os.path.basename(prefix), reason))


def _write_hf(path, kind, config, variables, extra):
    model_type = config.get("model_type")
    if kind == "t5":
        model_type = model_type if model_type in ("t5", "mt5") else "t5"
    elif kind == "bert" and model_type == "electra":
        model_type = "electra_generator"
    else:
        model_type = "bert" if kind == "roberta" else kind
    marked = [name[len(MARKS) :] for name in variables if name.startswith(MARKS)]
    if marked:
        raise WeightsError(
            "Hugging Face's library has no model with %s; save it as TensorFlow checkpoint" % ", ".join(marked)
        )
    theirs_of = hf_table(kind if kind == "t5" else model_type, config)
    unknown = [name for name in variables if name not in theirs_of]
    if unknown and extra == "error":
        raise WeightsError(
            "%d variables have no name in Hugging Face's %s, first of them %s; nothing was written. extra='ignore' "
            "leaves them out" % (len(unknown), model_type, ", ".join(unknown[:5]))
        )
    arrays = {}
    for name in variables:
        if name in theirs_of:
            theirs, turned = theirs_of[name]
            arrays[theirs] = variables[name].T if turned else variables[name]
    written = to_hf(config, model_type)
    if model_type == "roformer":
        size = config["hidden_size"] // config["num_attention_heads"]
        table = sinusoidal_table(written.setdefault("max_position_embeddings", 1536), size)
        arrays.setdefault("roformer.encoder.embed_positions.weight", table)
        written["rotary_value"] = False
    write_json(os.path.join(path, "config.json"), written)
    write_safetensors(os.path.join(path, "model.safetensors"), arrays)


def hf_table(kind, config):
    """Name in a TensorFlow checkpoint -> (Hugging Face's name, whether it is transposed).

    Raises:
        WeightsError: Hugging Face's library has no such model.
    """
    if kind not in ("bert", "albert", "electra", "electra_generator", "roformer", "t5"):
        raise WeightsError(
            "Hugging Face's library has no model of the kind %r; save it as TensorFlow checkpoint" % kind
        )
    if kind == "bert" and config.get("embedding_size", config["hidden_size"]) != config["hidden_size"]:
        raise WeightsError("Hugging Face's BERT has no embedding_size of its own; save it as TensorFlow checkpoint")
    return {ours: (theirs, turned) for theirs, (ours, turned) in hf_names(kind, config).items()}


def _write_vocabulary(path, tokenizer, kind):
    if hasattr(tokenizer, "sp_model"):
        with open(os.path.join(path, "spiece.model"), "wb") as handle:
            handle.write(tokenizer.sp_model.serialized_model_proto())
        settings = written_settings(tokenizer, kind)
        if settings:
            write_json(os.path.join(path, CONFIG), {OURS: settings})
        return
    tokens = sorted(tokenizer._token_dict, key=tokenizer._token_dict.get)
    if [tokenizer._token_dict[token] for token in tokens] != list(range(len(tokens))):
        raise WeightsError("the tokenizer's ids have gaps, so there is no vocab.txt that says the same")
    with open(os.path.join(path, "vocab.txt"), "w", encoding="utf-8") as handle:
        handle.writelines(token + "\n" for token in tokens)
    settings = written_settings(tokenizer, kind)
    config = {"do_lower_case": bool(tokenizer._do_lower_case)}
    write_json(os.path.join(path, CONFIG), dict(config, **({OURS: settings} if settings else {})))
