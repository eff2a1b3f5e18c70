"""Texts with named entities: CoNLL files (a character and its tag a line), and JSON lines with spans."""

import re
from typing import Any, Dict, Optional, Sequence, Tuple

from kexue_keras.data._examples import Examples
from kexue_keras.data._tables import SUFFIXES, Lines, read_table
from kexue_keras.data._tags import TagError, first_overlap, read_tags, uses_ends
from kexue_keras.errors import UserError, shorten
from kexue_keras.files.paths import path_text
from kexue_keras.options.choices import MAX_LINE
from kexue_keras.plain_types import Path, Say

TEXT, ENTITIES = "text", "entities"
# Share of entities that may be broken; more means that it is another scheme, or another column.
TOLERATED = 0.01
# A line that some files have between documents.
_DOCUMENT = "-DOCSTART-"
_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\ufe30-\uffef\U00020000-\U0003ffff]")


def read_entities(
    path: Path,
    *,
    format: Optional[str] = None,
    text: Optional[str] = None,
    entities: Optional[str] = None,
    max_line: int = MAX_LINE,
    say: Optional[Say] = None,
) -> Examples:
    """Read texts with their entities.

    CoNLL: a line has a character (or word) and, as its last column, its tag, with blanks or tabs between; an empty line
    separates texts. The tags are BIO or BIOES (BMES, BILOU). JSON lines: an object has the text and a list of
    `{"start": 0, "end": 2, "label": "LOC"}`, the end exclusive, in characters; entities may be nested.
    Published CoNLL files have a few broken tags. Up to 1 in 100 entities are read as CoNLL's scorer reads them.

    Args:
        path: file, also .gz.
        format: 'jsonl'; None goes by the suffix and the first line, and takes what is no JSON for CoNLL.
        text, entities: keys of the JSON objects; None: 'text' and 'entities'.
        max_line: longest line in characters.
        say: function that takes a line, where tags are broken; or None.

    Returns:
        `Examples`; a label is a tuple of (start, end, label), sorted, without repetitions.

    Raises:
        UserError: with file and line: no such file, a line without tag, many illegal tags, a span
            outside of its text or whose "text" is another.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile('w', suffix='.bmes', encoding='utf-8') as handle:
    ...     _ = handle.write('我 O\\n在 O\\n北 B-LOC\\n京 E-LOC\\n')
    ...     handle.flush()
    ...     examples = read_entities(handle.name)
    >>> examples.texts, examples.labels
    (['我在北京'], [((2, 4, 'LOC'),)])
    """
    path = path_text(path)
    if format not in (None, "jsonl"):
        raise UserError(
            "--format %s does not go with --task ner; its files are CoNLL (a character and its tag a line) or JSON "
            "lines" % format,
            path=path,
        )
    if format == "jsonl" or _is_jsonl(path, max_line):
        return _read_jsonl(path, text or TEXT, entities or ENTITIES, max_line)
    if text or entities:
        raise UserError("--text-column and --label-column name the keys of JSON lines; this file is CoNLL", path=path)
    return _read_conll(path, max_line, say or (lambda line: None))


def check_flat(examples: Examples, what: str, remedy: str) -> None:
    """Refuse entities that overlap.

    Raises:
        UserError: with file and line, and with `what` cannot have them and the `remedy`.
    """
    for spans, line in zip(examples.labels, examples.lines):
        found = first_overlap(spans)
        if found:
            (start, end, label), (other, last, its) = found
            raise UserError(
                "the entities %s %d-%d and %s %d-%d overlap, and %s; %s"
                % (label, start, end, its, other, last, what, remedy),
                path=examples.path,
                line=line,
            )


def is_flat(examples: Examples) -> bool:
    """Whether no two entities of a text overlap."""
    return not any(map(first_overlap, examples.labels))


def _is_jsonl(path, max_line):
    stem = path[:-3] if path.endswith(".gz") else path
    if any(stem.lower().endswith(suffix) for suffix, format in SUFFIXES.items() if format == "jsonl"):
        return True
    for _, line in Lines(path, max_line):
        return line.lstrip().startswith("{") and line.rstrip().endswith("}")
    raise UserError("the file is empty", path=path)


