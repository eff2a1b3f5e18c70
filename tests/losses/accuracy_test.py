"""EXACT and soft accuracy: against float64 quadrature, the oracles, and the properties of the spec."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from loss_graphs import evaluator, oracles, slope
from scipy import integrate, optimize, special

from kexue_keras import losses
from kexue_keras.backend import K, keras, tf1

INF = float("inf")
ORACLES = oracles("exact")
X, SIGN = np.array([-0.25, 0.0, 0.25]), np.array([-1, -1, 1])
CLASSES = 5


def twin(mu, y, sigma=1.0, margin=None):
    """The probability by a trapezoidal sum over z, no Gauss-Hermite nodes."""
    z = np.linspace(-12, 12, 4001)
    delta = (mu[y] - np.delete(mu, y)) if margin is None else np.minimum(mu[y] - np.delete(mu, y), margin)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    product = np.exp(special.log_ndtr(z[:, None] + delta[delta < INF] / sigma).sum(-1))
    return integrate.trapezoid(density * product, z)


def runner(dtype="float32", **kwargs):
    return evaluator(
        lambda y, s: losses.expected_accuracy(y, s, **kwargs), ("int32", [None]), (dtype, [None, None]), wrt=1
    )


def test_oracles():
    single = {sigma: runner(sigma=sigma) for sigma in (1.0, 0.5)}
    double = {sigma: runner("float64", sigma=sigma) for sigma in (1.0, 0.5)}
    for name, entry in ORACLES.items():
        if "mu" not in entry["inputs"] or name == "softmax_3class":
            continue
        mu, sigma = np.array(entry["inputs"]["mu"]), entry["params"].get("sigma", 1.0)
        ys = np.atleast_1d(entry["params"].get("y", range(len(mu))))
        wanted = np.array(entry["expected"])
        p, gradient = single[sigma](ys, np.tile(mu, (len(ys), 1)))
        p64 = double[sigma](ys, np.tile(mu, (len(ys), 1)))[0]
        if name == "grad_p0":
            np.testing.assert_allclose(gradient[0], wanted, atol=2e-6)
            np.testing.assert_allclose(slope(lambda m: twin(m, 0), mu), wanted, atol=1e-8)
            continue
        twins = np.array([twin(mu, y, sigma) for y in ys])
        np.testing.assert_allclose(twins, wanted, atol=entry["tolerance"], err_msg=name)
        np.testing.assert_allclose(p, wanted, rtol=5e-5, atol=1e-6 if sigma == 1 else 1e-13, err_msg=name)
        np.testing.assert_allclose(p64, wanted, rtol=1e-4, atol=1e-11 if sigma == 1 else 1e-13, err_msg=name)
    softmax = np.exp([2.0, 1.0, 0.0])
    np.testing.assert_allclose(softmax / softmax.sum(), ORACLES["softmax_3class"]["expected"], atol=1e-10)
    delta = ORACLES["binary_closed_form"]["inputs"]["delta"]
    p = single[1.0]([0], [[delta, 0.0]])[0]
    np.testing.assert_allclose(p, ORACLES["binary_closed_form"]["expected"], atol=1e-6)
    np.testing.assert_allclose(special.ndtr(delta / np.sqrt(2)), p, atol=1e-6)


def test_soft_accuracy_oracle(rng):
    entry = ORACLES["soft_accuracy"]
    s, y, wanted = np.array(entry["inputs"]["logits"]), entry["inputs"]["y"], entry["expected"]
    run = evaluator(losses.soft_accuracy, ("int32", [None]), ("float32", [None, None]), wrt=1)

    def numpy_twin(s):
        p = np.exp(s) / np.exp(s).sum(-1, keepdims=True)
        return 1 - p[np.arange(2), y]

    np.testing.assert_allclose(numpy_twin(s), wanted["one_minus_p"], atol=1e-10)
    np.testing.assert_allclose(slope(numpy_twin, s), wanted["grad"], atol=1e-9)
    ce = np.logaddexp.reduce(s, -1) - s[[0, 1], y]
    np.testing.assert_allclose(ce, wanted["ce"], atol=1e-10)
    value, gradient = run(y, s)
    np.testing.assert_allclose(value, wanted["one_minus_p"], rtol=1e-6)
    np.testing.assert_allclose(gradient, wanted["grad"], atol=1e-7)
    # 1 - p would be exactly 0 in float32
    np.testing.assert_allclose(run([0], [[30.0, 0.0]])[0], [np.exp(-30.0)], rtol=1e-5)
    p = tf.constant([[0.7, 0.2, 0.1]])
    np.testing.assert_allclose(K.eval(losses.soft_accuracy([1], p, from_logits=False)), [0.8], rtol=1e-6)
    soft = losses.soft_accuracy([[0.5, 0.5, 0.0]], p, from_logits=False, sparse=False)
    np.testing.assert_allclose(K.eval(soft), [1 - 0.45], rtol=1e-6)
    half = evaluator(losses.soft_accuracy, ("float16", [None, 1]), ("float16", [None, None]))
    assert half([[0.0]], [[8.0, -INF]]).dtype == np.float32
    assert half([[0.0]], [[8.0, -INF]]) == 0


def toy(steepness, kind, run):
    """Loss of the article's three points as a function of b: in numpy, and (with its slope) by TensorFlow."""

    def function(b):
        f = SIGN * steepness * (X - b)
        return np.mean(1 - special.ndtr(f / np.sqrt(2)) if kind == "exact" else special.expit(-f))

    def graph(b):
        f = steepness * (X - b)
        value, gradient = run((SIGN < 0).astype(int), np.stack([f, 0 * f], -1))
        return value.mean(), -steepness * gradient[:, 0].mean()

    return function, graph


