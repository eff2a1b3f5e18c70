"""Titles of abstracts in paired.py: a UniLM that writes them, or a rival that copies a piece of the abstract.

Takes and returns what the functions of paired_measures.py do; of the answers it keeps the ROUGE-L of every title.
"""

import os
import re
import time

import numpy as np
from paired_measures import finish

from kexue_keras.backend import K
from kexue_keras.data import read_table
from kexue_keras.finetune import finetune_seq2seq, generation_scores
from kexue_keras.similarity import SentenceEncoder
from kexue_keras.trainer import Techniques

# The options that are techniques; the others are those of `finetune_seq2seq`.
TECHNIQUES = "rdrop", "gradient_penalty"
CLAUSE = re.compile("[，。；：！？,;:!?]|[.](?![0-9])")
SENTENCE = re.compile("[。；！？;!?]|[.](?![0-9])")


def measure_titles(parts, options, seed, folder):
    """The trained model's greedy titles."""
    K.clear_session()
    os.makedirs(folder, exist_ok=True)
    options = {name: value for name, value in options.items() if name != "train_layers"}
    options["max_source_length"] = options.pop("max_length")
    techniques = Techniques(**{name: options.pop(name) for name in TECHNIQUES if name in options})
    run = os.path.join(folder, "run")
    how = dict(techniques=techniques, seed=seed, overwrite=True, quiet=True, say=lambda line: None)
    metrics = finetune_seq2seq(train=parts.train, valid=parts.valid, test=parts.test, out=run, **dict(how, **options))
    written = [row[0] for row in read_table(os.path.join(run, "generated.tsv")).rows]
    found = {"best_epoch": metrics["best_epoch"], "valid": metrics["valid"]["rouge-l"] / 100}
    found.update(scored(written, parts.test))
    finish(folder)
    return {"": dict(found, seconds=round(metrics["seconds"], 1))}


def measure_copied(parts, options, seed, folder):
    """A piece of the abstract, chosen without training; see `COPIED`."""
    K.clear_session()
    began = time.time()
    found = scored(COPIED[options["frozen"]](parts, options), parts.test)
    return {"": dict(found, seconds=round(time.time() - began, 1))}


def first_sentence(parts, options):
    """What stands before the first full stop or semicolon."""
    return [SENTENCE.split(text)[0] for text, _ in parts.test]


def first_characters(parts, options):
    """So many characters from the start as are best for the texts to learn from and to choose by."""
    known = parts.train + parts.valid

    def score(count):
        return np.mean(rouge_l([text[:count] for text, _ in known], [title for _, title in known]))

    best = max(range(10, 61, 5), key=score)
    return [text[:best] for text, _ in parts.test]


def nearest_clause(parts, options):
    """The clause, between two marks, whose vector is nearest to that of the whole abstract."""
    encoder = SentenceEncoder(options["model"], max_length=options["max_length"])
    clauses = [[one for one in CLAUSE.split(text) if len(one) > 5] or [text] for text, _ in parts.test]
    flat = encoder.encode([one for of in clauses for one in of], normalize=True)
    whole = encoder.encode([text for text, _ in parts.test], normalize=True)
    starts = np.cumsum([0] + [len(of) for of in clauses])
    return [of[int(np.argmax(flat[i:j] @ v))] for of, i, j, v in zip(clauses, starts, starts[1:], whole)]


COPIED = {"first sentence": first_sentence, "first characters": first_characters, "nearest clause": nearest_clause}


def rouge_l(written, titles):
    """float `[texts]` from 0 to 1."""
    return np.array([generation_scores([ours], [title])["rouge-l"] / 100 for ours, title in zip(written, titles)])


def scored(written, test):
    """rouge_l, and that of each text in ten-thousandths, which intervals need."""
    each = rouge_l(written, [title for _, title in test])
    return {"rouge_l": float(each.mean()), "each": np.round(1e4 * each).astype(int).tolist(), "texts": len(test)}
