"""Mixers side by side: attention, Synthesizers and the mixers as small MLMs at equal steps on the same text.

    python benchmarks/mixers.py                     # all variants, 1 seed; rows into results/mixers.jsonl
    python benchmarks/mixers.py --seeds 1 2 3       # more
    python benchmarks/mixers.py --only gmlp fnet    # some
    python benchmarks/mixers.py --glorot --only "mixer mlp"   # with larger matrices at the start
    python benchmarks/mixers.py --trial             # tokens a second of each variant, 20 steps, nothing written
    python benchmarks/mixers.py --quick             # a tiny model, nothing written
    python benchmarks/mixers.py --study --seeds 1 2 3  # a smaller model: what the start of the matrices does
    python benchmarks/mixers.py --report            # table, and the plot docs/layers/mixing.png, from the results

All over BERT (with its absolute positions), hidden 64, 2 layers, 128 tokens, 1200 steps of 16 rows: about 4 minutes a
variant on a core. gMLP and aMLP have no feed-forward layers; to have about the parameters of the others their inner
size is 2 x 256. A run that was cut off is taken up: finished (variant, seed) pairs are skipped.
"""

import argparse
import os

import numpy as np
from record import record, recorded, rows
from small_mlm import HERE, SIZE, TINY, evaluate, train, without_context

LENGTH = 128
SYNTHESIZERS = {
    "synthesizer dense": "dense",
    "synthesizer random": "random",
    "synthesizer fixed random": "fixed_random",
    "synthesizer factorized dense": "factorized_dense",
    "synthesizer factorized random": "factorized_random",
    "synthesizer random+vanilla": ("random", "vanilla"),
}
MIXERS = {"gmlp": "gmlp", "amlp": "amlp", "fnet": "fnet", "mixer mlp": "mlp", "resmlp": "resmlp", "aft": "aft"}
MIXERS.update({"ffstack": "ffstack", "external attention": "external"})
CONVOLUTIONS = {
    "convolution light": {},
    "convolution dynamic": {"variant": "dynamic"},
    "convolution depthwise": {"variant": "depthwise"},
    "convolution full": {"variant": "full"},
    "convolution light, dilated": {"dilation": 3},
}
MIXERS.update({variant: "conv" for variant in CONVOLUTIONS})
GLOROT = {"kernel_initializer": "glorot_uniform"}
# Rows of mixers from before their matrices started as the model's others do.
START = "normal .02"
VARIANTS = ["attention"] + list(SYNTHESIZERS) + list(MIXERS)


def model_class(variant, size, glorot=False):
    from bert4keras.models import BERT

    from kexue_keras.models import extend_with_mixer, extend_with_synthesizer

    if variant == "attention":
        return BERT
    if variant in SYNTHESIZERS:
        return extend_with_synthesizer(BERT, variants=SYNTHESIZERS[variant])
    options = {"ffn_units": 2 * size["units"]} if variant in ("gmlp", "amlp") else CONVOLUTIONS.get(variant, {})
    if glorot and variant in MIXERS:
        options = dict(options, **GLOROT)
    return extend_with_mixer(BERT, MIXERS[variant], **options)


# Why MLP-Mixer with Glorot's matrices does not even copy what it sees: (mixer, options of the class, of the training).
STUDY = {
    "attention": (None, {}, {}),
    "MLP, Glorot": ("mlp", GLOROT, {}),
    "MLP, Glorot, rate 1e-3": ("mlp", GLOROT, {"rate": 1e-3}),
    "MLP, Glorot, 1200 steps": ("mlp", GLOROT, {"steps": 1200}),
    "MLP, Glorot, 1 layer": ("mlp", GLOROT, {"layers": 1}),
    "MLP, Glorot, no nonlinearity": ("mlp", dict(GLOROT, activation="linear"), {}),
    "MLP, normal .02": ("mlp", {}, {}),
    "linear (ResMLP), Glorot": ("resmlp", GLOROT, {}),
    "linear (ResMLP), normal .02": ("resmlp", {}, {}),
}


