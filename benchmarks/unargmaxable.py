"""Words that can never be predicted, at the size of a vocabulary: time, verdicts and what decided.

    python benchmarks/unargmaxable.py gaussian [--rows 21128 --size 768 --planted 30]   minutes
    python benchmarks/unargmaxable.py model [--models me5-zh-char-mlm,FOLDER]           the models' words
    python benchmarks/unargmaxable.py plain [--rows 21128 --size 768]                   one class by one whole LP
    python benchmarks/unargmaxable.py share                                             small d, against ConvexHull
    python benchmarks/unargmaxable.py plot                                              docs/analysis/unargmaxable.png

"gaussian": standard normal rows, of which some are replaced by means of 5, 20 or 50 others (no input can choose those:
the truth that verdicts are compared with). Classes are done in parts, each a row in
benchmarks/results/unargmaxable.jsonl or --results, so that a run that was cut off goes on where it was.
"""

import argparse
import os
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
PLOT = os.path.join(HERE, "..", "docs", "analysis", "unargmaxable.png")
MEANS = (5, 20, 50)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("gaussian", "model", "plain", "share", "plot"))
    parser.add_argument("--rows", type=int, default=21128)
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--planted", type=int, default=30)
    parser.add_argument("--part", type=int, default=3000, help="classes between two rows (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", default="me5-zh-char-mlm")
    parser.add_argument("--limit", type=float, default=600, help="plain: seconds (%(default)s)")
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    parser.add_argument("--plot", default=PLOT)
    return parser.parse_args()


def planted_matrix(rows, size, planted, seed):
    """(W, dict planted class -> how many rows it is the mean of)."""
    rng = np.random.RandomState(seed)
    W = rng.standard_normal((rows, size))
    classes = rng.choice(rows, planted, replace=False)
    sources = np.setdiff1d(np.arange(rows), classes)
    counts = {}
    for i, k in enumerate(classes):
        counts[int(k)] = MEANS[i % len(MEANS)]
        W[k] = W[rng.choice(sources, counts[int(k)], replace=False)].mean(axis=0)
    return W, counts


def gaussian(options):
    from record import record, recorded

    from kexue_keras.analysis import find_unargmaxable

    W, planted = planted_matrix(options.rows, options.size, options.planted, options.seed)
    setting = dict(benchmark="gaussian rows with planted means", rows=options.rows, size=options.size)
    setting.update(planted=options.planted, seed=options.seed)
    for start in range(0, options.rows, options.part):
        classes = np.arange(start, min(start + options.part, options.rows))
        row = dict(setting, first=int(classes[0]), last=int(classes[-1]))
        if recorded("unargmaxable", options.results, **row):
            continue
        begin, processor = time.perf_counter(), time.process_time()
        found = find_unargmaxable(W, classes=classes)
        row["seconds"] = round(time.perf_counter() - begin, 2)
        row["processor_seconds"] = round(time.process_time() - processor, 2)
        row["verdicts"] = found.counts()
        row["methods"] = {m: found.method.count(m) for m in sorted(set(found.method))}
        # Each witness again, by one product of its own.
        row["witnesses_checked"] = int(sum(np.argmax(W @ z) == k for k, z in found.witness.items()))
        truth = ["unargmaxable" if int(k) in planted else "argmaxable" for k in classes]
        row["wrong"] = [int(k) for k, t, s in zip(classes, truth, found.status) if t != s]
        record("unargmaxable", row, options.results)
        print(row, flush=True)


def plain(options):
    """A planted class by one linear program with all rows: what the lazy one is compared with."""
    from record import record
    from scipy.optimize import linprog

    W, planted = planted_matrix(options.rows, options.size, options.planted, options.seed)
    k = sorted(planted)[0]
    D = np.delete(W, k, axis=0) - W[k]
    A = np.column_stack([D, np.linalg.norm(D, axis=1)])
    begin = time.perf_counter()
    found = linprog(
        np.append(np.zeros(options.size), -1.0),
        A_ub=A,
        b_ub=np.zeros(len(A)),
        bounds=[(-100, 100)] * options.size + [(None, None)],
        method="highs",
        options={"time_limit": options.limit},
    )
    row = dict(benchmark="one class by a whole LP", rows=options.rows, size=options.size, seed=options.seed)
    row.update(seconds=round(time.perf_counter() - begin, 1), status=int(found.status), limit=options.limit)
    print(record("unargmaxable", row, options.results))


