"""What the techniques do for quality: the experiments on real data with 3 seeds, rows into results/quality.jsonl.

    python benchmarks/quality.py NAME [options of the experiment]          NAME: a key of RUNS below

Without options of its own each experiment gets the budget below, which 2 cores do in 5 to 40 minutes (similarity_* in
one or two hours each); the numbers in the documentation are from it. experiments/few_shot.py and experiments/paired.py
write their rows themselves, and go on where they were cut off.
"""

import importlib
import os
import shlex
import sys

from record import record

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "..", "shared", "data")
SENTEVAL = os.path.join(DATA, "senteval_cn")

# name -> (experiment, budget)
RUNS = {
    "simcse": (
        "contrastive_simcse",
        "--sentences 2048 --max-length 16 --num-hidden-layers 4 --learning-rate 5e-5 --batch-sizes 64 256 512 1024 "
        "--seeds 1 2 3",
    ),
    "multitask": (
        "multitask",
        "--sentiment %s --topic %s --rows 300 --test-rows 400 --epochs 3 --batch-size 16 "
        "--num-hidden-layers 2 --train-layers 2 --learning-rate 1e-3 --seeds 3"
        % (os.path.join(DATA, "chnsenticorp"), os.path.join(DATA, "fewclue", "tnews")),
    ),
    "similarity_stsb": ("similarity_cosent", "--data %s --sets STS-B --epochs 2 --seeds 1 2 3" % SENTEVAL),
    "similarity_lcqmc": ("similarity_cosent", "--data %s --sets LCQMC --epochs 1 --seeds 1 2 3" % SENTEVAL),
}


def main(argv):
    """Command line."""
    if not argv or argv[0] not in RUNS:
        raise SystemExit(__doc__)
    name, budget = RUNS[argv[0]]
    sys.path.insert(0, os.path.join(HERE, "experiments"))
    experiment = importlib.import_module(name)
    arguments = argv[1:] or shlex.split(budget)
    for row in experiment.main(arguments):
        # The key is called "example" in the rows of before: these were examples.
        record("quality", dict(row, example=name, budget=" ".join(a for a in arguments if "/" not in a)))


if __name__ == "__main__":
    main(sys.argv[1:])