def study(options):
    """A smaller model (a quarter of a minute each), one thing changed at a time; rows with `study`."""
    from bert4keras.models import BERT

    from kexue_keras.models import extend_with_mixer

    for seed in options.seeds:
        for name, (mixer, arguments, changed) in STUDY.items():
            if recorded("mixers", study=name, seed=seed):
                continue
            changed = dict(changed)
            size = {"hidden": 32, "layers": changed.pop("layers", 2), "heads": 2, "units": 128, "vocabulary": 300}
            model, row, test = train(
                extend_with_mixer(BERT, mixer, **arguments) if mixer else BERT,
                seed=seed,
                length=64,
                batch=16,
                size=size,
                held_out=16384,
                limit=2000000,
                **dict(dict(steps=600), **changed),
            )
            score = evaluate(model, test, 64, size["vocabulary"])
            row.update({key: round(value, 4) for key, value in score._asdict().items()}, study=name)
            record("mixers", row)
            print(name, seed, score, flush=True)
    for name in STUDY:
        found = [row for row in rows("mixers") if row.get("study") == name]
        means = [np.mean([row[key] for row in found]) for key in ("loss", "accuracy", "masked_loss")] if found else []
        print("| %s | %s | %d |" % (name, " | ".join("%.3f" % m for m in means), len(found)))
    print("without context: %s" % (without_context(300, 16384, 2000000),))


def report():
    """Table on the screen, plot into the documentation."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    print("| mixer | test loss | accuracy % | tokens/s | parameters | seeds |\n|---|---|---|---|---|---|")
    results = []
    for variant in VARIANTS:
        found = [row for row in rows("mixers") if row.get("variant") == variant and row["steps"] == 1200]
        if variant in MIXERS and variant != "fnet":
            found = [row for row in found if row.get("start") == START]
        if not found:
            continue
        loss, accuracy = ([row[key] for row in found] for key in ("test_loss", "accuracy"))
        speed = np.median([row["tokens_per_processor_second"] for row in found])
        spread = " (%.3f to %.3f)" % (min(loss), max(loss)) if len(found) > 1 else ""
        line = (variant, np.mean(loss), spread, 100 * np.mean(accuracy), speed, found[0]["parameters"], len(found))
        print("| %s | %.3f%s | %.2f | %d | %d | %d |" % line)
        results.append((np.mean(loss), min(loss), max(loss), speed, variant))
    results.sort(reverse=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 5), sharey=True)
    for place, (mean, least, most, speed, variant) in enumerate(results):
        left.plot([least, most], [place, place], "-", color="tab:blue")
        left.plot(mean, place, "o", color="tab:blue")
        right.barh(place, speed, color="tab:gray")
    left.set_yticks(range(len(results)))
    left.set_yticklabels([variant for *_, variant in results])
    left.set_xlabel("test loss, nats (mean and range)")
    left.grid(axis="x", alpha=0.3)
    right.set_xlabel("tokens a second of processor time")
    figure.suptitle("Small MLMs at equal steps")
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    path = os.path.join(HERE, "..", "docs", "layers", "mixing.png")
    figure.savefig(path, dpi=100)
    print("plot: %s" % os.path.normpath(path))


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument(
        "--study", action="store_true", help="how the mixers' matrices have to start, on a smaller model"
    )
    parser.add_argument("--glorot", action="store_true", help="mixers' matrices start by Glorot's rule")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.report:
        return report()
    if options.study:
        return study(options)
    dry = options.quick or options.trial
    steps, size = (3, TINY) if options.quick else (20 if options.trial else options.steps, SIZE)
    limits = {"held_out": 4096, "limit": 40000} if dry else {}
    for seed in options.seeds[: 1 if dry else None]:
        for variant in options.only:
            start = {"start": "glorot" if options.glorot else START} if MIXERS.get(variant, "fnet") != "fnet" else {}
            if not dry and recorded("mixers", variant=variant, seed=seed, steps=steps, **start):
                print("%s, seed %d: done before" % (variant, seed))
                continue
            model, row, test = train(
                model_class(variant, size, options.glorot),
                seed=seed,
                steps=steps,
                length=LENGTH,
                batch=16,
                size=size,
                threads=options.threads,
                **limits,
            )
            row.update(start, variant=variant)
            if not options.trial:
                score = evaluate(model, test, LENGTH, size["vocabulary"])
                row.update(accuracy=round(score.accuracy, 5), test_loss=round(score.loss, 5))
                row.update(masked_accuracy=round(score.masked_accuracy, 5), masked_loss=round(score.masked_loss, 5))
            print(row, flush=True)
            if not dry:
                record("mixers", row)


if __name__ == "__main__":
    main()
