"""ELECTRA is refused where a language model is wanted, also as a class."""

import pytest
from bert4keras.models import BERT, ELECTRA, build_transformer_model, extend_with_unified_language_model
from helpers import tiny_bert_folder

from kexue_keras.finetune import MaskedLanguageModel
from kexue_keras.models import extend_with_recompute, guard_mlm, load, predict_at


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
    with pytest.raises(ValueError, match="cannot be a language model"):
        predict_at(transformer)


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