def minimum(function, low, high):
    return optimize.minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).x


def test_toy_oracles():
    exact = evaluator(losses.ExactAccuracy().call, ("int32", [None]), ("float32", [None, None]), wrt=1)
    soft = evaluator(losses.soft_accuracy, ("int32", [None]), ("float32", [None, None]), wrt=1)
    for name, entry in ORACLES.items():
        expected, params = entry["expected"], entry["params"]
        if name.startswith("toy_exact_sigma1"):
            function, graph = toy(1.0, "exact", exact)
            assert abs(function(params["b"]) - expected["error"]) < entry["tolerance"]
            assert abs(graph(params["b"])[0] - expected["error"]) < 1e-6
        elif name.startswith("toy_exact") or name.startswith("toy_soft"):
            if "sigma" in params:
                function, graph = toy(1 / params["sigma"], "exact", exact)
            else:
                function, graph = toy(params["k"], "soft", soft)
            b = minimum(function, 0.0, 0.6)
            assert abs(b - expected["b"]) < 2e-6, name
            wanted = expected.get("error", expected.get("loss"))
            assert abs(function(b) - wanted) < 1e-10, name
            value, gradient = graph(expected["b"])
            assert abs(value - wanted) < 2e-6 and abs(gradient) < 1e-5, name
            if "loss_at_0125" in expected:
                assert abs(function(0.125) - expected["loss_at_0125"]) < 1e-10
        elif name.startswith("toy_ce"):
            k = params["k"]
            b = minimum(lambda b: np.logaddexp(0, -SIGN * k * (X - b)).mean(), 0.0, 2.0)
            assert abs(b - expected["b"]) < 5e-6, name
        elif name.startswith("toy_hinge"):
            k = params["k"]
            hinge = lambda b: np.maximum(0, 1 - SIGN * k * (X - b)).mean()  # noqa: E731
            low, high = expected["argmin"]
            lowest = min(hinge(b) for b in np.linspace(0, 2, 2001))
            assert abs(hinge(low) - lowest) < 1e-9 and abs(hinge(high) - lowest) < 1e-9
            assert hinge(low - 0.01) > lowest + 1e-6 and hinge(high + 0.01) > lowest + 1e-6


mus = st.lists(st.floats(-8, 8), min_size=CLASSES, max_size=CLASSES).map(np.array)


