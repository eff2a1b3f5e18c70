"""Few labelled texts without training the encoder: what the head says by itself, and a regression on its vectors.

The model is asked once for each text and pattern, whatever the number of splits and methods: `Remembered`.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; calibration: Zhao et al., arXiv 2102.09690.
"""

import numpy as np
from scipy.special import softmax

from kexue_keras.models import load
from kexue_keras.prompting import PromptClassifier
from kexue_keras.similarity import SentenceEncoder

SENTENCES = "me5-zh-sp"
REGRESSION_C = np.logspace(-4, 0.5, 10)


class Remembered(object):
    """Values of a function of texts, computed once a text.

    >>> asked = []
    >>> lengths = Remembered(lambda texts: asked.append(texts) or np.array([len(text) for text in texts]))
    >>> lengths(['a', 'bb']).tolist(), lengths(['bb', 'ccc']).tolist(), asked
    ([1, 2], [2, 3], [['a', 'bb'], ['ccc']])
    """

    def __init__(self, function):
        self.function, self.known = function, {}

    def __call__(self, texts):
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known.update(zip(new, self.function(new)))
        return np.array([self.known[text] for text in texts])


def prompt_scores(model, prompts, options, load_options):
    """Log-probabilities of the labels by each of several prompts, as a function of texts.

    Args:
        model: name or folder of an encoder with a trained head; it is loaded again for new texts, since methods that
            train clear the session in between.
        prompts: list of (template, dict label -> word); all have the same labels in the same order.
        options: of `PromptClassifier`.
        load_options: of `models.load`.

    Returns:
        `Remembered`; its values are float64 `[N, prompts, labels]`.
    """

    def ask(texts):
        pretrained = load(model, **dict({"with_mlm": "linear"}, **load_options))
        each = [PromptClassifier(pretrained, *prompt, **options).predict_proba(texts) for prompt in prompts]
        return np.log(np.stack(each, axis=1))

    return Remembered(ask)


def calibrated(scores, of_unlabelled):
    """Log-probabilities without what they are on average over unlabelled texts; see `PromptClassifier.calibrate`.

    Args:
        scores, of_unlabelled: float `[N, ..., labels]` and `[M, ..., labels]`.
    """
    return np.log(softmax(scores - of_unlabelled.mean(axis=0), axis=-1))


def by_prompt(few, calibrate, *, scores=None):
    """Zero-shot in three ways: the first prompt, the one that is best on `valid`, and all together.

    Args:
        few: `FewShot`.
        calibrate: whether the prior over the unlabelled texts is taken off.
        scores: what `prompt_scores` returned; None: those of the model as it is.

    Returns:
        dict "first", "chosen", "ensemble" -> (accuracy on `test`, accuracy on `valid`, what was asked).
    """
    scores = scores or few.remembered("prompts", few.prompt_scores)
    texts = [text for text, _ in few.valid + few.test]
    everything = scores(texts + few.calibration)  # at one go, so that the model is loaded once
    known, unlabelled = everything[: len(texts)], everything[len(texts) :]
    if calibrate:
        known = calibrated(known, unlabelled)
    valid, test = known[: len(few.valid)], known[len(few.valid) :]
    templates = [template for template, _ in few.prompts]
    on_valid, on_test = (
        [accuracy(part[:, k], rows, few) for k in range(len(templates))]
        for part, rows in ((valid, few.valid), (test, few.test))
    )
    best = int(np.argmax(on_valid))
    together = [accuracy(np.exp(s).mean(axis=1), rows, few) for s, rows in ((test, few.test), (valid, few.valid))]
    return {
        "first": (on_test[0], on_valid[0], templates[0]),
        "chosen": (on_test[best], on_valid[best], templates[best]),
        "ensemble": tuple(together) + ("all %d" % len(templates),),
        "each": dict(zip(templates, on_test)),
    }


def accuracy(scores, rows, few):
    """Share of the rows whose label has the largest score."""
    labels = few.verbalizer.labels
    return float(np.mean([labels[i] == label for i, (_, label) in zip(np.argmax(scores, axis=-1), rows)]))


def frozen(few, model):
    """What `regression` scores.

    Returns:
        dict: accuracy, valid, C.
    """
    ask, found = regression(few, model)
    return dict(found, accuracy=accuracy(ask([text for text, _ in few.test]), few.test, few))


def regression(few, model, *, train=None):
    """Logistic regression on the mean vectors of an encoder; of a pair |u - v| and u v.

    scikit-learn's, on standardised vectors; C by the accuracy on `valid`, of equal ones the smallest.

    Args:
        few: `FewShot`.
        model: the encoder.
        train: list of (text, label); None: `few.train`.

    Returns:
        (function of texts -> float `[N, labels]`, in the order of `few.verbalizer.labels`; dict: valid, C).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def encode(texts):
        return SentenceEncoder(model, max_length=few.max_length, **few.load_options).encode(texts)

    vectors = few.remembered(("vectors", model), lambda: Remembered(encode))
    train = few.train if train is None else train
    known = [text for text, _ in train + few.valid + few.test]
    # At one go, so that the model is loaded once.
    vectors([part for text in known for part in (text if isinstance(text, tuple) else (text,))])

    def features(texts):
        if not isinstance(texts[0], tuple):
            return vectors(texts)
        u, v = (vectors([text[i] for text in texts]) for i in (0, 1))
        return np.concatenate([np.abs(u - v), u * v], axis=1)

    (x, y), (x_valid, y_valid) = (
        (features([text for text, _ in rows]), [label for _, label in rows]) for rows in (train, few.valid)
    )
    best = None
    for C in REGRESSION_C:
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000)).fit(x, y)
        on_valid = fitted.score(x_valid, y_valid)
        if best is None or on_valid > best[0]:
            best = on_valid, C, fitted
    on_valid, C, fitted = best
    places = [list(fitted.classes_).index(label) for label in few.verbalizer.labels]

    def ask(texts):
        return fitted.predict_proba(features(texts))[:, places]

    return ask, {"valid": float(on_valid), "C": float(C)}
