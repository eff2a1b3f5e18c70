"""`kexue-keras predict`: labels or entities for texts, cosines for pairs of them, or answers for questions."""

import contextlib
import json
import os
import sys

from kexue_keras.data import Columns, choose_columns, read_examples, read_scored_pairs, read_table
from kexue_keras.data._cells import join, join_probabilities, label_cell, one_line
from kexue_keras.data._columns import columns_as_trained
from kexue_keras.data._parts import in_parts
from kexue_keras.errors import UserError, printable
from kexue_keras.files import atomic, describe
from kexue_keras.options.finetune import make_options
from kexue_keras.schemas import is_exported

# Files of a run that nothing is read from.
RESULTS = ("predictions.tsv", "confusion.tsv", "curves.png", "confusion.png")
# Batches between two steps of the progress bar.
PART = 8


def run(options):
    """Write the labels or cosines that the options ask for."""
    predict_file(options, note=lambda line: print(line, file=sys.stderr))
    return 0


def predict_file(options, *, note=print):
    """Write label, probability and text of each line as TSV.

    Args:
        options: namespace with run, data, out, overwrite, batch_size, text, quiet, and how the file is read (format,
            header, text_column, text_b_column, max_line).
        note: function that prints a line for the user.

    Raises:
        UserError: no such run, bad data, a file that would be overwritten.
    """
    task, config, files, load = _opened(options.run)
    if options.out is not None:
        _check_output(options, files)
    if task == "similarity":
        _predict_cosines(options, config, load)
        return
    if task == "math-word-problems":
        _predict_answers(options, config, load)
        return
    if task == "ner":
        _predict_entities(options, config, load, note)
        return
    examples = _texts(options, config)
    classifier = load()
    classifier.batch_size = options.batch_size or classifier.batch_size
    truncated = []

    def predict(texts):
        found = classifier.predict(texts)
        truncated.append(classifier.truncated)
        return found

    predicted = in_parts(examples.texts, predict, part=PART * classifier.batch_size, quiet=options.quiet)
    if sum(truncated) and not options.quiet:
        note(
            "%d of %d texts are longer than %d tokens and were truncated"
            % (sum(truncated), len(predicted), classifier.max_length)
        )
    with _output(options.out) as handle:
        names = ["text", "text_b"][: 1 + examples.is_pairs] if options.text else []
        handle.write("\t".join(["label", "probability"] + names) + "\n")
        for text, (label, probability) in zip(examples.texts, predicted):
            cells = [join(label), join_probabilities(probability)]
            if options.text:
                cells += [one_line(t) for t in (text if isinstance(text, tuple) else (text,))]
            handle.write(_line(cells, handle))


def _texts(options, config):
    """`Examples` of the file, its columns as training had them unless the options say others."""
    given = (options.text_column, options.text_b_column)
    trained = [config["columns"][role] for role in ("text", "text_b", "label")]
    table = read_table(
        options.data,
        format=options.format,
        header=options.header,
        max_line=options.max_line,
        known={name for name in list(given) + trained if isinstance(name, str)},
    )
    if given != (None, None):
        columns = choose_columns(table, text=given[0], text_b=given[1], need_label=False)
    else:
        columns = columns_as_trained(table, config["columns"], pairs=config["pairs"])
    if (columns.text_b is not None) != config["pairs"]:
        wanted = "pairs of texts; give --text-b-column" if config["pairs"] else "single texts"
        raise UserError("the run was trained on %s" % wanted, path=table.path, line=table.lines[0])
    return read_examples(table, columns)


def _opened(run):
    """(task, config, files that are read, function that loads the model) of a run or an exported folder."""
    if is_exported(run):
        from kexue_keras.exported.model import ExportedModel

        model = ExportedModel(run)
        files = [os.path.join(run, name) for name in os.listdir(run)]
        return model.config["task"], model.config, files, lambda: model
    # These import TensorFlow.
    from kexue_keras.finetune._run_folder import RunFolder
    from kexue_keras.finetune._similarity import load_similarity
    from kexue_keras.finetune.classification._classifier import Classifier
    from kexue_keras.finetune.math_word_problems import MathSolver
    from kexue_keras.finetune.named_entities import EntityRecognizer

    folder = RunFolder(run)
    config = folder.config()
    task = config["options"].get("task", "classification")
    loads = {"similarity": load_similarity, "math-word-problems": MathSolver.load, "ner": EntityRecognizer.load}
    load = loads.get(task, Classifier.load)
    files = [folder.file(name) for name in folder.contents if name not in RESULTS]
    return task, config, files, lambda: load(run)


def _batch_size(options, config):
    trained = config["batch_size"] if "batch_size" in config else make_options(**config["options"]).batch_size
    return options.batch_size or trained


def _line(cells, handle):
    """A line of TSV; what only looks like text must not steer a terminal."""
    terminal = handle is sys.stdout and handle.isatty()
    return "\t".join(map(printable, cells) if terminal else cells) + "\n"


