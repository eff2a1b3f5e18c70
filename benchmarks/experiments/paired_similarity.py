"""Pairs with scores in paired.py: one run, or a rival without training, by Spearman's rank correlation.

Takes and returns what the functions of paired_measures.py do; of the answers it keeps the correlation on draws of the
test pairs, the same draws for all runs.
"""

import json
import os
import shutil
import time
import zlib

import numpy as np
from intervals import resampled
from paired_measures import finish
from paired_sets import scored_pairs
from scipy.stats import spearmanr

from kexue_keras.backend import K
from kexue_keras.data import read_inference_pairs
from kexue_keras.files import atomic
from kexue_keras.finetune import PairSet, train_sentence_bert
from kexue_keras.finetune._finetune import finetune
from kexue_keras.models._freezing import freeze_below
from kexue_keras.similarity import SentenceEncoder

# Of scikit-learn's ridge regression, from which cross-validation chooses.
PENALTIES = np.logspace(-1, 5, 13)
DROPOUT = 0.1
# Scores of STS-B above it say that two texts mean the same.
ABOVE = 2.5
# Of the way from the encoder as it was to the mean of several trained ones.
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# A denial, another place and another way of saying it; the article's question is whether the first stays high.
OPPOSITES = [("我喜欢北京", "我不喜欢北京"), ("我喜欢北京", "我喜欢上海"), ("我喜欢北京", "我很喜欢北京")]


def measure_pairs(parts, options, seed, folder):
    """Cosines of the trained encoder's vectors; with the option `first`, after the stage of `trained_on_classes`."""
    trained, found = trained_encoder(parts, options, seed, folder)
    K.clear_session()
    answers = SentenceEncoder.load(trained).similarity(*texts_of(parts.test))
    finish(folder)
    return {"": dict(found, **scored(answers, parts.test))}


def measure_mean(parts, options, seed, folder):
    """The same with the mean of the weights of as many runs as the option `runs` says, with seeds from `seed` on.

    Of the way from the weights before training to that mean, the share counts whose Spearman is best on the validation
    pairs (arXiv 2203.05482, 2109.01903). The runs are kept beside `folder`, and are not repeated.
    """
    options = dict(options)
    runs = range(seed, seed + options.pop("runs"))
    said = "%08x" % zlib.crc32(json.dumps(options, sort_keys=True).encode())
    homes = [os.path.join(os.path.dirname(folder), "encoder-%s-%d" % (said, one)) for one in runs]
    for one, home in zip(runs, homes):
        if not os.path.exists(home + ".json"):
            trained, found = trained_encoder(parts, options, one, folder)
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(trained, home)
            with atomic(home + ".json", "w") as handle:
                json.dump({"seconds": found["seconds"]}, handle)
            finish(folder)
    start, _ = weights_of(SentenceEncoder, options["model"], pooling=options.get("pooling", "mean"), **size(options))
    each = [weights_of(SentenceEncoder.load, home) for home in homes]
    mean, encoder = [np.mean(same, axis=0) for same in zip(*(weights for weights, _ in each))], each[-1][1]
    answers = {}
    for share in SHARES:
        encoder.pretrained.bert.model.set_weights([a + share * (b - a) for a, b in zip(start, mean)])
        answers[share] = [encoder.similarity(*texts_of(part)) for part in (parts.valid, parts.test)]
    on_valid = {share: correlation(found, parts.valid) for share, (found, _) in answers.items()}
    best = max(SHARES, key=on_valid.get)
    seconds = 0
    for home in homes:
        with open(home + ".json") as handle:
            seconds += json.load(handle)["seconds"]
    shares = {"%g" % share: round(correlation(found, parts.test), 4) for share, (_, found) in answers.items()}
    result = {"share": best, "shares": shares, "valid": on_valid[best], "seconds": round(seconds, 1)}
    return {"": dict(result, **scored(answers[best][1], parts.test))}


def weights_of(make, *given, **options):
    """(weights of the encoder that `make` returns in a new session, encoder)."""
    K.clear_session()
    encoder = make(*given, **options)
    return encoder.pretrained.bert.model.get_weights(), encoder


def size(options):
    """What of the options is for `SentenceEncoder`."""
    return {name: options[name] for name in ("max_length", "num_hidden_layers") if name in options}


def trained_encoder(parts, options, seed, folder):
    """(Folder of the encoder, part of a row): the stages that there are, one after the other."""
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
    return trained, found


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
        **size(options),
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
    spearman = correlation(encoder.similarity(*texts_of(questions)), questions)
    cosines = encoder.similarity(*zip(*OPPOSITES))
    return {"questions": round(spearman, 4), "opposites": np.round(cosines.astype("float64"), 3).tolist()}


def measure_untrained(parts, options, seed, folder):
    """The encoder as it is: cosines, or a ridge regression of the scores on u * v and |u - v|."""
    K.clear_session()
    began = time.time()
    encoder = SentenceEncoder(options["model"], pooling=options.get("pooling", "mean"), **size(options))
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


def correlation(answers, pairs):
    """Spearman of the answers with the scores."""
    return float(spearmanr(answers, [float(score) for _, score in pairs])[0])


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
