"""What the tests of prompts share: a tiny masked language model whose vocabulary has [unused1] and [unused2]."""

from bert4keras.models import build_transformer_model
from bert4keras.tokenizers import Tokenizer
from helpers import tiny_config, tiny_vocabulary

from kexue_keras.models import PretrainedModel

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
