"""Do mined negatives help? A linear map on frozen vectors, trained on LCQMC's pairs with and without them.

    python benchmarks/hard_negatives.py [--stack tf2] [--seeds 1 2 3] [--data ../shared/data/senteval_cn/LCQMC]

The vectors are those of me5-zh-sp, so a run takes seconds. A matrix, at first the identity, is trained by InfoNCE on
the questions of LCQMC's validation part that mean the same: with the other positives of the batch as negatives, and
with one text more for each question, drawn at random, or mined with and without the margin against false negatives.
Measured is how well 1,500 questions of the test part find theirs among all texts of that part; many are near, and of
those that are right as well only one counts. The rate is chosen by 400 held-out pairs of the validation part. Rows go
to benchmarks/results/hard_negatives.jsonl.
"""

import argparse
import gzip
import os

import numpy as np
from record import RESULTS, ROOT, add_stack_option, enter_stack, record, recorded

BATCH, EPOCHS, TEMPERATURE, RATES = 64, 5, 0.05, (1e-3, 3e-4, 1e-4)
ARMS = ("none", "in the batch", "random", "mined", "mined, no margin", "mined, margin 0.2")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_option(parser, "tf2")
    parser.add_argument("--data", default=os.path.join(ROOT, "..", "shared", "data", "senteval_cn", "LCQMC"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--results", default=RESULTS)
    return parser.parse_args()


def read(path):
    """(pairs that mean the same, each first text once; all texts)."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
    with opened as handle:
        rows = [line.rstrip("\n").split("\t") for line in handle]
    pairs = {row[0]: row[1] for row in rows if row[2] == "1" and row[0] != row[1]}
    return list(pairs.items()), sorted({text for row in rows for text in row[:2]})


def scores_of(vectors, matrix, pairs, corpus):
    """MRR and recall at 1, in percent, of the second texts for the first ones among all of `corpus`."""
    from kexue_keras.similarity import retrieval_scores

    questions, texts = (np.array([vectors[text] for text in some]) @ matrix for some in (list(zip(*pairs))[0], corpus))
    questions, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (questions, texts))
    order = np.argpartition(-questions @ texts.T, 20, axis=1)[:, :20]
    ranked = []
    for (first, _), question, row in zip(pairs, questions, order):
        best = row[np.argsort(-texts[row] @ question, kind="stable")]
        ranked.append([corpus[i] for i in best if corpus[i] != first][:10])
    found = retrieval_scores(ranked, [{second} for _, second in pairs], k=[1, 10])
    return {name: round(100 * float(value), 2) for name, value in found.items() if name in ("mrr@10", "recall@1")}


def negatives_of(arm, encoder, pairs, seed):
    """A text for each pair, or None."""
    from kexue_keras.similarity import mine_hard_negatives

    random = np.random.RandomState(seed)
    if arm in ("none", "in the batch"):
        return None
    drawn = [pairs[i][1] for i in random.permutation(len(pairs))]
    if arm == "random":
        return drawn
    rules = {"mined": {}, "mined, no margin": {"relative_margin": None}, "mined, margin 0.2": {"relative_margin": 0.2}}
    mined = mine_hard_negatives(encoder, pairs, **rules[arm])
    return [one.negatives[0] if one.negatives else other for one, other in zip(mined, drawn)]


def train(vectors, pairs, negatives, rate, seed):
    """The matrix."""
    import tensorflow as tf

    from kexue_keras.backend import keras, scratch_graph, set_seed
    from kexue_keras.losses import info_nce
    from kexue_keras.optimizers import AdamW

    with scratch_graph():  # the encoder's own stays
        set_seed(seed)
        width = len(next(iter(vectors.values())))
        rows = keras.layers.Input((2 if negatives is None else 3, width))
        mapped = keras.layers.Dense(width, use_bias=False, kernel_initializer="identity")(rows)

        def loss(y_true, y_pred):
            unit = tf.math.l2_normalize(y_pred, axis=-1)
            others = tf.concat(tf.unstack(unit[:, 1:], axis=1), axis=0)
            scores = tf.matmul(unit[:, 0], others, transpose_b=True) / TEMPERATURE
            return info_nce(scores, tf.eye(tf.shape(scores)[0], tf.shape(scores)[1], dtype=tf.bool))

        model = keras.models.Model(rows, mapped)
        model.compile(AdamW(rate), loss)
        sides = list(zip(*pairs)) + ([] if negatives is None else [negatives])
        x = np.stack([[vectors[text] for text in side] for side in sides], axis=1)
        model.fit(x, np.zeros(x.shape), batch_size=BATCH, epochs=EPOCHS, shuffle=True, verbose=0)
        return model.get_weights()[0]


def main():
    options = parse()
    enter_stack(options)
    from kexue_keras.backend import quiet
    from kexue_keras.similarity import SentenceEncoder

    quiet()
    known, known_texts = read(os.path.join(options.data, "LCQMC.valid.data"))
    test, test_texts = read(os.path.join(options.data, "LCQMC.test.data.gz"))
    test = test[:1500]
    encoder = SentenceEncoder("me5-zh-sp", max_length=32)
    texts = sorted(set(known_texts + test_texts))
    vectors = dict(zip(texts, encoder.encode(texts)))
    for seed in options.seeds:
        order = np.random.RandomState(seed).permutation(len(known))
        valid, pairs = ([known[i] for i in part] for part in (order[:400], order[400:]))
        for arm in ARMS:
            row = dict(benchmark="adapter", arm=arm, seed=seed, pairs=len(pairs), epochs=EPOCHS, batch=BATCH)
            if recorded("hard_negatives", options.results, **row):
                continue
            negatives = negatives_of(arm, encoder, pairs, seed)
            found = []
            for rate in (0,) if arm == "none" else RATES:
                matrix = (
                    np.eye(encoder.model.output_shape[-1]) if not rate else train(vectors, pairs, negatives, rate, seed)
                )
                found.append(
                    (
                        scores_of(vectors, matrix, valid, known_texts)["mrr@10"],
                        rate,
                        scores_of(vectors, matrix, test, test_texts),
                    )
                )
            chosen = max(found, key=lambda one: one[0])
            values = dict(chosen[2], rate=chosen[1], valid_mrr=chosen[0])
            record("hard_negatives", dict(row, **values), options.results)
            print(row, values, flush=True)


if __name__ == "__main__":
    main()
