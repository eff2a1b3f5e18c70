"""What the tests of prompts share: tiny language models whose vocabulary has [unused1] and [unused2]."""

import numpy as np
from bert4keras.models import build_transformer_model
from bert4keras.tokenizers import Tokenizer
from helpers import tiny_config, tiny_vocabulary

from kexue_keras.checkpoints import PretrainedModel

PATTERN = "{mask}喜欢。{text}"
WORDS = {"差评": "不", "好评": "很"}
VOCABULARY = tiny_vocabulary() + ["[unused1]", "[unused2]", "。", "##b", "满", "意"]


def tokenizer():
    """bert4keras tokenizer of `VOCABULARY`."""
    return Tokenizer({token: i for i, token in enumerate(VOCABULARY)}, do_lower_case=True)


def tiny_mlm(**changes):
    """`PretrainedModel` with one layer and a random head."""
    config = dict(tiny_config(num_hidden_layers=1), vocab_size=len(VOCABULARY), **changes)
    bert = build_transformer_model(
        config_path=None, model="bert", with_mlm="linear", return_keras_model=False, **config
    )
    return PretrainedModel("tiny", "bert", bert, tokenizer(), config)


# name -> (kind, application) of models that read left to right
CAUSAL = {
    "gpt": ("gpt", "encoder"),
    "gpt2": ("gpt2", "encoder"),
    "gpt2_ml": ("gpt2_ml", "encoder"),
    "lm": ("bert", "lm"),
    "unilm": ("bert", "unilm"),
}
CAUSAL_CONFIG = dict(
    tiny_config(num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    vocab_size=len(VOCABULARY),
)


def tiny_lm(name="gpt2", seed=0):
    """`PretrainedModel` of `CAUSAL` with one layer and weights so large that its choices are clear."""
    kind, application = CAUSAL[name]
    options = {} if "gpt" in kind else {"with_mlm": "linear"}
    transformer = build_transformer_model(
        model=kind, application=application, return_keras_model=False, **dict(CAUSAL_CONFIG, **options)
    )
    rng = np.random.RandomState(seed)
    values = [w + (0.3 if w.ndim > 1 else 0.1) * rng.randn(*w.shape) for w in transformer.model.get_weights()]
    transformer.model.set_weights(values)
    return PretrainedModel("tiny " + name, kind, transformer, tokenizer(), CAUSAL_CONFIG)
