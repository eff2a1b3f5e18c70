"""Rules that the source must keep: private APIs, the environment and the choice of Keras live in backend/ alone."""

import ast
import configparser
import glob
import importlib
import os
import re
import subprocess

import pytest
from conftest import ROOT


def relative(path):
    return os.path.relpath(path, ROOT)


PACKAGE = sorted(glob.glob(os.path.join(ROOT, "kexue_keras", "**", "*.py"), recursive=True))
BACKEND = os.path.join("kexue_keras", "backend", "")
SCRIPTS = sorted(
    path for folder in ("examples", "benchmarks", "tools") for path in glob.glob(os.path.join(ROOT, folder, "*.py"))
)
ROOMS = sorted(
    os.path.dirname(path) for path in PACKAGE if path.endswith("__init__.py") and relative(path).count(os.sep) > 1
)
# Not for users: the modules in them have names that others import.
INTERNAL = (
    "backend",
    "checks",
    "cli",
    "exported",
    "files",
    "options",
    "schemas",
    "serving",
    "tokenizing",
    "checkpoints/formats",
    "checkpoints/hf",
    "checkpoints/t5",
)
PUBLIC = [
    path
    for path in ROOMS
    if not (relative(path) + os.sep).startswith(tuple(os.path.join("kexue_keras", room, "") for room in INTERNAL))
]
# Rooms with more files than others may have.
LARGE = {os.path.join("kexue_keras", "finetune"): 21}


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno
            for alias in node.names:
                yield node.module + "." + alias.name, node.lineno


def tree_of(path):
    with open(path, encoding="utf-8") as handle:
        return ast.parse(handle.read(), path)


def imports_that_belong_in_the_backend(tree):
    for name, line in imports(tree):
        if name.startswith(("tensorflow.python", "tensorflow_core")):
            yield line, "imports %s; put it into kexue_keras/backend/" % name
        if "contrib" in name.split("."):
            yield line, "imports %s; tf.contrib is gone in TensorFlow 2" % name
        if name == "keras" or name.startswith(("keras.", "tensorflow.keras")):
            yield line, "imports %s; take keras from kexue_keras.backend, which knows which one" % name


def readings_of_the_environment(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
            yield node.lineno, "reads the environment; give it a parameter"


def breaches_of_style(tree):
    if not ast.get_docstring(tree):
        yield 1, "no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "bare except"
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node in tree.body and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield node.lineno, "%s is public and has no docstring" % node.name
        if isinstance(node, ast.FunctionDef):
            for default in node.args.defaults + node.args.kw_defaults:
                if isinstance(default, (ast.List, ast.Dict, ast.Set)):
                    yield node.lineno, "mutable default"


FAULTY = """
import keras
import tensorflow.python.framework
from tensorflow.contrib import crf
from tensorflow.keras import layers
import os

size = os.environ["SIZE"]

def public(a, b=[], *, c={}):
    try:
        pass
    except:
        pass
"""


def test_rules_find_what_breaks_them():
    tree = ast.parse(FAULTY)
    assert sorted({line for line, _ in imports_that_belong_in_the_backend(tree)}) == [2, 3, 4, 5]
    assert [line for line, _ in readings_of_the_environment(tree)] == [8]
    assert sorted(line for line, _ in breaches_of_style(tree)) == [1, 10, 10, 10, 13]


def test_the_package_keeps_the_rules():
    """One parse of a file for all rules; every breach is named."""
    faults = []
    for path in PACKAGE:
        tree, found = tree_of(path), []
        if not relative(path).startswith(BACKEND):
            found += list(imports_that_belong_in_the_backend(tree)) + list(readings_of_the_environment(tree))
        found += breaches_of_style(tree)
        faults += ["%s:%d %s" % (relative(path), line, fault) for line, fault in found]
    assert faults == []


def test_a_file_has_one_idea():
    lengths = {}
    for path in PACKAGE:
        with open(path, encoding="utf-8") as handle:
            lengths[relative(path)] = handle.read().count("\n")
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}, "two ideas?"


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_scripts_say_what_they_are(path):
    assert ast.get_docstring(tree_of(path)), "%s: no docstring" % relative(path)


