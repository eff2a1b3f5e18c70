"""Triplet loss and Matryoshka: numpy twins, the numbers of sentence-transformers, gradients, wrong shapes, saving."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.losses import CoSENT, Matryoshka, SimilarityDistillation, TripletLoss, triplet_loss

# Three times four vectors, as sentence-transformers 6.2.0 (PyTorch 2.14, float64) was given them.
VECTORS = np.random.RandomState(5).randn(3, 4, 6)
# distance -> margin, its mean loss, its sum of absolute gradients
PEER = {
    "cosine": (0.5, 0.888002868520461, 3.339030585513994),
    "euclidean": (1.0, 1.014478326876661, 4.486015001335573),
    "manhattan": (1.0, 1.545868742718051, 8.0),
}


def twin(a, p, n, distance, margin):
    """One triplet, in float64."""

    def d(x, y):
        if distance == "cosine":
            return 1 - x @ y / np.sqrt((x @ x) * (y @ y))
        return np.abs(x - y).sum() if distance == "manhattan" else np.sqrt(((x - y) ** 2).sum())

    return max(0.0, d(a, p) - d(a, n) + margin)


@pytest.mark.parametrize("distance", sorted(PEER))
def test_numbers_of_sentence_transformers(distance):
    margin, value, slope = PEER[distance]
    vectors = K.constant(VECTORS, "float64")
    losses = triplet_loss(vectors[0], vectors[1], vectors[2], distance=distance, margin=margin)
    found, gradient = get_session().run([losses, K.gradients(K.mean(losses), [vectors])[0]])
    assert found.mean() == pytest.approx(value, abs=1e-12) and np.abs(gradient).sum() == pytest.approx(slope, abs=1e-9)
    expected = [twin(*(VECTORS[k, i] for k in range(3)), distance, margin) for i in range(4)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_whatever_the_vectors_are():
    given_ = tf1.placeholder("float64", [None, 3, 5])
    losses = {name: TripletLoss(name, margin=0.3).call(None, given_) for name in PEER}
    slopes = {name: K.gradients(K.sum(loss), [given_])[0] for name, loss in losses.items()}
    session = get_session()

    @given(st.integers(1, 4), st.integers(0, 10**6), st.booleans())
    def check(n, seed, equal):
        vectors = np.random.RandomState(seed).randn(n, 3, 5)
        if equal:
            vectors[:, 1] = vectors[:, 0]
        found, gradients = session.run([losses, slopes], {given_: vectors})
        for name in PEER:
            expected = [twin(*row, name, 0.3) for row in vectors]
            np.testing.assert_allclose(found[name], expected, atol=1e-9)
            assert np.isfinite(gradients[name]).all()

    check()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_zero_vectors_and_half_precision(dtype):
    vectors = K.constant(np.zeros([2, 3, 4]), dtype)
    for distance, margin in (("cosine", 0.5), ("euclidean", 5.0), ("manhattan", 5.0)):
        loss = TripletLoss(distance).call(None, vectors)
        found, gradient = get_session().run([loss, K.gradients(loss, [vectors])[0]])
        np.testing.assert_allclose(found, [margin] * 2, atol=1e-3)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TripletLoss("dot"), "distance must be one of 'cosine', 'euclidean', 'manhattan', but is 'dot'"),
        (lambda: TripletLoss(margin=-1), "margin must be a number >= 0"),
        (lambda: TripletLoss().call(None, K.zeros([3, 2, 4])), r"three vectors, but its shape is \(3, 2, 4\)"),
        (lambda: TripletLoss().call(None, K.zeros([6, 4])), "triplets, 3, dimension"),
        (lambda: Matryoshka(TripletLoss(), []), "some different numbers"),
        (lambda: Matryoshka(TripletLoss(), [2, 2]), "some different numbers"),
        (lambda: Matryoshka(TripletLoss(), [0]), "dimensions must be a whole number >= 1"),
        (lambda: Matryoshka(TripletLoss(), [2, 4], weights=[1]), "there are 1 for 2"),
        (lambda: Matryoshka(TripletLoss(), [2], weights=[0]), "weights must be a number > 0"),
        (lambda: Matryoshka(TripletLoss(), [5]).call(None, K.zeros([2, 3, 4])), "have only 4 components"),
    ],
)
def test_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_matryoshka_takes_a_loss_of_this_package():
    for loss in ("mse", keras.losses.mse, TripletLoss):
        with pytest.raises(TypeError, match="must be an instance of a loss of kexue_keras"):
            Matryoshka(loss, [2])


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_matryoshka_of_sentence_transformers(distance):
    inner = TripletLoss(distance, margin=PEER[distance][0])
    loss = Matryoshka(inner, [6, 4, 2], weights=[1, 0.5, 0.25], normalize=True)
    found = K.eval(loss.call(None, K.constant(VECTORS.transpose(1, 0, 2), "float64"))).mean()
    assert found == pytest.approx({"euclidean": 2.222934792207867, "cosine": 1.464865529057699}[distance], abs=1e-9)


def test_matryoshka_of_a_loss_that_takes_the_weights_itself():
    vectors, labels, weights = VECTORS[:2].transpose(1, 0, 2), [1.0, 0.0, 0.5, 0.0], [1.0, 2.0, 0.0, 1.0]
    inner = CoSENT(labels="per_pair")
    loss = Matryoshka(inner, [2, 6], weights=[0.5, 2.0])
    for given_ in (None, K.constant(weights)):
        parts = [inner(K.constant(labels), K.constant(vectors[..., :m]), sample_weight=given_) for m in (2, 6)]
        found = loss(K.constant(labels), K.constant(vectors), sample_weight=given_)
        assert K.eval(found) == pytest.approx(K.eval(0.5 * parts[0] + 2 * parts[1]), rel=1e-5)
    # The targets are whole: vectors of a teacher are not cut.
    teacher = Matryoshka(SimilarityDistillation(), [2, 6])
    assert np.isfinite(K.eval(teacher.call(K.constant(VECTORS[0]), K.constant(VECTORS[1])))).all()


@pytest.mark.all_stacks
def test_trained_with_sample_weights_and_saved(tmp_path, run_python):
    inputs = keras.layers.Input((3, 6))
    model = keras.models.Model(inputs, keras.layers.Dense(8)(inputs))
    loss = Matryoshka(TripletLoss("euclidean", margin=2.0), [8, 4], weights=[1.0, 0.5], name="nested")
    model.compile("sgd", loss)
    x, y, weights = VECTORS.transpose(1, 0, 2), np.zeros([4, 1]), np.array([1.0, 0.0, 2.0, 1.0])
    values = K.eval(loss.call(None, K.constant(model.predict(x))))
    assert float(model.test_on_batch(x, y)) == pytest.approx(values.mean(), rel=1e-5)
    weighted = float(model.test_on_batch(x, y, sample_weight=weights))
    assert weighted == pytest.approx((values * weights).mean(), rel=1e-5)
    before = model.test_on_batch(x, y)
    for _ in range(5):
        model.train_on_batch(x, y)
    after = float(model.test_on_batch(x, y))
    assert after < before
    model.save(str(tmp_path / "model.h5"))
    np.save(str(tmp_path / "x.npy"), x)
    said = run_python(
        """
import sys
import numpy as np
import kexue_keras
from kexue_keras.backend import keras
model = keras.models.load_model(sys.argv[1] + "/model.h5")
x = np.load(sys.argv[1] + "/x.npy")
print(float(model.test_on_batch(x, np.zeros([4, 1]))))
""",
        tmp_path,
    )
    assert float(said) == pytest.approx(after, rel=1e-5)
