"""Pairs of texts with a number that says how similar they are: files, checked line by line, and batches.

Rows 2i and 2i+1 of a batch are a pair, which is what the losses of sentence vectors take.
"""

import collections
import math
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from kexue_keras.data._batches import ROUNDING, BucketedBatches
from kexue_keras.data._columns import SAMPLE, Columns, choose_columns, is_index, refuse_index, resolve
from kexue_keras.data._examples import Examples, cell, read_examples
from kexue_keras.data._tables import read_table
from kexue_keras.errors import UserError, shorten
from kexue_keras.options.choices import MAX_LINE
from kexue_keras.plain_types import Array, ArrayLike, Column, Encoded, Path

SCORE_NAMES = "score similarity label labels y 分数 相似度 标签".split()
NEEDED = "a pair file has two texts and a number per line"


def read_scored_pairs(
    path: Path,
    *,
    text: Optional[Column] = None,
    text_b: Optional[Column] = None,
    score: Optional[Column] = None,
    score_range: Optional[Tuple[float, float]] = None,
    need_score: bool = True,
    format: Optional[str] = None,
    header: str = "auto",
    max_line: int = MAX_LINE,
) -> Tuple[Examples, Optional[Columns]]:
    """Read pairs of texts with their scores.

    Args:
        path: file; TSV, CSV or JSON lines, also .gz. Without header the score is the column of numbers; SentEval-style
            `.data` files (text, text, score) need no option.
        text, text_b, score: columns by name, or number from 1; None looks for them.
        score_range: (lowest, highest) score that may occur, or None.
        need_score: bool; False reads pairs without a score.
        format, header, max_line: see `read_table`.

    Returns:
        (`Examples` with pairs of str as texts and floats as labels, or None, `Columns`).

    Raises:
        UserError: one column, a column that is not there or not clear, an empty text, a score that is no number or lies
            outside of `score_range`; with file and line.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile('w', suffix='.tsv', encoding='utf-8') as handle:
    ...     _ = handle.write('今天天气不错\\t今天天气很好\\t4.5\\n我喜欢北京\\t我不喜欢北京\\t1\\n')
    ...     handle.flush()
    ...     pairs, columns = read_scored_pairs(handle.name, score_range=(0, 5))
    >>> pairs.labels, columns.describe()
    ([4.5, 1.0], 'text = column 1, text b = column 2, label = column 3')
    """
    known = {name for name in (text, text_b, score) if isinstance(name, str)} | set(SCORE_NAMES)
    table = read_table(path, format=format, header=header, max_line=max_line, known=known)
    columns = choose_pair_columns(table, text=text, text_b=text_b, score=score, need_score=need_score)
    pairs = read_examples(table, Columns(text=columns.text, text_b=columns.text_b))
    if columns.label is not None:
        pairs.labels = [
            _score(cell(table, row, columns.label, {"path": table.path, "line": line}), score_range, table.path, line)
            for row, line in zip(table.rows, table.lines)
        ]
    return pairs, columns


def _score(value, score_range, path, line):
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):  # the last: a whole number of JSON with 309 digits or more
        number = float("nan")
    if not math.isfinite(number):
        raise UserError("the score is %s; a number is needed" % shorten(repr(value)), path=path, line=line)
    if score_range is not None and not score_range[0] <= number <= score_range[1]:
        raise UserError(
            "the score %g lies outside of the declared range %g to %g (--score-range)"
            % ((number,) + tuple(score_range)),
            path=path,
            line=line,
        )
    return number


