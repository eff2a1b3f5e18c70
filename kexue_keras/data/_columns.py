"""Which column of a table is the text, the second text of a pair, the label."""

from typing import Optional

from kexue_keras.data._numbers import whole_number
from kexue_keras.data._tables import INDEX_NAME, LABEL_NAMES, TEXT_B_NAMES, TEXT_NAMES, Table
from kexue_keras.errors import UserError, as_unicode, shorten
from kexue_keras.plain_types import Column, Config

SAMPLE = 2000
# From so many rows on, whole numbers that are all different are the index of a table that was shuffled.
SHUFFLED = 10


class Columns(object):
    """The choice of columns; each is a name, a number from 0, or None.

    >>> columns = Columns(text='text_a', label='label')
    >>> columns.describe()
    "text = 'text_a', label = 'label'"
    """

    def __init__(
        self, *, text: Optional[Column], text_b: Optional[Column] = None, label: Optional[Column] = None
    ) -> None:
        self.text, self.text_b, self.label = text, text_b, label

    def describe(self) -> str:
        """For the user: names in quotes, numbers from 1."""
        parts = []
        for role in ("text", "text_b", "label"):
            column = getattr(self, role)
            if column is not None:
                shown = repr(column) if isinstance(column, str) else "column %d" % (column + 1)
                parts.append("%s = %s" % (role.replace("_", " "), shown))
        return ", ".join(parts)

    def get_config(self) -> Config:
        """The arguments, as JSON can hold them."""
        return {"text": self.text, "text_b": self.text_b, "label": self.label}


def choose_columns(
    table: Table,
    *,
    text: Optional[Column] = None,
    text_b: Optional[Column] = None,
    label: Optional[Column] = None,
    need_label: bool = True,
) -> Columns:
    """Choose the columns of a table from what the user said, the header, and, without header, the values.

    Args:
        table: `Table`.
        text, text_b, label: name or number from 1 (int or str) given by the user, or None.
        need_label: whether a label column must be there.

    Returns:
        `Columns`.

    Raises:
        UserError: a given column is not there, the choice is not clear, or it takes an index for a text.
    """
    text, text_b, label = (resolve(table, column) for column in (text, text_b, label))
    choose = _by_value if table.names is None else _by_name
    columns = choose(table, text, text_b, label, need_label)
    refuse_index(table, columns, given=(text, text_b))
    return columns


def columns_as_trained(table, trained, *, pairs):
    """The text column(s) of a table without labels, by what training used.

    Args:
        table: `Table`.
        trained: dict text, text_b, label: the columns of the training file, names or numbers from 0.
        pairs: whether the texts are pairs.

    Returns:
        `Columns` without label.

    Raises:
        UserError: the columns are not there.
    """
    text, text_b = trained["text"], trained["text_b"]
    if table.names is not None:
        lacking = [c for c in (text, text_b) if isinstance(c, str) and c not in table.names]
        # Trained without a header, or under other names: what is usually called a text will do.
        if lacking or not isinstance(text, str):
            text = text_b = None
        return choose_columns(table, text=text, text_b=text_b, need_label=False)
    width = len(table.rows[0])
    if width == (2 if pairs else 1):
        columns = Columns(text=0, text_b=1 if pairs else None)
        refuse_index(table, columns)
        return columns
    if isinstance(text, int) and width > max(text, text_b or 0):
        columns = Columns(text=text, text_b=text_b)
        refuse_index(table, columns)
        return columns
    raise UserError(
        "the file has no header and %d column(s), training had %s; give --text-column%s"
        % (width, Columns(**trained).describe(), " and --text-b-column" if pairs else ""),
        path=table.path,
        line=table.lines[0],
    )


def resolve(table, column):
    """A column given by name or number (from 1), as a name if the table has names, else as a number from 0.

    Raises:
        UserError: there is no such column.
    """
    if column is None:
        return None
    column, number = as_unicode(column), whole_number(column) or 0
    if table.names is not None:
        if str(column) in table.names:
            return str(column)
        if 1 <= number <= len(table.names) and table.format != "jsonl":
            return table.names[number - 1]
        raise UserError("no column %r; there are: %s" % (column, ", ".join(table.names)), path=table.path, line=1)
    width = len(table.rows[0])
    if 1 <= number <= width:
        return number - 1
    raise UserError(
        "no column %r; the file has no header and %d column(s), numbered from 1 (is line 1 a header? then give "
        "--header yes): %s" % (column, width, shorten(" | ".join(table.rows[0]))),
        path=table.path,
        line=1,
    )


