"""Few labelled texts with prompts that are trained: PET and its variants, P-tuning, distillation.

Importing it puts them into `METHODS`.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; "P-tuning：自动构建模版，释放语言模型潜能",
kexue.fm/archives/8295; Schick and Schütze, arXiv 2001.07676; R-Drop, arXiv 2106.14448.
"""

import numpy as np
from few_shot_distillation import distilled, likeliest_weights
from few_shot_methods import continued_mlm, continued_prompt_scores, method
from few_shot_untrained import SENTENCES, accuracy, calibrated, regression
from scipy.special import softmax

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


@method("continued MLM, then PET, all patterns")
def continued_mlm_pet(few):
    """One model for all patterns, which has read the task's texts before."""
    found = few.fit(few.classifier(few.patterns, model=continued_mlm(few)))
    return dict(found, **{"texts for MLM": len(few.mlm["texts"])})


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

    The labelled texts are not learnt from; those of `few.valid` choose the epoch. `ensemble` is what the prompts score.
    """
    taught, on_test = said_by_prompts(few, few.remembered("prompts", few.prompt_scores))
    learnt, valid = distilled(few, few.unlabelled, taught)
    result = {"valid": valid, "accuracy": learnt, "ensemble": accuracy(on_test, few.test, few)}
    return dict(result, unlabelled=len(few.unlabelled))


@method("continued MLM, then zero-shot, distilled")
def continued_mlm_distilled(few):
    """A classifier with the sentence encoder learns what all prompts, calibrated, say after masked language modelling.

    The labelled texts are not learnt from; those of `few.valid` choose the epoch. `ensemble` is what the prompts score,
    and `frozen` what a regression on sentence vectors does that learns their answers beside the labelled texts.
    """
    taught, on_test = said_by_prompts(few, continued_prompt_scores(few))
    labels = few.verbalizer.labels
    answers = [(text, labels[i]) for text, i in zip(few.unlabelled, np.argmax(taught, axis=-1))]
    ask, _ = regression(few, SENTENCES, train=few.train + answers)
    cheap = accuracy(ask([text for text, _ in few.test]), few.test, few)
    learnt, valid = distilled(few, few.unlabelled, taught, model=SENTENCES)
    result = {"accuracy": learnt, "valid": valid, "ensemble": accuracy(on_test, few.test, few), "frozen": cheap}
    return dict(result, unlabelled=len(few.unlabelled), student=SENTENCES, **{"texts for MLM": len(few.mlm["texts"])})


def said_by_prompts(few, scores):
    """Mean probabilities of all prompts, calibrated, of the unlabelled texts and of the test texts.

    Args:
        few: `FewShot`.
        scores: what `FewShot.prompt_scores` returned; its session is cleared afterwards.

    Returns:
        Two float `[N, labels]`.
    """
    # At one go, so that the model is loaded once.
    scores = scores(few.unlabelled + few.calibration + [text for text, _ in few.test])
    K.clear_session()
    unlabelled, prior, test = np.split(scores, np.cumsum([len(few.unlabelled), len(few.calibration)]))
    return tuple(np.exp(calibrated(part, prior)).mean(axis=1) for part in (unlabelled, test))


@method("PET and frozen, distilled")
def pet_and_frozen_distilled(few):
    """PET and a regression on sentence vectors, which are wrong about different texts, teach an ordinary classifier."""
    return taught_by_pet_and_frozen(few, few.model)


@method("continued MLM, PET and frozen, distilled")
def continued_mlm_pet_and_frozen_distilled(few):
    """The same, PET after masked language modelling on the task's texts."""
    return dict(taught_by_pet_and_frozen(few, continued_mlm(few)), **{"texts for MLM": len(few.mlm["texts"])})


def taught_by_pet_and_frozen(few, model):
    """Multiply what the two teachers say, and train a classifier on it.

    PET counts with and without its prior; the weights are those that are likeliest on `few.valid`. The classifier has
    the sentence encoder, and learns from `few.unlabelled` alone.

    Args:
        few: `FewShot`.
        model: name or folder of PET's encoder.

    Returns:
        dict: accuracy and valid of the classifier, accuracy of each teacher and of the ensemble, weights.
    """
    parts = [[text for text, _ in few.test], [text for text, _ in few.valid], few.unlabelled]
    texts, ends = sum(parts, []), np.cumsum([len(part) for part in parts])[:-1]
    ask, _ = regression(few, SENTENCES)
    teachers = {"frozen": np.log(ask(texts))}
    K.clear_session()
    classifier = few.classifier(few.patterns, model=model)
    few.fit(classifier)
    each = np.log(np.stack(classifier.probabilities_by_pattern(texts), axis=1))
    K.clear_session()
    teachers["PET"] = np.log(np.exp(each).mean(axis=1))
    teachers["PET, calibrated"] = np.log(np.exp(calibrated(each, each[ends[-1] :])).mean(axis=1))
    on_test, on_valid, _ = zip(*(np.split(said, ends) for said in teachers.values()))
    weights = likeliest_weights(on_valid, [few.verbalizer.labels.index(label) for _, label in few.valid])
    together = np.tensordot(weights, list(teachers.values()), 1)
    result = {name: accuracy(said, few.test, few) for name, said in zip(teachers, on_test)}
    result.update(ensemble=accuracy(together[: ends[0]], few.test, few), weights=np.round(weights, 3).tolist())
    taught = softmax(together[ends[-1] :], axis=-1)
    learnt, valid = distilled(few, few.unlabelled, taught, model=SENTENCES)
    return dict(result, valid=valid, accuracy=learnt, unlabelled=len(few.unlabelled), student=SENTENCES)


def soft_pattern_before_answer(template):
    """The soft pattern with its masks at the end, as a model that reads left to right needs them.

    >>> soft_pattern_before_answer("[unused1]{mask}{mask}[unused2]{text}")
    '[unused1][unused2]{text}[SEP]{mask}{mask}'
    """
    masks = template.count("{mask}")
    return template.replace("{mask}", "") + "[SEP]" + "{mask}" * masks
