"""Random decoding side by side: as it comes, top-k, top-p, and distributions of a given entropy.

    python benchmarks/sampling.py FOLDER [--seeds 0,1,2]   FOLDER: a RoFormer-Sim (../shared/weights/roformer_sim)
    python benchmarks/sampling.py --report                 table, and docs/sampling.png, from the rows

The model says a question in other words: questions of LCQMC's test part, several samples of each. Rows of
benchmarks/results/sampling.jsonl, which are not computed again:

    perplexity    of the samples under the model, without temperature and cut: how ordinary they are
    copies        share that is the question itself
    different     share of a question's samples that no other sample is equal to
    distinct_2    different pairs of characters over all pairs, of the samples of one question
    repetition    share of samples with a pair of characters twice
    similarity    mean cosine with the question by the bundled encoder, which knows nothing of the model
    useful        different samples a question, no copies, with a cosine of .95 or more
"""

import argparse
import gzip
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
TEXTS = os.path.join(HERE, "..", "..", "shared", "data", "senteval_cn", "LCQMC", "LCQMC.test.data.gz")
WAYS = {
    "as it comes": {},
    "top-k 5": {"top_k": 5},
    "top-k 20": {"top_k": 20},
    "top-p 0.5": {"top_p": 0.5},
    "top-p 0.8": {"top_p": 0.8},
    "top-p 0.95": {"top_p": 0.95},
    "entropy 0.5": {"entropy": 0.5},
    "entropy 1.0": {"entropy": 1.0},
    "entropy 1.5": {"entropy": 1.5},
    "entropy at most 0.5": {"entropy": 0.5, "cap_only": True},
    "entropy at most 1.0": {"entropy": 1.0, "cap_only": True},
    "entropy at most 1.5": {"entropy": 1.5, "cap_only": True},
}
MEASURES = ("perplexity", "copies", "different", "distinct_2", "repetition", "similarity", "useful")
NEAR = 0.95


def questions(count):
    """Questions of LCQMC's test part, each once."""
    with gzip.open(TEXTS, "rt", encoding="utf-8") as handle:
        found = list(dict.fromkeys(line.split("\t")[0] for line in handle))
    return [found[i] for i in np.random.RandomState(0).permutation(len(found))[:count]]


def pairs(text):
    return [text[i : i + 2] for i in range(len(text) - 1)]


def measure(texts, rows, scores, lengths, encoder):
    """Dict of `MEASURES`; rows: list of the list of samples of each text."""
    flat = [x or "。" for row in rows for x in row]
    vectors = encoder.encode(texts + flat)
    cosines = np.sum(np.repeat(vectors[: len(texts)], len(rows[0]), axis=0) * vectors[len(texts) :], axis=1)
    cosines = cosines.reshape(len(texts), -1)
    useful = 0
    for text, row, near in zip(texts, rows, cosines):
        useful += len({x for x, cosine in zip(row, near) if cosine >= NEAR and x != text})
    found = {
        "perplexity": np.exp(-scores.sum() / lengths.sum()),
        "copies": np.mean([x == text for text, row in zip(texts, rows) for x in row]),
        "different": np.mean([len(set(row)) / len(row) for row in rows]),
        "distinct_2": np.mean(
            [len({p for x in row for p in pairs(x)}) / max(1, len(sum(map(pairs, row), []))) for row in rows]
        ),
        "repetition": np.mean([len(set(pairs(x))) < len(pairs(x)) for x in flat]),
        "similarity": cosines.mean(),
        "useful": useful / len(texts),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def report(options):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from record import rows

    found = [r for r in rows("sampling", options.results) if r["samples"] == options.samples]
    print("| | %s | seeds |" % " | ".join(MEASURES))
    kinds = {"as it comes": "k*", "top-k": "o-", "top-p": "s-", "entropy": "^-", "entropy at most": "v-"}
    points = {kind: [] for kind in kinds}
    for way in WAYS:
        group = [r for r in found if r["way"] == way]
        if not group:
            continue
        cells = ["%.3g (%.2g)" % (np.mean([r[m] for r in group]), np.std([r[m] for r in group])) for m in MEASURES]
        print("| %s | %s | %d |" % (way, " | ".join(cells), len(group)))
        kind = way if way in kinds else way.rsplit(" ", 1)[0]
        points[kind].append([np.mean([r[m] for r in group]) for m in ("different", "similarity")])
    figure, axes = plt.subplots(figsize=(5, 3.4))
    for kind, style in kinds.items():
        if points[kind]:
            axes.plot(*np.array(points[kind]).T, style, label=kind, markersize=5)
    axes.set_xlabel("different samples, share")
    axes.set_ylabel("cosine with the question")
    axes.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(options.plot, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    parser.add_argument("--plot", default=os.path.join(HERE, "..", "docs", "sampling.png"))
    options = parser.parse_args()
    if options.report:
        return report(options)
    from record import record, recorded

    from kexue_keras import models
    from kexue_keras.decoding import Generator
    from kexue_keras.similarity import SentenceEncoder

    loaded = models.load(options.folder, application="unilm", with_mlm="linear")
    tokenizer = loaded.tokenizer
    generator = Generator(loaded.model, end_id=tokenizer._token_end_id)
    encoder = SentenceEncoder("me5-zh-sp", pooling="mean")
    texts = questions(options.questions)
    ids = [tokenizer.encode(text, maxlen=40)[0] for text in texts]
    for seed in [int(s) for s in options.seeds.split(",")]:
        for way, how in WAYS.items():
            row = dict(way=way, seed=seed, questions=len(texts), samples=options.samples)
            if recorded("sampling", options.results, **row):
                continue
            found = generator.sample([ids], max_length=32, n=options.samples, seed=seed, **how)
            said = [[tokenizer.decode(x) for x in one] for one in found.lists(end_id=tokenizer._token_end_id)]
            row.update(measure(texts, said, found.scores, found.lengths, encoder))
            row["examples"] = said[0][:3]
            record("sampling", row, options.results)
            print(way, seed, {name: row[name] for name in MEASURES}, flush=True)


if __name__ == "__main__":
    main()
