"""ELECTRA is refused where a language model is wanted, also as a class."""

from functools import partial

import pytest
from bert4keras.models import BERT, ELECTRA, build_transformer_model, extend_with_unified_language_model
from helpers import tiny_bert_folder

from kexue_keras.analysis import output_layer
from kexue_keras.decoding import Generator
from kexue_keras.finetune import MaskedLanguageModel
from kexue_keras.models import extend_with_deepnorm, extend_with_recompute, guard_mlm, load, predict_at


def test_strings_classes_and_transformers():
    for fine in ("bert", BERT, "roformer", extend_with_recompute(BERT)):
        guard_mlm(fine)
    tiny = dict(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    transformer = build_transformer_model(
        model="electra", hidden_act="relu", max_position=8, return_keras_model=False, **tiny
    )
    for wrong in ("electra", "ELECTRA", ELECTRA, extend_with_unified_language_model(ELECTRA), transformer):
        with pytest.raises(ValueError, match="cannot be a UniLM: ELECTRA's discriminator tells replaced tokens"):
            guard_mlm(wrong, use="a UniLM")
    for use in (predict_at, output_layer, partial(Generator, end_id=3)):
        with pytest.raises(ValueError, match="cannot be a language model"):
            use(transformer)
    headed = build_transformer_model(
        model="electra", hidden_act="relu", max_position=8, with_discriminator=True, **tiny
    )
    for use in (guard_mlm, output_layer, partial(Generator, end_id=3)):
        with pytest.raises(ValueError, match="cannot be a language model"):
            use(headed)


@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_extended_classes_that_bert4keras_builds(application):
    tiny = dict(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    with pytest.raises(ValueError, match="cannot be a language model"):
        build_transformer_model(
            model=extend_with_deepnorm(ELECTRA), application=application, hidden_act="relu", max_position=8, **tiny
        )


@pytest.mark.parametrize(
    "build", [{"application": "lm"}, {"application": "unilm"}, {"with_mlm": True}, {"with_mlm": "linear"}]
)
@pytest.mark.parametrize("model", [{"model": ELECTRA}, {"kind": "electra"}])
def test_loading(tmp_path, build, model):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    with pytest.raises(ValueError, match="cannot be a language model"):
        load(folder, **build, **model)


def test_what_needs_a_head(tmp_path):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    with pytest.raises(ValueError, match="cannot be a language model"):
        MaskedLanguageModel(folder, max_length=8, kind="electra")