def _predict_cosines(options, config, load):
    """The cosine of each pair of a file, by the encoder of a run of `finetune --task similarity`."""
    trained = [config["columns"][role] for role in ("text", "text_b")]
    trained = [column if isinstance(column, str) else column + 1 for column in trained]
    pairs, _ = read_scored_pairs(
        options.data,
        text=options.text_column or trained[0],
        text_b=options.text_b_column or trained[1],
        need_score=False,
        format=options.format,
        header=options.header,
        max_line=options.max_line,
    )
    encoder, batch_size = load(), _batch_size(options, config)
    cosines = in_parts(
        pairs.texts,
        lambda some: encoder.similarity(*zip(*some), batch_size=batch_size),
        part=PART * batch_size,
        quiet=options.quiet,
    )
    with _output(options.out) as handle:
        handle.write("\t".join(["cosine"] + ["text", "text_b"] * options.text) + "\n")
        for cosine, texts in zip(cosines, pairs.texts):
            handle.write(_line(["%.8f" % cosine] + [one_line(text) for text in texts] * options.text, handle))


def _predict_answers(options, config, load):
    """The equation and the answer of each question of a file, by a run of `finetune --task math-word-problems`."""
    name = config["columns"]["text"]
    table = read_table(
        options.data, format=options.format, header=options.header, max_line=options.max_line, known={name}
    )
    columns = choose_columns(table, text=options.text_column or _question_column(table, name), need_label=False)
    questions = read_examples(table, Columns(text=columns.text)).texts
    solver, trained = load(), make_options(**config["options"])
    batch_size = options.batch_size or trained.batch_size
    solutions = in_parts(
        questions,
        lambda some: solver.solve(some, beams=trained.beams, batch_size=batch_size),
        part=PART * batch_size,
        quiet=options.quiet,
    )
    with _output(options.out) as handle:
        handle.write("\t".join(["equation", "answer"] + ["text"] * options.text) + "\n")
        for question, solution in zip(questions, solutions):
            cells = [solution.equation, solution.answer] + [question] * options.text
            handle.write(_line([one_line(cell) for cell in cells], handle))


def _predict_entities(options, config, load, note):
    """The entities of each text of a file, as JSON lines like those that training reads, or as a table."""
    texts, recognizer = _texts(options, config).texts, load()
    recognizer.batch_size = options.batch_size or recognizer.batch_size
    truncated = []

    def predict(some):
        found = recognizer.predict(some)
        truncated.append(recognizer.truncated)
        return found

    found = in_parts(texts, predict, part=PART * recognizer.batch_size, quiet=options.quiet)
    if sum(truncated) and not options.quiet:
        note(
            "%d of %d texts are longer than %d tokens and were truncated; the rest was ignored"
            % (sum(truncated), len(texts), recognizer.max_length)
        )
    with _output(options.out) as handle:
        if not (options.out or "").endswith(".tsv"):
            for text, entities in zip(texts, found):
                row = {"text": text} if options.text else {}
                row["entities"] = [dict(entity._asdict(), score=round(entity.score, 6)) for entity in entities]
                # JSON leaves no control character as it is, but for those beyond ASCII.
                handle.write(_line([json.dumps(row, ensure_ascii=False)], handle))
            return
        handle.write("\t".join(["number", "start", "end", "label", "score", "entity"]) + "\n")
        for number, entities in enumerate(found, 1):
            for entity in entities:
                cells = ["%d" % number, "%d" % entity.start, "%d" % entity.end, label_cell(entity.label)]
                handle.write(_line(cells + ["%.6f" % entity.score, one_line(entity.text)], handle))


def _question_column(table, name):
    """The column of Ape210K, the only one, or None for the usual names."""
    if table.names is not None:
        return name if name in table.names else None
    return 1 if len(table.rows[0]) == 1 else None


def _check_output(options, files):
    """Refuse an output that cannot be written, or that would replace what is being read."""
    out = options.out
    if not out:
        raise UserError("--out is an empty name (a variable that is not set?); leave it out for standard output")
    if os.path.isdir(out):
        raise UserError("this is a folder; --out takes a file", path=out)
    target = os.path.realpath(out)
    if os.path.exists(out) and not os.path.isfile(out):
        return  # a device or a pipe: nothing is replaced
    try:
        os.lstat(target)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(target)):
            raise UserError("no such folder", path=os.path.dirname(target))
        return
    except OSError as error:
        raise UserError(describe(error))
    if not options.overwrite:
        raise UserError("there is such a file; --overwrite replaces it", path=out)
    for one in map(os.path.realpath, [options.data] + files):
        if target == one or target.startswith(one + os.sep):
            raise UserError("--out would replace a file that is being read; give another name", path=out)


@contextlib.contextmanager
def _output(path):
    if path:
        with atomic(path, "w") as handle:
            yield handle
    else:
        yield sys.stdout
        sys.stdout.flush()