def test_properties():
    everyone = np.arange(CLASSES)
    run, finer, halved = runner("float64"), runner("float64", num_nodes=64), runner("float64", sigma=0.5)

    @given(mus, st.floats(-5, 5))
    def check(mu, shift):
        rows = np.tile(mu, (CLASSES, 1))
        p, gradient = run(everyone, rows)
        assert abs(p.sum() - 1) < 1e-6 and (p >= 0).all() and (p <= 1).all()
        np.testing.assert_allclose(run(everyone, rows + shift)[0], p, atol=1e-12)
        np.testing.assert_allclose(finer(everyone, rows)[0], p, atol=3e-7)
        np.testing.assert_allclose(halved(everyone, rows / 2)[0], p, atol=1e-12)
        assert (np.diag(gradient) >= 0).all()
        np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-12)
        np.testing.assert_allclose(p, [twin(mu, y) for y in everyone], atol=3e-7)

    check()
    sharp = runner(sigma=1e-3)
    p, gradient = sharp(everyone, np.tile([3.0, 1.0, 0.0, -1.0, 2.9], (CLASSES, 1)))
    assert p.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0] and np.isfinite(gradient).all()


def test_margin_masks_and_half_precision(rng):
    mu = np.array([4.0, 0.0, 1.0, 3.5])
    p, gradient = runner(margin=1.5, sigma=0.7)([0], [mu])
    np.testing.assert_allclose(p, [twin(mu, 0, 0.7, 1.5)], atol=1e-6)
    assert (gradient[0, 1:3] == 0).all() and gradient[0, 3] < 0
    run = runner()
    for y, wanted in ((0, twin(np.array([4.0, 1.0, 3.5]), 0)), (1, 0.0)):
        p, gradient = run([y], [[4.0, -INF, 1.0, 3.5]])
        np.testing.assert_allclose(p, [wanted], atol=1e-6)
        assert np.isfinite(gradient).all() and gradient[0, 1] == 0
    assert np.isfinite(run([0], [[-1e30, 1e30, 0.0]])[1]).all()
    assert np.isnan(run([0], [[np.nan, 1.0]])[0]).all()
    s = (3 * rng.randn(4, CLASSES)).astype("float16")
    p, gradient = runner("float16")([0, 1, 2, 3], s)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, [twin(row.astype("f8"), y) for y, row in enumerate(s)], atol=2e-6)
    one_hot = evaluator(
        lambda y, s: losses.expected_accuracy(y, s, sparse=False), ("float32", [None] * 2), ("float32", [None] * 2)
    )
    np.testing.assert_allclose(one_hot(np.eye(CLASSES)[:4], s), p, rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected_accuracy.*one-hot"):
        one_hot([[0.5, 0.5]], [[0.0, 1.0]])


def test_errors():
    s = tf.zeros([2, 3])
    for call, message in [
        (
            lambda: losses.ExactAccuracy(sigma=0),
            "ExactAccuracy: sigma must be a number > 0, but is 0; to learn it put an ExactScale",
        ),
        (lambda: losses.ExactAccuracy(sigma="learned"), "put an ExactScale layer"),
        (lambda: losses.ExactAccuracy(num_nodes=1), "num_nodes"),
        (lambda: losses.ExactAccuracy(margin=-1.0), "margin"),
        (lambda: losses.ExactScale(sigma=-1.0), "sigma"),
        (lambda: losses.expected_accuracy([0, 3], s), r"expected_accuracy: labels.*\[0, classes\)"),
        (lambda: losses.expected_accuracy([0, 1, 2], s), "sparse labels must have the shape"),
        (lambda: losses.expected_accuracy([[0, 1], [1, 0]], s), "sparse=False"),
        (lambda: losses.soft_accuracy([[1.0, 0.0]], s, sparse=False), "same shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected_accuracy: labels"):
        runner()([3], [[0.0, 1.0, 2.0]])
    p = tf.nn.softmax(tf1.placeholder("float32", [2, 3]))
    for loss in (losses.expected_accuracy, losses.soft_accuracy):
        with pytest.warns(UserWarning, match="%s takes logits" % loss.__name__):
            loss([0, 1], p)


def scaled_model(rng, **kwargs):
    x = keras.layers.Input([4])
    model = keras.models.Model(x, losses.ExactScale(name="scale", **kwargs)(keras.layers.Dense(3)(x)))
    return model, rng.randn(8, 4).astype("f"), rng.randint(0, 3, 8)


def test_learned_sigma_trains_saves_and_loads(rng, tmp_path, run_python):
    model, x, y = scaled_model(rng, sigma=2.0)
    loss = losses.ExactAccuracy(num_nodes=16)
    model.compile(keras.optimizers.SGD(0.5), loss, metrics=[losses.expected_accuracy])
    values = np.array([1 - twin(s.astype("f8"), t) for s, t in zip(model.predict(x), y)])
    weights = rng.rand(8)
    weighted = model.test_on_batch(x, y, sample_weight=weights)
    np.testing.assert_allclose(weighted[0], (values * weights).mean(), rtol=1e-4)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), [values.mean(), 1 - values.mean()], rtol=1e-4)
    history = model.fit(x, y, epochs=15, verbose=0, shuffle=False).history["loss"]
    assert history[-1] < history[0]
    sigma = np.exp(K.get_value(model.get_layer("scale").log_sigma))
    assert abs(sigma - 2.0) > 1e-3
    model.save(str(tmp_path / "model.h5"))
    np.savez(str(tmp_path / "data.npz"), x=x, y=y)
    said = run_python(
        "import sys, numpy as np, kexue_keras\n"
        "from kexue_keras.backend import K, keras\n"
        "model, data = keras.models.load_model(sys.argv[1]), np.load(sys.argv[2])\n"
        "print(model.evaluate(data['x'], data['y'], verbose=0)[0], model.loss.get_config()['num_nodes'],\n"
        "      np.exp(K.get_value(model.get_layer('scale').log_sigma)))",
        tmp_path / "model.h5",
        tmp_path / "data.npz",
    ).split()
    np.testing.assert_allclose(float(said[-3]), model.evaluate(x, y, verbose=0)[0], rtol=1e-5)
    assert said[-2] == "16"
    np.testing.assert_allclose(float(said[-1]), sigma, rtol=1e-5)


