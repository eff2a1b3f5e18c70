"""Does a technique help? The same fine-tuning with and without it, paired over seeds; intervals of the differences.

    python experiments/paired.py --data FOLDER [--experiments sentiment tnews] [--variants ...] [--seeds 1 2 3 4 5]
    python experiments/paired.py --table                       (what has been measured)
    python experiments/paired.py --quick                       (made-up texts, seconds)

A seed draws the texts to learn from and to choose by, and the first weights of the head; all variants of a seed have
the same. The test texts are always the same. Rows go to results/paired.jsonl, with every single answer, and a run
that is there is not repeated: cut short, it goes on.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from comparison import mean_and_spread  # noqa: E402
from intervals import comparisons, score_of, verdict  # noqa: E402
from paired_measures import continued_mlm, measure_classes, measure_labels, measure_prompts  # noqa: E402
from paired_phases import measure_phases  # noqa: E402
from paired_sets import BUDGET, CANDIDATES, EXPERIMENTS, LABELS, MLM, made_up, plain_of, read_parts  # noqa: E402
from paired_similarity import measure_mean, measure_pairs, measure_untrained  # noqa: E402
from paired_titles import COPIED, measure_copied, measure_titles  # noqa: E402
from record import RESULTS, last_row, record, recorded, rows  # noqa: E402

from kexue_keras.backend import quiet  # noqa: E402
from kexue_keras.errors import UserError  # noqa: E402


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", metavar="FOLDER", help="with sentiment, fewclue/tnews, chnsenticorp, duee_multilabel, csl, ..."
    )
    parser.add_argument("--experiments", nargs="+", choices=list(EXPERIMENTS), default=["sentiment", "tnews"])
    names = sorted({name for one in EXPERIMENTS.values() for name in one["variants"]} | set(CANDIDATES))
    parser.add_argument("--variants", nargs="+", choices=names, help="(all of an experiment, without candidates)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--out", default=os.path.join("runs", "paired"), help="for files of single runs (%(default)s)")
    parser.add_argument("--results", default=RESULTS, metavar="FOLDER", help="where paired.jsonl is (%(default)s)")
    parser.add_argument("--table", action="store_true", help="only show what has been measured")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.experiments, options.results = ["sentiment", "duee"], options.out
        options.variants, options.seeds = options.variants or ["plain", "ZLPR"], options.seeds[:1]
    elif not (options.data or options.table):
        parser.error("give --data FOLDER")
    return options


def budget_of(experiment, variant):
    """All options of `finetune` that a variant of an experiment has, but for files and seed."""
    options = dict(BUDGET, **EXPERIMENTS[experiment]["budget"])
    if variant in CANDIDATES:
        return dict(options, **CANDIDATES[variant])
    options.update(EXPERIMENTS[experiment].get("chosen", {}))
    changed = dict(EXPERIMENTS[experiment]["variants"][variant])
    options["epochs"] *= changed.pop("epochs times", 1)
    if changed.get("frozen"):
        # The sentence encoder is the stronger rival; what trains says nothing here.
        return dict({"model": "me5-zh-sp", "max_length": options["max_length"]}, **changed)
    return dict(options, **changed)


def variants_of(experiment, wanted):
    """The variants to run: those that are wanted and there, or all, without what the budget has for all."""
    there = EXPERIMENTS[experiment]["variants"]
    for variant in there if wanted is None else [name for name in wanted if name in there or name in CANDIDATES]:
        same = variant in there and variant != "plain" and "plain" in there
        if not (same and budget_of(experiment, variant) == budget_of(experiment, "plain")):
            yield variant


def measure(parts, budget, *, seed, folder):
    """Train, and answer every test text; see paired_measures.py."""
    if budget["model"] == MLM:
        home = os.path.join(os.path.dirname(folder), "mlm-" + os.path.basename(folder).rsplit("-", 1)[0])
        budget = dict(budget, model=continued_mlm(parts, budget, home))
    if budget.get("frozen") in ("cosine", "ridge"):
        return measure_untrained(parts, budget, seed, folder)
    if budget.get("frozen") in COPIED:
        return measure_copied(parts, budget, seed, folder)
    if "max_target_length" in budget:
        return measure_titles(parts, budget, seed, folder)
    if "runs" in budget:
        return measure_mean(parts, budget, seed, folder)
    if budget.get("task") == "similarity":
        return measure_pairs(parts, budget, seed, folder)
    if "then" in budget:
        return measure_phases(parts, budget, seed, folder)
    if "pattern" in budget:
        return measure_prompts(parts, budget, seed, folder)
    return (measure_labels if "multilabel_loss" in budget else measure_classes)(parts, budget, seed, folder)


def under_another_name(run, results):
    """What was measured of the same run as a candidate, or None."""
    same = last_row("paired", results, **run) or {}
    kept = ("accuracy", "valid", "best_epoch", "seconds", "texts", "right")
    return {"": {key: same[key] for key in kept}} if "right" in same else None


def table(measured):
    """Markdown table: the score of each variant, and its difference from the plain one over the seeds of both."""
    lines = ["| | | score | seeds | difference | |", "|---|---|---|---|---|---|"]
    for one in comparisons(measured, plain_of=plain_of):
        cells = [one["experiment"], one["variant"], "%.2f ± %.2f" % mean_and_spread(100 * one["scores"])]
        cells += ["%d" % len(one["scores"]), "", ""]
        if "difference" in one:
            mean, low, high = one["difference"]
            cells[-2] = "%+.2f (%+.2f to %+.2f)" % (100 * mean, 100 * low, 100 * high)
            cells[-1] = verdict(low, high, one["seeds"])
        lines.append("| %s |" % " | ".join(cells))
    return "\n".join(lines)


def main(argv=None):
    """Run what is missing; returns the rows."""
    options = parse(argv)
    quiet()
    for seed in () if options.table else options.seeds:
        for experiment in options.experiments:
            parts = None
            for variant in variants_of(experiment, options.variants):
                budget = budget_of(experiment, variant)
                if options.quick:
                    budget.update(model="me5-zh-char", num_hidden_layers=1, train_layers=1, epochs=1)
                run = {"experiment": experiment, "seed": seed, "budget": budget}
                if recorded("paired", options.results, variant=variant, **run):
                    continue
                found = under_another_name(run, options.results)
                if found is None:
                    if parts is None:
                        several = EXPERIMENTS[experiment]["variants"] is LABELS
                        quick = options.quick
                        parts = made_up(4, several=several) if quick else read_parts(options.data, experiment, seed)
                    folder = os.path.join(options.out, "%s-%d" % (experiment, os.getpid()))
                    found = measure(parts, budget, seed=seed, folder=folder)
                for more, one in sorted(found.items(), reverse=True):
                    record("paired", dict(run, variant=variant + more, **one), options.results)
                    said = (experiment, seed, variant + more, score_of(one), one["seconds"])
                    print("%s seed %d  %-30s %.4f  %.0f s" % said)
                sys.stdout.flush()
    measured = rows("paired", options.results)
    print(table(measured))
    return measured


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("paired: %s" % error)
