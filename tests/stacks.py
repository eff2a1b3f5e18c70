"""Which of the stacks a test runs on: each case on one of them, in turn, or on all.

`make test` runs the tests once a stack, and they share the time: most tests build graphs, and building them on each
stack would take three times as long. What saves and loads, and what leans on the machinery of a Keras (sessions, the
training step, optimizers), runs on all: `@pytest.mark.all_stacks`. `@pytest.mark.together` keeps tests of a file that
share what takes long to set up on one stack. `make test-all` runs every case on every stack.

Cases of a `@pytest.mark.dear` test take seconds each and have much in common: a stack runs one of them a time, another
one after the next commit (`--draw`), until all have had their turn; `--every-case` runs all, shared out like the rest.
Of `@pytest.mark.alternating` tests (what readers paste) every second case runs, after the next commit the others.
"""

import collections
import os
import subprocess
import zlib

# Name -> the environment that chooses it; of those that agree with the environment, the last is meant. A case that runs
# on one stack takes it by its place in this list.
STACKS = {
    "tf.keras": {"TF_KERAS": "1"},
    "keras": {"TF_KERAS": "0"},
    "tf2": {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"},
}


def here():
    """Name of the stack that this environment chooses.

    The same words are true as for bert4keras, which reads TF_KERAS.
    """

    def flag(text):
        return text.lower() in ("1", "true", "t", "yes", "y", "on")

    agreeing = [
        name
        for name, variables in STACKS.items()
        if all(flag(os.environ.get(key, "0")) == flag(value) for key, value in variables.items())
    ]
    return agreeing[-1]


def number(text):
    """A number that depends on nothing but the text."""
    return zlib.crc32(text.encode("utf-8"))


def commits(folder):
    """How many commits lead to the checked out one; 0 outside git."""
    command = ["git", "-C", folder, "rev-list", "--count", "HEAD"]
    try:
        return int(subprocess.check_output(command, stderr=subprocess.DEVNULL))
    except (OSError, subprocess.CalledProcessError):
        return 0


def left_out(items, stack, sharing, *, draw=None):
    """The node ids of the cases that `stack` leaves to others, or to another time.

    Args:
        items: of pytest.
        stack: name of a stack.
        sharing: names of the stacks that run the tests this time; on a machine without a Python for TensorFlow 2 there
            are two.
        draw: which cases of the dear and the alternating tests have their turn; with None all have.

    Raises:
        ValueError: `stack` is not among them.
    """
    if stack not in sharing or not set(sharing) <= set(STACKS):
        raise ValueError("--stacks %s: this is %s, of %s" % (",".join(sharing), stack, ", ".join(STACKS)))
    tests, files, dear = (collections.defaultdict(list) for _ in range(3))
    alternating = {item.nodeid.split("[")[0] for item in items if item.get_closest_marker("alternating")}
    for item in items:
        if draw is not None and item.get_closest_marker("dear"):
            dear[item.nodeid.split("[")[0]].append(item.nodeid)
            continue
        if item.get_closest_marker("together"):
            files[item.nodeid.split("::")[0]].append(item.nodeid)
            continue
        # Where a test with `skipif` is not skipped, another stack cannot know: its turn might be where it is.
        if not any(item.get_closest_marker(name) for name in ("all_stacks", "skipif")):
            tests[item.nodeid.split("[")[0]].append(item.nodeid)
    sharing = [name for name in STACKS if name in sharing]
    left, mine = set(), sharing.index(stack)
    for test, cases in tests.items():
        # In turn, so that no stack is without a case of a test that has enough; by number, so that a stack does not
        # get all cases with one value of a parameter.
        first = number(test)
        for i, case in enumerate(sorted(cases, key=number)):
            lap, turn = divmod(first + i, len(sharing))
            waits = draw is not None and test in alternating and (lap + draw) % 2
            if turn != mine or waits:
                left.add(case)
    for test, cases in dear.items():
        cases.sort(key=number)
        # All cases in so many draws; then the same again, but that each case is on the next stack.
        rounds = -(-len(cases) // len(sharing))
        turn = (number(test) + draw * len(sharing) + mine + draw // rounds) % len(cases)
        left.update(cases[:turn] + cases[turn + 1 :])
    for file, cases in files.items():
        if number(file) % len(sharing) != mine:
            left.update(cases)
    return left
