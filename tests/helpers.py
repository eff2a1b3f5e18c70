"""Tiny models for tests: real bert4keras classes, hidden 16, 2 layers."""

import atexit
import json
import os
import shutil
import tempfile

import numpy as np
from bert4keras.models import build_transformer_model

from kexue_keras.backend import K, is_tf_keras, tf1

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_act": "gelu",
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
CHARACTERS = "的一是不了人我在有他这中大来上国好坏很差快慢店书房服务电影看买喜欢讨厌推荐"


def tiny_vocabulary():
    """Tokens of the tiny models: the special ones, then a few characters and letters."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return special + sorted(set(CHARACTERS)) + list("abcdefgh,.!?")


def tiny_config(**changes):
    """Configuration of a tiny BERT; `changes` override single entries."""
    return dict(TINY, vocab_size=len(tiny_vocabulary()), **changes)


def tiny_bert_folder(path, kind="bert", **changes):
    """Write a model folder like the published ones: bert_config.json, vocab.txt, a TensorFlow checkpoint.

    Made once a process for each kind, then copied: building takes seconds.
    """
    key = (kind, json.dumps(changes, sort_keys=True))
    if key not in _folders:
        _folders[key] = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, _folders[key], ignore_errors=True)
        _write_bert_folder(_folders[key], kind, changes)
    os.makedirs(str(path), exist_ok=True)
    for name in os.listdir(_folders[key]):
        shutil.copy(os.path.join(_folders[key], name), str(path))
    return str(path)


_folders = {}


def _write_bert_folder(path, kind, changes):
    config = tiny_config(**changes)
    if kind == "nezha":
        config["use_relative_position"] = True
    with open(os.path.join(path, "bert_config.json"), "w", encoding="utf-8") as handle:
        json.dump(config, handle)
    with open(os.path.join(path, "vocab.txt"), "w", encoding="utf-8") as handle:
        handle.write("\n".join(tiny_vocabulary()) + "\n")
    # The same weights whichever test comes first; Keras 2.3.1 draws the seeds of its initializers from numpy.
    state = np.random.get_state()
    np.random.seed(2021)
    with tf1.Graph().as_default(), tf1.Session():
        tf1.set_random_seed(2021)
        bert = build_transformer_model(config_path=None, model=kind, return_keras_model=False, **config)
        # bert4keras opens another graph before it reads the weights, so the session must exist by then.
        K.batch_get_value(bert.model.weights)
        bert.save_weights_as_checkpoint(os.path.join(path, "bert_model.ckpt"))
    np.random.set_state(state)


def plain_session():
    """Session settings without graph optimization, which takes a third of the time where a graph runs a few times.

    One thread starts the operations, a sixteenth of the time, but for Keras 2.3.1: that updates of a step wait for what
    they read shows only where operations run side by side, and there it is our code alone that orders them.
    """
    config = tf1.ConfigProto(allow_soft_placement=True)
    if is_tf_keras:
        config.inter_op_parallelism_threads = 1
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = tf1.OptimizerOptions.L0
    return config
