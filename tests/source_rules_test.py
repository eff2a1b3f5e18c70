"""Rules that the source must keep: private APIs, the environment and the choice of Keras live in backend/ alone."""

import ast
import glob
import os

import pytest
from conftest import ROOT

pytestmark = pytest.mark.one_stack  # reads files, needs no Keras
PACKAGE = sorted(glob.glob(os.path.join(ROOT, "kexue_keras", "**", "*.py"), recursive=True))
BACKEND = os.path.join("kexue_keras", "backend", "")
SCRIPTS = sorted(
    path for folder in ("examples", "benchmarks", "tools") for path in glob.glob(os.path.join(ROOT, folder, "*.py"))
)


def relative(path):
    return os.path.relpath(path, ROOT)


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


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_private_apis_and_the_choice_of_keras_are_in_the_backend(path):
    if relative(path).startswith(BACKEND):
        return
    for name, line in imports(tree_of(path)):
        place = "%s:%d imports %s; " % (relative(path), line, name)
        assert not name.startswith(("tensorflow.python", "tensorflow_core")), place + "put it into kexue_keras/backend/"
        assert "contrib" not in name.split("."), place + "tf.contrib is gone in TensorFlow 2"
        assert name != "keras" and not name.startswith(("keras.", "tensorflow.keras")), (
            place + "take keras from kexue_keras.backend, which knows which one"
        )


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_only_the_backend_reads_the_environment(path):
    if relative(path).startswith(BACKEND):
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
            pytest.fail("%s:%d reads the environment; give it a parameter" % (relative(path), node.lineno))


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_house_style(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), "%s: no module docstring" % relative(path)
    with open(path, encoding="utf-8") as handle:
        lines = handle.read().count("\n")
    assert lines <= 400, "%s has %d lines: two ideas?" % (relative(path), lines)
    for node in ast.walk(tree):
        place = "%s:%d " % (relative(path), getattr(node, "lineno", 0))
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, place + "bare except"
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node in tree.body and not node.name.startswith("_"):
            assert ast.get_docstring(node), place + "%s is public and has no docstring" % node.name
        if isinstance(node, ast.FunctionDef):
            for default in node.args.defaults + [d for d in node.args.kw_defaults if d]:
                assert not isinstance(default, (ast.List, ast.Dict, ast.Set)), place + "mutable default"


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_scripts_say_what_they_are(path):
    assert ast.get_docstring(tree_of(path)), "%s: no docstring" % relative(path)


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_dependencies_point_one_way(path):
    parts_of_path = relative(path).split(os.sep)
    name = parts_of_path[1].replace(".py", "")
    foundation = {"backend", "errors", "files", "numerics", "schemas", "versions"}
    parts = foundation | {"losses", "layers", "regularizers", "optimizers"}
    allowed = {
        "versions": set(),
        "errors": set(),
        "files": {"errors", "files"},
        "schemas": {"errors", "schemas"},
        "numerics": {"backend", "numerics"},
        "backend": {"backend", "versions"},
        "losses": foundation | {"losses", "layers"},
        "layers": foundation | {"layers"},
        "regularizers": foundation,
        "optimizers": foundation | {"optimizers"},
        "data": foundation | {"data"},
        "training": parts | {"training"},
        "models": parts | {"data", "models", "training"},
        "trainer": parts | {"data", "training", "trainer"},
    }.get(name)
    if allowed is None:
        return
    for imported, line in imports(tree_of(path)):
        if imported.startswith("kexue_keras."):
            package = imported.split(".")[1]
            assert package in allowed, "%s:%d imports %s against the order of design" % (relative(path), line, imported)
