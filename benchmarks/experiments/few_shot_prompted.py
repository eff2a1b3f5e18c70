"""Few labelled texts with prompts that are trained: PET and its variants, P-tuning, distillation.

Importing it puts them into `METHODS`.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; "P-tuning：自动构建模版，释放语言模型潜能",
kexue.fm/archives/8295; Schick and Schütze, arXiv 2001.07676; R-Drop, arXiv 2106.14448.
"""

import numpy as np
from few_shot_distillation import distilled
from few_shot_methods import method
from few_shot_untrained import accuracy, calibrated

from kexue_keras.backend import K
from kexue_keras.models import load
from kexue_keras.prompting import PromptClassifier
from kexue_keras.trainer import Techniques

UNILM = "roformer-sim-zh-small"
RDROP = 4.0


@method("PET")
def pet(few):
    """The first pattern, trained on the labelled texts."""
    return few.fit(few.classifier(few.patterns[0]))


@method("PET, all patterns")
def pet_all(few):
    """One model for all patterns, each text in each of them."""
    return few.fit(few.classifier(few.patterns))


@method("P-tuning")
def p_tuning(few):
    """Soft tokens instead of a pattern, and nothing else trained."""
    return few.fit(few.classifier(few.soft_pattern, trained="soft_tokens"), learning_rate=few.soft_learning_rate)


@method("P-tuning, all weights")
def p_tuning_all(few):
    """Soft tokens, and everything trained."""
    return few.fit(few.classifier(few.soft_pattern))


@method("PET + unlabelled")
def pet_unlabelled(few):
    """The first pattern, and random masking of unlabelled texts in the same stream."""
    return dict(few.fit(few.classifier(few.patterns[0]), unlabelled=few.unlabelled), unlabelled=len(few.unlabelled))


@method("PET, answers alone")
def pet_answers(few):
    """The first pattern without random masking of the text: [MASK] stands for the answer only."""
    return few.fit(few.classifier(few.patterns[0]), mask_rate=0.0)


@method("PET, all patterns, answers alone")
def pet_all_answers(few):
    """One model for all patterns, without random masking."""
    return few.fit(few.classifier(few.patterns), mask_rate=0.0)


@method("PET + R-Drop")
def pet_rdrop(few):
    """The first pattern; two dropouts of every row are to agree on the answer and on the hidden tokens."""
    return few.fit(few.classifier(few.patterns[0]), techniques=Techniques(rdrop=RDROP))


@method("causal P-tuning, UniLM")
def causal_p_tuning(few):
    """Soft tokens round the text, and a model that reads left to right says the answer; nothing else trained."""
    pattern = soft_pattern_before_answer(few.soft_pattern)
    reader = PromptClassifier(
        load(UNILM, application="unilm", with_mlm="linear"),
        pattern,
        few.verbalizer,
        max_length=few.max_length,
        trained="soft_tokens",
    )
    return dict(few.fit(reader, learning_rate=few.soft_learning_rate), reader=UNILM, pattern=pattern)


@method("PET, distilled")
def pet_distilled(few):
    """A model a pattern; an ordinary classifier learns what their weighted mean says of the unlabelled texts."""
    tests, taught, weights = [], [], []
    for pattern in few.patterns:
        K.clear_session()
        classifier = few.classifier(pattern)
        # As PET does: by the accuracy on the training texts before training.
        weights.append(classifier.accuracy(few.train))
        few.fit(classifier)
        tests.append(classifier.predict_proba([text for text, _ in few.test]))
        taught.append(classifier.predict_proba(few.unlabelled))
    weights = weights if sum(weights) else None
    ensemble = np.average(tests, axis=0, weights=weights)
    taught = np.average(taught, axis=0, weights=weights)
    K.clear_session()
    on_test, valid = distilled(few, few.unlabelled, taught)
    result = {"valid": valid, "accuracy": on_test, "ensemble": accuracy(ensemble, few.test, few)}
    return dict(result, unlabelled=len(few.unlabelled))


@method("zero-shot, distilled")
def zero_shot_distilled(few):
    """An ordinary classifier learns what all prompts, calibrated and with nothing trained, say of unlabelled texts.

    The labelled texts are not learnt from; those of `few.valid` choose the epoch.
    """
    scores = few.remembered("prompts", few.prompt_scores)
    taught = np.exp(calibrated(scores(few.unlabelled), scores(few.calibration))).mean(axis=1)
    K.clear_session()
    on_test, valid = distilled(few, few.unlabelled, taught)
    return {"valid": valid, "accuracy": on_test, "unlabelled": len(few.unlabelled)}


def soft_pattern_before_answer(template):
    """The soft pattern with its masks at the end, as a model that reads left to right needs them.

    >>> soft_pattern_before_answer("[unused1]{mask}{mask}[unused2]{text}")
    '[unused1][unused2]{text}[SEP]{mask}{mask}'
    """
    masks = template.count("{mask}")
    return template.replace("{mask}", "") + "[SEP]" + "{mask}" * masks
