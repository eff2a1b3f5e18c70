"""How many dimensions are enough: the lemmas, search by codes, low rank, attention heads, word vectors.

    python benchmarks/dimensions.py lemmas    observed failures against the bounds
    python benchmarks/dimensions.py search    codes and projections of sentence vectors (faiss, scikit-learn)
    python benchmarks/dimensions.py svd       the article's recipe and the range finder
    python benchmarks/dimensions.py heads     softmax(q k^T) fitted to random attention
    python benchmarks/dimensions.py words     word2vec of several sizes (pip install gensim==4.2.0), scored on STS-B
    python benchmarks/dimensions.py graph     nodes of a graph: scikit-learn's digits and their nearest neighbours
    python benchmarks/dimensions.py plot      docs/analysis/dimensions.png and lemmas.png from the rows

Texts: ../shared/data/unlabelled and ../shared/data/senteval_cn. Rows go to benchmarks/results/dimensions.jsonl; those
that are there already are not computed again.
"""

import argparse
import glob
import gzip
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
DATA = os.path.join(HERE, "..", "..", "shared", "data")
DOCS = os.path.join(HERE, "..", "docs", "analysis")
SIZES = (2, 4, 8, 16, 32, 64, 96, 128, 256)
WINDOW = 5


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("lemmas", "search", "svd", "heads", "words", "graph", "plot"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--texts", type=int, default=4000, help="search: sentences (%(default)s)")
    parser.add_argument("--characters", type=int, default=1200000, help="words: of all corpora (%(default)s)")
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    parser.add_argument("--docs", default=DOCS)
    return parser.parse_args()


def add(options, row, values):
    """Compute and append a row unless it is there."""
    from record import record, recorded

    if not recorded("dimensions", options.results, **row):
        record("dimensions", dict(row, **values()), options.results)
        print(row, flush=True)


def lemmas(options):
    from kexue_keras.analysis.dimensions import jl_dimension, jl_success_probability, length_failure, product_failure

    rng = np.random.RandomState(0)
    eps = 0.5
    for n in (8, 16, 32, 64, 96, 128):
        u, v = rng.standard_normal((2, 200000, n)) / np.sqrt(n)
        for name, values, failure in (
            ("length", np.sum(u**2, 1) - 1, length_failure(n, eps)),
            ("product", np.sum(u * v, 1), product_failure(n, eps)),
        ):
            observed = float(np.mean(np.abs(values) >= eps))
            numbers = dict(zip(failure._fields, [float("%.5g" % f) for f in failure]), observed=observed, draws=200000)
            add(options, dict(benchmark="lemma", of=name, dimension=n, eps=eps), lambda numbers=numbers: numbers)
    for count, n in ((50, 100), (50, 150), (50, 200), (50, 250), (50, 376)):

        def distances(count=count, n=n):
            failed = 0
            for _ in range(50):
                differences = rng.standard_normal((count, 500))
                differences = (differences[:, None] - differences)[np.triu_indices(count, 1)]
                short = differences @ (rng.standard_normal((500, n)) / np.sqrt(n))
                ratios = np.sum(short**2, 1) / np.sum(differences**2, 1)
                failed += bool(np.abs(ratios - 1).max() >= eps)
            return dict(failed=failed, trials=50, success_at_least=round(jl_success_probability(count, n, eps), 5))

        row = dict(benchmark="distances", vectors=count, dimension=n, eps=eps)
        add(options, dict(row, asked=round(jl_dimension(count, eps), 2)), distances)


def search(options):
    from kexue_keras.analysis.dimensions import pca_and_projection, search_recall
    from kexue_keras.similarity import SentenceEncoder

    texts = sentences(options)[: options.texts]
    vectors = SentenceEncoder("me5-zh-sp", pooling="mean").encode(texts)
    queries, vectors = vectors[:200], vectors[200:]
    # Vectors of this model lie in a narrow cone; without their mean the codes have more to tell apart.
    mean = vectors.mean(axis=0)
    for centred in (False, True):
        v, q = (vectors - mean, queries - mean) if centred else (vectors, queries)
        for bits in (64, 128, 256, 384, 768, 1536, 3072):
            row = dict(benchmark="search", texts=len(texts), size=v.shape[1], bits=bits, centred=centred)
            add(options, row, lambda: search_recall(v, q, bits)._asdict())
    for n in (16, 32, 64, 128, 256):
        row = dict(benchmark="projection and PCA", texts=1000, size=vectors.shape[1], dimensions=n)
        add(options, row, lambda: pca_and_projection(vectors[:1000], n))


def sentences(options):
    """Sentences of STS-B, each once."""
    found = []
    for path in sorted(glob.glob(os.path.join(DATA, "senteval_cn", "STS-B", "*.data"))):
        with open(path, encoding="utf-8") as handle:
            for line in handle:
                found += line.rstrip("\n").split("\t")[:2]
    return sorted(set(found), key=found.index)


def svd(options):
    from kexue_keras.analysis.dimensions import project_rank, randomized_svd

    for seed in [int(s) for s in options.seeds.split(",")]:
        rng = np.random.RandomState(seed)
        M = rng.standard_normal((200, 5)) @ rng.standard_normal((5, 150)) + 1e-3 * rng.standard_normal((200, 150))
        for k in (15, 50, 100):

            def errors():
                ways = {
                    "gaussian Q": dict(method="projection", orthonormal=False),
                    "orthonormal Q": dict(method="projection"),
                    "row range": dict(method="row range"),
                    "range finder": dict(power=0),
                }
                found = {}
                for name, way in ways.items():
                    U, S, V = randomized_svd(M, k, seed=seed, **way)
                    found[name] = float("%.3g" % (np.linalg.norm(U * S @ V - M) / np.linalg.norm(M)))
                    found[name + ", first value"] = round(float(S[0]), 2)
                values = np.linalg.svd(M)[1]
                found["optimum"] = float("%.3g" % (np.linalg.norm(values[k:]) / np.linalg.norm(values)))
                found["first value"] = round(float(values[0]), 2)
                for name, orthonormal in (("gaussian Q", False), ("orthonormal Q", True)):
                    found[name + ", theory"] = round(project_rank(k, 150, orthonormal=orthonormal), 3)
                return found

            add(options, dict(benchmark="svd", k=k, seed=seed), errors)


def heads(options):
    from kexue_keras.analysis.dimensions import fit_attention, head_size

    for length, concentration in ((64, 1.0), (64, 0.1), (128, 1.0), (128, 0.1)):
        for size in (8, 16, 32, 48, 64, 96):
            for seed in [int(s) for s in options.seeds.split(",")]:
                target = np.random.RandomState(seed).dirichlet(np.full(length, concentration), length)
                # Dirichlet(.1) draws hold zeros in float64 now and then, which no softmax reaches.
                target = np.maximum(target, 1e-12)
                target /= target.sum(axis=1, keepdims=True)

                def fit():
                    found = fit_attention(target, size, seed=seed, steps=3000)
                    return dict(divergence=round(found.divergence, 5), start=round(found.start, 4))

                row = dict(benchmark="head", length=length, concentration=concentration, size=size, seed=seed)
                add(options, dict(row, rule=round(head_size(length), 1)), fit)


def graph(options):
    """p(neighbour | node) = softmax(q k^T) of embeddings of the nodes; N = nodes, pairs = edges."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import kneighbors_graph

    from kexue_keras.analysis.dimensions import embedding_dimension, fit_attention, smallest_dimension

    images = load_digits().data
    for seed in [int(s) for s in options.seeds.split(",")]:
        for count in (100, 300):
            chosen = images[np.random.RandomState(seed).permutation(len(images))[:count]]
            edges = kneighbors_graph(chosen, 8).toarray()
            edges = np.maximum(edges, edges.T)
            degrees = edges.sum(axis=1).astype(int)
            for size in (2, 4, 8, 12, 16, 24, 32, 48):

                def fit():
                    found = fit_attention(edges / degrees[:, None], size, seed=seed, steps=1000)
                    order = np.argsort(-found.attention, axis=1)
                    kept = np.mean([edges[i, order[i, :n]].mean() for i, n in enumerate(degrees)])
                    return dict(
                        divergence=round(found.divergence, 5),
                        start=round(found.start, 4),
                        neighbours=round(float(kept), 4),
                        rule=round(embedding_dimension(count), 1),
                        criterion=round(smallest_dimension(count, np.log(edges.sum())), 1),
                    )

                add(options, dict(benchmark="graph", nodes=count, size=size, seed=seed), fit)


def words(options):
    import jieba
    from gensim.models import Word2Vec
    from scipy import stats

    from kexue_keras.analysis.dimensions import cooccurrence_entropy, embedding_dimension, smallest_dimension

    lines, left = [], options.characters
    paths = sorted(glob.glob(os.path.join(DATA, "unlabelled", "*.txt.gz")))
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            text = handle.read(left // len(paths))
        lines += [jieba.lcut(line) for line in text.split("\n") if line.strip()]
    pairs = []
    with open(os.path.join(DATA, "senteval_cn", "STS-B", "STS-B.test.data"), encoding="utf-8") as handle:
        for line in handle:
            a, b, score = line.rstrip("\n").split("\t")[:3]
            pairs.append((jieba.lcut(a), jieba.lcut(b), float(score)))
    for seed in [int(s) for s in options.seeds.split(",")]:
        for size in SIZES:

            def train():
                model = Word2Vec(
                    lines,
                    vector_size=size,
                    window=WINDOW,
                    min_count=5,
                    sg=1,
                    negative=5,
                    epochs=5,
                    seed=seed,
                    workers=1,
                )
                table, vectors = model.wv.key_to_index, model.wv.vectors
                vectors = vectors - vectors.mean(axis=0)

                def mean(sentence):
                    ids = [table[w] for w in sentence if w in table]
                    return vectors[ids].mean(axis=0) if ids else np.zeros(size)

                cosines = [
                    np.dot(mean(a), mean(b)) / (np.linalg.norm(mean(a)) * np.linalg.norm(mean(b)) + 1e-12)
                    for a, b, _ in pairs
                ]
                row = {"spearman": round(float(stats.spearmanr(cosines, [p[2] for p in pairs])[0]), 4)}
                row["words"] = len(vectors)
                if seed == 0 and size == SIZES[0]:
                    plain, corrected = cooccurrence_entropy(pair_counts(lines, table))
                    row.update(entropy_plain=round(plain, 3), entropy_corrected=round(corrected, 3))
                    row["entropy_independent"] = round(2 * np.log(len(vectors)), 3)
                    row["criterion"] = round(smallest_dimension(len(vectors), corrected), 1)
                    row["rule"] = round(embedding_dimension(len(vectors)), 1)
                return row

            add(options, dict(benchmark="word vectors", characters=options.characters, size=size, seed=seed), train)


def pair_counts(lines, table):
    """How often two words stand within the window, both orders."""
    ids = [np.array([table[w] for w in line if w in table]) for line in lines]
    numbers = []
    for distance in range(1, WINDOW + 1):
        for line in ids:
            if len(line) > distance:
                numbers.append(line[:-distance].astype("int64") * len(table) + line[distance:])
    one_way = np.concatenate(numbers)
    other_way = (one_way % len(table)) * len(table) + one_way // len(table)
    return np.unique(np.concatenate([one_way, other_way]), return_counts=True)[1]


def plot(options):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from record import rows

    from kexue_keras.analysis.dimensions import embedding_dimension, pair_entropy

    found = rows("dimensions", options.results)
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.0))
    for panel, name in zip(axes, ("length", "product")):
        points = sorted((r["dimension"], r) for r in found if r["benchmark"] == "lemma" and r["of"] == name)
        for key, style in (("bound", "--"), ("chernoff", "-."), ("exact", "-"), ("observed", "o")):
            panel.plot([n for n, _ in points], [r[key] or np.nan for _, r in points], style, label=key, markersize=4)
        panel.set_yscale("log")
        panel.set_xlabel("dimension n")
        panel.set_title("| |u|² - 1 | >= .5" if name == "length" else "|u·v| >= .5", fontsize=9)
    axes[0].set_ylabel("probability")
    axes[0].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(os.path.join(options.docs, "lemmas.png"), dpi=100)

    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.0))
    n = np.arange(2, 161)
    for count in (512, 10**5, 5 * 10**6):
        axes[0].plot(n, [pair_entropy(count, int(i)) for i in n], label="N = %d" % count)
        axes[0].plot([embedding_dimension(count)] * 2, [-5, 5], "k:", linewidth=1)
    axes[0].axhline(0, color="k", linewidth=0.5)
    axes[0].set_xlabel("dimension n (dotted: 8.33 log N)")
    axes[0].set_ylabel("2 log N + h_n")
    axes[0].legend(fontsize=7, frameon=False)
    for length, concentration in sorted({(r["length"], r["concentration"]) for r in found if r["benchmark"] == "head"}):
        group = {}
        for r in found:
            if r["benchmark"] == "head" and (r["length"], r["concentration"]) == (length, concentration):
                group.setdefault(r["size"], []).append(max(r["divergence"], 1e-5) / r["start"])
        line = axes[1].plot(
            sorted(group),
            [np.mean(group[s]) for s in sorted(group)],
            "o-" if concentration == 1 else "s--",
            markersize=3,
            label="L = %d, Dirichlet(%g)" % (length, concentration),
        )
        axes[1].axvline(embedding_dimension(length), color=line[0].get_color(), linewidth=0.7, linestyle=":")
    axes[1].set_yscale("log")
    axes[1].set_xlabel("head size d (dotted: 8.33 log L)")
    axes[1].set_ylabel("share of log L - H that is left")
    axes[1].legend(fontsize=6, frameon=False)
    group = {}
    for r in found:
        if r["benchmark"] == "word vectors":
            group.setdefault(r["size"], []).append(r["spearman"])
    if group:
        sizes = sorted(group)
        axes[2].errorbar(sizes, [np.mean(group[s]) for s in sizes], [np.std(group[s]) for s in sizes], marker="o", ms=3)
        for r in found:
            if "criterion" in r:
                axes[2].axvline(r["rule"], color="k", linewidth=0.7, linestyle=":")
                axes[2].axvline(r["criterion"], color="k", linewidth=0.7, linestyle="--")
        axes[2].set_xscale("log", base=2)
    axes[2].set_xlabel("size of word vectors\n(dotted: rule, dashed: criterion)")
    axes[2].set_ylabel("Spearman, STS-B")
    figure.tight_layout()
    figure.savefig(os.path.join(options.docs, "dimensions.png"), dpi=100)


if __name__ == "__main__":
    chosen = arguments()
    globals()[chosen.what](chosen)