def is_index(table, column):
    """Whether a column is the index of a table that pandas wrote, and neither a text nor a label.

    That is: its name says so, or it holds whole numbers that count up by one, or that are all different (the index of a
    shuffled table). A table with a single column has none.

    Args:
        table: `Table`.
        column: name, or number from 0.

    >>> from kexue_keras.data._tables import Table
    >>> rows = [['0', '好', '1'], ['1', '坏', '0'], ['2', '差', '0']]
    >>> [is_index(Table('f.tsv', 'tsv', None, rows, [1, 2, 3], True), i) for i in range(3)]
    [True, False, False]
    """
    if len(table.names or table.rows[0]) < 2:
        return False
    if isinstance(column, str):
        if table.format != "jsonl" and INDEX_NAME.fullmatch(column):
            return True
        place = column if table.format == "jsonl" else table.names.index(column)
    else:
        place = column
    cells = [row.get(place) if isinstance(row, dict) else row[place] for row in table.rows[:SAMPLE]]
    numbers = [whole_number(cell) for cell in cells]
    if None in numbers or len(numbers) < 3:
        return False
    counts_up = all(b - a == 1 for a, b in zip(numbers, numbers[1:]))
    return counts_up or (len(numbers) >= SHUFFLED and len(set(numbers)) == len(numbers))


def refuse_index(table, columns, *, given=()):
    """Refuse a choice of columns that takes an index for a text; what the user named himself is his affair.

    Args:
        table: `Table`.
        columns: `Columns` without the label, which is no matter here.
        given: columns that the user gave, as names or numbers from 0.

    Raises:
        UserError: with the way out.
    """
    for column in (columns.text, columns.text_b):
        if column is not None and column not in given and is_index(table, column):
            shown = repr(column) if isinstance(column, str) else "column %d" % (column + 1)
            raise UserError(
                "%s looks like the index that pandas writes next to the data, not like a text; write the file with "
                "to_csv(..., index=False), or name the columns: --text-column and, as needed, --text-b-column and "
                "--label-column" % shown,
                path=table.path,
                line=table.lines[0],
            )


def _by_name(table, text, text_b, label, need_label):
    lower = {name.lower(): name for name in reversed(table.names)}
    taken = {text, text_b, label}

    def first(usual):
        for name in usual:
            if name in lower and lower[name] not in taken:
                taken.add(lower[name])
                return lower[name]
        return None

    given = text is not None
    label = first(LABEL_NAMES) if label is None else label
    text = first(TEXT_NAMES) if text is None else text
    # Who names the text column alone means one text, even if another column looks like a second one.
    text_b = first(TEXT_B_NAMES) if text_b is None and not given else text_b
    rest = [name for name in table.names if name not in taken and not is_index(table, name)]
    if text is None and len(rest) == 1:
        text = rest.pop()
    if label is None and need_label and len(rest) == 1:
        label = rest.pop()
    if text is None or (label is None and need_label):
        missing = "text" if text is None else "label"
        raise UserError(
            "which column is the %s? There are: %s; give --%s-column" % (missing, ", ".join(table.names), missing),
            path=table.path,
            line=1,
        )
    return Columns(text=text, text_b=text_b, label=label)


def _by_value(table, text, text_b, label, need_label):
    width = len(table.rows[0])
    distinct = [len({row[i] for row in table.rows[:SAMPLE]}) for i in range(width)]
    free = [i for i in range(width) if i not in (text, text_b, label)]
    if width > 1 and len(table) >= 10:
        # A column with one value throughout (a prompt, say) is neither a text nor a label.
        free = [i for i in free if distinct[i] > 1]
    if label is None and need_label and free:
        # With nothing else to go by, labels stand in the last column.
        candidates = sorted(free, key=lambda i: (distinct[i], _mean_length(table, i), -i))
        same = [i for i in candidates if distinct[i] == distinct[candidates[0]]]
        if text is None and len(same) > 1 and len(table) > 4:
            raise _unclear(table, "label", width)
        label = candidates[0]
        free.remove(label)
    given = text is not None
    if text is None and free:
        text = free.pop(0)
    if text is None or (label is None and need_label):
        raise UserError(
            "a text and a label are needed, but there is %d column: %s" % (width, shorten(table.rows[0][0])),
            path=table.path,
            line=table.lines[0],
        )
    if text_b is None and not given and len(free) == 1:
        text_b = free.pop(0)
    if not given and free:
        raise _unclear(table, "text", width)
    return Columns(text=text, text_b=text_b, label=label)


def _mean_length(table, column):
    sample = [len(row[column].strip()) for row in table.rows[:SAMPLE] if row[column].strip()]
    return sum(sample) / max(len(sample), 1)


def _unclear(table, what, width):
    return UserError(
        "which of the %d columns is the %s? Give --text-column and --label-column (numbers from 1)" % (width, what),
        path=table.path,
        line=table.lines[0],
    )
