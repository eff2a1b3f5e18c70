"""What a fine-tuned model has to beat: the majority class, and TF-IDF with logistic regression."""

from collections import Counter

from kexue_keras.errors import UserError


def majority_accuracy(train, test):
    """Accuracy of always answering the most frequent training label.

    Args:
        train, test: lists of (text, label).

    >>> majority_accuracy([('a', 1), ('b', 1), ('c', 0)], [('d', 1), ('e', 0)])
    0.5
    """
    label, _ = Counter(label for _, label in train).most_common(1)[0]
    return sum(label == true for _, true in test) / len(test)


def tfidf_accuracy(train, test, *, inverse_regularisation=10.0):
    """Accuracy of logistic regression on TF-IDF of single characters and pairs of them.

    Characters need no segmentation, and on a few hundred Chinese reviews they do as well as words. The default
    strength was the best of 1, 10, 100 on rows of the reviews outside the demo's test set.

    Args:
        train, test: lists of (text, label).
        inverse_regularisation: float, `C` of scikit-learn's LogisticRegression.

    Returns:
        float in [0, 1].

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError:
        raise UserError("this baseline takes scikit-learn, which is not installed: pip install scikit-learn")

    model = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=inverse_regularisation, solver="liblinear", max_iter=300),
    )
    model.fit([text for text, _ in train], [label for _, label in train])
    return float(model.score([text for text, _ in test], [label for _, label in test]))
