"""Longer than in training: ordinary and entropy-invariant RoFormers, trained at 64 tokens, tested at 64 to 512.

    python benchmarks/length.py                     # both variants, 3 seeds; rows into results/length.jsonl
    python benchmarks/length.py --quick             # a tiny model, nothing written
    python benchmarks/length.py --table             # the table of what is in results/length.jsonl

The article's (archives/8823, a small RoFormer): 43.27 36.53 23.02 15.12 against 43.11 41.17 34.04 20.15 percent at
64, 128, 256, 512. Ours is smaller and sees far less text: hidden 64, 2 layers, 2000 steps of 32 x 64 characters, about
5 minutes on a core (`small_mlm.SIZE`). A run that was cut off is taken up: finished (variant, seed)
pairs are skipped.
"""

import argparse

from record import record, recorded, rows
from small_mlm import SIZE, TINY, evaluate, train

LENGTHS = (64, 128, 256, 512)
VARIANTS = ("ordinary", "log n")


def model_class(variant):
    from bert4keras.models import RoFormer

    from kexue_keras.models import extend_with_entropy_invariance

    # The scale is 1 at the length of training, so that both start from the same function there.
    return RoFormer if variant == "ordinary" else extend_with_entropy_invariance(RoFormer, base=64)


def table():
    """Means over the seeds, with the range."""
    import numpy as np

    print("| attention | seeds |" + "".join(" %d |" % n for n in LENGTHS) + "\n|---|---|" + "---|" * len(LENGTHS))
    for variant in VARIANTS:
        found = [row for row in rows("length") if row["variant"] == variant]
        cells = []
        for n in LENGTHS:
            values = [100 * row["accuracy"][str(n)] for row in found]
            cells.append("%.2f (%.2f to %.2f)" % (np.mean(values), min(values), max(values)) if values else "")
        print("| %s | %d | %s |" % (variant, len(found), " | ".join(cells)))


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.table:
        return table()
    steps, size = (3, TINY) if options.quick else (options.steps, SIZE)
    limits = {"held_out": 4096, "limit": 40000} if options.quick else {}
    for seed in options.seeds[: 1 if options.quick else None]:
        for variant in VARIANTS:
            if not options.quick and recorded("length", variant=variant, seed=seed, steps=steps):
                print("%s, seed %d: done before" % (variant, seed))
                continue
            model, row, test = train(
                model_class(variant),
                seed=seed,
                steps=steps,
                length=64,
                size=size,
                longest=512,
                threads=options.threads,
                **limits,
            )
            results = {n: evaluate(model, test, n, size["vocabulary"]) for n in LENGTHS}
            row.update(
                variant=variant,
                accuracy={str(n): round(float(a), 5) for n, (a, *_) in results.items()},
                test_loss={str(n): round(float(b), 5) for n, (_, b, *_) in results.items()},
            )
            print(row, flush=True)
            if not options.quick:
                record("length", row)


if __name__ == "__main__":
    main()
