"""XLA: really compiles on the CPU, with the same losses; is refused when it is too late or does nothing."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras import backend
from kexue_keras.backend import get_session
from kexue_keras.data import BucketedBatches
from kexue_keras.errors import UserError
from kexue_keras.finetune import finetune
from kexue_keras.trainer import Techniques
from kexue_keras.trainer import _techniques as settings
from kexue_keras.trainer import accelerated
from kexue_keras.training.precision import _xla as xla
from kexue_keras.training.precision import enable_xla
from kexue_keras.training.precision._xla import VARIABLE, xla_compiles, xla_flags

TRAIN = """
import json, sys
import numpy as np, tensorflow as tf
import kexue_keras
from bert4keras.models import BERT, build_transformer_model
from kexue_keras import backend
from kexue_keras.backend import K, keras, set_seed, tf1
from kexue_keras.models import extend_with_fused
from kexue_keras.optimizers import AdamW, GradientAccumulation
from kexue_keras.training.precision import LossScale, enable_xla

if sys.argv[1] != "off":
    on = enable_xla(sys.argv[1])
    assert on.is_enabled and on.loss_scale is None
set_seed(1)
sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
bert = build_transformer_model(model=extend_with_fused(BERT), hidden_act="gelu", with_pool="tanh", **sizes)
model = keras.models.Model(bert.inputs, keras.layers.Dense(3, activation="softmax")(bert.output))
rng = np.random.RandomState(0)
model.set_weights([rng.randn(*w.shape) / 2 for w in model.get_weights()])
ran = tf1.RunMetadata()
model.compile(
    LossScale(GradientAccumulation(AdamW(0.05), 2)),
    "sparse_categorical_crossentropy",
    options=tf1.RunOptions(output_partition_graphs=True),
    run_metadata=ran,
)
ids = rng.randint(1, 9, (8, 6))
ids[:4, 4:] = 0
x, y = [ids, 0 * ids], rng.randint(0, 3, 8)
losses = [float(model.train_on_batch(x, y)) for _ in range(6)]
clusters = sum(node.op == "_XlaRun" for graph in ran.partition_graphs for node in graph.node)
if sys.argv[1] != "off":
    try:
        enable_xla()
    except RuntimeError as error:
        print(error)
print(json.dumps([losses, clusters]))
"""


@pytest.fixture
def no_flags(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def early(monkeypatch, no_flags):
    """As if no session had been made in this process."""
    monkeypatch.setattr(backend, "sessions_created", lambda: 0)


def test_losses_are_those_without_it(run_python, no_flags, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["-c", "off"])
    exec(TRAIN, {})
    plain, none = json.loads(capsys.readouterr().out)
    said = run_python(TRAIN, "full", bare=True)
    compiled, clusters = json.loads(said.splitlines()[-1])
    assert none == 0 and clusters > 0
    np.testing.assert_allclose(compiled, plain, rtol=2e-5)
    assert "too late for XLA: a TensorFlow session was made in this process already" in said


def test_too_late_is_said_and_changes_nothing(no_flags):
    get_session()
    with pytest.raises(RuntimeError, match="too late for XLA.*right after the imports"):
        enable_xla()
    assert backend.environment_variable(VARIABLE) == ""


def test_flags_are_put_back(early, monkeypatch):
    with enable_xla("auto") as on:
        assert backend.environment_variable(VARIABLE) == xla_flags("auto") != ""
        assert "--tf_xla_auto_jit=1" in on.description
    assert backend.environment_variable(VARIABLE) == ""
    monkeypatch.setenv(VARIABLE, "--tf_xla_min_cluster_size=2")
    with pytest.raises(KeyError):
        with enable_xla("full"):
            flags = backend.environment_variable(VARIABLE).split()
            assert flags[0] == "--tf_xla_min_cluster_size=2" and "--tf_xla_enable_lazy_compilation=false" in flags
            # Asking twice gives no flag twice.
            assert sorted(xla_flags("full").split()) == sorted(flags)
            raise KeyError("anything")
    assert backend.environment_variable(VARIABLE) == "--tf_xla_min_cluster_size=2"


def test_flags_of_the_modes(no_flags):
    assert xla_flags("auto", on_cpu=False) == "--tf_xla_auto_jit=1"
    assert xla_flags("lite", on_cpu=True) == "--tf_xla_auto_jit=fusible --tf_xla_cpu_global_jit"
    with pytest.raises(ValueError, match="mode must be one of 'auto', 'full', 'lite', but is 'fusible'"):
        enable_xla("fusible")


def test_lite_is_refused_where_it_does_nothing(early, monkeypatch):
    monkeypatch.setattr(xla, "xla_compiles", lambda mode: False)
    with pytest.raises(RuntimeError, match="mode 'lite' does nothing in TensorFlow"):
        enable_xla("lite")
    assert backend.environment_variable(VARIABLE) == ""
    monkeypatch.setattr(xla, "xla_compiles", lambda mode: True)
    with enable_xla("lite"):
        assert "fusible" in backend.environment_variable(VARIABLE)


def test_whether_anything_is_compiled_is_found_out(no_flags):
    # As published TensorFlow 1.15 takes the flag of 'lite' and does nothing; the probe of the others is that of 'full'.
    assert xla_compiles("lite") == bool(backend.nvidia_release() or tf.__version__ >= "2")
    assert backend.environment_variable(VARIABLE) == ""


# In fine-tuning


def test_batches_are_padded_to_few_lengths():
    rounding = Techniques(xla="auto").rounding
    for length, padded in ((5, 32), (32, 32), (40, 48), (48, 48)):
        batches = BucketedBatches([([1] * length, [0] * length)] * 2, batch_size=2, max_length=48, rounding=rounding)
        tokens, segments = batches.inputs([0, 1])
        assert tokens.shape == segments.shape == (2, padded) and tokens.sum() == 2 * length


def test_it_is_on_while_a_model_is_built_and_trained(early, monkeypatch):
    monkeypatch.setattr(settings, "sessions_created", lambda: 0)
    said = []
    with accelerated(Techniques(xla="auto"), said.append):
        assert "auto_jit=1" in backend.environment_variable(VARIABLE) and "each length" in said[0]
    assert backend.environment_variable(VARIABLE) == ""
    with pytest.raises(KeyError), accelerated(Techniques(xla="auto")):
        raise KeyError
    assert backend.environment_variable(VARIABLE) == ""


def test_finetune_says_what_is_wrong(tmp_path):
    get_session()
    with pytest.raises(UserError, match="--xla has to be set before TensorFlow's first session"):
        finetune("me5-zh-char", "no.tsv", str(tmp_path / "run"), xla="auto")
    with pytest.raises(UserError, match="--xla is 'fast'; it is one of auto, full, lite"):
        finetune("me5-zh-char", "no.tsv", str(tmp_path / "run"), xla="fast")
    assert not (tmp_path / "run").exists()
