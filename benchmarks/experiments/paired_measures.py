"""How one run of paired.py is measured: trained, and every test text answered.

Each function takes (`Parts`, options, seed, folder) and returns a dict from what is added to the variant's name to a
dict with every answer: `right` for one label a text, `counts` for several.
"""

import os
import shutil
import time

import numpy as np
from few_shot_methods import continue_mlm
from few_shot_untrained import calibrated
from intervals import packed, packed_counts

from kexue_keras.backend import K
from kexue_keras.data import write_parts
from kexue_keras.finetune import Classifier
from kexue_keras.finetune._finetune import finetune
from kexue_keras.models import load
from kexue_keras.models._freezing import freeze_below
from kexue_keras.prompting import PromptClassifier

# Of `PromptClassifier`, for classes 0 and 1.
WORDS = {"0": "不", "1": "很"}
PRIOR_TEXTS = 600
# Of the masked language model that goes on with a set's texts, labels left out.
MLM_STEPS, MLM_MODEL = 600, "me5-zh-char-mlm"


def run_finetune(parts, options, seed, folder):
    """(`Classifier`, part of a row) of a fine-tuning; the run is in `folder`."""
    K.clear_session()
    train, valid, test = write_parts(parts[:3], folder)
    options = dict(options)
    if options.get("unlabelled"):
        options["unlabelled"] = os.path.join(folder, "unlabelled.txt")
        with open(options["unlabelled"], "w", encoding="utf-8") as handle:
            handle.write("".join(" ".join(text.split()) + "\n" for text in parts.unlabelled))
    run = os.path.join(folder, "run")
    metrics = finetune(data=train, valid=valid, out=run, seed=seed, overwrite=True, quiet=True, **options)
    K.clear_session()
    found = {"best_epoch": metrics["best_epoch"], "seconds": round(metrics["seconds"], 1), "texts": len(parts.test)}
    return Classifier.load(run), metrics["valid"], found


def measure_classes(parts, options, seed, folder):
    """One label a text."""
    classifier, valid, found = run_finetune(parts, options, seed, folder)
    answers = classifier.predict([text for text, _ in parts.test])
    found.update(scored([answer for answer, _ in answers], parts.test), valid=valid["accuracy"])
    finish(folder)
    return {"": found}


def measure_labels(parts, options, seed, folder):
    """Several labels a text: micro F1 with the usual threshold, with one tuned on the validation texts, one a label."""
    classifier, _, found = run_finetune(parts, dict(options, label_separator="|"), seed, folder)
    valid_logits, valid_targets = logits_and_targets(classifier, parts.valid)
    logits, targets = logits_and_targets(classifier, parts.test)
    finish(folder)
    tuned = best_threshold(valid_logits, valid_targets)
    each = thresholds_of_labels(valid_logits, valid_targets, tuned)
    measured = {}
    for name, threshold in (("", 0.0), (", threshold tuned", tuned), (", a threshold a label", each)):
        counts = counted(logits > threshold, targets)
        row = {"micro_f1": f1(counts), "valid": f1(counted(valid_logits > threshold, valid_targets))}
        measured[name] = dict(found, counts=packed_counts(counts), **row)
    return measured


def logits_and_targets(classifier, rows):
    """Float `[texts, labels]`, and 0 or 1 of the same shape, for rows of (text, "label|label")."""
    logits = classifier.logits(classifier.encode([text for text, _ in rows]))
    return np.asarray(logits), classifier.head.targets([label.split("|") for _, label in rows], classifier.labels)


def measure_prompts(parts, options, seed, folder):
    """PET: one pattern, random masking of texts with and without labels; as trained, and with the prior taken off."""
    K.clear_session()
    began = time.time()
    layers = options.get("num_hidden_layers")  # None: all
    pretrained = load(options["model"], with_mlm="linear", num_hidden_layers=layers)
    freeze_below(pretrained.bert, pretrained.bert.num_hidden_layers - options["train_layers"])
    # Below its own number of layers the head says little.
    how = dict(max_length=options["max_length"], allow_untrained_head=layers is not None)
    classifier = PromptClassifier(pretrained, options["pattern"], WORDS, **how)
    history = classifier.fit(
        parts.train,
        parts.unlabelled,
        epochs=options["epochs"],
        repeats=options["repeats"],
        batch_size=options["batch_size"],
        learning_rate=options["learning_rate"],
        valid=parts.valid,
        seed=seed,
    )
    seconds, labels = round(time.time() - began, 1), classifier.verbalizer.labels
    texts = [text for text, _ in parts.test] + parts.unlabelled[:PRIOR_TEXTS]
    (each,) = classifier.probabilities_by_pattern(texts)
    K.clear_session()
    test, prior = each[: len(parts.test)], each[len(parts.test) :]
    best = max(history, key=lambda row: row["valid"])
    found = {"best_epoch": best["epoch"], "valid": best["valid"], "seconds": seconds, "texts": len(test)}
    answers = {"": test, ", calibrated": calibrated(np.log(test), np.log(prior))}
    return {
        name: dict(found, **scored([labels[i] for i in one.argmax(axis=1)], parts.test))
        for name, one in answers.items()
    }


def continued_mlm(parts, options, folder):
    """Folder of `MLM_MODEL` after masked language modelling on all texts to learn from; made once."""
    K.clear_session()
    texts = sorted([text for text, _ in parts.train] + parts.unlabelled)
    how = {name: options[name] for name in ("max_length", "train_layers", "batch_size", "learning_rate")}
    return continue_mlm(MLM_MODEL, texts, folder, steps=MLM_STEPS, **how)


def scored(answers, test):
    """accuracy, and which were right."""
    right = [answer == label for answer, (_, label) in zip(answers, test)]
    return {"accuracy": sum(right) / len(right), "right": packed(right)}


def counted(decided, targets):
    """int `[texts, 3]`: labels found, named though wrong, and missed of each text."""
    decided, targets = np.asarray(decided, bool), np.asarray(targets) > 0
    parts = (decided & targets, decided & ~targets, ~decided & targets)
    return np.stack([part.sum(axis=1) for part in parts], axis=1)


def f1(counts):
    """Micro F1 of `counted`; 0 where there is nothing.

    >>> f1([[1, 0, 1], [1, 1, 0]])
    0.6666666666666666
    """
    found, wrong, missed = np.sum(counts, axis=0)
    return float(2 * found / max(2 * found + wrong + missed, 1))


def best_threshold(logits, targets):
    """The threshold of the logits with the best micro F1; of equal ones that nearest to 0."""
    tried = sorted(np.linspace(-8, 8, 161), key=abs)
    return float(max(tried, key=lambda threshold: f1(counted(logits > threshold, targets))))


def thresholds_of_labels(logits, targets, usual, least=5):
    """float `[labels]`: the best one for each label that so many texts have, and `usual` for the others."""
    return np.array(
        [
            best_threshold(logits[:, [i]], targets[:, [i]]) if targets[:, i].sum() >= least else usual
            for i in range(targets.shape[1])
        ]
    )


def finish(folder):
    """Remove a run, which has the whole model."""
    K.clear_session()
    shutil.rmtree(folder)
