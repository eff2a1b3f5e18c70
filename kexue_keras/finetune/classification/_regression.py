"""A logistic regression on the encoder's vectors: as the start of the head, or as all that is trained.

A head of noise first pulls the encoder about; one that starts as a linear probe fits what the encoder says already:
Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", arXiv 2202.10054. With
a few hundred texts the regression alone is hard to beat, and takes seconds.
"""

import contextlib
import time
import warnings

import numpy as np

from kexue_keras.backend import keras, prediction_batching
from kexue_keras.data import PredictionBatches
from kexue_keras.errors import UserError
from kexue_keras.options.finetune import as_option

# C of scikit-learn's LogisticRegression, from which the best is chosen.
STRENGTHS = np.logspace(-4, 1, 11)
FOLDS = 5
# Logit of a class without a training text, that of the others being around 0.
ABSENT = -10.0


def check_regression(run):
    """Refuse a regression where there are no classes, or no scikit-learn, and what has no training; nothing is read.

    Args:
        run: `Run`.

    Raises:
        UserError: with what to do.
    """
    options = run.options
    option = "--frozen" if options.frozen else "--head-init probe"
    if not options.frozen and options.head_init == "random":
        return
    if options.task != "classification":
        raise UserError("%s takes labels of texts, which --task %s has not; leave it out here" % (option, options.task))
    if options.frozen:
        idle = sorted(run.techniques.facts())
        idle += [
            name
            for name in ("train_layers", "head_lr_multiplier", "metric", "patience")
            if getattr(options, name) is not None
        ]
        idle += ["head_init"] if options.head_init != "random" else []
        if idle:
            raise UserError(
                "--frozen trains no encoder, so there is nothing for %s to do; leave one of them out"
                % ", ".join(map(as_option, idle))
            )
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise UserError("%s takes scikit-learn, which is not installed: pip install scikit-learn" % option)


def start_as_probe(classifier, train, valid, say):
    """Set the dense layer of a classifier to a logistic regression on its pooled vectors; several labels, one each.

    The vectors are standardised for the regression, and the layer has that folded in. C is the one with the best
    accuracy (micro F1 with several labels per text) on the validation texts, of equal ones the smallest.

    Args:
        classifier: `Classifier`, its encoder as loaded.
        train, valid: pairs of encoded texts and what they are: int `[N]`, classes; or 0 and 1, `[N, C]`.
        say: function that takes a line.

    Raises:
        UserError: the training texts have one class only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import StandardScaler

    (x, y), (x_valid, y_valid) = (
        (pooled(classifier, encoded), np.asarray(classes)) for encoded, classes in (train, valid)
    )
    several = y.ndim == 2
    if not several:
        check_two_classes(y, "--head-init probe")
    scaler, best = StandardScaler().fit(x), None
    for strength in STRENGTHS:
        regression = LogisticRegression(C=strength, max_iter=2000)
        if several:
            regression = OneVsRestClassifier(regression)
        with rare_classes_are_known():
            regression.fit(scaler.transform(x), y)
            answers = regression.predict(scaler.transform(x_valid))
            score = f1_score(y_valid, answers, average="micro") if several else accuracy_score(y_valid, answers)
        if best is None or score > best[0]:
            best = score, strength, regression
    score, strength, regression = best
    set_regression(classifier, regression, scaler)
    measured = ", one a label: micro F1" if several else ": accuracy"
    say("the head starts as a regression on the encoder's vectors%s %.4f (C %.2g)" % (measured, score, strength))


@contextlib.contextmanager
def rare_classes_are_known():
    """Without scikit-learn's warnings of rare classes, and of the largest C, which does not converge."""
    from sklearn.exceptions import ConvergenceWarning, FitFailedWarning

    with warnings.catch_warnings():
        for category in (UserWarning, ConvergenceWarning, FitFailedWarning):
            warnings.simplefilter("ignore", category)
        yield