def choose_pair_columns(table, *, text=None, text_b=None, score=None, need_score=True):
    """Which columns of a table are the two texts and the score.

    Args:
        table: `Table`.
        text, text_b, score: name or number from 1 given by the user, or None.
        need_score: whether there must be one.

    Returns:
        `Columns`.

    Raises:
        UserError: fewer columns than are needed, or the choice is not clear.
    """
    where = {"path": table.path, "line": table.lines[0]}
    width = len(table.names or table.rows[0])
    if width < 2 + need_score:
        shown = shorten(", ".join(table.names or table.rows[0]))
        raise UserError(
            "%d column(s): %s; %s" % (width, shown, NEEDED if need_score else "two texts are needed"), **where
        )
    if table.names is not None:
        lower = {name.lower(): name for name in reversed(table.names)}
        if score is None:
            score = next((lower[name] for name in SCORE_NAMES if name in lower), None)
        columns = choose_columns(table, text=text, text_b=text_b, label=score, need_label=need_score)
        chosen = (columns.text, columns.text_b, columns.label)
        rest = [name for name in table.names if name not in chosen and not is_index(table, name)]
        if columns.text_b is None and len(rest) == 1:
            columns.text_b = rest[0]
        if columns.text_b is None or columns.text_b == columns.text:
            raise UserError(
                "which column is the second text? There are: %s; give --text-b-column" % ", ".join(table.names), **where
            )
        return columns
    given = [resolve(table, column) for column in (text, text_b, score)]
    free = [i for i in range(width) if i not in given]
    if free and (text is None or text_b is None):
        refuse_index(table, Columns(text=free[0]))
    if given[2] is None and need_score:
        numbers = [i for i in free if all(_is_number(row[i]) for row in table.rows[:SAMPLE])]
        # A line that is wrong makes a column of numbers none; then the last column is taken, and the line reported.
        numbers = numbers or [i for i in free if i == width - 1]
        if len(numbers) != 1:
            raise UserError(
                "which of the %d columns is the score? Give --label-column (a number from 1); %s" % (width, NEEDED),
                **where,
            )
        given[2] = numbers[0]
        free.remove(numbers[0])
    for role in (0, 1):
        if given[role] is None and free:
            given[role] = free.pop(0)
    if None in given[:2] or (free and (text is None or text_b is None)):
        raise UserError(
            "which of the %d columns are the texts? Give --text-column and --text-b-column (numbers from 1)" % width,
            **where,
        )
    return Columns(text=given[0], text_b=given[1], label=given[2])


def _is_number(value):
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def split_pairs(
    pairs: Examples, share: float, seed: int, classes: Optional[Sequence[Any]] = None
) -> Tuple[Examples, Examples]:
    """Split in two; pairs that have a text in common stay together where that is possible.

    Args:
        pairs: `Examples` of pairs.
        share: part that goes to the second part, in (0, 1).
        seed: int.
        classes: list of what each part should have two of; None: the scores. A draw that leaves a part with one is made
            again with equal shares of each, if that is possible.

    Returns:
        pair of `Examples`. Pairs linked by shared texts are one group, and no group is split, unless the largest one
        holds more than half of all; then only equal pairs stay together.

    Raises:
        UserError: too few pairs.

    >>> texts = [('a', 'b'), ('b', 'a'), ('c', 'd'), ('e', 'f'), ('d', 'g')]
    >>> whole = kexue_keras.data.Examples('f', texts, [1, 1, 0, 1, 0], [1, 2, 3, 4, 5])
    >>> first, second = split_pairs(whole, .2, seed=1)
    >>> {t for pair in first.texts for t in pair} & {t for pair in second.texts for t in pair}
    set()
    """
    groups = joined_groups(pairs.texts)
    members = [[] for _ in range(max(groups) + 1)]
    for i, group in enumerate(groups):
        members[group].append(i)
    wanted, chosen = share * len(pairs), []
    order = [members[group] for group in np.random.RandomState(seed % 2**32).permutation(len(members))]
    for group in order:
        if len(chosen) >= max(1, wanted - 0.5):
            break
        chosen.extend(group)
    classes = (pairs.labels or []) if classes is None else classes
    if len(set(classes)) > 1 and not all(_have_two(classes, chosen)):
        again = _equal_shares(order, classes, share)
        # If both cannot, at least training should.
        if sum(_have_two(classes, again)) >= sum(_have_two(classes, chosen)):
            chosen = again
    rest = sorted(set(range(len(pairs))) - set(chosen))
    if len(chosen) < 2 or len(rest) < 2:
        raise UserError(
            "%d pairs are too few to split off a part for validation; give --valid" % len(pairs), path=pairs.path
        )
    return pairs.take(rest), pairs.take(sorted(chosen))


