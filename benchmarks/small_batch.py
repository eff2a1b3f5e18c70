"""Small batches with Adam (kexue.fm/archives/8634): accumulate, or move the weights only at every k-th step?

    python benchmarks/small_batch.py            # both rates, 3 seeds; a few minutes of one core; rows go to results/
    python benchmarks/small_batch.py --quick    # a tiny budget, nothing is written

The article's remark: in Adam with beta replaced by beta~ = 1 - (1 - beta) / k and the weights moved at every k-th step,
the second change matters more than the first, so fewer updates with the betas as they are already help where the small
batch is the bottleneck. Here reviews of two classes (../shared/data/sentiment, the first 64 characters), characters
embedded, one convolution, the maximum over time, trained from scratch on the same rows in the same order, a fifth of
their labels turned round, by:

    small            batch b, AdamW at every batch
    big              batch k b
    buffer           batch b, `GradientAccumulation(AdamW, k)`
    momentum         batch b, `MomentumAccumulationAdamW(steps=k)`
    every k-th~      batch b, moments at every batch with beta~, weights at every k-th
    every k-th       batch b, moments at every batch with the betas as they are, weights at every k-th

All with one rate, so that those with fewer updates move less; both rates were fixed before anything had run. Accuracy
is that on the whole test set after the last epoch. Rows that are there already are not computed again.
"""

import argparse
import gzip
import os
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
DATA = os.path.join(HERE, "..", "..", "shared", "data", "sentiment")
LENGTH, VOCABULARY = 64, 3000
BETAS = 0.9, 0.999
VARIANTS = ("small", "big", "buffer", "momentum", "every k-th~", "every k-th")
SETTING = ("train_rows", "epochs", "batch", "k", "rate", "noise")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA, help="folder of sentiment.{train.data.gz,test.data}")
    parser.add_argument("--train-rows", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--noise", type=float, default=0.2, help="share of training labels that are turned round")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 1e-2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.train_rows, options.epochs, options.rates, options.seeds = 64, 1, [1e-3], [0]
    return options


def read(path):
    """(texts, labels) of a file of lines text<TAB>0 or 1."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as handle:
        rows = [line.rstrip("\n").rsplit("\t", 1) for line in handle if "\t" in line]
    return [text for text, _ in rows], np.array([int(label) for _, label in rows])


def encode(texts, table):
    ids = np.zeros((len(texts), LENGTH), "int32")
    for row, text in enumerate(texts):
        known = [table.get(character, 1) for character in text[:LENGTH]]
        ids[row, : len(known)] = known
    return ids


def build():
    from kexue_keras.backend import keras

    layers = keras.layers
    return keras.models.Sequential(
        [
            layers.Embedding(VOCABULARY, 64, input_length=LENGTH),
            layers.Conv1D(64, 3, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(2, activation="softmax"),
        ]
    )


def optimizer_of(variant, rate, k):
    from kexue_keras.optimizers import AdamW, GradientAccumulation, MomentumAccumulationAdamW, beta_tilde

    decay = {"weight_decay": 0.0}
    if variant in ("small", "big"):
        return AdamW(rate, **decay)
    if variant == "buffer":
        return GradientAccumulation(AdamW(rate, **decay), k)
    if variant == "momentum":
        return MomentumAccumulationAdamW(rate, steps=k, **decay)
    betas = [beta_tilde(b, k) for b in BETAS] if variant.endswith("~") else BETAS
    return MomentumAccumulationAdamW(rate, steps=k, moments="micro_step", beta_1=betas[0], beta_2=betas[1], **decay)


def train(variant, rate, seed, options, data):
    """(accuracy on the test set, mean training loss of the last quarter of the micro batches, seconds)."""
    from kexue_keras.backend import K, set_seed

    x, y, test_x, test_y = data
    K.clear_session()
    set_seed(seed)
    model = build()
    model.compile(optimizer_of(variant, rate, options.k), "sparse_categorical_crossentropy")
    random = np.random.RandomState(seed)
    labels = np.where(random.random_sample(len(y)) < options.noise, 1 - y, y)
    size = options.batch * (options.k if variant == "big" else 1)
    losses, start = [], time.perf_counter()
    for _ in range(options.epochs):
        order = random.permutation(len(y))
        for i in range(0, len(order), size):
            rows = order[i : i + size]
            losses.append(float(np.ravel(model.train_on_batch(x[rows], labels[rows, None]))[0]))
    seconds = time.perf_counter() - start
    accuracy = np.mean(model.predict(test_x, batch_size=256).argmax(axis=1) == test_y)
    return float(accuracy), float(np.mean(losses[-max(1, len(losses) // 4) :])), seconds


def load(options):
    texts, y = read(os.path.join(options.data, "sentiment.train.data.gz"))
    test_texts, test_y = read(os.path.join(options.data, "sentiment.test.data"))
    chosen = np.random.RandomState(2021).permutation(len(texts))[: options.train_rows]
    texts, y = [texts[i] for i in chosen], y[chosen]
    counts = {}
    for text in texts:
        for character in text[:LENGTH]:
            counts[character] = counts.get(character, 0) + 1
    frequent = sorted(counts, key=lambda c: (-counts[c], c))[: VOCABULARY - 2]
    table = {character: i + 2 for i, character in enumerate(frequent)}
    return encode(texts, table), y, encode(test_texts, table), test_y


def main(options):
    from record import record, recorded

    data = load(options)
    for seed in options.seeds:
        for options.rate in options.rates:
            for variant in VARIANTS:
                key = {name: getattr(options, name) for name in SETTING}
                key.update(figure="small_batch", variant=variant, seed=seed)
                if not options.quick and recorded("small_batch", **key):
                    print("there already:", key, flush=True)
                    continue
                accuracy, loss, seconds = train(variant, options.rate, seed, options, data)
                row = dict(key, accuracy=round(accuracy, 4), last_quarter_loss=round(loss, 4), test_rows=len(data[3]))
                print(
                    seed,
                    options.rate,
                    "%-12s" % variant,
                    row["accuracy"],
                    "%.4f" % loss,
                    "%.0f s" % seconds,
                    flush=True,
                )
                if not options.quick:
                    record("small_batch", row)


if __name__ == "__main__":
    main(arguments())
