"""Pairs with scores in paired.py: one run, or a rival without training, by Spearman's rank correlation.

Takes and returns what the functions of paired_measures.py do; of the answers it keeps the correlation on draws of the
test pairs, the same draws for all runs.
"""

import os
import time

import numpy as np
from intervals import resampled
from paired_measures import finish
from scipy.stats import spearmanr

from kexue_keras.backend import K
from kexue_keras.finetune._finetune import finetune
from kexue_keras.similarity import SentenceEncoder

# Of scikit-learn's ridge regression, from which cross-validation chooses.
PENALTIES = np.logspace(-1, 5, 13)


def measure_pairs(parts, options, seed, folder):
    """Cosines of the trained encoder's vectors."""
    K.clear_session()
    os.makedirs(folder, exist_ok=True)
    train, valid = (write_pairs(part, os.path.join(folder, "%d.tsv" % i)) for i, part in enumerate(parts[:2]))
    run = os.path.join(folder, "run")
    metrics = finetune(data=train, valid=valid, out=run, seed=seed, overwrite=True, quiet=True, **options)
    K.clear_session()
    encoder = SentenceEncoder.load(os.path.join(run, "encoder"))
    found = {"best_epoch": metrics["best_epoch"], "valid": metrics["valid"]["spearman"]}
    found.update(scored(encoder.similarity(*texts_of(parts.test)), parts.test))
    finish(folder)
    return {"": dict(found, seconds=round(metrics["seconds"], 1))}


def measure_untrained(parts, options, seed, folder):
    """The encoder as it is: cosines, or a ridge regression of the scores on u * v and |u - v|."""
    K.clear_session()
    began = time.time()
    layers = {"num_hidden_layers": options["num_hidden_layers"]} if "num_hidden_layers" in options else {}
    encoder = SentenceEncoder(options["model"], max_length=options["max_length"], **layers)
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
