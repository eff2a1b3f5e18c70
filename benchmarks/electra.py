"""ELECTRA beside a masked language model at equal time (kexue.fm/archives/7846), small, on Chinese reviews.

    python benchmarks/electra.py [--seeds 1 2 3]   # every arm, rows into results/electra.jsonl
    python benchmarks/electra.py --only mlm 1/4    # some arms
    python benchmarks/electra.py --quick           # a few steps, nothing written
    python benchmarks/electra.py --report          # the table of a budget, and docs/models/electra.png

Arms: no pretraining; a masked language model; ELECTRA with generators of 1/8, 1/4, 1/2 and 1 of the discriminator's
width; a masked language model whose masks a generator of 1/4 proposes. Each is trained for the same processor time from
the same random weights, with the same learning rate, embeddings shared. Then: its mean vectors with scikit-learn's
logistic regression, and all of it fine-tuned on 1,000 labelled reviews, scored on 1,500 others. The cheap rival needs
no model: TF-IDF of character pairs. A run that was stopped goes on where rows are missing.
"""

import argparse
import glob
import gzip
import os
import time

import numpy as np
from record import add_stack_option, enter_stack, record, recorded, rows

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "..", "shared", "data")
PAD, UNKNOWN, START, END, MASK, SPECIAL = 0, 1, 2, 3, 4, 5
VOCABULARY, LENGTH, BATCH, RATE, WIDTH, HEADS = 2000, 64, 32, 1e-3, 128, 8
ARMS = ["none", "mlm", "1/8", "1/4", "1/2", "1", "proposed masks"]
SIZES = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0}


def read_corpus(data, but):
    """Reviews of books, at least 16 characters each, without those that begin as one of the texts `but`."""
    lines, tested = [], {text.strip()[:LENGTH] for text in but}
    for path in sorted(glob.glob(os.path.join(data, "unlabelled", "book_reviews_*.txt.gz"))):
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            lines += [line.strip() for line in handle if len(line) > 16 and line.strip()[:LENGTH] not in tested]
    if not lines:
        raise SystemExit("no text in %s: this benchmark needs the shared data" % os.path.join(data, "unlabelled"))
    return lines


def read_labelled(data, part):
    opened = gzip.open if part.endswith(".gz") else open
    with opened(os.path.join(data, "sentiment", "sentiment.%s" % part), "rt", encoding="utf-8") as handle:
        pairs = [line.rstrip("\n").split("\t") for line in handle]
    return [text for text, _ in pairs], np.array([int(label) for _, label in pairs])


class Characters(object):
    """Ids of characters, the commonest of a corpus."""

    def __init__(self, lines):
        codes = np.frombuffer("".join(lines).encode("utf-32-le"), np.uint32)
        kinds, counts = np.unique(codes, return_counts=True)
        self.table = np.full(0x110000, UNKNOWN, np.int32)
        self.table[kinds[np.argsort(-counts)][: VOCABULARY - SPECIAL]] = SPECIAL + np.arange(VOCABULARY - SPECIAL)

    def rows(self, texts):
        """int32 [B, LENGTH]."""
        ids = np.zeros([len(texts), LENGTH], np.int32)
        for row, text in zip(ids, texts):
            found = self.table[np.frombuffer(text[: LENGTH - 2].encode("utf-32-le"), np.uint32)]
            row[: len(found) + 2] = np.concatenate([[START], found, [END]])
        return ids


def transformer(kind, **more):
    from bert4keras.models import build_transformer_model

    return build_transformer_model(
        model=kind,
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        hidden_act="gelu",
        max_position=LENGTH,
        return_keras_model=False,
        **more,
    )


def optimizer():
    from kexue_keras.optimizers import AdamW

    return AdamW(RATE)


def hidden(tokens, random, rate=0.15):
    """Inputs and labels of `predict_at`'s model, [MASK] in all hidden places, as ELECTRA has it."""
    from kexue_keras.data import gather_places

    chosen = (tokens >= SPECIAL) & (random.rand(*tokens.shape) < rate)
    places, labels = gather_places(np.where(chosen, tokens, 0))
    return [np.where(chosen, MASK, tokens), 0 * tokens, places], labels[..., None]


class Mlm(object):
    """A masked language model."""

    kind, build = "bert", {"with_mlm": "linear"}

    def __init__(self, encoder):
        from kexue_keras.losses import MaskedCrossentropy
        from kexue_keras.models import predict_at

        self.model = predict_at(encoder)
        self.model.compile(optimizer(), MaskedCrossentropy())

    def step(self, tokens, random):
        self.model.train_on_batch(*hidden(tokens, random))

    def scores(self, tokens):
        return {"mlm_loss": self._loss(self.model, tokens)}

    @staticmethod
    def _loss(model, tokens):
        from kexue_keras.models._masked_lm import token_accuracy

        inputs, labels = hidden(tokens, np.random.RandomState(99))
        found = token_accuracy(model.predict_on_batch, [(inputs, labels[..., 0])])
        return found["loss"]


