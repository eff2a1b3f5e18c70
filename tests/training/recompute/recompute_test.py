"""Recompute: the same gradients, less memory; what may run twice and what may not."""

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.training._randomness import repeatable_dropout
from kexue_keras.training.recompute import RecomputeBoundary, _segments, recompute
from kexue_keras.training.recompute._memory import trace_memory
from kexue_keras.training.recompute._segments import checkpoint, segments

pytestmark = pytest.mark.all_stacks

F = "float32"


def feeds(phase):
    flag = K.learning_phase()
    return {} if isinstance(flag, int) else {flag: phase}


def original(tensor):
    """What `tensor` was before recompute handed it on: its gradient is that without recompute, on the same masks."""
    last = segments(tensor.graph)[-1]
    return last.outputs[[t.name for t in tensor.op.outputs].index(tensor.name)]


def assert_same_gradients(results, sources, feed, tolerance=1e-6):
    """Gradients of the recomputed tensors equal those of the same tensors without recompute."""
    results = results if isinstance(results, list) else [results]
    weights = [np.cos(1 + np.arange(int(r.shape[-1]))).astype(F) for r in results]
    with_it = tf.gradients([r * w for r, w in zip(results, weights)], sources)
    without = tf.gradients([original(r) * w for r, w in zip(results, weights)], sources)
    assert [g is None for g in with_it] == [g is None for g in without]
    pairs = [(tf.convert_to_tensor(a), tf.convert_to_tensor(b)) for a, b in zip(with_it, without) if a is not None]
    assert pairs
    for again, once in get_session().run(pairs, feed):
        np.testing.assert_allclose(again, once, rtol=tolerance, atol=tolerance * abs(once).max() + 1e-12)
        assert abs(once).max() > 0


def test_an_input_given_three_times_is_counted_as_often_as_it_is_used():
    x = tf1.placeholder(F, [None])
    cube = recompute(lambda a, b, c: a * b * c)(x, x, x)
    assert get_session().run(tf.gradients(cube, x), {x: [3.0]})[0] == 27.0


def self_attention(inputs, mask=None, positions=None):
    q, k, v = inputs
    scores = tf.matmul(q, k, transpose_b=True)
    if mask is not None:
        scores = tf.where(tf.broadcast_to(mask[:, None], tf.shape(scores)), scores, tf.zeros_like(scores) - np.inf)
    out = tf.matmul(tf.nn.softmax(scores), v)
    return out if positions is None else out + tf.one_hot(positions, 4, dtype=out.dtype)


def test_self_attention_against_finite_differences(rng):
    value = rng.randn(2, 3, 4)
    mask = np.array([[True, True, True], [True, True, False]])
    x = tf1.placeholder("float64", [None, None, 4])
    m = tf1.placeholder("bool", [None, None])
    y = recompute(self_attention)([x, x, x], mask=m, positions=tf.constant([[0, 1, 3]]))
    weight = np.cos(np.arange(24)).reshape(2, 3, 4)
    loss, gradient = tf.reduce_sum(y * weight), tf.gradients(y * weight, x)[0]
    direction, step = rng.randn(2, 3, 4), 1e-5
    run = get_session().run
    ends = [run(loss, {x: value + s * step * direction, m: mask}) for s in (1, -1)]
    got = (run(gradient, {x: value, m: mask}) * direction).sum()
    np.testing.assert_allclose(got, (ends[0] - ends[1]) / (2 * step), rtol=1e-7)


def test_none_integers_several_outputs_and_what_is_not_a_tensor(rng):
    @recompute
    def f(x, ids=None, nothing=None, *, scale=2.0):
        first = tf.tanh(x) * scale
        return {"a": first * tf.one_hot(ids, 3), "b": [tf.exp(first) * x, ids + 1], "c": nothing, "d": "word"}

    x, ids = tf.constant(rng.randn(4, 3).astype(F)), tf.constant([0, 1, 2, 0])
    out = f(x, ids, scale=0.5)
    assert out["c"] is None and out["d"] == "word" and out["b"][1].dtype == tf.int32
    assert_same_gradients([out["a"], out["b"][0]], [x], {})
    # only one of the outputs is used
    one, plain = tf.gradients(out["a"], x)[0], tf.gradients(original(out["a"]), x)[0]
    np.testing.assert_array_equal(*get_session().run([one, plain]))
    assert tf.gradients(out["a"], ids) == [None]


