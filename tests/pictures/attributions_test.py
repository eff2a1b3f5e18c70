"""Integrated gradients: complete, exact for a linear model, numpy's central differences; pictures and pages."""

import numpy as np
import pytest
from reviews import reviews, write_rows
from scipy.special import logit

from kexue_keras.backend import K
from kexue_keras.errors import UserError
from kexue_keras.finetune import Classifier, finetune
from kexue_keras.pictures import IntegratedGradients
from kexue_keras.pictures._attributions import _log_odds

# The runs are trained once, on the stack that has all of these tests.
pytestmark = pytest.mark.together
TEXT = "我看电影不好"


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory):
    """Folders of frozen runs: one label, several."""
    K.clear_session()
    folder = tmp_path_factory.mktemp("runs")
    rows = [(text, label) for text, label in reviews(40)]
    several = [(text, label + "|常" * (i % 2)) for i, (text, label) in enumerate(rows)]
    found = {}
    for name, data, more in (("single", rows, {}), ("several", several, {"label_separator": "|"})):
        path = write_rows(folder / (name + ".tsv"), [("text", "label")] + data, separator="\t")
        found[name] = str(folder / name)
        finetune(tiny, path, found[name], frozen=True, max_length=24, quiet=True, **more)
    K.clear_session()
    return found


@pytest.mark.parametrize("kind", ["single", "several"])
def test_they_add_up_to_the_difference_of_the_log_odds(runs, kind):
    classifier = Classifier.load(runs[kind])
    gradients = IntegratedGradients(classifier, steps=64)
    probabilities = classifier.probabilities([TEXT])[0]
    for index, label in enumerate(classifier.labels):
        found = gradients.explain(TEXT, label=label)
        assert found.probability == pytest.approx(probabilities[index])
        assert found.log_odds == pytest.approx(logit(probabilities[index]), abs=1e-3)
        assert abs(found.gap) < 2e-3 * max(1, abs(found.log_odds - found.baseline_log_odds))
        assert found.scores[0] == found.scores[-1] == 0 and len(found.scores) == len(found.tokens)  # [CLS], [SEP]
    assert gradients.explain(TEXT).label == classifier.labels[int(np.argmax(probabilities))]
    if kind == "single":  # of two labels one is the opposite of the other
        both = [gradients.explain(TEXT, label=label).scores for label in classifier.labels]
        np.testing.assert_allclose(both[0], -both[1], atol=1e-4)


def test_the_slope_is_that_of_central_differences(runs):
    classifier = Classifier.load(runs["single"])
    gradients = IntegratedGradients(classifier, steps=1, baseline="zero")
    ids, segments = (np.array([part]) for part in classifier.tokenizer.encode(TEXT))
    wanted = np.array([0.0, 1.0], "float32")
    session_feed = dict(zip(classifier.model.inputs, (ids, segments)))
    with classifier.session.entered() as session:
        x = session.run(gradients._embedded, session_feed)
        middle = x.copy()
        middle[:, 1:-1] /= 2

        def odds(embedded):
            feed = dict(session_feed)
            feed.update({gradients._embedded: embedded, gradients._wanted: wanted})
            return session.run(gradients._odds, feed)[0]

        expected = []
        for i in range(1, 5):
            step = np.zeros_like(x)
            step[0, i] = x[0, i] * 0.05
            expected.append((odds(middle + step) - odds(middle - step)) / 0.1)
    found = gradients.explain(TEXT, label=classifier.labels[1])
    np.testing.assert_allclose(found.scores[1:5], expected, rtol=0.02, atol=2e-3)


def test_log_odds_of_a_head(rng):
    logits = rng.randn(3, 4).astype("float32")
    wanted = np.array([0, 0, 1, 0], "float32")
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for head, expected in (
        ("single", logit(shares[:, 2])),
        ("sigmoid", logits[:, 2]),
        ("multi", 2 * logits[:, 2]),
    ):
        np.testing.assert_allclose(K.eval(_log_odds(K.constant(logits), wanted, head)), expected, atol=1e-5)


def test_baselines_pictures_and_refusals(runs, tmp_path):
    classifier = Classifier.load(runs["single"])
    for baseline in ("zero", "pad"):
        found = IntegratedGradients(classifier, steps=64, baseline=baseline).explain(TEXT)
        assert abs(found.gap) < 1e-2 and np.ptp(found.scores) > 0
    found.save(tmp_path / "a.png")
    found.save(str(tmp_path / "a.html"))
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.count('class="t"') == len(found.tokens) and "%+.3f" % found.scores[1] in page
    assert found.facts()["tokens"][1] == [found.tokens[1], found.scores[1]]
    with pytest.raises(ValueError, match="writes .png or .html"):
        found.save("a.svg")
    gradients = IntegratedGradients(classifier)
    with pytest.raises(ValueError, match="no label 'x'; there are"):
        gradients.explain(TEXT, label="x")
    with pytest.raises(UserError, match="this model takes single texts"):
        gradients.explain((TEXT, TEXT))
    with pytest.raises(ValueError, match="baseline must be one of .*'noise'"):
        IntegratedGradients(classifier, baseline="noise")
    with pytest.raises(ValueError, match="steps"):
        IntegratedGradients(classifier, steps=0)
    masked = IntegratedGradients(classifier).explain(TEXT).scores
    np.testing.assert_array_equal(masked, IntegratedGradients(classifier, baseline="mask").explain(TEXT).scores)
    classifier.tokenizer._token_mask_id = None
    padded = IntegratedGradients(classifier).explain(TEXT).scores
    np.testing.assert_array_equal(padded, IntegratedGradients(classifier, baseline="pad").explain(TEXT).scores)
    with pytest.raises(ValueError, match="baseline is 'mask', but the tokenizer has no such token"):
        IntegratedGradients(classifier, baseline="mask")
