"""Pairs with scores in paired.py: one run, or a rival without training, by Spearman's rank correlation.

Takes and returns what the functions of paired_measures.py do; of the answers it keeps the correlation on draws of the
test pairs, the same draws for all runs.
"""

import os
import time

import numpy as np
from intervals import resampled
from paired_measures import finish
from paired_sets import scored_pairs
from scipy.stats import spearmanr

from kexue_keras.backend import K
from kexue_keras.data import read_inference_pairs
from kexue_keras.finetune import PairSet, train_sentence_bert
from kexue_keras.finetune._finetune import finetune
from kexue_keras.models._freezing import freeze_below
from kexue_keras.similarity import SentenceEncoder

# Of scikit-learn's ridge regression, from which cross-validation chooses.
PENALTIES = np.logspace(-1, 5, 13)
DROPOUT = 0.1
# Scores of STS-B above it say that two texts mean the same.
ABOVE = 2.5
# A denial, another place and another way of saying it; the article's question is whether the first stays high.
OPPOSITES = [("我喜欢北京", "我不喜欢北京"), ("我喜欢北京", "我喜欢上海"), ("我喜欢北京", "我很喜欢北京")]


def measure_pairs(parts, options, seed, folder):
    """Cosines of the trained encoder's vectors; with the option `first`, after the stage of `trained_on_classes`."""
    os.makedirs(folder, exist_ok=True)
    options = dict(options)
    stage = options.pop("first", None)
    found, trained = {"seconds": 0}, None
    if stage is not None:
        trained, found = trained_on_classes(parts, options, stage, seed, os.path.join(folder, "first"))
        options["model"] = trained
    if options["epochs"]:
        trained, of_cosent = trained_on_scores(parts, options, seed, folder)
        found = dict(found, **dict(of_cosent, seconds=found["seconds"] + of_cosent["seconds"]))
    K.clear_session()
    answers = SentenceEncoder.load(trained).similarity(*texts_of(parts.test))
    finish(folder)
    return {"": dict(found, **scored(answers, parts.test))}


def trained_on_scores(parts, options, seed, folder):
    """(Folder of the encoder after `finetune --task similarity`, part of a row)."""
    K.clear_session()
    train, valid = (write_pairs(part, os.path.join(folder, "%d.tsv" % i)) for i, part in enumerate(parts[:2]))
    run = os.path.join(folder, "run")
    metrics = finetune(data=train, valid=valid, out=run, seed=seed, overwrite=True, quiet=True, **options)
    found = {"best_epoch": metrics["best_epoch"], "valid": metrics["valid"]["spearman"]}
    return os.path.join(run, "encoder"), dict(found, seconds=round(metrics["seconds"], 1))


def trained_on_classes(parts, options, stage, seed, folder):
    """RoFormer-Sim-FT's stage: one Sentence-BERT head for pairs alike or not, and for inference.

    Returns:
        (folder of the encoder, part of a row: Spearman on other questions and the cosines of `OPPOSITES`, before and
        after, and the seconds of the training).
    """
    K.clear_session()
    encoder = SentenceEncoder(
        options["model"],
        pooling=options.get("pooling", "mean"),
        max_length=options["max_length"],
        num_hidden_layers=options.get("num_hidden_layers"),
        dropout_rate=DROPOUT,
        attention_dropout_rate=DROPOUT,
    )
    bert = encoder.pretrained.bert
    if options["train_layers"] is not None:
        freeze_below(bert, bert.num_hidden_layers - options["train_layers"])
    alike = [(parts.train, ABOVE), (scored_pairs(parts.more["questions"]), 0.5)]
    sets = [
        PairSet.from_scores([texts for texts, _ in rows], [float(score) for _, score in rows], above)
        for rows, above in alike
    ]
    inference = read_inference_pairs(parts.more["inference"])
    sets.append(PairSet.from_inference(inference.texts, inference.labels))
    questions = scored_pairs(parts.more["questions to test on"])
    before, began = told(encoder, questions), time.time()
    train_sentence_bert(encoder, sets, groups=(2, 3), seed=seed, **stage)
    seconds = round(time.time() - began, 1)
    after = told(encoder, questions)
    encoder.save(folder, overwrite=True)
    return folder, dict({name: [before[name], after[name]] for name in before}, seconds=seconds)


def told(encoder, questions):
    """Spearman on other questions, and the cosines of `OPPOSITES`."""
    spearman = spearmanr(encoder.similarity(*texts_of(questions)), [float(score) for _, score in questions])[0]
    cosines = encoder.similarity(*zip(*OPPOSITES))
    return {"questions": round(float(spearman), 4), "opposites": np.round(cosines.astype("float64"), 3).tolist()}


def measure_untrained(parts, options, seed, folder):
    """The encoder as it is: cosines, or a ridge regression of the scores on u * v and |u - v|."""
    K.clear_session()
    began = time.time()
    layers = {"num_hidden_layers": options["num_hidden_layers"]} if "num_hidden_layers" in options else {}
    pooling = options.get("pooling", "mean")
    encoder = SentenceEncoder(options["model"], pooling=pooling, max_length=options["max_length"], **layers)
    if options["frozen"] == "cosine":
        answers = encoder.similarity(*texts_of(parts.test))
    else:
        answers = ridge(encoder, parts.train).predict(features(encoder, parts.test))
    found = scored(answers, parts.test)
    return {"": dict(found, seconds=round(time.time() - began, 1))}


def features(encoder, pairs):
    """float `[pairs, 2 d + 1]`: u * v, |u - v| and the cosine."""
    u, v = (encoder.encode(texts, normalize=True) for texts in texts_of(pairs))
    return np.concatenate([u * v, np.abs(u - v), np.sum(u * v, axis=1, keepdims=True)], axis=1)


def ridge(encoder, pairs):
    """Ridge regression of the scores on standardised `features`, its penalty by cross-validation."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))
    return model.fit(features(encoder, pairs), [float(score) for _, score in pairs])


def scored(answers, pairs):
    """spearman, and what intervals need."""
    answers, scores = np.asarray(answers), np.array([float(score) for _, score in pairs])

    def of(places):
        return spearmanr(answers[places], scores[places])[0]

    return {
        "spearman": float(of(np.arange(len(pairs)))),
        "resampled": resampled(of, len(pairs)),
        "texts": len(pairs),
    }


def texts_of(pairs):
    """The two lists of texts."""
    return [[texts[side] for texts, _ in pairs] for side in (0, 1)]


def write_pairs(pairs, path):
    """Path of a file as `finetune --task similarity` reads it."""
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("text\ttext_b\tscore\n")
        for texts, score in pairs:
            handle.write("\t".join(" ".join(cell.split()) for cell in texts + (score,)) + "\n")
    return path
