"""A model compiled with any of these losses comes back in a fresh process."""

import json

import numpy as np
import pytest

from kexue_keras.backend import keras
from kexue_keras.losses import (
    CoSENT,
    FlatNCE,
    GroupedCrossentropy,
    InfoNCE,
    MaskedCrossentropy,
    MultiTaskLoss,
    SimilarityDistillation,
    UncertaintyWeights,
)
from kexue_keras.similarity import pair_classifier

LOAD = """
import json, sys
import numpy as np
import kexue_keras
from kexue_keras.backend import keras
folder = sys.argv[1]
found = []
for i in range(int(sys.argv[2])):
    model = keras.models.load_model("%s/%d.h5" % (folder, i))
    with np.load("%s/%d.npz" % (folder, i)) as data:
        x = [data["x%d" % j] for j in range(len(model.inputs))]
        y = data["y"] if "y" in data else None
    loss = model.loss if not isinstance(model.loss, (list, dict)) else None
    config = loss.get_config() if hasattr(loss, "get_config") else None
    found.append([float(np.ravel(model.test_on_batch(x, y))[0]), config])
print(json.dumps(found))
"""


def compiled(loss, target, *inner):
    """A model with `loss` whose output is Dense, through a reshape to `inner` if given; and a batch."""
    rng = np.random.RandomState(5)
    x = keras.layers.Input((4,))
    y = keras.layers.Dense(int(np.prod(inner)))(x)
    if len(inner) > 1:
        y = keras.layers.Reshape(inner)(y)
    model = keras.models.Model(x, y)
    model.compile("sgd", loss)
    return model, [rng.randn(8, 4)], target


def with_layers(method):
    rng = np.random.RandomState(6)
    x, y1, y2 = keras.layers.Input((4,)), keras.layers.Input((1,)), keras.layers.Input((1,))
    predictions = [keras.layers.Dense(3, activation="softmax")(x), keras.layers.Dense(1)(x)]
    losses = [keras.losses.SparseCategoricalCrossentropy(), "mean_squared_error"]
    outputs = MultiTaskLoss(losses, method=method)([y1, y2] + predictions)
    model = keras.models.Model([x, y1, y2], outputs)
    model.compile("sgd")
    batches = [rng.randn(8, 4), rng.randint(0, 3, (8, 1)), rng.randn(8, 1)]
    model.train_on_batch([batches[0] * 0.1] + batches[1:], None)  # "initial" now holds other values than batches'
    return model, batches, None


def paired():
    rng = np.random.RandomState(7)
    x = keras.layers.Input((4,))
    model = pair_classifier(keras.models.Model(x, keras.layers.Dense(3)(x)), 5, seed=1)
    model.compile("sgd", GroupedCrossentropy((2, 3)))
    return model, [rng.randn(8, 4)], np.repeat(rng.randint(0, 5, (4, 1)), 2, axis=0)


def uncertain():
    x, y = keras.layers.Input((1,)), keras.layers.Input((1,))
    model = keras.models.Model([x, y], UncertaintyWeights(0.5)([x, y]))
    model.compile("sgd", "mean_squared_error")
    return model, [np.ones((4, 1)), np.full((4, 1), 2.0)], np.zeros((4, 1))


@pytest.mark.all_stacks
def test_compiled_models_load_in_a_fresh_process(tmp_path, run_python):
    rng = np.random.RandomState(4)
    cases = [
        compiled(FlatNCE(0.2, symmetric=True, report="infonce"), np.zeros((8, 1, 1)), 2, 3),
        compiled(InfoNCE(0.1, layout="two_view"), np.zeros((8, 1)), 3),
        compiled(CoSENT(5.0, labels="per_pair", method="pairwise"), rng.randint(0, 3, (8, 1, 1)), 2, 3),
        paired(),
        compiled(SimilarityDistillation(7.0), rng.randn(8, 6), 3),
        compiled(MaskedCrossentropy(ignore=-1, normalization="sample"), rng.randint(-1, 5, (8, 3, 1)), 3, 5),
        with_layers("initial"),
        with_layers("uncertainty"),
        uncertain(),
    ]
    expected = []
    for i, (model, x, y) in enumerate(cases):
        config = model.loss.get_config() if hasattr(model.loss, "get_config") else None
        expected.append([float(np.ravel(model.test_on_batch(x, y))[0]), config])
        model.save(str(tmp_path / ("%d.h5" % i)))
        arrays = {"x%d" % j: array for j, array in enumerate(x)}
        np.savez(str(tmp_path / ("%d.npz" % i)), **(arrays if y is None else dict(arrays, y=y)))
    found = json.loads(run_python(LOAD, tmp_path, len(cases)).splitlines()[-1])
    for (value, config), (value_there, config_there) in zip(expected, found):
        np.testing.assert_allclose(value_there, value, rtol=1e-4)
        assert config_there == config
