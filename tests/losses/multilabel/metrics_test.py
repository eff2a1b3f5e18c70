"""F1 over batches: against counts in numpy."""

import numpy as np
import pytest

from kexue_keras import losses
from kexue_keras.backend import keras


def twin(y, s, average, threshold=0.0, weights=None, classes=slice(None)):
    w = np.ones(len(y)) if weights is None else weights
    right, predicted = np.asarray(y)[:, classes] > 0.5, s[:, classes] > threshold
    axes = 0 if average == "macro" else None
    tp = (w[:, None] * (right & predicted)).sum(axes)
    wrong = (w[:, None] * (right ^ predicted)).sum(axes)
    return np.mean(np.where(tp + wrong > 0, 2 * tp / np.maximum(2 * tp + wrong, 1e-30), 0.0))


def model_and_data(rng, classes=6):
    x = keras.layers.Input([4])
    model = keras.models.Model(x, keras.layers.Dense(classes)(x))
    data, y = rng.randn(23, 4).astype("f"), (rng.rand(23, classes) < 0.3).astype("f")
    y[:, -1] = 0
    return model, data, y


def metrics():
    return [
        losses.MultilabelF1(),
        losses.MultilabelF1(average="macro", num_classes=6),
        losses.MultilabelF1(threshold=1.0, name="sure"),
    ]


@pytest.mark.all_stacks
def test_counts_run_over_batches_reset_save_and_load(rng, tmp_path, run_python):
    model, x, y = model_and_data(rng)
    model.compile(keras.optimizers.SGD(0.0), losses.MultilabelCrossentropy(), metrics=metrics())
    s = model.predict(x)
    wanted = [twin(y, s, "micro"), twin(y, s, "macro"), twin(y, s, "micro", 1.0)]
    batches = np.mean([twin(y[i : i + 5], s[i : i + 5], "micro") for i in range(0, 23, 5)])
    assert abs(batches - wanted[0]) > 1e-4
    for _ in range(2):
        np.testing.assert_allclose(model.evaluate(x, y, batch_size=5, verbose=0)[1:], wanted, rtol=1e-5)
    history = model.fit(x, y, batch_size=5, epochs=2, verbose=0, validation_data=(x[:7], y[:7])).history
    np.testing.assert_allclose(history["micro_f1"], [wanted[0]] * 2, rtol=1e-5)
    np.testing.assert_allclose(history["val_macro_f1"], [twin(y[:7], s[:7], "macro")] * 2, rtol=1e-5)
    model.save(str(tmp_path / "model.h5"))
    np.savez(str(tmp_path / "data.npz"), x=x, y=y)
    said = run_python(
        "import sys, numpy as np, kexue_keras\n"
        "from kexue_keras.backend import keras, metric_objects_load\n"
        "with metric_objects_load():\n"
        "    model, data = keras.models.load_model(sys.argv[1]), np.load(sys.argv[2])\n"
        "print(*model.evaluate(data['x'], data['y'], verbose=0)[1:])",
        tmp_path / "model.h5",
        tmp_path / "data.npz",
    ).split()
    np.testing.assert_allclose([float(v) for v in said[-3:]], wanted, rtol=1e-5)


def test_sparse_labels_weights_and_masks(rng):
    model, x, y = model_and_data(rng)
    labels = rng.randint(0, 6, (23, 3))
    y = np.zeros((23, 6))
    np.put_along_axis(y, labels, 1, 1)
    model.compile(
        "sgd",
        losses.MultilabelCrossentropy(from_sparse=True, mask_zero=True),
        metrics=[losses.MultilabelF1(from_sparse=True, mask_zero=True)],
        weighted_metrics=[losses.MultilabelF1(from_sparse=True, name="weighted")],
    )
    s, weights = model.predict(x), rng.rand(23)
    found = model.evaluate(x, labels, batch_size=7, sample_weight=weights, verbose=0)[1:]
    wanted = [twin(y, s, "micro", classes=slice(1, None)), twin(y, s, "micro", weights=weights)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    inputs = keras.layers.Input([3])
    masked = keras.models.Model(inputs, keras.layers.Activation("linear")(inputs))
    masked.compile("sgd", losses.MultilabelCrossentropy(), metrics=[losses.MultilabelF1()])
    value = masked.evaluate(np.array([[1.0, -np.inf, 2.0]]), np.array([[1.0, 1.0, 0.0]]), verbose=0)[1]
    np.testing.assert_allclose(value, 2 / 3, rtol=1e-6)
    nothing = masked.evaluate(np.array([[-1.0, -1.0, -2.0]]), np.zeros((1, 3)), verbose=0)[1]
    assert nothing == 0


def test_errors_and_config():
    with pytest.raises(ValueError, match="average must be"):
        losses.MultilabelF1(average="weighted")
    with pytest.raises(ValueError, match="pass num_classes"):
        losses.MultilabelF1(average="macro")
    metric = losses.MultilabelF1(average="macro", num_classes=3, threshold=0.5, mask_zero=True)
    again = losses.MultilabelF1.from_config(metric.get_config())
    assert again.get_config() == metric.get_config() and again.name == "macro_f1"
