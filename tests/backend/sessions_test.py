"""Predicting from other threads than the one that built the model, in several graphs, after Keras forgot the model."""

import gc
import threading
import types
import warnings
import weakref

import numpy as np
import pytest
import tensorflow as tf
from language_models import END, sources
from language_models import tiny as tiny_language_model

from kexue_keras.backend import K, ModelSession, is_tf2, keras, tf1
from kexue_keras.decoding import CachedDecoder, Generator
from kexue_keras.finetune import Classifier, load_seq2seq
from kexue_keras.finetune._masked_lm import MaskedLanguageModel
from kexue_keras.finetune.classification._heads import HEADS, build_classifier
from kexue_keras.models import load
from kexue_keras.prompting import PromptClassifier
from kexue_keras.similarity import SentenceEncoder, SimilarQuestions

TEXTS = ["我喜欢电影", "书店", "上国人来了在这", "好"]
THREADS = 8


def in_threads(function, number=THREADS):
    """Results of `function()` called by so many threads at the same moment; raises what any of them raises."""
    start, results, errors = threading.Barrier(number), [None] * number, []

    def call(i):
        start.wait()
        try:
            results[i] = function()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def encoder(folder):
    return lambda found=SentenceEncoder(folder, max_length=16, num_hidden_layers=1): found.encode(TEXTS, batch_size=2)


def index(folder):
    encoder = SentenceEncoder(folder, max_length=16, num_hidden_layers=1)
    corpus = encoder.index(TEXTS)
    return lambda: encoder.search(["书"], corpus, k=2)


def classifier(folder):
    pretrained = load(folder, num_hidden_layers=1)
    model = build_classifier(pretrained.model, 2, pooling="mean", dropout_rate=0.1, seed=0)
    options = types.SimpleNamespace(max_length=16, batch_size=2)
    found = Classifier(model, pretrained.tokenizer, ["a", "b"], HEADS["single"], options, pairs=False)
    return lambda: found.probabilities(TEXTS)


def generator(folder):
    model = tiny_language_model("bert", "unilm")
    found = Generator(model, end_id=END)
    return lambda: found.greedy([sources(3, 5)], max_length=4).scores


class Decoder(CachedDecoder):
    """As scripts write it: `predict` is called once, for comparison."""

    @CachedDecoder.wraps("probas")
    def predict(self, inputs, output_ids, states):
        tokens, segments = inputs
        tokens = np.concatenate([tokens, output_ids], 1)
        segments = np.concatenate([segments, np.ones_like(output_ids)], 1)
        return self.last_token(self.unilm).predict([tokens, segments])


def drop_in(folder):
    model = tiny_language_model("bert", "unilm").model
    found = Decoder(start_id=None, end_id=END, maxlen=4, model=model)
    found.unilm, source = model, sources(5)[0]
    return lambda: found.beam_search([source, [0] * 5], topk=2)


def seq2seq(folder):
    found = load_seq2seq(folder, max_source_length=16, max_target_length=4, num_hidden_layers=1)
    return lambda: found.generate(TEXTS, batch_size=2)


def questions(folder):
    found = SimilarQuestions(folder, max_length=8, missing="initialise", num_hidden_layers=1)
    return lambda: found.generate("我喜欢电影", n=4, k=4)


def prompt(folder):
    found = PromptClassifier(load(folder, with_mlm="linear", missing="initialise"), "{mask},{text}", WORDS, **PROMPT)
    found.allow_untrained_head = False  # measured by the first call
    return lambda: found.predict_proba(TEXTS * 8)


def masked_language_model(folder):
    found = MaskedLanguageModel(folder, max_length=16)
    return lambda: sorted(found.evaluate(TEXTS * 4).items())


WORDS, PROMPT = {"a": "好", "b": "差"}, {"max_length": 16, "allow_untrained_head": True}
SUBJECTS = [encoder, index, classifier, generator, drop_in, seq2seq, questions, prompt, masked_language_model]


def assert_same(found, expected):
    for one in found:
        if isinstance(expected, (list, str)):
            assert one == expected
        else:
            np.testing.assert_allclose(one, expected, atol=1e-6)