def model(options):
    from record import record

    from kexue_keras import models
    from kexue_keras.analysis import find_unargmaxable, output_layer
    from kexue_keras.errors import WeightsError

    for name in options.models.split(","):
        try:
            loaded = models.load(name, with_mlm="linear")
            W, b = output_layer(loaded)
        except WeightsError:  # no head: the embedding as one, as a head that is trained on it would start
            loaded = models.load(name, num_hidden_layers=1)
            W, b = loaded.bert.layers["Embedding-Token"].get_weights()[0], None
        begin = time.perf_counter()
        found = find_unargmaxable(W, b)
        row = dict(benchmark="model", model=os.path.basename(name), rows=len(W), size=W.shape[1], bias=b is not None)
        row["seconds"] = round(time.perf_counter() - begin, 2)
        row["verdicts"] = found.counts()
        row["methods"] = {m: found.method.count(m) for m in sorted(set(found.method))}
        pairs = [(k, found.beaten_by[int(k)][0][0]) for k in found.of("unargmaxable") if int(k) in found.beaten_by]
        words = [[loaded.tokenizer.id_to_token(int(k)) for k in pair] for pair in pairs]
        row["unused"] = sum(first.startswith("[unused") for first, _ in words)
        row["tied"] = [loaded.tokenizer.id_to_token(int(k)) for k in found.of("tied")[:40]]
        row["examples"] = [pair for pair in words if not pair[0].startswith("[unused")][:30]
        print(record("unargmaxable", row, options.results))


def share(options):
    """Gaussian rows without bias: the share that can never win, mean of 5 draws."""
    from record import record
    from scipy.spatial import ConvexHull

    from kexue_keras.analysis import find_unargmaxable

    for size in (2, 3, 4, 5, 6, 8, 10, 15, 20):
        for rows in (20, 50, 100, 300, 1000):
            if rows <= size + 1:
                continue
            shares, agree = [], True
            for seed in range(5):
                W = np.random.RandomState(seed).standard_normal((rows, size))
                found = find_unargmaxable(W)
                shares.append(len(found.of("unargmaxable")) / rows)
                if size <= 5:
                    agree &= set(ConvexHull(W).vertices) == set(found.of("argmaxable"))
            row = dict(
                benchmark="share of unargmaxable rows", size=size, rows=rows, draws=5, unknown=len(found.of("unknown"))
            )
            row.update(shares=[round(s, 4) for s in shares], mean=round(float(np.mean(shares)), 4))
            row["as_convex_hull"] = bool(agree) if size <= 5 else None
            record("unargmaxable", row, options.results)
            print(size, rows, row["mean"], row["as_convex_hull"], flush=True)


def plot(options):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from record import rows

    latest = {}
    for row in rows("unargmaxable", options.results):
        if row["benchmark"] == "share of unargmaxable rows":
            latest[row["rows"], row["size"]] = row["mean"]
    figure, axes = plt.subplots(figsize=(5.2, 3.2))
    for count in sorted({count for count, _ in latest}):
        points = sorted((size, mean) for (c, size), mean in latest.items() if c == count)
        axes.plot(*zip(*points), marker="o", markersize=3, label="%d classes" % count)
    axes.set_xlabel("dimension d")
    axes.set_ylabel("classes that can never win")
    axes.set_ylim(0, 1)
    axes.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(options.plot, dpi=110)


if __name__ == "__main__":
    chosen = arguments()
    {"gaussian": gaussian, "model": model, "plain": plain, "share": share, "plot": plot}[chosen.what](chosen)
