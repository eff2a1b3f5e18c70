"""Texts (or pairs of texts) with labels, checked line by line, and the split that keeps equal texts together."""

from typing import Any, Iterable, Optional, Sequence, Tuple

import numpy as np

from kexue_keras.data._columns import Columns
from kexue_keras.data._numbers import whole_number
from kexue_keras.data._stratified import stratified_indices
from kexue_keras.data._tables import Table
from kexue_keras.errors import UserError, as_unicode, shorten


class Examples(object):
    """Texts with labels.

    Attributes:
        path: where they came from.
        texts: list of str, or of (str, str) for pairs.
        labels: list of str, or of tuples of str where a text has several, or None.
        lines: list of int, line numbers.
    """

    def __init__(
        self, path: Optional[str], texts: Sequence[Any], labels: Optional[Sequence[Any]], lines: Optional[Sequence[int]]
    ) -> None:
        self.path, self.texts, self.labels, self.lines = path, texts, labels, lines

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def is_pairs(self) -> bool:
        return bool(self.texts) and isinstance(self.texts[0], tuple)

    @property
    def is_multilabel(self) -> bool:
        return bool(self.labels) and isinstance(self.labels[0], tuple)

    def take(self, indices: Iterable[int]) -> "Examples":
        """The examples at `indices`."""
        labels = None if self.labels is None else [self.labels[i] for i in indices]
        return Examples(self.path, [self.texts[i] for i in indices], labels, [self.lines[i] for i in indices])


def read_examples(table: Table, columns: Columns, *, separator: Optional[str] = None) -> Examples:
    """Take texts and labels out of a table.

    Args:
        table: `Table`.
        columns: `Columns`; names or numbers must be there in every row.
        separator: str between several labels of a text; None for one label per text (a JSON list always is several).

    Returns:
        `Examples`.

    Raises:
        UserError: a column is missing, a text is empty, a label is missing or no label, an empty separator.
    """
    if separator == "":
        raise UserError("--label-separator is empty; give what stands between two labels, e.g. '|'")
    separator = as_unicode(separator)
    texts, labels = [], []
    for row, line in zip(table.rows, table.lines):
        where = {"path": table.path, "line": line}
        text = _text(cell(table, row, columns.text, where), where, columns.text)
        if columns.text_b is not None:
            text = (text, _text(cell(table, row, columns.text_b, where), where, columns.text_b))
        texts.append(text)
        if columns.label is not None:
            labels.append(_label(cell(table, row, columns.label, where), where, separator))
    if columns.label is None:
        return Examples(table.path, texts, None, table.lines)
    several = [isinstance(label, tuple) for label in labels]
    if any(several) and not all(several):
        line = table.lines[several.index(not several[0])]
        raise UserError("some lines have a list of labels and some a single label", path=table.path, line=line)
    return Examples(table.path, texts, labels, table.lines)


def cell(table, row, column, where):
    """What stands in a column of a row.

    Args:
        table: `Table`.
        row: one of its rows.
        column: name, or number from 0.
        where: dict with path and line, for the error.

    Raises:
        UserError: a JSON object without it.
    """
    if table.format == "jsonl":
        if column not in row:
            raise UserError("no %r; there are: %s" % (column, ", ".join(row)), **where)
        return row[column]
    return row[table.names.index(column)] if isinstance(column, str) else row[column]


def _text(value, where, column):
    if not isinstance(value, str):
        raise UserError("the text in %r is no string: %s" % (column, shorten(value)), **where)
    if not value.strip():
        raise UserError("the text is empty", **where)
    return value


def _label(value, where, separator):
    if isinstance(value, (list, tuple)):
        return tuple(sorted({_one_label(v, where) for v in value}))
    if separator is None:
        return _one_label(value, where)
    return tuple(sorted({_one_label(v, where) for v in str(value).split(separator)}))


def _one_label(value, where):
    if isinstance(value, (dict, list, float)) or value is None:
        raise UserError("the label is %s; a word or a whole number is needed" % shorten(repr(value)), **where)
    value = str(value).strip()
    if not value:
        raise UserError("the label is missing", **where)
    return value


def label_names(examples):
    """All labels of the examples, whole numbers in their order, other labels sorted.

    Raises:
        UserError: there is only one.
    """
    if examples.is_multilabel:
        names = {label for labels in examples.labels for label in labels}
    else:
        names = set(examples.labels)
    if len(names) < 2:
        raise UserError(
            "only one class (%s); at least two are needed" % shorten(", ".join(names) or "no label at all"),
            path=examples.path,
        )
    numbers = {name: whole_number(name) for name in names}
    return sorted(names) if None in numbers.values() else sorted(names, key=lambda name: (numbers[name], name))


def check_labels(examples, names, source):
    """Refuse labels that the training data did not have.

    Raises:
        UserError: with the line of the first unknown label.
    """
    known = set(names)
    for label, line in zip(examples.labels, examples.lines):
        for one in label if isinstance(label, tuple) else (label,):
            if one not in known:
                raise UserError(
                    "unknown label %r; %s has %s" % (one, source, shorten(", ".join(names), 120)),
                    path=examples.path,
                    line=line,
                )


def check_no_header_taken_for_data(table, examples):
    """A header with unusual names would become a row with a class of its own; better to ask."""
    if not table.guessed or len(examples) < 10 or examples.is_multilabel:
        return
    label = examples.labels[0]
    if examples.labels.count(label) == 1 and len(set(examples.labels)) <= len(examples) // 4:
        raise UserError(
            "the label %r occurs on this line alone; give --header yes if this is a header, --header no if not" % label,
            path=examples.path,
            line=examples.lines[0],
        )


def stratified_split(examples: Examples, share: float, seed: int) -> Tuple[Examples, Examples]:
    """Split in two with equal shares of the labels; equal texts stay together.

    Args:
        examples: `Examples` with labels.
        share: part of the texts that goes to the second part, in (0, 1).
        seed: int.

    Returns:
        pair of `Examples`.

    >>> whole = Examples('f', ['a', 'b', 'c', 'd', 'e', 'e'] * 4, ['x', 'y'] * 12, list(range(24)))
    >>> first, second = stratified_split(whole, .4, seed=1)
    >>> set(first.texts) & set(second.texts)
    set()
    """
    groups = {}
    for i, text in enumerate(examples.texts):
        groups.setdefault(text, []).append(i)
    members = list(groups.values())
    strata = np.array(["\t".join(np.atleast_1d(examples.labels[m[0]])) for m in members])
    values, inverse, counts = np.unique(strata, return_inverse=True, return_counts=True)
    wanted = max(1, int(round(share * len(members))))
    # A stratum with a single text cannot be shared out; it stays in the first part, so that every label is trained.
    single = np.flatnonzero(counts[inverse] < 2)
    common = np.flatnonzero(counts[inverse] >= 2)
    classes = len(np.unique(inverse[common]))
    if len(common) < 2 * classes or wanted > len(common) - classes or not classes:
        raise UserError("%d texts are too few to split off a part for validation; give --valid" % len(members))
    wanted = max(wanted, classes)
    try:
        random = np.random.RandomState(seed)
    except ValueError as error:
        raise UserError("cannot split off a part for validation (%s); give --valid" % error, path=examples.path)
    keep, out = (common[part] for part in stratified_indices(inverse[common], wanted, random))

    def rows(chosen):
        return examples.take(sorted(i for g in chosen for i in members[g]))

    return rows(np.concatenate([keep, single])), rows(out)
