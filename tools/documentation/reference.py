"""The pages of the reference: one a room, with everything that its __init__.py exports, in its order.

The source is read, not imported: no TensorFlow is needed. mkdocstrings fills in signatures, docstrings and source.
"""

import ast
import configparser
import functools
import os

from repository import ROOT

# Not for users; everything else of the map of the house has a page.
INTERNAL = "checks cli files options schemas serving tokenizing".split()


@functools.lru_cache(None)
def tree_of(module):
    """Syntax tree of a module of the package, None of another."""
    path = os.path.join(ROOT, *module.split("."))
    for name in (path + ".py", os.path.join(path, "__init__.py")):
        if module.startswith("kexue_keras") and os.path.exists(name):
            with open(name, encoding="utf-8") as handle:
                return ast.parse(handle.read())
    return None


def is_room(module):
    return os.path.exists(os.path.join(ROOT, *module.split("."), "__init__.py"))


def is_ours(module, name):
    """Whether a function or class of that name is written in the package, there or where the module has it from."""
    tree = tree_of(module)
    for node in tree.body if tree else []:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return True
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return node.module != module and is_ours(node.module, alias.name)
    return False


def exported(room):
    """(what the room is, functions and classes that it exports, its other names, rooms in it)."""
    tree = tree_of(room)
    ours, others, inner = [], [], []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            name = node.names[0].asname or node.names[0].name
            if node.module == room and is_room(room + "." + name):
                inner.append(name)
            else:
                (ours if is_ours(room, name) else others).append(name)
    return ast.get_docstring(tree) or "", ours, others, inner


def part(room, level):
    """Markdown of a room: what it is, and its public names."""
    doc, ours, others, inner = exported(room)
    blocks = ["%s `%s`" % ("#" * level, room[len("kexue_keras.") :]), doc]
    if others:
        blocks.append("Also: %s." % ", ".join("`%s`" % name for name in others))
    for name in ours:
        blocks.append("::: %s.%s\n    options:\n      heading_level: %d" % (room, name, level + 1))
    blocks += [part(room + "." + name, level + 1) for name in inner]
    return "\n\n".join(blocks)


def rooms():
    """The rooms for users, as setup.cfg has them; a room in a room has a part of its page."""
    config = configparser.ConfigParser()
    config.read(os.path.join(ROOT, "setup.cfg"), encoding="utf-8")
    layers = config["importlinter:contract:house"]["layers"].split()
    return sorted(room for room in layers if is_room("kexue_keras." + room) and room not in INTERNAL)


def pages():
    """Dict name of the page -> its Markdown."""
    return {"reference/%s.md" % room: part("kexue_keras." + room, 1) + "\n" for room in rooms()}
