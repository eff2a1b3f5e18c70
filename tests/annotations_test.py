"""Public functions and methods say what they take and return."""

import importlib
import inspect
import os
import typing

import pytest
from source_rules_test import PUBLIC, relative

ROOMS = [relative(path).replace(os.sep, ".") for path in PUBLIC] + ["kexue_keras.numerics"]
# Methods that are part of an object's public face in spite of their names.
SPECIAL = ("__init__", "__call__", "__len__", "__enter__", "__exit__")


def is_ours(thing):
    return getattr(thing, "__module__", "").split(".")[0] == "kexue_keras"


def functions_of(thing, name):
    """(name, function, whether its first parameter is the object or class) of a public function or class."""
    if inspect.isfunction(thing):
        yield name, thing, False
        return
    for cls in inspect.getmro(thing):
        for key, member in vars(cls).items() if is_ours(cls) else ():
            if key.startswith("_") and key not in SPECIAL:
                continue
            path = "%s.%s" % (name, key)
            if isinstance(member, property):
                for accessor in filter(inspect.isfunction, (member.fget, member.fset)):
                    yield path, accessor, True
            elif isinstance(member, (classmethod, staticmethod)):
                yield path, member.__func__, isinstance(member, classmethod)
            elif inspect.isfunction(member):
                yield path, member, True


def public(room):
    module = importlib.import_module(room)
    for name in sorted(dir(module)):
        thing = getattr(module, name)
        if not name.startswith("_") and (inspect.isfunction(thing) or inspect.isclass(thing)) and is_ours(thing):
            for found in functions_of(thing, name):
                # A class may take a method of bert4keras as its own.
                if is_ours(found[1]):
                    yield found


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_public_is_annotated(room):
    bare = []
    for name, function, is_method in public(room):
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[is_method:]
        bare += ["%s(%s)" % (name, p.name) for p in parameters if p.annotation is p.empty]
        if signature.return_annotation is signature.empty:
            bare.append("%s -> ?" % name)
    assert not bare, "annotate " + ", ".join(bare)


@pytest.mark.parametrize("room", ROOMS)
def test_annotations_mean_something(room):
    """No name in them is unknown where they stand."""
    for _, function, _ in public(room):
        typing.get_type_hints(function)
