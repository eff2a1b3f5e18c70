"""A length that the model has no positions for is refused where it is given, by the name of the argument."""

import re
import types
import warnings

import numpy as np
import pytest
from prompts import PATTERN, WORDS, tiny_mlm

from kexue_keras.errors import UserError
from kexue_keras.finetune import Classifier
from kexue_keras.finetune._masked_lm import MaskedLanguageModel
from kexue_keras.finetune._sentence_bert import PairSet
from kexue_keras.finetune._seq2seq import Seq2Seq
from kexue_keras.finetune._simbert import SimBERT
from kexue_keras.finetune.classification._heads import HEADS
from kexue_keras.models import load
from kexue_keras.models._lengths import checked_max_length, positions_of
from kexue_keras.prompting import PromptClassifier
from kexue_keras.similarity import SentenceEncoder, SimilarQuestions

NONE = [0, -3, 1, 2.5, 64.0, "64", None, True, float("nan"), float("inf")]


@pytest.mark.parametrize("max_length", NONE, ids=repr)
def test_what_is_no_length(max_length):
    with pytest.raises(
        ValueError, match="^the model: max_length must be an? .*, but is %s" % re.escape(repr(max_length))
    ):
        checked_max_length(max_length, 64, name="max_length")
    assert checked_max_length(np.int64(5), 64) == 5


def test_every_constructor_names_its_argument(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pretrained = load(
            tiny, application="unilm", with_mlm="linear", with_pool="linear", missing="initialise", num_hidden_layers=1
        )
        mlm = tiny_mlm()
        mlm_trainer = types.SimpleNamespace(tokenizer=mlm.tokenizer, max_length=8)
        makers = [
            ("max_length is 65, but .* 64", lambda n: SentenceEncoder(pretrained, pooling="cls", max_length=n), 65, 64),
            (
                "max_length is 33, but .* has 64 positions, and a row has up to 65 tokens; give at most 32",
                lambda n: SimilarQuestions(pretrained, max_length=n),
                33,
                32,
            ),
            (
                "max_length is 65, but tiny has 64",
                lambda n: PromptClassifier(mlm, PATTERN, WORDS, max_length=n),
                65,
                64,
            ),
            (
                "max_length is 65, but",
                lambda n: MaskedLanguageModel(tiny, max_length=n, num_hidden_layers=1),
                65,
                64,
            ),
            (
                "max_length is 33, but .*; give at most 32",
                lambda n: SimBERT(tiny, max_length=n, num_hidden_layers=1),
                33,
                32,
            ),
            (
                "max_source_length must be an int, but is '9'",
                lambda n: Seq2Seq(pretrained, max_source_length=n, max_target_length=8),
                "9",
                9,
            ),
            (
                "max_target_length must be a whole number >= 1, but is 0",
                lambda n: Seq2Seq(pretrained, max_source_length=8, max_target_length=n),
                0,
                1,
            ),
        ]
        for message, make, wrong, right in makers:
            with pytest.raises(ValueError, match=message):
                make(wrong)
            if make is not makers[3][1] and make is not makers[4][1]:
                make(right)
        encoder = makers[0][1](64)
        long = "我喜欢电影" * 20
        # The longest text that is accepted can be computed, the longest pair of text and question too.
        assert np.isfinite(encoder.encode([long])).all()
        assert isinstance(makers[1][1](32).generate(long, n=2, seed=1), list)
        for change in (lambda: encoder.encode(["好"], max_length=65), lambda: setattr(encoder, "max_length", 65)):
            with pytest.raises(ValueError, match="is 65, but"):
                change()
        # One text where a list belongs is not a list of characters.
        prompt, writer = makers[2][1](64), makers[5][1](9)
        prompt.allow_untrained_head = True
        pair_set = [("好", "书"), ("很", "差")]
        for wrong in (
            lambda: encoder.encode("好书"),
            lambda: encoder.similarity("好书", ["好", "书"]),
            lambda: encoder.search("好书", ["好"]),
            lambda: encoder.search(["好"], "好书"),
            lambda: encoder.fit_whitening("好书好"),
            lambda: prompt.predict("好书"),
            lambda: prompt.predict_proba("好书"),
            lambda: prompt.check_head("好书"),
            lambda: prompt.fit([("好", "好评")], "好书"),
            lambda: writer.generate("好书"),
            lambda: writer.encode_pairs(["好书"]),
            lambda: PairSet(["好书"], [1]),
            lambda: MaskedLanguageModel.train(mlm_trainer, "好书", steps=1),
            lambda: SimBERT.train(None, ["好书", "很差"], steps=1),
            lambda: SimBERT.train(None, pair_set + [["好", "坏\ud83d"]], steps=1),
            lambda: makers[1][1](32).generate("坏\ud83d"),
        ):
            with pytest.raises(ValueError, match="is one str; give a list|half of a surrogate pair|is '好书'; a pair"):
                wrong()
        options = types.SimpleNamespace(max_length=65, batch_size=2)
        with pytest.raises(UserError, match="--max-length is 65, but the model has 64 positions"):
            Classifier(pretrained.model, pretrained.tokenizer, ["a", "b"], HEADS["single"], options, False)


def test_positions_of_models_without_a_table_and_hierarchical_ones(tiny):
    assert positions_of(load(tiny, num_hidden_layers=1, hierarchical_position=True).bert) == 64 * 64
    assert positions_of(types.SimpleNamespace(layers=[])) is None