def joined_groups(pairs):
    """Number of the group of each pair: pairs that a text joins; equal pairs alone if the largest has over half of all.

    >>> joined_groups([('a', 'b'), ('b', 'c'), ('d', 'e'), ('f', 'g')])
    [0, 0, 1, 2]
    """
    groups = [int(group) for group in _groups(pairs)]
    if max(np.bincount(groups)) > len(pairs) / 2:
        keys = {}
        groups = [keys.setdefault(frozenset(pair), len(keys)) for pair in pairs]
    return groups


def _have_two(classes, chosen):
    """Whether the rows `chosen` have two classes, and whether the others have."""
    chosen = set(chosen)
    parts = [{c for i, c in enumerate(classes) if (i in chosen) == inside} for inside in (True, False)]
    return [len(part) > 1 for part in parts]


def _equal_shares(order, classes, share):
    """Rows of as many groups as give each class its share, the rarest class first, and leave some of each class."""
    counts = collections.Counter(classes)
    taken, chosen, left = collections.Counter(), [], list(order)
    for name in sorted(counts, key=lambda c: (counts[c], str(c))):
        quota = max(1, int(round(share * counts[name])))
        for group in list(left):
            if taken[name] >= quota:
                break
            of_group = collections.Counter(classes[i] for i in group)
            if of_group[name] and all(taken[c] + n < counts[c] for c, n in of_group.items()):
                left.remove(group)
                chosen.extend(group)
                taken.update(of_group)
    return chosen


def _groups(pairs):
    """Number of the connected component of each pair, texts being joined by pairs."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ids = {}
    edges = np.array([[ids.setdefault(text, len(ids)) for text in pair] for pair in pairs])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(ids), len(ids)))
    return connected_components(graph, directed=False)[1][edges[:, 0]]


class PairBatches(object):
    """Batches of encoded texts of which rows 2i and 2i+1 are a pair, bucketed by the longer text of a pair.

    Args:
        encoded: list of 2P (token ids, segment ids).
        batch_size: pairs per batch.
        max_length, seed, bucketing, rounding: as for `BucketedBatches`.

    >>> batches = PairBatches([([1] * n, [0] * n) for n in (3, 30, 4, 5)], batch_size=1, max_length=32)
    >>> sorted(indices.tolist() for indices in batches.epoch(0))
    [[0, 1], [2, 3]]
    """

    def __init__(
        self,
        encoded: Sequence[Encoded],
        *,
        batch_size: int,
        max_length: int,
        seed: int = 0,
        bucketing: bool = True,
        rounding: int = ROUNDING,
    ) -> None:
        arguments = dict(max_length=max_length, seed=seed, bucketing=bucketing, rounding=rounding)
        longer = [max(pair, key=lambda row: len(row[0])) for pair in zip(encoded[::2], encoded[1::2])]
        self._pairs = BucketedBatches(longer, batch_size=batch_size, **arguments)
        self._rows = BucketedBatches(encoded, batch_size=2 * batch_size, **arguments)

    def __len__(self) -> int:
        return len(self._pairs)

    def epoch(self, epoch: int) -> List[Array]:
        """List of arrays of rows, the batches of that epoch in their order."""
        return [(2 * pairs[:, None] + [0, 1]).reshape(-1) for pairs in self._pairs.epoch(epoch)]

    def inputs(self, rows: ArrayLike) -> List[Array]:
        """[token ids, segment ids] of the given rows, padded to this batch."""
        return self._rows.inputs(rows)
