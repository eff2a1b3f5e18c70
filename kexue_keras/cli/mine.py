"""`kexue-keras mine`: for each pair of a file, near texts that do not belong to it."""

import os
import sys

from kexue_keras.data import choose_columns, read_examples, read_table
from kexue_keras.data._cells import one_line
from kexue_keras.errors import UserError
from kexue_keras.files import atomic
from kexue_keras.finetune import Classifier
from kexue_keras.finetune._open_encoder import open_encoder
from kexue_keras.similarity import Reranker, mine_hard_negatives


def run(options):
    """Write the triples and say how many there are."""
    rows, pairs, without = mine(options)
    with atomic(options.out, "w") as handle:
        handle.writelines("\t".join(map(one_line, row)) + "\n" for row in rows)
    print(
        "%d triples of %d pairs in %s; %d pairs have none" % (len(rows), pairs, options.out, without), file=sys.stderr
    )
    return 0


def mine(options):
    """The lines that the command writes.

    Args:
        options: namespace of `arguments.mine`.

    Returns:
        (list of (question, positive, negative), number of pairs, number of those without a negative)

    Raises:
        UserError: no such model, run or file, or one that does not hold pairs.
    """
    if os.path.exists(options.out) and not options.overwrite:
        raise UserError("there is a file already; --overwrite replaces it", path=options.out)
    pairs = _pairs(options)
    corpus = None if options.corpus is None else _texts(options)
    scorer = None
    if options.reranker is not None:
        scorer = Reranker(Classifier.load(options.reranker), label=options.label).score
    encoder = open_encoder(options.model, pooling=options.pooling, max_length=options.max_length)
    try:
        mined = mine_hard_negatives(
            encoder,
            pairs,
            corpus,
            negatives=options.negatives,
            candidates=options.candidates,
            skip=options.skip,
            margin=options.margin,
            relative_margin=options.relative_margin,
            highest=options.highest,
            choose=options.choose,
            scorer=scorer,
            method=options.method,
            seed=options.seed,
        )
    except (ValueError, ImportError) as error:
        raise UserError(error)
    rows = [(one.question, one.positive, negative) for one in mined for negative in one.negatives]
    return rows, len(pairs), sum(not one.negatives for one in mined)


def _pairs(options):
    table = read_table(options.data, format=options.format, header=options.header, max_line=options.max_line)
    columns = choose_columns(table, text=options.text_column, text_b=options.text_b_column, need_label=False)
    if columns.text_b is None:
        raise UserError(
            "it has one column of texts; pairs are needed, a question and what belongs to it", path=table.path
        )
    return read_examples(table, columns).texts


def _texts(options):
    table = read_table(options.corpus, header="no", max_line=options.max_line)
    columns = choose_columns(table, need_label=False)
    columns.text_b = None
    return read_examples(table, columns).texts
