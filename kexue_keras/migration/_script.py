"""What is known to be wrong in a bert4keras script, with its lines; the script is read, nothing of it is executed."""

import ast
import warnings
from collections import namedtuple
from typing import List

from kexue_keras.errors import UserError
from kexue_keras.migration import _faults as faults
from kexue_keras.migration._script_names import ScriptNames

# line: int, from 1; name: as the script has it; the others as in `_faults.Fault`
Finding = namedtuple("Finding", "line name fault instead page")


def check_script(path: str) -> List[Finding]:
    """Read a bert4keras script and list its known faults, line by line.

    Found are the faults that were measured in bert4keras 0.11.5 and Keras 2.3.1, where the script uses them by name. It
    is read as text: nothing of it is imported or executed, and what it loads is not looked at.

    Args:
        path: .py file.

    Returns:
        list of `Finding(line, name, fault, instead, page)` by line: what is wrong with the name of this line, what to
        write instead, and the page below docs/ that has the numbers.

    Raises:
        UserError: no such file, no UTF-8, or no Python.

    Reference:
        docs/migration.md, with the reports of users by their numbers

    >>> import os, tempfile
    >>> from kexue_keras.migration import check_script
    >>> script = os.path.join(tempfile.mkdtemp(), 'script.py')
    >>> with open(script, 'w') as handle:
    ...     _ = handle.write('answer = eval(open("equation.txt").read())')
    >>> [(found.line, found.name, found.fault) for found in check_script(script)]
    [(1, 'eval', 'executes whatever the file or the model says')]
    """
    tree = _parse(path)
    names = ScriptNames(tree, set(faults.NAMES) | set(faults.RACING))
    found = []
    for find in (_names, _optimizers_of_keras, _variables, _arguments, _executed, _parts_of_t5):
        found += find(tree, names)
    return sorted(set(found))


def _parse(path):
    try:
        with open(path, "rb") as handle, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings
            return ast.parse(handle.read())
    except OSError as error:
        raise UserError("cannot be read: %s" % (error.strerror or error), path=path)
    except SyntaxError as error:
        line = " (line %d)" % error.lineno if error.lineno else ""
        raise UserError("is no Python 3%s: %s" % (line, error.msg), path=path)
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError("is no Python that can be read: %s" % (error or type(error).__name__), path=path)


def _finding(node, name, fault):
    return Finding(node.lineno, name, *fault)


def _uses(tree, names):
    """(node, dotted path) of what is read, but for imports; the whole of `a.b.c`, not also `a.b`."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load) and id(node) not in inner:
            path = names.path(node)
            if path:
                yield node, path


def _names(tree, names):
    known = ("kexue_keras", "bert4keras.layers", "bert4keras.models")  # importing these registers the layers
    registered = any(path.startswith(known) for path in names.imported.values())
    for node, path in _uses(tree, names):
        fault = faults.NAMES.get(path)
        if fault is not None and not (fault is faults.LOAD and registered):
            yield _finding(node, path.rpartition(".")[2], fault)


def _optimizers_of_keras(tree, names):
    """Those of Keras 2.3.1 race; those of tf.keras do not, and cannot be extended."""
    if _is_tf_keras(tree, names):
        yield from _not_extended(tree, names)
    else:
        yield from _racing(tree, names)


def _not_extended(tree, names):
    extensions = {path for path in faults.NAMES if ".extend_with_" in path}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and names.path(node.func) in extensions:
            for base in node.args[:1]:
                if names.path(base).startswith("keras.optimizers."):
                    yield _finding(node, names.path(node.func).rpartition(".")[2], faults.NOT_EXTENDED)


def _racing(tree, names):
    for node, path in _uses(tree, names):
        if path in faults.RACING:
            yield _finding(node, path.rpartition(".")[2], faults.ADAM)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "compile":
            given = node.args[:1] + [keyword.value for keyword in node.keywords if keyword.arg == "optimizer"]
            for value in given:
                if str(_text(value)).lower() in faults.RACING_STRINGS:
                    yield _finding(value, repr(_text(value)), faults.ADAM)


def _is_tf_keras(tree, names):
    # bert4keras takes these words for yes.
    yes = ("1", "true", "t", "yes", "y", "on")
    on = [str(value).lower() in yes for _, key, value in _variables_set(tree, names) if key == "TF_KERAS"]
    imports = [path for path in names.imported.values() if path.startswith(("tensorflow.keras", "tf_keras"))]
    return any(on) or bool(imports)


def _variables_set(tree, names):
    """(node, variable, value) where the script sets a variable of the environment to a text that stands there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Subscript) and names.path(target.value) == "os.environ":
                    yield node, _text(_index(target)), _text(node.value)
        elif isinstance(node, ast.Call) and len(node.args) == 2:
            if names.path(node.func) in ("os.putenv", "os.environ.setdefault"):
                yield node, _text(node.args[0]), _text(node.args[1])
        elif isinstance(node, ast.Call) and names.path(node.func) == "os.environ.update":
            for keyword in node.keywords:
                yield node, keyword.arg, _text(keyword.value)


def _index(subscript):
    # Before Python 3.9 there is a node between.
    return subscript.slice.value if type(subscript.slice).__name__ == "Index" else subscript.slice


def _text(node):
    """The text of a literal, None of anything else. (Python 3.7 has another node for it than 3.8.)"""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, str) else None


def _variables(tree, names):
    imports = [n.lineno for n in ast.walk(tree) if _imports_bert4keras(n)]
    for node, key, value in _variables_set(tree, names):
        if key in faults.VARIABLES and str(value).lower() not in ("0", "", "false", "none"):
            yield _finding(node, key, faults.VARIABLES[key])
        if key in faults.READ_ONCE and imports and min(imports) < node.lineno:
            yield _finding(node, key, faults.TOO_LATE)


def _imports_bert4keras(node):
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(module.split(".")[0] == "bert4keras" for module in modules)


def _arguments(tree, names):
    for node in ast.walk(tree):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg == "autoresize_weights" and not _is_false(keyword.value):
                yield _finding(keyword.value, "autoresize_weights", faults.RESIZE)


def _is_false(node):
    return isinstance(node, (ast.Constant, getattr(ast, "NameConstant", ast.Constant))) and not node.value


def _executed(tree, names):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            # Of a literal there is nothing to fear.
            if names.is_builtin(node.func.id) and node.args and _text(node.args[0]) is None:
                yield _finding(node, node.func.id, faults.EVAL)


def _parts_of_t5(tree, names):
    texts = [_text(keyword.value) for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords]
    if not any(text and ("t5" in text.lower()) and "/" not in text for text in texts):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "decoder" and isinstance(node.ctx, ast.Load):
            if not names.path(node):
                yield _finding(node, "decoder", faults.T5_PARTS)
