"""What the bundled models can do, against the weights that they were packed from.

    python benchmarks/bundled_models.py mlm|similarity|generation MODEL [MODEL...] --data DATA  # bundled names, folders

mlm         share of hidden tokens (15%, three draws) that the head finds, on test texts that no training has seen
similarity  Spearman of the cosine with the labels of STS-B and LCQMC, nothing trained
generation  nats a token of one question of a pair given the other (LCQMC, pairs that mean the same)

DATA has fewclue/ and senteval_cn/ as FewCLUE and SentEval-zh give them; rows go to results/bundled_models.jsonl.
"""

import argparse
import gzip
import json
import os

import numpy as np
from record import record
from scipy.special import logsumexp


def texts_of(data):
    """Name -> list of test texts."""

    def fewclue(task, *keys):
        path = os.path.join(data, "fewclue", task, "test_public.json")
        opened = (
            open(path, encoding="utf-8") if os.path.exists(path) else gzip.open(path + ".gz", "rt", encoding="utf-8")
        )
        with opened as handle:
            return [" ".join(str(row[key]) for key in keys) for row in map(json.loads, handle)]

    return {
        "eprstmt": fewclue("eprstmt", "sentence"),
        "tnews": fewclue("tnews", "sentence"),
        "bustm": fewclue("bustm", "sentence1"),
        "STS-B": [first for first, _, _ in pairs_of(data, "STS-B")],
    }


def pairs_of(data, name):
    """Test pairs: (text, text, score)."""
    path = os.path.join(data, "senteval_cn", name, name + ".test.data")
    opened = gzip.open(path + ".gz", "rt", encoding="utf-8") if name == "LCQMC" else open(path, encoding="utf-8")
    with opened as handle:
        rows = [line.rstrip("\n").split("\t") for line in handle]
    return [(first, second, float(score)) for first, second, score in rows]


def mlm(model, args):
    """Rows of masked accuracy, one a set of texts."""
    from kexue_keras.finetune import MaskedLanguageModel

    trained = MaskedLanguageModel(model, max_length=64)
    for name, texts in texts_of(args.data).items():
        drawn = [trained.evaluate(texts[: args.limit], seed=seed) for seed in (1, 2, 3)]
        accuracy = [scores["accuracy"] for scores in drawn]
        yield {
            "texts": name,
            "rows": len(texts[: args.limit]),
            "accuracy": float(np.mean(accuracy)),
            "spread": float(np.std(accuracy, ddof=1)),
            "tokens": int(sum(scores["tokens"] for scores in drawn)),
        }


def similarity(model, args):
    """Rows of Spearman, one a set and pooling."""
    from scipy.stats import spearmanr

    from kexue_keras.models import load
    from kexue_keras.similarity import SentenceEncoder

    pretrained = load(model, **({"with_pool": "linear"} if args.pooler else {}))
    for pooling in ("linear-pooler",) if args.pooler else ("mean", "cls"):
        encoder = SentenceEncoder(pretrained, pooling=pooling, max_length=64)
        for name in ("STS-B", "LCQMC"):
            pairs = pairs_of(args.data, name)[: args.limit]
            vectors = encoder.encode([text for pair in pairs for text in pair[:2]])
            cosines = (vectors[::2] * vectors[1::2]).sum(-1)
            cosines /= np.linalg.norm(vectors[::2], axis=-1) * np.linalg.norm(vectors[1::2], axis=-1)
            value = spearmanr(cosines, [score for _, _, score in pairs]).correlation
            yield {"pairs": name, "rows": len(pairs), "pooling": pooling, "spearman": float(value)}


def generation(model, args):
    """One row: nats a token, and how often the likeliest token is the right one."""
    from kexue_keras.finetune import Seq2Seq
    from kexue_keras.models import load

    pretrained = load(model, application="unilm", with_mlm="linear")
    seq2seq = Seq2Seq(pretrained, max_source_length=64, max_target_length=64)
    pairs = [pair[:2] for pair in pairs_of(args.data, "LCQMC") if pair[2] == 1][: args.limit]
    encoded, nats, right, count = seq2seq.encode_pairs(pairs), 0.0, 0, 0
    for begin in range(0, len(encoded), 32):
        inputs, targets = seq2seq.batch(encoded[begin : begin + 32])
        logits = pretrained.model.predict_on_batch(inputs).astype("float64")
        predicted = targets != 0
        logits, targets = logits[predicted], targets[predicted]
        nats += (logsumexp(logits, axis=-1) - logits[np.arange(len(targets)), targets]).sum()
        right += (logits.argmax(-1) == targets).sum()
        count += len(targets)
    yield {"pairs": "LCQMC", "rows": len(pairs), "nats": nats / count, "accuracy": right / count, "tokens": count}


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["mlm", "similarity", "generation"])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="bundled name or folder")
    parser.add_argument("--data", required=True, help="folder with fewclue/ and senteval_cn/")
    parser.add_argument("--limit", type=int, default=1000, help="rows of a set (%(default)s)")
    parser.add_argument("--pooler", action="store_true", help="similarity: vectors of the linear pooler")
    args = parser.parse_args()
    for model in args.models:
        for row in {"mlm": mlm, "similarity": similarity, "generation": generation}[args.what](model, args):
            name = os.path.basename(os.path.normpath(model))
            print(record("bundled_models", dict(row, part=args.what, model=name)), flush=True)


if __name__ == "__main__":
    main()