def test_the_map_in_contributing_is_the_contract():
    config = configparser.ConfigParser()
    config.read(os.path.join(ROOT, "setup.cfg"))
    layers = config["importlinter:contract:house"]["layers"].split()
    with open(os.path.join(ROOT, "CONTRIBUTING.md"), encoding="utf-8") as handle:
        rooms = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", handle.read(), re.MULTILINE)
    assert rooms == [layer for layer in reversed(layers)]


def exports(init):
    """(module, name, line of source) of what a room's __init__.py takes from elsewhere, a block of lines each."""
    with open(init, encoding="utf-8") as handle:
        lines = handle.read().split("\n")
    blocks = [[]]
    for line in lines:
        match = re.match(r"from (\S+) import (\w+)(?: as (\w+))?(  # .*)?$", line)
        if match:
            blocks[-1].append((match.group(1), match.group(3) or match.group(2), line))
        elif not line:
            blocks.append([])
    return blocks


@pytest.mark.parametrize("path", [os.path.join(ROOT, "kexue_keras")] + ROOMS, ids=relative)
def test_a_room_says_what_it_exports_one_name_a_line(path):
    init = os.path.join(path, "__init__.py")
    blocks = exports(init)
    found = [export for block in blocks for export in block]
    statements = [node for node in tree_of(init).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert len(found) == len(statements), "%s: write `from MODULE import NAME`, one name a line" % relative(init)
    names = [name for _, name, _ in found]
    assert len(set(names)) == len(names), "%s: a name stands twice" % relative(init)
    for block in blocks:
        # A line out of order says why.
        lines = [export for export in block if "  # " not in export[2]]
        assert lines == sorted(lines), "%s: not sorted by module and name" % relative(init)
    modules = {os.path.splitext(name)[0] for name in os.listdir(path)}
    mine = os.path.relpath(path, ROOT).replace(os.sep, ".")
    clash = {name for module, name, _ in found if module != mine} & modules
    assert not clash, "%s: %s is a module and something exported" % (relative(path), ", ".join(clash))


@pytest.mark.parametrize("path", ROOMS, ids=relative)
def test_a_room_has_no_more_than_twenty_files(path):
    count = len(glob.glob(os.path.join(path, "[!_]*.py")) + glob.glob(os.path.join(path, "_[!_]*.py")))
    most = LARGE.get(relative(path), 20)
    assert count <= most, "%s has %d modules, more than %d: two rooms?" % (relative(path), count, most)


@pytest.mark.parametrize("path", PUBLIC, ids=relative)
def test_a_public_room_shows_public_names_only(path):
    """`dir` of it has what its __init__.py exports, and the rooms in it."""
    room = importlib.import_module(relative(path).replace(os.sep, "."))
    exported = {name for block in exports(os.path.join(path, "__init__.py")) for _, name, _ in block}
    inside = {os.path.basename(other) for other in ROOMS if os.path.dirname(other) == path}
    shown = {name for name in dir(room) if not name.startswith("_")}
    assert shown <= exported | inside, "%s shows %s" % (relative(path), ", ".join(sorted(shown - exported - inside)))


@pytest.mark.skipif(not os.path.exists(os.path.join(ROOT, ".git")), reason="not a checkout")
def test_only_weights_and_fonts_are_large():
    """What a benchmark leaves lying would stay in the history for good."""
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    paths = [path for path in out.decode("utf-8").split("\0") if os.path.isfile(os.path.join(ROOT, path))]
    large = [path for path in paths if os.path.getsize(os.path.join(ROOT, path)) > 2**20]
    assert [path for path in large if not path.startswith("kexue_keras/assets/")] == []
