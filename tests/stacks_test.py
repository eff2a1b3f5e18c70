"""The tests' turns on the stacks: every case on one of them or on all, also where there are two."""

import ast
import collections
import glob
import os
import subprocess
from types import SimpleNamespace

import pytest
import stacks

HERE = os.path.dirname(os.path.abspath(__file__))
DIFFERENT = {"is_tf2", "is_tf_keras"}


def item(place, *marks):
    """What the scheduling needs of a test of pytest."""
    return SimpleNamespace(nodeid=place, get_closest_marker=lambda name: name if name in marks else None)


def turns(monkeypatch, names, items):
    """Test -> the stacks that run it."""
    monkeypatch.setattr(stacks, "STACKS", dict.fromkeys(names))
    runs = collections.defaultdict(list)
    for name in names:
        left = stacks.left_out(items, name, names)
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


def test_what_is_marked_runs_on_all(monkeypatch):
    items = [item("losses/x_test.py::one"), item("losses/x_test.py::all", "all_stacks")]
    # On the stack whose turn it is it might be skipped, and so run nowhere.
    items.append(item("backend/x_test.py::all_but_one", "skipif"))
    items += [item("losses/x_test.py::all_cases[%d]" % i, "all_stacks") for i in range(3)]
    runs = turns(monkeypatch, ["a", "b", "c"], items)
    assert all(len(stacks_of) == (3 if "::all" in test else 1) for test, stacks_of in runs.items())


def test_what_belongs_together_runs_together(monkeypatch):
    items = [item("data/%s_test.py::test_%d" % (name, i), "together") for name in "xyz" for i in range(5)]
    runs = turns(monkeypatch, ["a", "b", "c"], items)
    for name in "xyz":
        assert len({tuple(stacks_of) for test, stacks_of in runs.items() if "/%s_test" % name in test}) == 1
    assert all(len(stacks_of) == 1 for stacks_of in runs.values())


@pytest.mark.parametrize("marks", [["dear"], ["dear", "all_stacks"]])
@pytest.mark.parametrize("count", [3, 7, 9])
def test_of_dear_ones_a_stack_runs_one_case_and_in_time_all(monkeypatch, count, marks):
    names = list("abc")
    monkeypatch.setattr(stacks, "STACKS", dict.fromkeys(names))
    cases = [item("losses/x_test.py::test_it[%d]" % i, *marks) for i in range(count)]
    everything, rounds = {case.nodeid for case in cases}, -(-count // 3)
    had = collections.defaultdict(set)
    for draw in range(10 * rounds, 10 * rounds + 3 * count):
        now = {name: everything - stacks.left_out(cases, name, names, draw=draw) for name in names}
        assert all(len(of_stack) == 1 for of_stack in now.values()) and len(set().union(*now.values())) == 3
        for name, of_stack in now.items():
            had[name] |= of_stack
        if draw == 11 * rounds - 1:
            assert set().union(*had.values()) == everything
    assert all(of_stack == everything for of_stack in had.values())
    without = len(everything - stacks.left_out(cases, "a", names))
    assert without == count if "all_stacks" in marks else count // 3 <= without <= count // 3 + 1


@pytest.mark.parametrize("names", [list("ab"), list("abc")])
def test_alternating_ones_have_run_after_two_commits(monkeypatch, names):
    monkeypatch.setattr(stacks, "STACKS", dict.fromkeys(names))
    cases = [item("docs_test.py::test_it[%d]" % i, "alternating") for i in range(25)]
    everything = {case.nodeid for case in cases}
    for draw in (7, 8):
        now, next_time = (
            [everything - stacks.left_out(cases, name, names, draw=number) for name in names]
            for number in (draw, draw + 1)
        )
        assert set().union(*now) | set().union(*next_time) == everything
        assert not set().union(*now) & set().union(*next_time)
        assert all(3 <= len(of_stack) <= 7 for of_stack in now)
    whole = [everything - stacks.left_out(cases, name, names) for name in names]
    assert sum(map(len, whole)) == 25 and set().union(*whole) == everything


def test_a_commit_moves_the_turn_on(tmp_path):
    assert stacks.commits(str(tmp_path)) == 0
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.check_call(git + ["init", "-q"])
    for count in (1, 2):
        subprocess.check_call(git + ["commit", "-q", "--allow-empty", "-m", "x"])
        assert stacks.commits(str(tmp_path)) == count


def test_the_environment_names_the_stack(monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    for variables, name in [({}, "keras"), ({"TF_KERAS": "0"}, "keras"), ({"TF_KERAS": "True"}, "tf.keras")]:
        monkeypatch.delenv("TF_KERAS", raising=False)
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        assert stacks.here() == name
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    assert stacks.here() == "tf2"


def test_two_stacks_share_what_three_would():
    cases = [item("losses/x_test.py::test_it[%d]" % i) for i in range(6)]
    left = [stacks.left_out(cases, name, ["keras", "tf.keras"]) for name in ("keras", "tf.keras")]
    assert left[0] | left[1] == {case.nodeid for case in cases} and not left[0] & left[1]
    with pytest.raises(ValueError, match="this is tf2"):
        stacks.left_out(cases, "tf2", ["keras", "tf.keras"])


def test_what_expects_something_else_of_a_stack_runs_on_all():
    faults = []
    for path in sorted(glob.glob(os.path.join(HERE, "**", "*_test.py"), recursive=True)):
        with open(path, encoding="utf-8") as handle:
            parts = ast.parse(handle.read()).body
        of_all = set().union(*[names(part) for part in parts if not isinstance(part, (ast.FunctionDef, ast.ClassDef))])
        for test in parts:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_") and names(test) & DIFFERENT:
                if not (names(test) | of_all) & {"all_stacks", "skipif"}:
                    faults.append("%s: %s differs by the stack; it needs @pytest.mark.all_stacks" % (path, test.name))
    assert faults == []


def names(tree):
    """All names and attributes of a piece of source."""
    nodes = list(ast.walk(tree))
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}
