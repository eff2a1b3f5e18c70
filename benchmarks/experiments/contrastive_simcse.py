"""SimCSE (kexue.fm/archives/8348) on unlabelled sentences, in small batches and in large ones of a gradient cache
(kexue.fm/archives/8471), over several seeds: Spearman correlation on STS-B before and after.

    python experiments/contrastive_simcse.py --data FOLDER      FOLDER has STS-B.train.data and STS-B.test.data:
                                                             sentence<TAB>sentence<TAB>0..5, no header
    python experiments/contrastive_simcse.py --quick            (made-up sentences, a minute)

The Chinese STS-B is for research only, so it does not come with this package. Each run is written to OUT/rows.jsonl;
started again, the script goes on with those that are missing.
"""

import argparse
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import numpy as np  # noqa: E402
from record import record, rows  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

from kexue_keras import losses, models, optimizers, training  # noqa: E402
from kexue_keras.backend import K, keras, quiet, set_seed  # noqa: E402
from kexue_keras.data import BucketedBatches, encode  # noqa: E402
from kexue_keras.data._batches import pad  # noqa: E402
from kexue_keras.errors import UserError  # noqa: E402
from kexue_keras.training.gradient_cache import gradient_cache  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.path.join(HERE, "..", "..", "..", "shared", "data", "senteval_cn", "STS-B")


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=SHARED, help="folder with STS-B.train.data and STS-B.test.data")
    parser.add_argument("--out", default=os.path.join("runs", "contrastive_simcse"))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 512], help="sentences (%(default)s)")
    parser.add_argument("--chunk", type=int, default=64, help="rows in memory at a time (%(default)s)")
    parser.add_argument("--sentences", type=int, default=1536, help="training sentences (%(default)s)")
    parser.add_argument("--max-length", type=int, default=24, help="tokens a training sentence (%(default)s)")
    parser.add_argument(
        "--num-hidden-layers", type=int, default=12, help="lowest layers of the encoder to use (%(default)s)"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-5, help="for batches of 64; grows with the root")
    parser.add_argument("--dropout-rate", type=float, default=0.1, help="the paper's value; the article has 0.3")
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.sentences, options.max_length, options.num_hidden_layers, options.seeds = 32, 12, 1, [1]
        options.batch_sizes, options.chunk = [32], 16
    return options


def read(path):
    """Rows (sentence, sentence, score)."""
    try:
        with open(path, encoding="utf-8") as handle:
            rows = [line.rstrip("\n").split("\t") for line in handle]
    except FileNotFoundError:
        raise UserError("no such file; see --data", path=path)
    return [(first, second, float(score)) for first, second, score in rows]


def made_up(count, seed):
    """Rows in the form of the data, for --quick: the score is the number of parts that two sentences share."""
    rng = random.Random(seed)
    parts = [["一个男人", "一个女人", "两个孩子"], ["在公园里", "在厨房里", "在路边"], ["跑步", "做饭", "弹吉他", "看书"]]
    rows = []
    for _ in range(count):
        first = [rng.choice(part) for part in parts]
        second = [a if rng.random() < 0.6 else rng.choice(part) for a, part in zip(first, parts)]
        rows.append(("".join(first) + "。", "".join(second) + "。", sum(a == b for a, b in zip(first, second))))
    return rows


def build(options):
    """The pretrained encoder, mean of its token vectors, and its tokenizer."""
    pretrained = models.load(
        "me5-zh-sp",
        num_hidden_layers=options.num_hidden_layers,
        dropout_rate=options.dropout_rate,
        attention_dropout_rate=options.dropout_rate,
    )
    pooled = keras.layers.GlobalAveragePooling1D()(pretrained.model.output)
    return keras.models.Model(pretrained.model.inputs, pooled), pretrained.tokenizer