class ProposedMasks(Mlm):
    """A masked language model that is asked only what a small one gets wrong."""

    def __init__(self, encoder):
        from kexue_keras.losses import MaskedCrossentropy
        from kexue_keras.models import build_electra_generator, predict_at

        super().__init__(encoder)
        self.generator = predict_at(build_electra_generator(encoder, size=1 / 4))
        self.generator.compile(optimizer(), MaskedCrossentropy())

    def step(self, tokens, random):
        from kexue_keras.models import propose_masks

        inputs, labels = hidden(tokens, random, 0.3)
        logits = np.asarray(self.generator.predict_on_batch(inputs))
        self.generator.train_on_batch(inputs, labels)
        self.model.train_on_batch(*propose_masks(tokens, inputs, labels, logits))

    def scores(self, tokens):
        return {"mlm_loss": self._loss(self.model, tokens), "generator_loss": self._loss(self.generator, tokens)}


class Electra(object):
    """Generator and discriminator."""

    kind, build = "electra", {"with_discriminator": "linear"}

    def __init__(self, encoder, size):
        from kexue_keras.models import ElectraPretraining, build_electra_generator

        self.electra = ElectraPretraining(build_electra_generator(encoder, size=size), encoder)
        self.electra.training_model.compile(optimizer())

    def _batch(self, tokens, random):
        return self.electra.make_batch(tokens, 0 * tokens, random, mask_id=MASK, protected=[PAD, UNKNOWN, START, END])

    def step(self, tokens, random):
        self.electra.training_model.train_on_batch(self._batch(tokens, random), None)

    def scores(self, tokens):
        return self.electra.evaluate([self._batch(tokens, np.random.RandomState(99))])


def start(arm, seed):
    """(encoder, what trains it or None), in a fresh session of one thread."""
    from kexue_keras.backend import K, set_seed, tf1

    K.clear_session()
    session = tf1.Session(config=tf1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1))
    (K.set_session if hasattr(K, "set_session") else tf1.keras.backend.set_session)(session)
    set_seed(seed)
    made = {"mlm": Mlm, "proposed masks": ProposedMasks}.get(arm, Electra)
    if arm == "none":
        return transformer("bert"), None
    encoder = transformer(made.kind, **made.build)
    return encoder, made(encoder, SIZES[arm]) if made is Electra else made(encoder)


def states(encoder):
    """The Keras model that gives the states of the last layer."""
    from kexue_keras.backend import keras

    last = encoder.layers["Transformer-1-FeedForward-Norm"].get_output_at(0)
    return keras.models.Model(encoder.model.inputs[:2], last)


def downstream(encoder, train, test, seed, epochs):
    """Accuracies of frozen mean vectors with logistic regression, and after fine-tuning all weights."""
    import tensorflow as tf
    from sklearn.linear_model import LogisticRegressionCV

    from kexue_keras.backend import keras, set_seed

    model = states(encoder)

    def vectors(ids):
        found = np.asarray(model.predict([ids, 0 * ids], batch_size=128))
        real = (ids != PAD)[..., None]
        return (found * real).sum(1) / real.sum(1)

    regression = LogisticRegressionCV(Cs=np.logspace(-3, 2, 6), cv=3, max_iter=2000).fit(vectors(train[0]), train[1])
    frozen = regression.score(vectors(test[0]), test[1])
    set_seed(seed)

    def masked_mean(inputs):
        x, tokens = inputs
        real = tf.cast(tf.not_equal(tokens, PAD), x.dtype)[..., None]
        return tf.reduce_sum(x * real, axis=1) / tf.reduce_sum(real, axis=1)

    mean = keras.layers.Lambda(masked_mean, mask=lambda *_: None)([model.output, model.inputs[0]])
    classifier = keras.models.Model(model.inputs, keras.layers.Dense(2, activation="softmax")(mean))
    classifier.compile(optimizer(), "sparse_categorical_crossentropy")
    rng = np.random.RandomState(seed)
    for _ in range(epochs):
        order = rng.permutation(len(train[0]))
        for i in range(0, len(order) - BATCH + 1, BATCH):
            part = order[i : i + BATCH]
            classifier.train_on_batch([train[0][part], 0 * train[0][part]], train[1][part])
    tuned = np.asarray(classifier.predict([test[0], 0 * test[0]], batch_size=128)).argmax(1)
    return {"frozen": round(float(frozen), 4), "fine_tuned": round(float((tuned == test[1]).mean()), 4)}