def fit_frozen(classifier, encoded, targets, *, groups, weights=None, say=print):
    """Set the dense layer of a classifier to a regression whose C is chosen by cross-validation; the encoder stays.

    C is the one with the best mean accuracy (micro F1 with several labels per text) over the folds, of equal ones the
    smallest. Equal texts are in the same fold.

    Args:
        classifier: `Classifier`, its encoder as loaded.
        encoded: list of (token ids, segment ids).
        targets: int `[N]`, classes; or 0 and 1, `[N, C]`, for several labels per text.
        groups: int `[N]`, equal for equal texts.
        weights: float `[N]`, of the texts in the loss, or None.
        say: function that takes a line.

    Returns:
        JSON-able dict: C, folds, score (of the best C, mean over the folds), seconds.

    Raises:
        UserError: the training texts have one class only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    begin, several = time.time(), np.ndim(targets) == 2
    if not several:
        check_two_classes(targets, "--frozen")
    most = len(targets) if several else np.bincount(targets).max()  # more folds than texts of any class cannot be
    folds = max(2, min(FOLDS, len(np.unique(groups)), most))
    x = pooled(classifier, encoded)
    regression = LogisticRegression(max_iter=2000)
    if several:
        model = make_pipeline(StandardScaler(), OneVsRestClassifier(regression))
        name, scoring, parts = "onevsrestclassifier__estimator__C", "f1_micro", GroupKFold(folds)
    else:
        model = make_pipeline(StandardScaler(), regression)
        name, scoring = "logisticregression__C", "accuracy"
        parts = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    # Where the other folds have one class only, nothing can be fitted, and all is wrong.
    search = GridSearchCV(model, {name: STRENGTHS}, scoring=scoring, cv=parts, error_score=0.0)
    more = {} if weights is None else {"logisticregression__sample_weight": weights}
    with rare_classes_are_known():
        search.fit(x, targets, groups=groups, **more)
    scaler, fitted = (step for _, step in search.best_estimator_.steps)
    set_regression(classifier, fitted, scaler)
    found = {"C": float(search.best_params_[name]), "folds": folds, "score": float(search.best_score_)}
    say(
        "regression on the frozen encoder's vectors: %s %.4f in %d-fold cross-validation (C %.2g)"
        % ({"f1_micro": "micro F1"}.get(scoring, scoring), found["score"], folds, found["C"])
    )
    return dict(found, seconds=round(time.time() - begin, 1))


def check_two_classes(classes, option):
    """Refuse training texts that all have the same class.

    Raises:
        UserError: they have.
    """
    if len(np.unique(classes)) < 2:
        raise UserError("%s takes training texts of two classes at least" % option)


def pooled(classifier, encoded):
    """What the dense layer of a classifier gets for encoded texts, float64 `[N, d]`."""
    model = classifier.model
    vectors = keras.models.Model(model.inputs, model.get_layer("pooling").output)
    batches = PredictionBatches(
        encoded, batch_size=classifier.batch_size, max_length=classifier.max_length, **prediction_batching()
    )
    out = np.zeros((len(encoded), vectors.output_shape[-1]))
    for indices in batches.in_length_order():
        out[indices] = vectors.predict_on_batch(batches.inputs(indices))
    return out


def set_regression(classifier, regression, scaler):
    """Give the dense layer of a classifier the weights of a regression."""
    make = several_weights if hasattr(regression, "estimators_") else dense_weights
    classifier.model.get_layer("logits").set_weights(make(regression, scaler, len(classifier.labels)))


def dense_weights(regression, scaler, num_classes):
    """[kernel `[d, C]`, bias `[C]`] whose softmax on plain vectors is the regression's on standardised ones."""
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(coefficients) == 1:  # of two classes scikit-learn keeps the difference
        coefficients, intercepts = (np.concatenate([-v, v]) / 2 for v in (coefficients, intercepts))
    kernel, bias = np.zeros((coefficients.shape[1], num_classes)), np.full(num_classes, ABSENT)
    kernel[:, regression.classes_], bias[regression.classes_] = unscaled(coefficients, intercepts, scaler)
    return [kernel, bias]


def several_weights(regressions, scaler, num_classes):
    """[kernel `[d, C]`, bias `[C]`] whose sigmoids are those of a `OneVsRestClassifier`.

    A label that no training text has, or all have, has no regression; its answer is always the same.
    """
    kernel, bias = np.zeros((len(scaler.mean_), num_classes)), np.zeros(num_classes)
    for label, regression in enumerate(regressions.estimators_):
        if hasattr(regression, "coef_"):
            column, bias[label : label + 1] = unscaled(regression.coef_, regression.intercept_, scaler)
            kernel[:, label] = column[:, 0]
        else:
            bias[label] = -ABSENT if regression.predict(scaler.mean_[None])[0] else ABSENT
    return [kernel, bias]


def unscaled(coefficients, intercepts, scaler):
    """(kernel `[d, C]`, bias `[C]`) for plain vectors, of `[C, d]` and `[C]` for standardised ones."""
    return (coefficients / scaler.scale_).T, intercepts - (coefficients * scaler.mean_ / scaler.scale_).sum(axis=1)