def test_variables_closures_nesting_and_second_derivatives(rng):
    kernel, outside = K.variable(rng.randn(3, 3)), K.variable(rng.randn(3))
    x = tf.constant(rng.randn(4, 3).astype(F))
    seen = outside * 2.0
    inner = recompute(lambda h: tf.sin(tf.matmul(h, kernel)) * seen)

    @recompute
    def f(h):
        return tf.tanh(tf.matmul(inner(inner(h)) + h, kernel)) + seen

    y = f(x)
    assert len(segments(y.graph)) == 3

    def plain(h):
        def twice(h):
            return tf.sin(tf.matmul(h, kernel)) * seen

        return tf.tanh(tf.matmul(twice(twice(h)) + h, kernel)) + seen

    sources = [x, kernel, outside]
    penalties = []
    for result in (y, plain(x)):
        first = tf.gradients(result, sources)
        second = tf.gradients(sum(tf.reduce_sum(tf.square(g)) for g in first), sources)
        penalties.append([g for g in first + second if g is not None])
    get_session()  # initialises
    for again, once in get_session().run(list(zip(*penalties))):
        np.testing.assert_allclose(again, once, rtol=2e-5, atol=1e-5)


def test_functions_that_make_nothing_are_left_alone():
    x = tf.constant([1.0, 2.0])
    assert recompute(lambda t: t)(x) is x
    number = recompute(lambda t: tf.cast(t, "int32"))(x)
    assert number.dtype == tf.int32
    assert segments(x.graph) == []


@pytest.mark.parametrize("seed", range(2))
def test_any_graph_whatever_is_kept(seed):
    """Random programs of products, sums and functions, with random tensors kept."""
    random = np.random.RandomState(seed)
    x, w = tf.constant(random.randn(5, 5).astype(F)), K.variable(random.randn(5, 5) / 2)
    tensors = [x, tf.tanh(x)]
    before = len(x.graph.get_operations())
    for _ in range(14):
        a, b = (tensors[i] for i in random.randint(len(tensors), size=2))
        tensors.append(
            [
                lambda: tf.matmul(a, w) / 2,
                lambda: tf.tanh(a + b),
                lambda: tf.sin(a) * b,
                lambda: tf.concat(tf.split(a, [2, 3], 1)[::-1], 1) + tf.reduce_mean(b, 0),
                lambda: tf.nn.softmax(a) @ b,
                lambda: tf.where(a > 0, b, tf.square(a) / (1 + tf.square(a))),
            ][random.randint(6)]()
        )
    inside = set(x.graph.get_operations()[before:])
    share = random.rand()
    outputs = checkpoint([tensors[-1], tensors[-2]], inside=inside.__contains__, keep=lambda op: random.rand() < share)
    assert_same_gradients(outputs, [x, w], {}, 1e-5)


def test_dropout_repeats_its_mask_and_draws_another_in_each_step(rng):
    x = keras.layers.Input([200])

    @recompute
    def f(h):
        return tf.sin(keras.layers.Dropout(0.5)(tf.tanh(h)) * 3.0) * keras.layers.Dropout(0.2)(h)

    y = f(x)
    ones = np.ones([2, 200], F)
    for phase in (1, 0):
        assert_same_gradients(y, [x], {**feeds(phase), x: ones})
    first, second = (get_session().run(y, {**feeds(1), x: ones}) for _ in range(2))
    assert (first != second).mean() > 0.3
    still = get_session().run(y, {**feeds(0), x: ones})
    np.testing.assert_allclose(still, np.sin(np.tanh(1) * 3), rtol=1e-5)


def test_dropout_under_a_step_is_that_without_recompute(rng):
    """`finetune --recompute` draws the masks that a run without it draws."""
    results = []
    x = tf.constant(np.ones([3, 50], F))
    for wrap in (recompute, lambda f: f):
        with repeatable_dropout(3) as step:
            results.append((wrap(lambda h: tf.exp(keras.layers.Dropout(0.3)(h, training=True)))(x), step))
    for _, step in results:
        step.set(7)
    a, b = get_session().run([y for y, _ in results])
    assert (a == b).all() and (a != a[0, 0]).any()


