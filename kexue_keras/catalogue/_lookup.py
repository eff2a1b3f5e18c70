"""Looking techniques up, and whether what they name exists."""

import importlib
from typing import Any, List

from kexue_keras.catalogue._techniques import TECHNIQUES, Technique


def find(name: str) -> Any:
    """The public object `name`, given relative to the package ('losses.FlatNCE'), or None if there is none yet.

    >>> find('models.load').__name__
    'load'
    >>> find('losses.NoSuchLoss') is None
    True
    """
    package, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module("kexue_keras" + (package and "." + package))
    except ImportError:
        return None
    return getattr(module, attribute, None)


def missing_names(technique: Technique) -> List[str]:
    """Those of the technique's public names that do not exist yet."""
    return [name for name in technique.names if find(name) is None]


def exists(technique: Technique) -> bool:
    """Whether all of the technique's public names exist."""
    return not missing_names(technique)


def search(word: Any = "") -> List[Technique]:
    """The techniques whose title, Chinese title, article number or public names contain `word` (any case).

    >>> [technique.number for technique in search('flatnce')]
    [9]
    """
    word = str(word).lower()
    return [t for t in TECHNIQUES if word in " ".join(map(str, (t.title, t.chinese, t.articles, t.names))).lower()]