def evaluate(encoder, tokenizer, rows):
    """Spearman correlation of cosine and score."""
    texts = sorted({text for row in rows for text in row[:2]})
    encoded, _ = encode(tokenizer, texts, 64)
    batches, vectors = BucketedBatches(encoded, batch_size=64, max_length=64), {}
    for indices in batches.in_length_order():
        found = encoder.predict_on_batch(batches.inputs(indices))
        vectors.update(zip([texts[i] for i in indices], found / np.linalg.norm(found, axis=1, keepdims=True)))
    return float(spearmanr([vectors[a] @ vectors[b] for a, b, _ in rows], [score for _, _, score in rows])[0])


def train(options, sentences, test, batch_size, seed):
    """One run; its row."""
    K.clear_session()
    set_seed(seed)
    encoder, tokenizer = build(options)
    # Two views of a sentence are the same tokens with another dropout; all others of the batch are its negatives.
    model = gradient_cache(encoder, chunk_size=options.chunk, views=2)
    loss = losses.InfoNCE(options.temperature, layout="two_view")
    rate = options.learning_rate * (batch_size / 64) ** 0.5
    model.compile(optimizers.AdamW(rate), training.TwoViewLoss(loss))
    chosen = random.Random(seed).sample(sentences, options.sentences)
    x = list(pad(encode(tokenizer, chosen, options.max_length)[0], options.max_length))
    start = time.time()
    history = model.fit(x, np.zeros([len(chosen), 1, 1]), batch_size=batch_size, verbose=0).history
    return {
        "name": "SimCSE, batch %d" % batch_size,
        "seed": seed,
        "spearman": evaluate(encoder, tokenizer, test),
        "loss": float(history["loss"][-1]),
        "learning_rate": rate,
        "seconds": time.time() - start,
    }


def table(rows):
    """Markdown: mean and spread over the seeds."""
    lines = ["| run | seeds | Spearman x 100 | minutes |", "|---|---|---|---|"]
    for name in sorted({row["name"] for row in rows}, key=[row["name"] for row in rows].index):
        mine = [row for row in rows if row["name"] == name]
        scores = 100 * np.array([row["spearman"] for row in mine])
        spread = " ± %.2f" % scores.std(ddof=1) if len(mine) > 1 else ""
        minutes = np.mean([row["seconds"] for row in mine]) / 60
        lines.append("| %s | %d | %.2f%s | %.1f |" % (name, len(mine), scores.mean(), spread, minutes))
    return "\n".join(lines)


def main(argv=None):
    """Run what is not there yet; returns all rows."""
    options = parse(argv)
    quiet()
    if options.quick:
        data, test = made_up(200, 1), made_up(60, 2)
    else:
        data, test = (read(os.path.join(options.data, "STS-B.%s.data" % part)) for part in ("train", "test"))
    sentences = sorted({text for row in data for text in row[:2]})
    if options.quick:
        sentences = sentences[: options.sentences]
    if len(sentences) < options.sentences:
        raise UserError("there are %d sentences; --sentences asks for %d" % (len(sentences), options.sentences))
    kept = ("sentences", "max_length", "num_hidden_layers", "learning_rate", "dropout_rate", "temperature", "quick")
    budget = {name: getattr(options, name) for name in kept}
    found = [row for row in rows("rows", options.out) if row["budget"] == budget]

    def done(row):
        found.append(record("rows", dict(row, budget=budget), options.out))
        print("%(name)s, seed %(seed)d: Spearman %(spearman).4f" % row, flush=True)

    there = {(row["name"], row["seed"]) for row in found}
    if ("before", 0) not in there:
        start, score = time.time(), evaluate(*build(options), test)
        done({"name": "before", "seed": 0, "spearman": score, "seconds": time.time() - start})
    for seed in options.seeds:
        for batch_size in options.batch_sizes:
            if ("SimCSE, batch %d" % batch_size, seed) not in there:
                done(train(options, sentences, test, batch_size, seed))
    print(table(found))
    return found


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("contrastive_simcse: %s" % error)