@pytest.mark.parametrize("name", ["GaussianNoise", "GaussianDropout", "Dropout", "SpatialDropout1D"])
def test_other_random_numbers_are_kept(name):
    """Ops with a state do not run twice, so no random layer has to be refused."""
    x = keras.layers.Input([30, 4])
    layer = getattr(keras.layers, name)(0.3)
    noisy = tf.sin(layer(tf.tanh(x)) * 2.0) + x
    before = x.graph.get_operations()
    y = checkpoint([noisy])[0]
    assert len(before) > 3
    assert_same_gradients(y, [x], {**feeds(1), x: np.ones([2, 30, 4], F)})


def test_moving_averages_are_updated_once(rng):
    data = rng.randn(16, 4).astype(F) * 3 + 1
    weights = []
    for wrap in (recompute, lambda layer: layer):
        K.clear_session()
        model = keras.models.Sequential(
            [wrap(keras.layers.BatchNormalization(input_shape=(4,), momentum=0.5)), keras.layers.Dense(1)]
        )
        model.layers[1].set_weights([np.ones([4, 1]), np.zeros(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(data, data[:, :1])
        weights.append(model.get_weights())
    for again, once in zip(*weights):
        np.testing.assert_allclose(again, once, rtol=1e-5, atol=1e-6)


class MaskedSum(keras.layers.Layer):
    """Sums over time, with a mask and a condition on a tensor (AutoGraph on tf.keras)."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(int(shape[-1]),), initializer="ones")
        super().build(shape)

    def call(self, inputs, mask=None):
        assert mask is not None, "the mask was dropped"
        x = tf.exp(inputs * self.scale) * self.scale
        return tf.reduce_sum(x * tf.cast(mask, F)[..., None], axis=1)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, shape):
        return (shape[0], shape[-1])


def masked_model(layer):
    x = keras.layers.Input([None])
    return keras.models.Model(x, layer(keras.layers.Embedding(9, 3, mask_zero=True, name="e")(x)))


@pytest.mark.parametrize("way", ["class", "method"])
def test_layers_keep_masks_in_fit_and_predict(way, rng):
    ids = np.array([[1, 2, 3, 0], [4, 5, 0, 0]])
    trained = []
    for wrapped in (True, False):
        K.clear_session()
        kind = type("Sum", (MaskedSum,), {"call": recompute(MaskedSum.call) if way == "method" else MaskedSum.call})
        if wrapped and way == "class":
            assert recompute(kind) is kind
        layer = kind() if wrapped else MaskedSum()
        model = masked_model(layer)
        assert bool(segments(model.output.graph)) == wrapped
        model.set_weights([np.random.RandomState(k).randn(*w.shape) for k, w in enumerate(model.get_weights())])
        model.compile(keras.optimizers.SGD(0.01), "mse")
        model.fit(ids, np.ones([2, 3]), epochs=2, verbose=0)
        trained.append(model.get_weights() + [model.predict(ids)])
    for again, once in zip(*trained):
        np.testing.assert_allclose(again, once, rtol=1e-5)


def test_conditions_and_loops_inside(rng):
    kernel = K.variable(rng.randn(4, 4) / 2)

    @recompute
    def f(x):
        h = tf.cond(tf.reduce_sum(x) > 0, lambda: tf.sin(x @ kernel) * x, lambda: x * 2.0)
        _, looped = tf.while_loop(lambda i, _: i < 3, lambda i, s: (i + 1, tf.tanh(s @ kernel)), (0, h))
        return tf.exp(looped) * h

    x = tf1.placeholder(F, [None, 4])
    y = f(x)
    value = abs(rng.randn(3, 4))
    for sign in (1, -1):
        sources = [x, kernel] if sign > 0 else [x]
        assert_same_gradients(y, sources, {x: value * sign}, 1e-5)


def test_recompute_within_a_loop(rng):
    kernel = K.variable(rng.randn(4, 4) / 2)
    chunks = tf.constant(rng.randn(3, 5, 4).astype(F))
    sums = []
    for wrap in (recompute, lambda f: f):
        f = wrap(lambda h: tf.sin(keras.layers.Dropout(0.0)(tf.exp(h @ kernel))) * h)

        def body(i, total):
            return i + 1, total + tf.gradients(f(chunks[i]), kernel)[0]

        sums.append(tf.while_loop(lambda i, _: i < 3, body, (0, tf.zeros([4, 4])))[1])
    again, once = get_session().run(sums)
    np.testing.assert_allclose(again, once, rtol=1e-5)


def test_a_stack_of_layers_takes_less_memory_and_none_of_it_early(rng):
    """Eight times f with five inner results: the traced peak, not the graph, says whether the copies wait."""

    def f(h):
        for _ in range(5):
            h = tf.sin(h) * tf.cos(h)
        return h

    x = tf1.placeholder(F, [None, 100])
    value, peaks, gradients = rng.randn(1000, 100).astype(F), [], []
    for wrap in (recompute, lambda f: f):
        h = x
        for _ in range(8):
            h = wrap(f)(h)
        gradient, trace = trace_memory(tf.gradients(h, x), {x: value})
        peaks.append(trace.peak)
        gradients.append(gradient[0])
    assert (gradients[0] == gradients[1]).all()
    assert peaks[0] < 0.45 * peaks[1], peaks
    # kept are eight inputs; at the peak there is one f besides
    assert peaks[0] < value.nbytes * 32


SAVED = """
import sys
import numpy as np
from kexue_keras.backend import K, keras, get_session
import kexue_keras, tensorflow as tf
from kexue_keras.training.recompute._segments import segments
model = keras.models.load_model(sys.argv[1])
assert [l.get_config().get("keep_cost") for l in model.layers if "boundary" in l.name] == [8.0, None]
print(len(segments(model.output.graph)), model.predict(np.ones([2, 6])).tolist())
model.fit(np.ones([2, 6]), np.ones([2, 6]), verbose=0)
"""


def test_boundaries_are_saved_and_still_recompute_in_another_process(tmp_path, run_python, rng):
    x = h = keras.layers.Input([6])
    for keep_cost in (8.0, None):
        h = keras.layers.Dropout(0.1)(keras.layers.Dense(6, activation="tanh")(h))
        h = RecomputeBoundary(keep_cost, name="boundary-%s" % bool(keep_cost))(h)
    model = keras.models.Model(x, h)
    model.compile("sgd", "mse")
    model.fit(rng.randn(4, 6), rng.randn(4, 6), verbose=0)
    path = str(tmp_path / "m.h5")
    model.save(path)
    count, values = run_python(SAVED, path).strip().split(" ", 1)
    assert int(count) == 2
    np.testing.assert_allclose(np.array(eval(values)), model.predict(np.ones([2, 6])), rtol=1e-6)


def test_errors(monkeypatch):
    with pytest.raises(TypeError, match="for all models"):
        recompute(keras.layers.Dense)
    with pytest.raises(TypeError, match="not 3"):
        recompute(3)
    dense = recompute(keras.layers.Dense(2))
    assert recompute(dense).call is dense.call
    import bert4keras.backend

    monkeypatch.setattr(bert4keras.backend, "do_recompute", 1)
    with pytest.raises(RuntimeError, match="Unset RECOMPUTE"):
        recompute(keras.layers.Dense(2))


def test_a_graph_that_was_read_back_says_why_it_has_no_gradient():
    x = tf1.placeholder(F, [None], name="x")
    tf.identity(recompute(lambda h: tf.exp(h) * h)(x), name="y")
    definition = x.graph.as_graph_def()
    with tf.Graph().as_default() as graph:
        tf1.import_graph_def(definition, name="")
        with pytest.raises(ValueError, match="Build the model again"):
            tf.gradients(graph.get_tensor_by_name("y:0"), graph.get_tensor_by_name("x:0"))


def test_what_the_residual_stream_is_a_sum_of_is_known_by_any_name():
    """A product of TensorFlow's einsum is an op of that name in TensorFlow 2, and a BatchMatMul in 1.15."""
    with tf.Graph().as_default() as graph:
        x, a, b = (tf1.placeholder("float32", [2, 3, 3]) for _ in "xab")
        stream = tf.add(x, tf.einsum("bij,bjk->bik", tf.exp(a), tf.exp(b)))
        found = _segments._last_products({stream.op}, set(graph.get_operations()))
    assert len(found) == 1 and {op.type for op in found} <= {"MatMul", "BatchMatMul", "BatchMatMulV2", "Einsum"}
