"""Throughput of prediction: the plain model in batches of 64 rows, lengths rounded up to 8, against ours.

    python benchmarks/prediction.py [--stack NAME] [--threads 1]   # appends to results/prediction.jsonl
    python benchmarks/prediction.py --memory [--stack NAME]        # resident memory while 2,000 and 20,000 texts pass
    python benchmarks/prediction.py --quick                        # few texts, one layer, nothing is written

Texts are random tokens with the lengths of headlines (20 on average, 64 at most). Sides take turns; a ratio is the
median over rounds of that within a round. On a machine with other load trust the processor time. "plain" is
bert4keras' BERT in batches of 64 rows with lengths rounded up to 8; "batches" the same model in the batches of
`SentenceEncoder.encode`; "ours" what `models.load` builds in these batches.
"""

import argparse
import resource
import time

import numpy as np
from record import add_stack_option, enter_stack, ratio, record
from side import Side

MODEL = "me5-zh-char"


def made_up(count, seed=0):
    """Encoded texts of random tokens."""
    random = np.random.RandomState(seed)
    lengths = np.clip(np.round(random.lognormal(2.9, 0.4, count)), 3, 64).astype(int)
    return [(random.randint(200, 4000, n).tolist(), [0] * n) for n in lengths]


class Predicts(Side):
    """An encoder and the batches that it gets."""

    def __init__(self, args, plain_model, plain_batches):
        from bert4keras.models import BERT

        from kexue_keras.similarity import SentenceEncoder

        super().__init__(threads=args.threads)
        self.plain_batches = plain_batches
        arguments = {"model": BERT} if plain_model else {}
        with self:
            began = time.process_time()
            self.encoder = SentenceEncoder(MODEL, num_hidden_layers=args.layers, **arguments)
            self.loaded = time.process_time() - began

    def vectors(self, encoded):
        """float32 `[N, d]`."""
        from kexue_keras.data import BucketedBatches

        with self:
            if not self.plain_batches:
                return self.encoder.encode_ids(encoded)
            batches = BucketedBatches(encoded, batch_size=64, max_length=self.encoder.max_length)
            vectors = np.zeros((len(encoded), self.encoder.model.output_shape[-1]), "float32")
            for indices in batches.in_length_order():
                vectors[indices] = self.encoder.session.predict_on_batch(self.encoder.model, batches.inputs(indices))
            return vectors

    def step(self, encoded):
        """Seconds, wall and processor."""
        began = time.perf_counter(), time.process_time()
        self.vectors(encoded)
        return time.perf_counter() - began[0], time.process_time() - began[1]


def throughput(args):
    """One row: texts a second of each side and ratios."""
    encoded = made_up(args.texts)
    sides = {
        "plain": Predicts(args, True, True),
        "batches": Predicts(args, True, False),
        "ours": Predicts(args, False, False),
    }
    vectors = {name: side.vectors(encoded) for name, side in sides.items()}  # also warms up
    difference = float(np.abs(vectors["ours"] - vectors["plain"]).max() / np.abs(vectors["plain"]).max())
    times = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, side in sides.items():
            times[name].append(side.step(encoded))
    row = {"part": "throughput", "texts": args.texts, "threads": args.threads, "layers": args.layers}
    row.update(rounds=args.rounds, largest_difference=difference)
    for name in sides:
        row[name] = {"texts_per_processor_second": round(args.texts / np.median([t[1] for t in times[name]]), 1)}
        row[name]["texts_per_second"] = round(args.texts / np.median([t[0] for t in times[name]]), 1)
    for name in ("batches", "ours"):
        row["speedup_" + name] = ratio(times, "plain", name)
    return row


def memory(args):
    """One row: the most resident memory before, after 2,000 and after 20,000 texts, with one layer."""
    args.layers = 1
    side = Predicts(args, False, False)
    row = {"part": "memory", "layers": 1}
    side.vectors(made_up(200))
    for count in (0, 2000, 20000):
        encoded = made_up(count)
        if count:
            side.vectors(encoded)
        row["peak_mb_%d" % count] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, 1)
    return row


def main(argv=None):
    """Measure; returns the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_option(parser)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)
    if args.quick:
        args.texts, args.layers, args.rounds, args.inside = 20, 1, 2, True
    enter_stack(args)
    row = memory(args) if args.memory else throughput(args)
    print(row)
    return row if args.quick else record("prediction", row)


if __name__ == "__main__":
    main()
