"""Where the transformer of a sentence-transformers folder is, and what comes after it: read, nothing is built."""

import os
from collections import namedtuple

from kexue_keras.errors import WeightsError, shorten
from kexue_keras.schemas.reading import check_settings, read_json
from kexue_keras.schemas.sentence_transformers import MODULE_LIST, MODULES

KINDS = ("Transformer", "Pooling", "Dense", "Normalize", "Dropout")

Module = namedtuple("Module", "kind folder")


def has_modules(path):
    """Whether a folder is one of sentence-transformers."""
    return os.path.isfile(os.path.join(path, MODULES))


def read_modules(path):
    """The modules of a folder, in their order.

    Args:
        path: str, a folder with modules.json.

    Returns:
        list of `Module`: kind, one of `KINDS`, and its folder.

    Raises:
        WeightsError: a module that is not known here, one outside of the folder, or no Transformer in front.
    """
    file = os.path.join(path, MODULES)
    found = []
    for one in check_settings({"modules": read_json(file)}, MODULE_LIST, file)["modules"]:
        kind = one["type"].split(".")[-1]
        if kind not in KINDS:
            raise WeightsError(
                "%s: the module %s is not known here (%s are); nothing was loaded. models.load takes the folder of the "
                "Transformer alone" % (file, shorten(ascii(one["type"])[1:-1], 80), ", ".join(KINDS))
            )
        folder = os.path.normpath(os.path.join(path, one["path"]))
        if os.path.isabs(one["path"]) or os.path.relpath(folder, path).split(os.sep)[0] == os.pardir:
            raise WeightsError("%s names %s, which lies outside of the folder" % (file, shorten(ascii(one["path"]))))
        found.append(Module(kind, folder))
    if found[0].kind != "Transformer":
        raise WeightsError("%s: the first module is %s; it must be a Transformer" % (file, found[0].kind))
    return found


def transformer_folder(path):
    """The folder with the transformer of a model folder: of one of sentence-transformers, what its first module says.

    Raises:
        WeightsError: see `read_modules`.
    """
    if not has_modules(path) or os.path.isfile(os.path.join(path, "config.json")):
        return path
    return read_modules(path)[0].folder
