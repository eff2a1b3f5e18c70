"""ELECTRA's pretraining: draws, losses against numpy, gradients, shared embeddings, saved discriminators."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.models import BERT, build_transformer_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp

from kexue_keras.backend import K, get_session, keras, set_seed
from kexue_keras.errors import WeightsError
from kexue_keras.losses import constant_guess_loss
from kexue_keras.models import ElectraPretraining, build_electra_generator
from kexue_keras.models.electra._layers import SampledReplacement

TINY = dict(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=24,
    hidden_act="gelu",
    max_position=12,
    return_keras_model=False,
)
TOKENS = np.array([[2, 11, 12, 13, 14, 15, 3], [2, 16, 17, 18, 3, 0, 0]])


def make(size=0.5, discriminator=None, **options):
    discriminator = discriminator or build_transformer_model(model="electra", with_discriminator="linear", **TINY)
    return ElectraPretraining(build_electra_generator(discriminator, size=size), discriminator, **options)


def batch(electra, seed=0, tokens=TOKENS):
    return electra.make_batch(tokens, 0 * tokens, np.random.RandomState(seed), mask_id=4, protected=[2, 3])


def test_batches_hide_what_may_be_hidden():
    electra = make(mask_rate=0.5)
    shown, segments, places, originals = batch(electra, tokens=np.tile(TOKENS, [200, 1]))
    tokens = np.tile(TOKENS, [200, 1])
    changed = shown != tokens
    assert (shown[changed] == 4).all() and not np.isin(tokens[changed], [0, 2, 3]).any()
    assert 0.46 < changed.sum() / np.isin(tokens, [0, 2, 3], invert=True).sum() < 0.54
    for row, (at, words) in enumerate(zip(places, originals)):
        assert sorted(at[words > 0]) == np.flatnonzero(changed[row]).tolist()
        assert (tokens[row, at[words > 0]] == words[words > 0]).all()


def test_draws_have_the_softmax_as_their_distribution():
    p = np.array([0.1, 0.2, 0.3, 0.4])
    shape = [2000, 5, 4]
    inputs = [np.zeros([2000, 5]), np.tile(np.arange(5), [2000, 1]), np.ones([2000, 5])]
    for temperature, expected in ((1.0, p), (0.5, p**2 / (p**2).sum())):
        tensors = [K.constant(x) for x in inputs + [np.broadcast_to(np.log(p), shape)]]
        tokens, replaced = get_session().run(SampledReplacement(temperature)(tensors))
        np.testing.assert_allclose(np.bincount(tokens.ravel(), minlength=4) / 10000, expected, atol=0.02)
        np.testing.assert_array_equal(replaced, tokens != 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from(["float32", "float16"]))
def test_only_hidden_places_change(seed, dtype):
    rng = np.random.RandomState(seed)
    tokens = rng.randint(1, 9, [3, 6])
    places = np.array([rng.permutation(6)[:3] for _ in range(3)])
    originals = rng.randint(0, 9, [3, 3])  # 0 is padding
    given_ = [K.constant(x) for x in (tokens, places, originals)] + [K.constant(rng.randn(3, 3, 9), dtype=dtype)]
    seen, replaced = get_session().run(SampledReplacement()(given_))
    hidden = np.zeros_like(tokens)
    np.put_along_axis(hidden, places, originals, 1)
    np.testing.assert_array_equal(seen[hidden == 0], tokens[hidden == 0])
    np.testing.assert_array_equal(replaced, (hidden > 0) & (seen != hidden))


def test_the_loss_is_that_of_the_paper_and_its_parts_are_evaluated():
    set_seed(1)
    electra = make(mask_rate=0.4, disc_weight=7.0, temperature=1e-4)  # draws are the likeliest token
    electra.training_model.compile("sgd")
    inputs = batch(electra, seed=3)
    generated, seen, replaced, found = (np.asarray(x) for x in electra._looked_at.predict_on_batch(inputs))
    shown, _, places, originals = inputs
    real = originals > 0
    words = -log_softmax(generated.astype("float64"), axis=-1)[real][np.arange(real.sum()), originals[real]]
    expected = np.array(shown)
    for row, column in zip(*np.nonzero(real)):
        expected[row, places[row, column]] = generated[row, column].argmax()
    np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(replaced, expected != TOKENS)
    z, y = found[..., 0].astype("float64"), replaced
    binary = (logsumexp([0 * z, z], axis=0) - y * z)[TOKENS != 0]
    loss = words.mean() + 7 * binary.mean()
    assert float(electra.training_model.test_on_batch(inputs, None)) == pytest.approx(loss, rel=1e-5)
    scores = electra.evaluate([inputs, inputs])
    assert scores["generator_loss"] == pytest.approx(words.mean(), rel=1e-5)
    assert scores["discriminator_loss"] == pytest.approx(binary.mean(), rel=1e-5)
    assert scores["replaced"] == pytest.approx(replaced.sum() / (TOKENS != 0).sum())
    p = scores["replaced"]
    assert scores["constant_guess"] == pytest.approx(-p * np.log(p) - (1 - p) * np.log(1 - p))
    assert scores["generator_accuracy"] == scores["sampled_accuracy"] == 1 - replaced.sum() / real.sum()


def test_what_a_constant_guess_gets():
    np.testing.assert_allclose(constant_guess_loss([0, 0.5, 0.9]), [0.42271, 0.26638, 0.07788], atol=5e-6)
    assert constant_guess_loss(1.0) == 0 and constant_guess_loss(0, 0.5) == pytest.approx(np.log(2))
    for accuracy, rate in ((1.1, 0.15), (-0.1, 0.15), (0.5, 1.5), (float("nan"), 0.15)):
        with pytest.raises(ValueError, match="both are shares between 0 and 1"):
            constant_guess_loss(accuracy, rate)


def test_no_gradient_of_the_discriminator_reaches_the_generator_but_by_the_embeddings():
    set_seed(1)
    electra = make(mask_rate=0.4, disc_weight=1e4)
    discriminator, generator = electra.discriminator, electra.generator
    embedding = discriminator.layers["Embedding-Token"]
    assert generator.layers["Generator-Embedding-Token"] is embedding
    assert generator.hidden_size == 8 and generator.num_attention_heads == 2
    words_only = ElectraPretraining(generator, discriminator, mask_rate=0.4, disc_weight=0)
    body = generator.layers["Generator-Transformer-0-FeedForward"].trainable_weights
    gradients = []
    for part in (electra, words_only):
        part.training_model.compile("sgd")
        # The bias of the head is no embedding either.
        wanted = body + generator.layers["Generator-MLM-Bias"].trainable_weights + embedding.trainable_weights
        tensors = [tf.convert_to_tensor(x) for x in K.gradients(part.training_model.total_loss, wanted)]
        found = K.function(part.training_model.inputs + [K.learning_phase()], tensors)(batch(electra) + [0])
        gradients.append(found)
    for one, other in zip(gradients[0][:-1], gradients[1][:-1]):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(gradients[0][-1] - gradients[1][-1]).max() > 1


def test_learns_and_the_discriminator_is_kept(tmp_path):
    set_seed(2)
    electra = make(mask_rate=0.4)
    electra.training_model.compile(keras.optimizers.Adam(1e-2))
    inputs = batch(electra, seed=3)
    losses = [float(electra.training_model.train_on_batch(inputs, None)) for _ in range(60)]
    scores = electra.evaluate([inputs])
    assert losses[-1] < losses[0] / 4 and scores["generator_loss"] < 0.5
    path = str(tmp_path / "electra.ckpt")
    electra.discriminator.save_weights_as_checkpoint(path)
    states = np.asarray(electra.discriminator.model.predict([TOKENS, 0 * TOKENS]))
    K.clear_session()
    again = build_transformer_model(model="electra", with_discriminator="linear", **TINY)
    again.load_weights_from_checkpoint(path)
    np.testing.assert_allclose(again.model.predict([TOKENS, 0 * TOKENS]), states, atol=1e-5)


def test_refusals():
    small = dict(TINY, num_hidden_layers=1)
    bert = build_transformer_model(model="bert", with_mlm="linear", **small)
    electra = build_transformer_model(model="electra", with_discriminator="linear", **small)
    with pytest.raises(ValueError, match="a bert4keras ELECTRA with with_discriminator='linear' is needed"):
        ElectraPretraining(bert, bert)
    with pytest.raises(ValueError, match="is needed"):
        ElectraPretraining(bert, build_transformer_model(model="electra", **small))
    with pytest.raises(ValueError, match="ends in 'sigmoid'"):
        ElectraPretraining(bert, build_transformer_model(model="electra", with_discriminator=True, **small))
    with pytest.raises(WeightsError, match="no head for masked language modelling"):
        ElectraPretraining(build_transformer_model(model="bert", **small), electra)
    other = build_transformer_model(model=BERT, with_mlm="linear", **dict(small, vocab_size=31))
    with pytest.raises(ValueError, match="vocab_size is 31 in the generator and 30 in the discriminator"):
        ElectraPretraining(other, electra)
    for options, word in (
        ({"mask_rate": 0}, "mask_rate"),
        ({"disc_weight": -1}, "disc_weight"),
        ({"temperature": 0}, "temp"),
    ):
        with pytest.raises(ValueError, match=word):
            ElectraPretraining(bert, electra, **options)
    for size in (0, 1.5, -1):
        with pytest.raises(ValueError, match="size"):
            build_electra_generator(electra, size=size)
    fine = ElectraPretraining(bert, electra)
    with pytest.raises(ValueError, match="nothing is hidden"):
        fine.evaluate([])