def test_annealed_sigma_and_scale_is_sigma(rng):
    model, x, y = scaled_model(rng, learn=False)
    model.compile("sgd", losses.ExactAccuracy())
    seen = []
    schedule = losses.SigmaSchedule(lambda epoch: 0.5**epoch)
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(np.exp(K.get_value(model.get_layer("scale").log_sigma)))
    )
    model.fit(x, y, epochs=3, verbose=0, callbacks=[schedule, record])
    np.testing.assert_allclose(seen, [1.0, 0.5, 0.25], rtol=1e-6)
    logits = 0.25 * model.predict(x)
    wanted = [1 - twin(s.astype("f8"), t, sigma=0.25) for s, t in zip(logits, y)]
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), np.mean(wanted), rtol=1e-4)
    with pytest.raises(ValueError, match="exactly one ExactScale.*'other'.*scale"):
        model.fit(x, y, verbose=0, callbacks=[losses.SigmaSchedule([1.0], layer="other")])
    with pytest.raises(ValueError, match="epoch 0: sigma"):
        model.fit(x, y, verbose=0, callbacks=[losses.SigmaSchedule([0.0])])


def test_as_a_bert4keras_loss_layer(rng):
    from bert4keras.layers import Loss

    class Exact(Loss):
        def compute_loss(self, inputs, mask=None):
            return K.mean(losses.ExactAccuracy(sigma=0.5).call(*inputs))

    y, s = keras.layers.Input([1]), keras.layers.Input([3])
    scaled = keras.layers.Dense(3, kernel_initializer="identity")(s)
    model = keras.models.Model([y, s], Exact(output_axis=1)([y, scaled]))
    model.compile("sgd")
    t, data = rng.randint(0, 3, (4, 1)), rng.randn(4, 3)
    wanted = np.mean([1 - twin(b, a[0], 0.5) for a, b in zip(t, data)])
    np.testing.assert_allclose(model.train_on_batch([t, data], None), wanted, rtol=1e-4)


def test_the_logarithm_of_the_expected_accuracy_of_a_batch(rng):
    mu, y, weights = 2 * rng.randn(5, 4), rng.randint(0, 4, 5), np.array([1.0, 0, 2, 0.5, 1])

    def value(mu):
        return -np.log(np.average([twin(row, k, 0.7) for row, k in zip(mu, y)], weights=weights))

    run = evaluator(
        lambda y, s, w: losses.negative_log_accuracy(y, s, sigma=0.7, sample_weight=w),
        ("int32", [None]),
        ("float64", [None, 4]),
        ("float32", [None]),
        wrt=1,
    )
    found, gradient = run(y, mu, weights)
    np.testing.assert_allclose(found, value(mu), 1e-8)
    np.testing.assert_allclose(gradient, slope(value, mu), 1e-4, 1e-8)
    assert (gradient[1] == 0).all()
    plain = losses.negative_log_accuracy(y, tf.constant(mu), sigma=0.7)
    np.testing.assert_allclose(K.eval(plain), -np.log(np.mean([twin(r, k, 0.7) for r, k in zip(mu, y)])), 1e-8)


