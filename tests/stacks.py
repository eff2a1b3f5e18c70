"""Which of the stacks a test runs on: each test on every stack, or each of its cases on one of them, in turn.

`make test` runs the tests once a stack. What Keras calls, saves or loads has to run on all; ops of a graph against
numpy, files, and what needs no Keras give the same on each, and cases that cost much share the time.
"""

import collections
import os
import zlib

# Name -> the environment that chooses it; of those that agree with the environment, the last is meant. A case that runs
# on one stack takes it by its place in this list.
STACKS = {
    "tf.keras": {"TF_KERAS": "1"},
    "keras": {"TF_KERAS": "0"},
    "tf2": {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"},
}
# The tests of these run each case on one stack unless they are marked `stacks("all")`. All others run on all stacks;
# but of a test with several cases, each is left out on one of three stacks, for time.
ROOMS = (
    "analysis",
    "checkpoints",
    "data",
    "decoding",
    "files",
    "layers",
    "losses",
    "models",
    "prompting",
    "schemas",
    "similarity",
)


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


def wanted(item, root):
    """ "one", "most" or "all": what a test is marked with, else what its room has."""
    marker = item.get_closest_marker("stacks")
    if marker is None:
        return "one" if os.path.relpath(str(item.fspath), root).split(os.sep)[0] in ROOMS else "most"
    if marker.args not in (("one",), ("all",)):
        raise ValueError('%s: it is marked stacks%r; write stacks("one") or stacks("all")' % (item.nodeid, marker.args))
    return marker.args[0]


def of_other_stacks(items, stack, root, sharing):
    """The node ids of the cases that `stack` leaves to others.

    Args:
        items: of pytest.
        stack: name of a stack.
        root: folder of the tests.
        sharing: names of the stacks that run the tests this time; on a machine without a Python for TensorFlow 2 there
            are two.

    Raises:
        ValueError: `stack` is not among them.
    """
    if stack not in sharing or not set(sharing) <= set(STACKS):
        raise ValueError("--stacks %s: this is %s, of %s" % (",".join(sharing), stack, ", ".join(STACKS)))
    tests = {"one": collections.defaultdict(list), "most": collections.defaultdict(list)}
    for item in items:
        which = wanted(item, root)
        if which != "all":
            tests[which][item.nodeid.split("[")[0]].append(item.nodeid)
    sharing = [name for name in STACKS if name in sharing]
    left, mine = set(), sharing.index(stack)
    for which, test, cases in [(which, *entry) for which in tests for entry in tests[which].items()]:
        if which == "most" and (len(cases) < 2 or len(sharing) < 3):
            continue
        # In turn, so that no stack is without a case of a test that has enough; by number, so that a stack does not
        # get all cases with one value of a parameter.
        first = number(test)
        for i, case in enumerate(sorted(cases, key=number)):
            # Of "most", a case is left to the two others on one stack.
            if ((first + i) % len(sharing) != mine) == (which == "one"):
                left.add(case)
    return left