def _read_conll(path, max_line, say):
    rows = list(_blocks(path, max_line))
    if not rows:
        raise UserError("the file is empty", path=path)
    ends_are_told = uses_ends(tag for _, _, tags in rows for tag in tags)
    texts, labels, lines, broken = [], [], [], []
    for line, tokens, tags in rows:
        try:
            spans, faults = read_tags(tags, ends_are_told)
        except TagError as error:
            raise UserError(error, path=path, line=line + error.place)
        broken.extend((line + fault.place, fault) for fault in faults)
        text, starts, ends = joined(tokens)
        texts.append(text)
        labels.append(tuple(sorted((starts[start], ends[end - 1], label) for start, end, label in spans)))
        lines.append(line)
    if broken:
        line, fault = broken[0]
        if len(broken) > TOLERATED * sum(map(len, labels)):
            raise UserError(fault, path=path, line=line)
        say(
            "note: %s; %d such tag(s) in all, read as CoNLL's scorer reads them"
            % (UserError(fault, path=path, line=line), len(broken))
        )
    return Examples(path, texts, labels, lines)


def _blocks(path, max_line):
    """(line of the first, tokens, tags) of each text."""
    first, tokens, tags = None, [], []
    for number, line in Lines(path, max_line):
        line = line.rstrip(" \t\r\n")
        if line and not line.startswith(_DOCUMENT):
            cells = line.split("\t" if "\t" in line else " ")
            if len(cells) < 2:
                raise UserError(
                    "only %s; a character and its tag are needed, with a blank or a tab between" % shorten(repr(line)),
                    path=path,
                    line=number,
                )
            first = number if first is None else first
            # A blank is a character too, of which the line then shows nothing.
            tokens.append(cells[0] or " ")
            tags.append(cells[-1])
        elif tokens:
            yield first, tokens, tags
            first, tokens, tags = None, [], []
    if tokens:
        yield first, tokens, tags


def joined(tokens: Sequence[str]) -> Tuple[str, Sequence[int], Sequence[int]]:
    """The text of tokens, and where each begins and ends in it.

    Single characters are put together; beside a word of more there is a blank, unless it or its neighbour is Chinese
    there.

    >>> joined(['北', '京', 'is', 'big', '!'])
    ('北京is big !', [0, 1, 2, 5, 9], [1, 2, 4, 8, 10])
    """
    text, starts, ends = "", [], []
    for token, before in zip(tokens, [""] + list(tokens)):
        if before and max(len(before), len(token)) > 1 and not (_WIDE.match(before[-1]) or _WIDE.match(token[0])):
            text += " "
        starts.append(len(text))
        text += token
        ends.append(len(text))
    return text, starts, ends


def _read_jsonl(path, text_key, entities_key, max_line):
    table = read_table(path, format="jsonl", max_line=max_line)
    texts, labels = [], []
    for row, line in zip(table.rows, table.lines):
        where = {"path": path, "line": line}
        for key in (text_key, entities_key):
            if key not in row:
                raise UserError("no %r; there are: %s" % (key, ", ".join(row)), **where)
        text, entities = row[text_key], row[entities_key]
        if not isinstance(text, str) or not text.strip():
            raise UserError("%s is %s; a text is needed" % (text_key, shorten(repr(text))), **where)
        if not isinstance(entities, list):
            raise UserError(
                "%s is %s; a list is needed, [] for none" % (entities_key, shorten(repr(entities))), **where
            )
        texts.append(text)
        found = {_span(entity, text, "%s[%d]" % (entities_key, i), where) for i, entity in enumerate(entities)}
        labels.append(tuple(sorted(found)))
    return Examples(path, texts, labels, table.lines)


def _span(entity: Any, text: str, name: str, where: Dict[str, Any]) -> Tuple[int, int, str]:
    if not isinstance(entity, dict) or not {"start", "end", "label"} <= set(entity):
        raise UserError(
            '%s is %s; {"start": 0, "end": 2, "label": "LOC"} is needed' % (name, shorten(repr(entity))), **where
        )
    start, end, label = entity["start"], entity["end"], entity["label"]
    if not all(type(place) is int for place in (start, end)) or not 0 <= start < end <= len(text):
        raise UserError(
            "%s goes from %s to %s; the text has %d characters, and the end is exclusive"
            % (name, shorten(repr(start)), shorten(repr(end)), len(text)),
            **where,
        )
    if not isinstance(label, str) or not label.strip():
        raise UserError("the label of %s is %s; a word is needed" % (name, shorten(repr(label))), **where)
    if not text[start:end].strip():
        raise UserError("%s from %d to %d is blank" % (name, start, end), **where)
    told = entity.get("text", text[start:end])
    if told != text[start:end]:
        raise UserError(
            "the text of %s is %s, but from %d to %d there is %s; are these characters, and the end exclusive?"
            % (name, shorten(repr(told)), start, end, shorten(repr(text[start:end]))),
            **where,
        )
    return start, end, label.strip()