@pytest.mark.parametrize("rivals", [1, 2, 100])
def test_the_logarithm_of_a_tiny_probability(rivals):
    """Against a fine sum over z in logarithms, wherever its top lies."""
    run = evaluator(
        lambda y, s: losses.negative_log_accuracy(y, s), ("int32", [None]), ("float64", [None, rivals + 1]), wrt=1
    )
    for delta in (5.0, -3, -30, -200):
        mu = np.append(delta, np.linspace(0, 1, rivals))[None]
        z = np.linspace(-15, 15 - delta, 8001)

        def value(x):
            terms = special.log_ndtr(z[:, None] + x[0, :1] - x[0, 1:]).sum(1) - 0.5 * z**2 - 0.5 * np.log(2 * np.pi)
            return -np.logaddexp.reduce(terms) - np.log(z[1] - z[0])

        found, gradient = run([0], mu)
        np.testing.assert_allclose(found, value(mu), 1e-5, 1e-5)
        moved = slope(lambda x: value(np.append(x, mu[0, 1:])[None]), mu[0, 0])
        np.testing.assert_allclose(gradient[0, 0], moved, 1e-3, 1e-4)


def test_a_batch_that_is_all_wrong_still_has_a_gradient():
    run = evaluator(losses.negative_log_accuracy, ("int32", [None]), ("float32", [None, 3]), wrt=1)
    mu = np.array([[0.0, 40, 0], [0, 44, -INF]])
    value, gradient = run([0, 0], mu)
    log_p = [special.log_ndtr(-40 / np.sqrt(2)), special.log_ndtr(-44 / np.sqrt(2))]  # the third class hardly counts
    np.testing.assert_allclose(value, np.log(2) - np.logaddexp(*log_p), rtol=1e-5)
    np.testing.assert_allclose(gradient[0], [-20, 20, 0], rtol=1e-2, atol=1e-3)
    assert gradient[0, 0] < -1 and np.isfinite(gradient).all() and gradient[1, 2] == 0
    # The expected error says nothing any more: its gradient has rounded to 0.
    other = evaluator(lambda y, s: 1 - losses.expected_accuracy(y, s), ("int32", [None]), ("float32", [None, 3]), wrt=1)
    assert abs(other([0, 0], mu)[1]).max() == 0
    # A right class that is out of the question takes no part in the gradient, but counts as wrong.
    value, gradient = run([0, 2], [[3.0, 0, 0], [0, 1, -INF]])
    np.testing.assert_allclose(value, -np.log(twin(np.array([3.0, 0, 0]), 0) / 2), 1e-5)
    assert (gradient[1] == 0).all() and run([2], [[0.0, 1, -INF]])[0] == 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="weights must not be negative"):
        K.eval(losses.negative_log_accuracy([0], [[1.0, 2.0]], sample_weight=[-1.0]))


@pytest.mark.all_stacks
def test_the_logarithm_in_compile_with_sample_weights(rng):
    x, y, weights = rng.randn(6, 3), rng.randint(0, 4, 6), np.array([1.0, 0, 2, 0.5, 1, 3])
    model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,))])
    loss = losses.ExactAccuracy(sigma=0.5, logarithm=True)
    assert losses.ExactAccuracy(**loss.get_config()).get_config() == loss.get_config()
    model.compile(keras.optimizers.SGD(0.0), loss)
    p = [twin(row.astype("float64"), k, 0.5) for row, k in zip(model.predict(x), y)]
    np.testing.assert_allclose(model.train_on_batch(x, y), -np.log(np.mean(p)), 1e-4)
    found = model.train_on_batch(x, y, sample_weight=weights)
    np.testing.assert_allclose(found, -np.log(np.average(p, weights=weights)), 1e-4)
