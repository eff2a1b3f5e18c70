"""Pairs for natural language inference: does the second text contradict the first, follow from it, or neither?

Files are SNLI's and MNLI's, in Chinese CNSD, CMNLI and OCNLI: JSON lines with sentence1, sentence2 and gold_label or
label, or tables of text, text, label. RoFormer-Sim-FT learns from them beside sets of similar texts.

Reference: "用开源的人工标注数据来增强RoFormer-Sim", kexue.fm/archives/8541; SNLI, arXiv 1508.05326.
"""

from typing import List, Optional, Sequence, Union

from kexue_keras.data._columns import SAMPLE, choose_columns
from kexue_keras.data._examples import Examples, read_examples
from kexue_keras.data._tables import read_table
from kexue_keras.errors import UserError, shorten
from kexue_keras.options.choices import MAX_LINE
from kexue_keras.plain_types import Column, Path, Say

# The order of the article's classes.
INFERENCE_LABELS = ("contradiction", "entailment", "neutral")
_CLASSES = dict({name: i for i, name in enumerate(INFERENCE_LABELS)}, 矛盾=0, 蕴含=1, 蕴涵=1, 中立=2, 中性=2)
_NUMBERS = {str(i): i for i in range(len(INFERENCE_LABELS))}
LABEL_NAMES = ("gold_label", "label")
# SNLI's mark for pairs on which its annotators did not agree.
UNDECIDED = "-"


def inference_classes(
    labels: Sequence[Union[str, int]], *, path: Optional[Path] = None, lines: Optional[Sequence[int]] = None
) -> List[int]:
    """Numbers 0 (contradiction), 1 (entailment), 2 (neutral) of labels.

    Args:
        labels: list of names, or of numbers 0, 1, 2, which are taken as they are: sets of one group must number alike.
        path, lines: file and line of each, for messages.

    Returns:
        list of int.

    Raises:
        UserError: another label, or names and numbers mixed.

    >>> inference_classes(['entailment', '中立', 'Contradiction']), inference_classes([2, '0'])
    ([1, 2, 0], [2, 0])
    """
    words = [str(label).strip().lower() for label in labels]
    numbered = bool(words) and words[0] in _NUMBERS
    known = _NUMBERS if numbered else _CLASSES
    for i, word in enumerate(words):
        if word not in known:
            where = {} if lines is None else {"path": path, "line": lines[i]}
            raise UserError(
                "the label is %s; for inference it is %s"
                % (
                    shorten(repr(labels[i])),
                    "0, 1 or 2, as in the first line" if numbered else "%s, %s or %s, or 0, 1 or 2" % INFERENCE_LABELS,
                ),
                **where,
            )
    return [known[word] for word in words]


def read_inference_pairs(
    path: Path,
    *,
    text: Optional[Column] = None,
    text_b: Optional[Column] = None,
    label: Optional[Column] = None,
    format: Optional[str] = None,
    header: str = "auto",
    max_line: int = MAX_LINE,
    note: Optional[Say] = None,
) -> Examples:
    """Read pairs of texts with one of three labels.

    Args:
        path: file; TSV, CSV or JSON lines, also .gz.
        text, text_b, label: columns by name, or number from 1; None looks for them.
        format, header, max_line: see `read_table`.
        note: function that takes a line for the user, or None.

    Returns:
        `Examples` with pairs of str as texts and int as labels (see `inference_classes`); pairs without an agreed label
        ('-' in SNLI) are left out.

    Raises:
        UserError: columns that are not there or not clear, an empty text, another label; with file and line.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile('w', suffix='.jsonl', encoding='utf-8') as handle:
    ...     _ = handle.write('{"sentence1": "我喜欢北京", "sentence2": "我不喜欢北京", "gold_label": "contradiction"}')
    ...     handle.flush()
    ...     pairs = read_inference_pairs(handle.name)
    >>> pairs.texts, pairs.labels
    ([('我喜欢北京', '我不喜欢北京')], [0])
    """
    known = {name for name in (text, text_b, label) if isinstance(name, str)} | set(LABEL_NAMES)
    table = read_table(path, format=format, header=header, max_line=max_line, known=known)
    label = _label_column(table) if label is None else label
    columns = choose_columns(table, text=text, text_b=text_b, label=label)
    if columns.text_b is None:
        raise UserError(
            "which column is the second text? Inference takes pairs; give text_b", path=table.path, line=table.lines[0]
        )
    pairs = read_examples(table, columns)
    decided = [i for i, one in enumerate(pairs.labels) if one != UNDECIDED]
    if len(decided) < len(pairs) and note is not None:
        note("%s: %d of %d pairs have no agreed label (-)" % (table.path, len(pairs) - len(decided), len(pairs)))
    pairs = pairs.take(decided)
    if not len(pairs):
        raise UserError("no pair has an agreed label", path=table.path)
    pairs.labels = inference_classes(pairs.labels, path=pairs.path, lines=pairs.lines)
    return pairs


def _label_column(table):
    """Name or number (from 1) of the column that holds such labels; None if that is not clear."""
    if table.names is not None:
        # SNLI has other columns that look like labels.
        return next((name for name in LABEL_NAMES if name in table.names), None)

    def is_label(value):
        return value.strip().lower() in _CLASSES or value.strip() in _NUMBERS or value.strip() == UNDECIDED

    columns = range(len(table.rows[0]))
    found = [i for i in columns if all(is_label(row[i]) for row in table.rows[:SAMPLE])]
    # A line that is wrong makes a column of labels none; the error should name it, not a missing column.
    found = found or [i for i in columns if is_label(table.rows[0][i])]
    return found[0] + 1 if len(found) == 1 else None
