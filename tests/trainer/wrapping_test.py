"""What becomes of a model when the techniques are laid round it, and what is said of it."""

import numpy as np
import pytest

from kexue_keras.backend import keras
from kexue_keras.errors import UserError
from kexue_keras.optimizers import AdamW
from kexue_keras.trainer import Techniques, _wrapping, wrapped
from kexue_keras.training.precision._fp16_lint import Finding


def test_what_half_precision_cannot_hold_is_told(monkeypatch):
    found = Finding("layer", "node", 1e-12, "underflow", ("Add",), True, "write 1e-7")
    monkeypatch.setattr(_wrapping, "fp16_lint", lambda model: [found, found._replace(half=False)])
    said = []
    _wrapping.say_half(None, said.append)
    assert said == ["note: half precision cannot hold a constant of the model: %s" % str(found)]


@pytest.mark.all_stacks
def test_weissi_pulls_at_the_kernels_and_stays_with_the_training(rng):
    x, y = rng.randn(6, 5).astype("float32"), rng.randn(6, 2).astype("float32")
    inputs = [keras.layers.Input((3,)), keras.layers.Input((2,))]
    hidden = keras.layers.Dense(4, name="hidden")(keras.layers.Concatenate()(inputs))
    model = keras.models.Model(inputs, keras.layers.Dense(2, name="out")(hidden))
    start = model.get_weights()

    def moved(weissi):
        model.set_weights(start)
        how = dict(loss="mse", optimizer=keras.optimizers.SGD(0.1), techniques=Techniques(weissi=weissi), steps=1)
        with wrapped(model, lambda step: None, **how) as ready:
            ready.model.train_on_batch([x[:, :3], x[:, 3:]], y)
            assert len(ready.model.losses) == (weissi > 0)
        return model.get_weights()

    for with_it, without, w in zip(moved(0.5), moved(0.0), start):
        # lambda d log |W| / dW = lambda W / |W|^2
        force = 0.5 * w / np.sum(w.astype("float64") ** 2) if w.ndim > 1 else 0
        np.testing.assert_allclose(without - with_it, 0.1 * force, atol=1e-6)
    assert not model.losses


def test_weissi_does_not_lose_the_losses_of_a_model():
    x = keras.layers.Input((3,))
    model = keras.models.Model(x, keras.layers.Dense(2)(x))
    model.add_loss(keras.backend.mean(model.output))
    how = dict(loss="mse", optimizer=AdamW(), techniques=Techniques(weissi=0.5), steps=1)
    with pytest.raises(UserError, match="weissi does not go with losses that are added with model.add_loss"):
        with wrapped(model, None, **how):
            pass


def test_weissi_needs_a_kernel_that_is_trained():
    model = keras.models.Sequential([keras.layers.Dense(2, input_shape=(3,), trainable=False)])
    how = dict(loss="mse", optimizer=AdamW(), techniques=Techniques(weissi=0.5), steps=1)
    with pytest.raises(UserError, match="weissi: no kernel is left"):
        with wrapped(model, None, **how):
            pass
