"""TensorFlow 2: the Keras that is chosen in time or not at all, and bert4keras' own parts in graph mode."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from kexue_keras import backend

pytestmark = pytest.mark.skipif(not backend.is_tf2, reason="what only TensorFlow 2 needs")


def run(source, **variables):
    """(exit code, output) of a process that begins without the variables that choose a Keras."""
    environment = {k: v for k, v in os.environ.items() if k not in ("TF_KERAS", "TF_USE_LEGACY_KERAS")}
    environment.update(variables, PYTHONPATH=ROOT)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        env=environment,
        timeout=300,
    )
    return done.returncode, done.stdout


def test_the_import_chooses_the_keras_by_itself():
    code, said = run(
        "import kexue_keras\n"
        "import bert4keras.snippets, tensorflow as tf\n"
        "from bert4keras.backend import is_tf_keras, keras\n"
        "print(bool(is_tf_keras), keras is not None, tf.keras.Model.__module__.split('.')[0], tf.executing_eagerly(),\n"
        "      bert4keras.snippets.tf is tf.compat.v1, issubclass(tf.keras.optimizers.Adam, \n"
        "      tf.keras.optimizers.legacy.Optimizer))"
    )
    assert code == 0, said
    assert said.splitlines()[-1] == "True True tf_keras False True True"


@pytest.mark.parametrize(
    "first, variables, words",
    [
        ("import tensorflow as tf; tf.keras.Model", {}, "TF_USE_LEGACY_KERAS=1"),
        ("import tensorflow as tf; tf.keras.Model", {"TF_KERAS": "1"}, "TF_USE_LEGACY_KERAS=1"),
        ("import kexue_keras", {"TF_KERAS": "0"}, "TF_KERAS"),
    ],
)
def test_too_late_is_said_in_one_line(first, variables, words):
    code, said = run(first + "; import kexue_keras", **variables)
    assert code == 1 and words in said.splitlines()[-1] + said.splitlines()[-2] + said.splitlines()[-3], said


def test_bert4keras_may_come_first_if_the_variables_are_set():
    code, said = run(
        "from bert4keras.optimizers import Adam, extend_with_weight_decay\n"
        "from bert4keras.backend import keras\n"
        "import numpy as np\n"
        "import kexue_keras\n"
        "model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])\n"
        "model.compile(extend_with_weight_decay(Adam)(learning_rate=0.1, weight_decay_rate=0.01), 'mse')\n"
        "before = model.get_weights()[0]\n"
        "model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))\n"
        "print(bool((before != model.get_weights()[0]).all()))",
        TF_KERAS="1",
        TF_USE_LEGACY_KERAS="1",
    )
    assert code == 0 and said.splitlines()[-1] == "True", said


def test_xla_is_turned_on_before_the_devices_are_listed(run_python):
    """TensorFlow reads its flags then; once 0 clusters were compiled for that."""
    said = run_python(
        """
import tensorflow as tf
from kexue_keras.backend import get_session, tf1

def listed(*args):
    raise AssertionError("the devices were listed")

lists = tf.config.list_physical_devices, tf.config.experimental.list_physical_devices
tf.config.list_physical_devices = tf.config.experimental.list_physical_devices = listed
from kexue_keras.training.precision import enable_xla
enable_xla("auto")
tf.config.list_physical_devices, tf.config.experimental.list_physical_devices = lists
x = tf1.placeholder("float32", [8, 8])
y = x
for _ in range(8):
    y = tf.tanh(tf.matmul(y, y) + y)
options, metadata = tf1.RunOptions(output_partition_graphs=True), tf1.RunMetadata()
session = get_session()
session.run(y, {x: [[0.1] * 8] * 8}, options=options, run_metadata=metadata)
names = [node.op for graph in metadata.partition_graphs for node in graph.node]
print(sum(name in ("_XlaCompile", "_XlaRun", "XlaLaunch") for name in names))
""",
        bare=True,
    )
    assert int(said.splitlines()[-1]) > 0
