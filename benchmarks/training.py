"""All figures on training steps: recompute, gradient cache, mixed precision and XLA, adversarial training.

    python benchmarks/training.py              # all stacks, one after the other; about 90 minutes on 2 cores
    python benchmarks/training.py recompute    # one of them, see PARTS

Each part is a benchmark of its own (its file says what it measures and takes options); rows go to benchmarks/results.
"""

import os
import subprocess
import sys

from record import STACKS, stack_process

HERE = os.path.dirname(os.path.abspath(__file__))

# name -> command lines
PARTS = {
    "recompute": ["recompute.py %s --stack {stack}" % part for part in ("step", "largest", "budget")],
    "grad_cache": ["grad_cache.py %s --stack {stack}" % part for part in ("equal", "time", "large")],
    "precision": ["precision.py --stack {stack}"],
    "adversarial": ["adversarial.py"],
}


def main(argv):
    """Command line; the exit code is the number of parts that failed."""
    unknown = sorted(set(argv) - set(PARTS))
    if unknown:
        raise SystemExit("no part %s; there are: %s" % (", ".join(unknown), ", ".join(PARTS)))
    failed = 0
    for part in argv or PARTS:
        for stack in STACKS:
            python, environment = stack_process(stack)
            for line in PARTS[part]:
                print("== %s, %s" % (line.split(" --")[0], stack), flush=True)
                script, *options = line.format(stack=stack).split()
                done = subprocess.run([python, os.path.join(HERE, script)] + options, env=environment)
                failed += done.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
