"""A head that starts as a linear probe: logistic regression on the vectors of the encoder as it was loaded.

A head of noise first pulls the encoder about; one that fits what the encoder says already does not.

Reference: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", arXiv
2202.10054 (linear probing, then fine-tuning).
"""

import numpy as np

from kexue_keras.backend import keras
from kexue_keras.data import BucketedBatches
from kexue_keras.errors import UserError

STRENGTHS = np.logspace(-4, 1, 11)  # C of scikit-learn's LogisticRegression
# Logit of a class without a training text, that of the others being around 0.
ABSENT = -10.0


def check_head_init(options):
    """Refuse a probe where there are no classes, or no scikit-learn; before anything is read.

    Raises:
        UserError: with what to do.
    """
    if options.head_init == "random":
        return
    if options.task != "classification" or options.label_separator is not None:
        raise UserError("--head-init probe takes a regression with one class a text; leave it out here")
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise UserError("--head-init probe takes scikit-learn, which is not installed: pip install scikit-learn")


def start_as_probe(classifier, train, valid, say):
    """Set the dense layer of a classifier to a logistic regression on its pooled vectors.

    The vectors are standardised for the regression, and the layer has that folded in. C is the one with the best
    accuracy on the validation texts, of equal ones the smallest.

    Args:
        classifier: `Classifier`, its encoder as loaded.
        train, valid: pairs of encoded texts and int `[N]`, their classes.
        say: function that takes a line.

    Raises:
        UserError: the training texts have one class only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    (x, y), (x_valid, y_valid) = (
        (pooled(classifier, encoded), np.asarray(classes).reshape(-1)) for encoded, classes in (train, valid)
    )
    if len(np.unique(y)) < 2:
        raise UserError("--head-init probe takes training texts of two classes at least")
    scaler, best = StandardScaler().fit(x), None
    for strength in STRENGTHS:
        regression = LogisticRegression(C=strength, max_iter=2000).fit(scaler.transform(x), y)
        accuracy = regression.score(scaler.transform(x_valid), y_valid)
        if best is None or accuracy > best[0]:
            best = accuracy, strength, regression
    accuracy, strength, regression = best
    classifier.model.get_layer("logits").set_weights(dense_weights(regression, scaler, len(classifier.labels)))
    say("the head starts as a regression on the encoder's vectors: accuracy %.4f (C %.2g)" % (accuracy, strength))


def pooled(classifier, encoded):
    """What the dense layer of a classifier gets for encoded texts, float64 `[N, d]`."""
    model = classifier.model
    vectors = keras.models.Model(model.inputs, model.get_layer("pooling").output)
    batches = BucketedBatches(encoded, batch_size=classifier.batch_size, max_length=classifier.max_length)
    out = np.zeros((len(encoded), vectors.output_shape[-1]))
    for indices in batches.in_length_order():
        out[indices] = vectors.predict_on_batch(batches.inputs(indices))
    return out


def dense_weights(regression, scaler, num_classes):
    """[kernel `[d, C]`, bias `[C]`] whose softmax on plain vectors is the regression's on standardised ones."""
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(coefficients) == 1:  # of two classes scikit-learn keeps the difference
        coefficients, intercepts = (np.concatenate([-v, v]) / 2 for v in (coefficients, intercepts))
    kernel, bias = np.zeros((coefficients.shape[1], num_classes)), np.full(num_classes, ABSENT)
    kernel[:, regression.classes_] = (coefficients / scaler.scale_).T
    bias[regression.classes_] = intercepts - (coefficients * scaler.mean_ / scaler.scale_).sum(axis=1)
    return [kernel, bias]