@pytest.mark.dear
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.__name__)
def test_eight_first_calls_at_once_give_what_the_main_thread_gets(tiny, subject):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predict = subject(tiny)
        found = in_threads(predict)
        assert_same(found, predict())


def test_a_model_that_is_trained_on_answers_all_threads_anew():
    model = keras.models.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    session, x = ModelSession(model), np.ones([4, 3])
    before = in_threads(lambda: session.predict_on_batch(model, x), 2)[0]
    model.compile("sgd", "mse")
    model.train_on_batch(x, np.ones([4, 2]))
    found = in_threads(lambda: session.predict_on_batch(model, x))
    assert_same(found, model.predict(x))
    assert not np.allclose(found[0], before)


def two_encoders(tiny):
    encoders = []
    for scale in (1, 2):
        with tf.Graph().as_default(), tf1.Session().as_default():
            encoders.append(SentenceEncoder(tiny, max_length=16, num_hidden_layers=1))
            model = encoders[-1].model
            model.set_weights([scale * w for w in model.get_weights()])
    return encoders


def test_two_models_in_two_graphs_side_by_side(tiny):
    encoders = two_encoders(tiny)
    found = in_threads(lambda: [one.encode(TEXTS) for one in encoders], 4)
    alone = [one.encode(TEXTS) for one in encoders]  # in neither graph
    assert not np.allclose(alone[0], alone[1], atol=1e-3)
    for both in found:
        np.testing.assert_allclose(both, alone, atol=1e-6)


@pytest.mark.all_stacks
def test_after_clear_session_by_another_part_all_goes_on(tiny):
    encoder, generate = SentenceEncoder(tiny, max_length=16, num_hidden_layers=1), generator(tiny)
    expected, scores = encoder.encode(TEXTS), generate()
    K.clear_session()
    if is_tf2:  # there Keras closes its session, and the weights are gone
        for predict in (lambda: encoder.encode(TEXTS), generate):
            with pytest.raises(RuntimeError, match="the session that holds the model's weights is closed"):
                predict()
        return
    other = SentenceEncoder(tiny, max_length=16, num_hidden_layers=1)
    assert_same([encoder.encode(TEXTS), other.encode(TEXTS)] + in_threads(lambda: encoder.encode(TEXTS), 2), expected)
    assert_same([generate()] + in_threads(generate, 2), scores)


def test_what_cannot_be_used_any_more_is_said(tiny):
    with tf.Graph().as_default():
        with tf1.Session() as session:
            encoder = SentenceEncoder(tiny, max_length=16, num_hidden_layers=1)
            generate = generator(tiny)
        assert session.graph is encoder.session.graph
    for predict in (lambda: encoder.encode(TEXTS), generate, lambda: in_threads(generate, 1)):
        with pytest.raises(RuntimeError, match="the session that holds the model's weights is closed"):
            predict()
    with tf.Graph().as_default():
        x = keras.layers.Input([3])
        model = keras.models.Model(x, keras.layers.Dense(2)(x))
    with pytest.raises(RuntimeError, match="no session is known for the graph in which the model was built"):
        ModelSession(model).predict_on_batch(model, np.ones([1, 3]))


def test_a_session_of_the_threads_own_is_kept():
    x = keras.layers.Input([3])
    model = keras.models.Model(x, keras.layers.Dense(2, use_bias=False)(x))
    session = ModelSession(model)
    before = session.predict_on_batch(model, np.ones([1, 3]))
    with tf1.Session() as other, other.as_default():
        model.set_weights([np.zeros([3, 2])])
        assert not session.predict_on_batch(model, np.ones([1, 3])).any()
        # Others follow: it is the one that was used last.
        assert not in_threads(lambda: session.predict_on_batch(model, np.ones([1, 3])), 1)[0].any()
    assert_same([session.predict_on_batch(model, np.ones([1, 3]))], before)


def test_nothing_is_kept_alive():
    x = keras.layers.Input([3])
    model = keras.models.Model(x, keras.layers.Dense(2)(x))
    session = ModelSession(model)
    session.predict_on_batch(model, np.ones([1, 3]))
    with session.entered() as inner:
        inner = weakref.ref(inner)
    K.clear_session()
    assert inner() is not None
    del session, model, x
    gc.collect()
    assert inner() is None
