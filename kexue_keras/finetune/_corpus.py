"""Training, validation and test part of a run, read and checked against each other."""

from kexue_keras.data import choose_columns, read_examples, read_table, stratified_split
from kexue_keras.data._columns import resolve
from kexue_keras.data._examples import check_labels, check_no_header_taken_for_data, label_names


def read_parts(options, say):
    """Read the files of a classification.

    Args:
        options: namespace.
        say: function that takes a line.

    Returns:
        (dict train, valid, test -> `Examples` or None, list of label names, dict of facts for config.json: columns,
        header, pairs, texts of each part).

    Raises:
        UserError: with file and line.
    """
    table, train, columns = read_training(options, say)
    labels = label_names(train)
    has_header = table.names is not None and table.format != "jsonl"
    parts = {"train": train, "valid": None, "test": None}
    for part in ("valid", "test"):
        path = getattr(options, part)
        if path:
            other = _table_of(options, path)
            _check_columns(other, columns)
            parts[part] = read_examples(other, columns, separator=options.label_separator)
            check_labels(parts[part], labels, options.data)
    if parts["valid"] is None:
        parts["train"], parts["valid"] = stratified_split(train, options.valid_share, options.seed)
        say(
            "no --valid: %d of %d texts split off for validation, equal shares of the labels, seed %d"
            % (len(parts["valid"]), len(train), options.seed)
        )
    warn_of_overlap(parts, say)
    sizes = {name: len(part) for name, part in parts.items() if part is not None}
    shown = ", ".join("%s %d" % item for item in sizes.items())
    names = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    say("texts: %s; %d labels: %s" % (shown, len(labels), names))
    if not train.is_multilabel and sum("|" in label for label in labels) > len(labels) // 4:
        say("note: many labels contain '|'; if texts have several labels, give --label-separator '|'")
    facts = {"columns": columns.get_config(), "header": has_header, "pairs": train.is_pairs, "texts": sizes}
    return parts, labels, facts


def read_training(options, say):
    """The training file of a classification.

    Args:
        options: namespace.
        say: function that takes a line.

    Returns:
        (`Table`, `Examples`, `Columns`).

    Raises:
        UserError: with file and line.
    """
    table = _table_of(options, options.data)
    columns = choose_columns(table, text=options.text_column, text_b=options.text_b_column, label=options.label_column)
    train = read_examples(table, columns, separator=options.label_separator)
    check_no_header_taken_for_data(table, train)
    say("columns: %s%s" % (columns.describe(), "" if table.names else " (no header)"))
    return table, train, columns


def _table_of(options, path):
    known = {options.text_column, options.text_b_column, options.label_column}
    return read_table(path, format=options.format, header=options.header, max_line=options.max_line, known=known)


def _check_columns(table, columns):
    for column in (columns.text, columns.text_b, columns.label):
        if column is not None:
            resolve(table, column if isinstance(column, str) else column + 1)


def warn_of_overlap(parts, say, *, texts=None, where="in the training data"):
    """Report how much of validation and test also occurs elsewhere.

    Args:
        parts: dict part -> `Examples`.
        say: function that takes a line.
        texts, where: the other texts, and what messages call them; None: those of the training part.
    """
    known = set(parts["train"].texts if texts is None else texts)
    what = "pairs" if parts["train"].is_pairs else "texts"
    for part in ("valid", "test"):
        if parts[part] is not None:
            same = sum(text in known for text in parts[part].texts)
            if same:
                say("note: %d of %d %s %s also occur %s" % (same, len(parts[part]), part, what, where))
