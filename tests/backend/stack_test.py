"""The backend: registration, seeds, and that nothing stays patched."""

import ast

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras import backend
from kexue_keras.backend import K, keras, widen

pytestmark = pytest.mark.all_stacks


def test_a_name_is_registered_once():
    def info_nce():
        pass

    info_nce.__module__ = "somewhere.else"
    with pytest.raises(ValueError, match="registered twice, by kexue_keras.losses._contrastive and by somewhere.else"):
        backend.register(info_nce)


def test_registered_by_base():
    losses = backend.registered(keras.losses.Loss)
    assert "FlatNCE" in losses and "GradientAccumulation" not in losses
    assert set(losses) < set(backend.registered())
    assert keras.utils.get_custom_objects()["FlatNCE"] is losses["FlatNCE"]


@pytest.mark.skipif(not backend.is_tf_keras, reason="Keras 2.3.1 has no AutoGraph")
def test_autograph_does_not_rewrite_what_is_registered(monkeypatch):
    from tensorflow.python.autograph.impl import api, conversion

    from kexue_keras.layers import SquarePlus

    class Other(SquarePlus):
        def call(self, inputs):
            return super(Other, self).call(inputs)

    module, name = (conversion, "convert") if hasattr(conversion, "convert") else (api, "_convert_actual")
    seen, convert = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda entity, *args: seen.append(entity) or convert(entity, *args))
    x = keras.layers.Input([3])
    SquarePlus()(x)
    assert seen == []
    Other()(x)  # a user's layer is rewritten as before, but not what it calls of ours
    assert [entity.__qualname__.split(".")[-2] for entity in seen if hasattr(entity, "__qualname__")] == ["Other"]


def test_seeds_make_everything_repeat():
    def draw():
        K.clear_session()
        backend.set_seed(2**33 + 5)
        return np.random.rand(), K.get_value(K.random_normal_variable((3,), 0.0, 1.0)).tolist()

    first = draw()
    assert first == draw()


def test_metric_objects_load_patches_nothing_for_good(tmp_path):
    before = keras.metrics.get
    with pytest.raises(RuntimeError):
        with backend.metric_objects_load():
            raise RuntimeError
    assert keras.metrics.get is before


def test_importing_the_package_patches_neither_keras_nor_bert4keras(run_python):
    said = run_python(
        """
import types
from bert4keras.backend import keras, K
import bert4keras.layers, bert4keras.models, bert4keras.optimizers, bert4keras.snippets

# A module that has put an object in its own place.
snippets = getattr(bert4keras.snippets, "module", bert4keras.snippets)

def functions():
    found = {}
    for module in (keras.metrics, keras.losses, keras.models, keras.layers, keras.optimizers, K, bert4keras.backend,
                   bert4keras.layers, bert4keras.models, bert4keras.optimizers, snippets):
        for name, value in vars(module).items():
            found[module.__name__, name] = value
            if isinstance(value, type):
                found.update(((module.__name__, name, key), member) for key, member in vars(value).items()
                             if isinstance(member, types.FunctionType))
    return found

before = functions()
import kexue_keras, kexue_keras.finetune._finetune
after = functions()
changed = [key for key in before if before[key] is not after.get(key)]
# What a class of another one's name has in it is no change of that class.
print([key for key in changed if key[:2] == key or key[:2] not in changed])
""",
        bare=True,
    )
    changed = set(ast.literal_eval(said.strip().splitlines()[-1]))
    assert changed == (what_tf2_changes() if backend.is_tf2 else set())


def what_tf2_changes():
    """All that backend/tf2.py says it changes in these modules, and no more."""
    modules = ("backend", "layers", "models", "optimizers", "snippets")
    optimizers = [name for name, value in vars(keras.optimizers.legacy).items() if isinstance(value, type)]
    return {("bert4keras." + module, "tf") for module in modules} | {
        (keras.optimizers.__name__, name) for name in optimizers
    }


def test_what_is_narrower_than_float32_is_widened():
    for dtype in ("float16", "int32", "bool", "uint8"):
        assert widen(np.ones(2, dtype)).dtype == tf.float32
    assert widen(tf.ones([2], tf.bfloat16)).dtype == tf.float32
    assert widen(np.ones(2)).dtype == tf.float64 and widen([1.0]).dtype == tf.float32
