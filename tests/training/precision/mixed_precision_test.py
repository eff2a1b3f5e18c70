"""Turning mixed precision on in time and off again, masks, epsilons, and the technique in fine-tuning."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.layers import LayerNormalization
from helpers import CHARACTERS, tiny_bert_folder

from kexue_keras import backend
from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.errors import UserError
from kexue_keras.finetune import _report as report
from kexue_keras.finetune import finetune
from kexue_keras.optimizers import AdamW
from kexue_keras.optimizers._inner import chain
from kexue_keras.trainer import Trainer
from kexue_keras.training.precision import LossScale
from kexue_keras.training.precision import _mixed_precision as precision
from kexue_keras.training.precision import enable_mixed_precision, layer_norm_epsilon, mask_value

# Half precision is made where graphs are rewritten.
pytestmark = pytest.mark.optimized_sessions
ON, DEFAULT = 1, 0  # RewriterConfig.Toggle


def rewriting():
    """What the session in which Keras runs now was told."""
    return get_session()._config.graph_options.rewrite_options.auto_mixed_precision


@pytest.fixture
def quiet(recwarn):
    """No session yet, as right after the imports, and no warning that there is no GPU."""
    K.clear_session()


def test_sessions_rewrite_while_it_is_on_and_not_afterwards(quiet):
    amp = enable_mixed_precision(512)
    assert backend.is_mixed_precision_on() and amp.is_enabled
    assert rewriting() == ON
    # A session with settings of its own, as users make them for memory growth.
    with tf1.Session(config=tf1.ConfigProto(allow_soft_placement=True)) as session:
        assert session._config.graph_options.rewrite_options.auto_mixed_precision == ON
    amp.disable()
    amp.disable()
    assert not backend.is_mixed_precision_on() and not amp.is_enabled
    K.clear_session()
    assert rewriting() == DEFAULT
    optimizer = amp.scale(AdamW(1e-3))
    assert isinstance(optimizer, LossScale) and optimizer.scale == 512


def test_nothing_is_left_behind_after_an_exception(quiet):
    with pytest.raises(KeyError):
        with enable_mixed_precision("dynamic"):
            assert backend.is_mixed_precision_on()
            raise KeyError("anything")
    assert not backend.is_mixed_precision_on()
    with pytest.raises(ValueError, match="scale must be a number > 0, but is 0; .*'dynamic'"):
        enable_mixed_precision(0)
    assert not backend.is_mixed_precision_on()
    # Nested, the inner one leaves it as it found it.
    with enable_mixed_precision():
        with enable_mixed_precision(None) as inner:
            plain = AdamW(1e-3)
            assert inner.scale(plain) is plain
        assert backend.is_mixed_precision_on()


def test_too_late_is_said_and_a_cleared_session_is_in_time(quiet):
    get_session()
    with pytest.raises(RuntimeError, match="too late.*session exists already.*right after the imports"):
        enable_mixed_precision()
    assert not backend.is_mixed_precision_on()
    K.clear_session()
    with enable_mixed_precision():
        pass
    with tf1.Session(), pytest.raises(RuntimeError, match="too late"):
        enable_mixed_precision()


def test_without_a_gpu_you_are_warned():
    K.clear_session()
    with pytest.warns(UserWarning, match="no GPU here"):
        enable_mixed_precision().disable()


def test_nvidias_images_have_their_own_switch(monkeypatch, quiet):
    monkeypatch.setenv("NVIDIA_TENSORFLOW_VERSION", "21.09-tf1")
    monkeypatch.delenv(precision.NVIDIA_SWITCH, raising=False)
    monkeypatch.setattr(backend, "sessions_created", lambda: 0)
    assert backend.nvidia_release() == "21.09-tf1"
    with enable_mixed_precision():
        assert backend.environment_variable(precision.NVIDIA_SWITCH) == "1"
        assert backend.is_mixed_precision_on() and mask_value("float32") == -1e4
    assert backend.environment_variable(precision.NVIDIA_SWITCH) == ""
    monkeypatch.setattr(backend, "sessions_created", lambda: 3)
    with pytest.raises(RuntimeError, match="too late.*in a fresh process"):
        enable_mixed_precision()


def test_a_keras_policy_is_refused(monkeypatch, quiet):
    from tensorflow.python.training.experimental import mixed_precision_global_state as state

    if hasattr(state, "is_using_mixed_precision_policy"):  # TensorFlow 2
        monkeypatch.setattr(state, "is_using_mixed_precision_policy", lambda: True)
    else:
        monkeypatch.setattr(state, "using_default_mixed_precision_policy", False)
    with pytest.raises(RuntimeError, match="policy"):
        enable_mixed_precision()
    assert not backend.is_mixed_precision_on()


def test_training_under_it_equals_training_without(rng, quiet):
    # Without a GPU nothing turns half, so all that may differ is the rounding of the loss scale.
    x, y, weights = rng.randn(8, 4), rng.randint(0, 3, 8), []
    for on in (False, True):
        K.clear_session()
        backend.set_seed(5)
        with enable_mixed_precision(1000.0 if on else None) as amp:
            model = keras.models.Sequential([keras.layers.Dense(3, input_shape=(4,), activation="softmax")])
            model.compile(amp.scale(AdamW(0.05)), "sparse_categorical_crossentropy")
            losses = [model.train_on_batch(x, y) for _ in range(5)]
            weights.append(model.get_weights() + [losses])
    for a, b in zip(*weights):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_mask_values(quiet):
    assert mask_value(tf.float16) == mask_value(np.zeros(1, "float16")) == -1e4
    assert mask_value() == mask_value(K.constant(0.0)) == mask_value(K.variable(0.0)) == mask_value("float64") == -1e12
    assert mask_value(tf.bfloat16) == -1e12
    K.clear_session()
    with enable_mixed_precision():
        assert mask_value() == -1e4 and mask_value("float64") == -1e12
    for dtype in ("float16", "float32"):
        value = np.array(mask_value(dtype), dtype)
        # Finite, so that a product with 0 is 0, and nothing of it is left after exp.
        assert np.isfinite(value) and value * np.array(0, dtype) == 0 and np.exp(value) == 0
    with pytest.raises(ValueError, match="int32"):
        mask_value("int32")


def test_layer_norm_epsilon_is_put_back_and_saved():
    before = LayerNormalization.__init__
    with pytest.raises(KeyError):
        with layer_norm_epsilon(1e-5):
            assert LayerNormalization(epsilon=1e-3).epsilon == 1e-3
            layer = LayerNormalization(epsilon=1e-12)
            raise KeyError("anything")
    assert LayerNormalization.__init__ is before
    assert LayerNormalization.from_config(layer.get_config()).epsilon == 1e-5
    with pytest.raises(ValueError, match="least is 1e-12"):
        with layer_norm_epsilon(1e-12):
            pass


# In fine-tuning


@pytest.fixture
def files(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(report, "draw_confusion", lambda *args: True)
    monkeypatch.setattr(report, "draw_curves", lambda *args: True)
    paths = [tiny_bert_folder(tmp_path / "model", num_hidden_layers=1)]
    for name, rows in (("train", 14), ("valid", 6)):
        path = tmp_path / (name + ".tsv")
        texts = ["".join(rng.choice(list(CHARACTERS), 5 + i % 5)) for i in range(rows)]
        path.write_text("text\tlabel\n" + "".join("%s\t%s\n" % (t, "ab"[i % 2]) for i, t in enumerate(texts)))
        paths.append(str(path))
    K.clear_session()
    return paths


def run(files, out, said=None, **options):
    settings = dict(epochs=1, batch_size=4, max_length=16, learning_rate=1e-2, seed=3, quiet=said is None)
    settings.update(options)
    return finetune(files[0], files[1], str(out), valid=files[2], say=([] if said is None else said).append, **settings)


def test_finetune_goes_on_where_it_stopped_and_leaves_nothing_on(files, tmp_path, monkeypatch):
    options = dict(mixed_precision="dynamic", accumulate=2, num_hidden_layers=1, warmup=0.0, save_every=1)

    class Killed(Exception):
        pass

    optimizers, stop, step_of = [], [3], Trainer._train_on_batch

    def train_on_batch(trainer, step, made):
        optimizers.append(trainer.model.optimizer)
        if step in stop:
            raise Killed
        return step_of(trainer, step, made)

    monkeypatch.setattr(Trainer, "_train_on_batch", train_on_batch)
    with pytest.raises(Killed):
        run(files, tmp_path / "run", **options)
    names = [type(o).__name__ for o in chain(optimizers[0])]
    assert names[:2] == ["LossScale", "GradientAccumulation"]
    assert not backend.is_mixed_precision_on()
    K.clear_session()
    said = []
    stop.clear()
    metrics = run(files, tmp_path / "run", said, resume=True, **options)
    assert any("resuming after epoch 0, batch 3" in line for line in said)
    assert any("no GPU" in line for line in said)
    # Three steps before and one after it, all of them good.
    optimizer = optimizers[-1]
    assert K.get_value(optimizer.state("good_in_a_row")) == 4 and K.get_value(optimizer.skipped) == 0
    assert K.get_value(optimizer.iterations) == 2 and np.isfinite(metrics["valid"]["loss"])
    assert not backend.is_mixed_precision_on()
    K.clear_session()
    get_session()
    with pytest.raises(UserError, match="--mixed-precision: too late"):
        run(files, tmp_path / "late", mixed_precision=1000.0)
    with pytest.raises(UserError, match="--mixed-precision: .*scale must be a number > 0, but is -1"):
        run(files, tmp_path / "late", mixed_precision=-1)