def run(options):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline

    texts, labels = read_labelled(options.data, "train.data.gz")
    test_texts, test_labels = read_labelled(options.data, "test.data")
    lines = read_corpus(options.data, but=test_texts)
    characters = Characters(lines)
    corpus = characters.rows(lines)
    order = np.random.RandomState(0).permutation(len(corpus))
    held_out, corpus = corpus[order[:512]], corpus[order[512:]]
    pick = np.random.RandomState(0).permutation(len(test_texts))[:1500]
    test = characters.rows([test_texts[i] for i in pick]), test_labels[pick]
    for seed in options.seeds:
        chosen = np.random.RandomState(seed).permutation(len(texts))[:1000]
        train = characters.rows([texts[i] for i in chosen]), labels[chosen]
        if not (options.quick or recorded("electra", options.results, arm="TF-IDF", seed=seed)):
            rival = make_pipeline(
                TfidfVectorizer(analyzer="char", ngram_range=(1, 2)), LogisticRegressionCV(cv=3, max_iter=2000)
            ).fit([texts[i] for i in chosen], train[1])
            score = rival.score([test_texts[i] for i in pick], test[1])
            print(record("electra", {"arm": "TF-IDF", "seed": seed, "frozen": round(score, 4)}, options.results))
        for arm in options.only:
            key = dict(arm=arm, seed=seed, budget=options.budget)
            if not options.quick and recorded("electra", options.results, **key):
                continue
            encoder, training = start(arm, seed)
            row, random, steps = dict(key), np.random.RandomState(seed), 0
            if training is not None:
                training.step(corpus[:BATCH], random)  # what is built at the first step does not count
                began = time.process_time()
                while time.process_time() - began < options.budget and not (options.quick and steps == 3):
                    training.step(corpus[random.randint(0, len(corpus), BATCH)], random)
                    steps += 1
                row.update((name, round(value, 5)) for name, value in training.scores(held_out).items())
            row.update(steps=steps, batch=BATCH, length=LENGTH, width=WIDTH, rate=RATE, rows=len(corpus))
            row.update(downstream(encoder, train, test, seed, 1 if options.quick else 4))
            print(row if options.quick else record("electra", row, options.results), flush=True)


def report(options):
    """Table of means, with least and most, and the picture."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    found = {}
    for row in rows("electra", options.results):
        if row.get("budget", options.budget) == options.budget:
            found.setdefault(row["arm"], []).append(row)
    words = ("steps", "mlm_loss", "generator_loss", "sampled_accuracy", "discriminator_loss", "constant_guess")
    words += ("found", "frozen", "fine_tuned")
    print("| arm | seeds | %s |\n|%s" % (" | ".join(words), "---|" * (len(words) + 2)))
    for arm in [arm for arm in ["TF-IDF"] + ARMS if arm in found]:
        cells = []
        for word in words:
            values = [row[word] for row in found[arm] if word in row]
            shown = "%.0f" if word == "steps" else "%.3f"
            text = shown % np.mean(values) if values else ""
            if word in ("frozen", "fine_tuned") and values:
                text += " (%.3f to %.3f)" % (min(values), max(values))
            cells.append(text)
        print("| %s | %d | %s |" % (arm, len(found[arm]), " | ".join(cells)))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    sizes = [arm for arm in SIZES if arm in found]
    for word, label in (("discriminator_loss", "discriminator"), ("constant_guess", "constant guess")):
        axes[0].plot(sizes, [np.mean([row[word] for row in found[arm]]) for arm in sizes], "o-", label=label)
    axes[0].set_xlabel("width of the generator")
    axes[0].set_ylabel("loss, nats a token")
    axes[0].set_ylim(0, 0.5)
    axes[0].legend(frameon=False)
    arms = [arm for arm in ["TF-IDF"] + ARMS if arm in found]
    for shift, word in ((-0.12, "frozen"), (0.12, "fine_tuned")):
        for i, arm in enumerate(arms):
            values = [row[word] for row in found[arm] if word in row]
            axes[1].plot([i + shift] * len(values), values, "C0o" if word == "frozen" else "C1^", markersize=4)
    axes[1].set_xticks(range(len(arms)))
    axes[1].set_xticklabels(arms, rotation=30, ha="right")
    axes[1].set_ylabel("accuracy (o frozen, ^ fine-tuned)")
    figure.tight_layout()
    figure.savefig(os.path.join(HERE, "..", "docs", "models", "electra.png"), dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--budget", type=float, default=400.0, help="processor seconds of pretraining")
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", action="store_true")
    add_stack_option(parser, "tf.keras")
    options = parser.parse_args()
    enter_stack(options)
    report(options) if options.report else run(options)


if __name__ == "__main__":
    main()
