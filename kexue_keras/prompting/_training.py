"""What `PromptClassifier.fit` trains on, by the way its model reads."""

from kexue_keras.data import checked_texts
from kexue_keras.prompting._causal import CausalRows
from kexue_keras.prompting._rows import TrainingRows


def training_rows(classifier, labelled, unlabelled, **options):
    """`TrainingRows` of a classifier.

    Args:
        classifier: `PromptClassifier`.
        labelled: list of (text, label).
        unlabelled: list of texts.
        **options: see `TrainingRows`.

    Raises:
        ValueError: nothing to train on, an unknown label, or unlabelled texts for a UniLM.
    """
    checked_texts([text for text, _ in labelled], name="labelled")
    if not labelled and not unlabelled:
        raise ValueError("there is nothing to train on; give labelled texts")
    make = TrainingRows
    if classifier.reading != "encoder":
        make, options = CausalRows, dict(options, reading=classifier.reading, model=classifier.model)
    if unlabelled and classifier.reading == "unilm":
        raise ValueError(
            "%s is a UniLM, which sees a whole text at once, so of %d unlabelled texts nothing is left to be "
            "predicted; leave them out, or load it with application='lm'"
            % (classifier.pretrained.name, len(unlabelled))
        )
    answers = list(zip([text for text, _ in labelled], classifier.verbalizer.indices_of(labelled)))
    return make(
        classifier._compiled, classifier._words, answers, unlabelled, max_length=classifier.max_length, **options
    )
