"""Exported models against TensorFlow on a CPU: time of a batch, size, and Spearman on STS-B, or accuracy of a run.

    python benchmarks/export.py [--stack tf2] [--model me5-zh-sp] [--data ../shared/data]
    python benchmarks/export.py --model runs/1 --test test.tsv

The formats run in turn, round after round in one process, so that what else the machine does falls on all alike.
Rows: benchmarks/results/export.jsonl.
"""

import argparse
import os
import tempfile
import time

import numpy as np
from bundled_models import pairs_of
from record import add_stack_option, enter_stack, ratio, record

ROWS, LENGTH = 32, 32


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="me5-zh-sp", help="bundled name, folder, or run (%(default)s)")
    parser.add_argument("--test", metavar="FILE", help="of a run for labels: lines text, label")
    parser.add_argument("--formats", nargs="+", metavar="FORMAT", help="only these")
    parser.add_argument("--limit", type=int, metavar="N", help="texts that are scored (all)")
    parser.add_argument("--rounds", type=int, default=8, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--data", default="../shared/data", help="folder with senteval_cn (%(default)s)")
    add_stack_option(parser)
    args = parser.parse_args()
    enter_stack(args)
    measure(args)


def measure(args):
    """Export to each format, time and score them, and write a row for each."""
    from kexue_keras.export import export_model
    from kexue_keras.exported.model import ExportedModel
    from kexue_keras.finetune import Classifier
    from kexue_keras.finetune._open_encoder import open_encoder
    from kexue_keras.options.choices import EXPORT_FORMATS

    original = Classifier.load(args.model) if args.test else open_encoder(args.model)
    ids = np.random.RandomState(0).randint(5, original.tokenizer._vocab_size, (ROWS, LENGTH)).astype("int32")
    arrays = [ids, np.zeros_like(ids)]
    with tempfile.TemporaryDirectory() as place:
        sides = {"tensorflow": (lambda: original.session.predict_on_batch(original.model, arrays), original, {})}
        for format in args.formats or EXPORT_FORMATS:
            folder = os.path.join(place, format)
            begun = time.process_time()
            done = export_model(args.model, folder, format=format)
            facts = {"megabytes": round(done.megabytes, 1), "difference": done.difference}
            facts["export_processor_seconds"] = round(time.process_time() - begun, 1)
            model = ExportedModel(folder, threads=args.threads)
            sides[format] = (lambda graph=model.graph: graph(arrays), model, facts)
        times = rounds({name: function for name, (function, _, _) in sides.items()}, args.rounds)
        for name, (_, model, facts) in sides.items():
            facts.update(ratio(times, "tensorflow", name), milliseconds=1000 * float(np.median(times[name], axis=0)[0]))
            facts.update(score(model, args), model=os.path.basename(args.model), format=name, threads=args.threads)
            print(record("export", dict(facts, batch=[ROWS, LENGTH], rounds=args.rounds)), flush=True)


def rounds(functions, count):
    """Dict name -> list of (wall, processor) seconds; all functions in turn, after a call that is not timed."""
    times = {name: [] for name in functions}
    for number in range(count + 1):
        for name, function in functions.items():
            begun = time.perf_counter(), time.process_time()
            function()
            if number:
                times[name].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    return times


def score(model, args):
    """Spearman on STS-B, or of a classifier the accuracy on a file, in percent."""
    from scipy.stats import spearmanr

    if args.test:
        with open(args.test, encoding="utf-8") as handle:
            rows = [line.rstrip("\n").split("\t")[:2] for line in handle][: args.limit]
        right = [label == found for (_, label), (found, _) in zip(rows, model.predict([text for text, _ in rows]))]
        return {
            "task": os.path.basename(args.test),
            "texts": len(rows),
            "accuracy": round(100 * float(np.mean(right)), 3),
        }
    pairs = pairs_of(args.data, "STS-B")[: args.limit]
    cosines = model.similarity([a for a, _, _ in pairs], [b for _, b, _ in pairs])
    spearman = spearmanr(cosines, [value for _, _, value in pairs]).correlation
    return {"task": "STS-B", "texts": len(pairs), "spearman": round(100 * float(spearman), 3)}


if __name__ == "__main__":
    main()
