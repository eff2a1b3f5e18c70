"""The tests' turns on the stacks: every case on one of them or all, also where there are three."""

import collections
import os
from types import SimpleNamespace

import pytest
import stacks

pytestmark = pytest.mark.stacks("one")
ROOT = os.path.join(os.sep, "tests")


def item(place, marked=None):
    """What the scheduling needs of a test of pytest."""
    marker = None if marked is None else SimpleNamespace(args=marked)
    path = os.path.join(ROOT, place.split("::")[0])
    return SimpleNamespace(nodeid=place, fspath=path, get_closest_marker=lambda name: marker)


def turns(monkeypatch, names, items):
    """Test -> the stacks that run it."""
    monkeypatch.setattr(stacks, "STACKS", dict.fromkeys(names))
    runs = collections.defaultdict(list)
    for name in names:
        left = stacks.of_other_stacks(items, name, ROOT, names)
        for one in items:
            if one.nodeid not in left:
                runs[one.nodeid].append(name)
    return runs


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_each_case_on_one_stack_and_no_stack_without_cases(monkeypatch, names):
    cases = [item("losses/x_test.py::test_it[%d]" % i) for i in range(10)]
    runs = turns(monkeypatch, names, cases)
    assert len(runs) == 10 and all(len(stacks_of) == 1 for stacks_of in runs.values())
    counts = collections.Counter(stacks_of[0] for stacks_of in runs.values())
    assert set(counts) == set(names) and max(counts.values()) - min(counts.values()) <= 1


def test_what_the_room_has_and_what_the_mark_says(monkeypatch):
    names = ["a", "b", "c"]
    items = [
        item("losses/x_test.py::one"),
        item("losses/x_test.py::all", ("all",)),
        item("optimizers/x_test.py::all"),
        item("optimizers/x_test.py::one", ("one",)),
    ]
    runs = turns(monkeypatch, names, items)
    assert all(len(stacks_of) == (3 if test.endswith("all") else 1) for test, stacks_of in runs.items())
    with pytest.raises(ValueError, match="write stacks"):
        stacks.wanted(item("x_test.py::it", ("some",)), ROOT)


def test_the_environment_names_the_stack(monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    for variables, name in [({}, "keras"), ({"TF_KERAS": "0"}, "keras"), ({"TF_KERAS": "True"}, "tf.keras")]:
        monkeypatch.delenv("TF_KERAS", raising=False)
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        assert stacks.here() == name
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    assert stacks.here() == "tf2"


def test_a_test_with_cases_leaves_each_out_on_one_of_three(monkeypatch):
    cases = [item("optimizers/x_test.py::test_it[%d]" % i) for i in range(6)]
    runs = turns(monkeypatch, ["a", "b", "c"], cases)
    assert all(len(stacks_of) == 2 for stacks_of in runs.values())
    counts = collections.Counter(name for stacks_of in runs.values() for name in stacks_of)
    assert set(counts.values()) == {4}
    runs = turns(monkeypatch, ["a", "b"], cases)
    assert all(len(stacks_of) == 2 for stacks_of in runs.values())
    marked = [item("optimizers/x_test.py::test_it[%d]" % i, ("all",)) for i in range(3)]
    assert all(len(stacks_of) == 3 for stacks_of in turns(monkeypatch, ["a", "b", "c"], marked).values())


def test_two_stacks_share_what_three_would():
    cases = [item("losses/x_test.py::test_it[%d]" % i) for i in range(6)]
    left = [stacks.of_other_stacks(cases, name, ROOT, ["keras", "tf.keras"]) for name in ("keras", "tf.keras")]
    assert left[0] | left[1] == {case.nodeid for case in cases} and not left[0] & left[1]
    with pytest.raises(ValueError, match="this is tf2"):
        stacks.of_other_stacks(cases, "tf2", ROOT, ["keras", "tf.keras"])


def test_every_room_that_shares_out_its_cases_is_there():
    for room in stacks.ROOMS:
        assert os.path.isdir(os.path.join(os.path.dirname(stacks.__file__), room)), room
