"""Under tf.distribute, Keras trains copies of the graph: what would silently do nothing refuses, the rest counts."""

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras import losses, training
from kexue_keras.backend import K, is_tf_keras, keras
from kexue_keras.optimizers import AdamW
from kexue_keras.training import adversarial, gradient_cache, recompute

TECHNIQUES = {
    "FGM": adversarial.FGM,
    "GradientPenalty": adversarial.GradientPenalty,
    "VirtualAdversarial": adversarial.VirtualAdversarial,
}
TOKENS, LABELS = np.random.RandomState(0).randint(1, 9, (8, 4)), np.arange(8) % 2
tf_keras_only = pytest.mark.skipif(not is_tf_keras, reason="Keras 2.3.1 takes no notice of strategies")


def strategy():
    return tf.distribute.OneDeviceStrategy("/cpu:0")


def classifier():
    tokens = keras.layers.Input([4])
    h = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4)(tokens))
    h = keras.layers.Dropout(0.5)(h)
    return keras.models.Model(tokens, keras.layers.Dense(2, activation="softmax")(h))


def compile_model(model):
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")


@tf_keras_only
@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_what_changes_the_training_function_refuses(name):
    """Whether the model is compiled before, in the same scope, or afterwards."""
    message = name + " does not run under OneDeviceStrategy.*outside of strategy.scope"
    one_device = strategy()
    with one_device.scope():
        model = classifier()
        with pytest.raises(NotImplementedError, match=message):
            TECHNIQUES[name](model)
        compile_model(model)
        later = classifier()
    with pytest.raises(NotImplementedError, match=message):
        TECHNIQUES[name](model)
    TECHNIQUES[name](later)
    with pytest.raises(NotImplementedError, match=message):
        with one_device.scope():
            compile_model(later)


@tf_keras_only
def test_unlabelled_batches_and_optimizers_refuse():
    with strategy().scope():
        model = classifier()
        compile_model(model)
        vat = adversarial.VirtualAdversarial(model, optimizer=AdamW(0.1))
        model.compile(AdamW(0.1), "sparse_categorical_crossentropy")
    with pytest.raises(NotImplementedError, match="VirtualAdversarial does not run under OneDevice"):
        vat.train_on_batch(TOKENS)
    with pytest.raises(NotImplementedError, match="AdamW does not run under OneDevice"):
        model.fit(TOKENS, LABELS, verbose=0)


@pytest.mark.skipif(is_tf_keras, reason="tf.keras refuses")
def test_keras_trains_as_ever_within_a_scope():
    with strategy().scope():
        model = classifier()
        compile_model(model)
        adversarial.FGM(model)
        history = model.fit(TOKENS, LABELS, verbose=0).history
    assert history["loss"][0] > history["clean_loss"][0]


def fitted(make, loss, targets, scoped):
    """(loss, sums of the weights) of one step from fixed weights."""
    K.clear_session()
    scope = strategy().scope() if scoped else tf.name_scope("plain")
    with scope:
        model = make()
        model.compile(keras.optimizers.SGD(0.01), loss)
        rng = np.random.RandomState(1)
        model.set_weights([rng.randn(*w.shape) for w in model.get_weights()])
        history = model.fit(TOKENS, targets, batch_size=8, shuffle=False, verbose=0).history
        return [history["loss"][0]] + [w.sum() for w in model.get_weights()]


def cached():
    tokens = keras.layers.Input([4])
    h = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4)(tokens))
    dense = recompute.recompute(keras.layers.Dense(3, activation="softplus"))
    return gradient_cache.gradient_cache(keras.models.Model(tokens, dense(h)), chunk_size=2)


@tf_keras_only
def test_gradient_cache_and_recompute_give_the_same_and_rdrop_counts():
    targets = np.zeros([8, 1])
    plain, scoped = (fitted(cached, losses.InfoNCE(0.5, layout="two_view"), targets, s) for s in (False, True))
    np.testing.assert_allclose(scoped, plain, rtol=1e-5)
    # The cross-entropy alone is about 1.
    assert (
        fitted(
            lambda: training.rdrop(classifier()),
            losses.RDropCrossentropy(alpha=1000.0, from_logits=False),
            LABELS,
            True,
        )[0]
        > 20
    )
