"""`kexue-keras similar`: the texts of a file that are nearest to a text, or texts that say it in other words."""

import os
import sys

from tqdm import tqdm

from kexue_keras.checkpoints._load import is_t5
from kexue_keras.data import choose_columns, read_examples, read_table
from kexue_keras.errors import UserError, WeightsError, printable
from kexue_keras.finetune._parts import in_parts
from kexue_keras.finetune._report import one_line
from kexue_keras.finetune._run_folder import RunFolder
from kexue_keras.similarity import SentenceEncoder, SimilarQuestions, VectorIndex
from kexue_keras.similarity._encoder import SETTINGS

# Texts of the corpus between two steps of the progress bar.
PART = 512


def run(options):
    """Print the texts that are found or generated."""
    for line in similar(options):
        print("\t".join(map(printable, line.split("\t"))) if sys.stdout.isatty() else line)
    return 0


def open_encoder(model, *, pooling=None, max_length=None):
    """`SentenceEncoder` of a bundled name, a model folder, a saved encoder, or a run of `finetune --task similarity`.

    Args:
        model: name or folder.
        pooling: for folders that do not say it themselves; None: 'mean'.
        max_length: longest text in tokens; None: what a saved encoder says, else 64.

    Raises:
        UserError: no such model, or a pooling that a saved encoder does not have.
    """
    if os.path.isdir(model):
        RunFolder(model).settle()
    try:
        for folder in (os.path.join(model, "encoder"), model):
            if os.path.exists(os.path.join(folder, SETTINGS)):
                encoder = SentenceEncoder.load(folder)
                if pooling not in (None, encoder.pooling):
                    raise UserError("it was trained with pooling %r, not %r" % (encoder.pooling, pooling), path=model)
                if max_length is not None:
                    encoder.max_length = max_length
                return encoder
        if is_t5(model):
            raise UserError("a T5 has no sentence vectors; give a BERT or a RoFormer", path=model)
        return SentenceEncoder(model, pooling=pooling or "mean", max_length=max_length or 64)
    except (WeightsError, ValueError) as error:
        raise UserError(error)


def similar(options):
    """The lines that the command prints.

    Args:
        options: namespace with text (list of str), corpus, text_column, format, header, max_line, generate, model,
            pooling, max_length, k, n, seed, mask, entropy, min_score, min_edits, quiet.

    Yields:
        lines `score<TAB>text`, with the query in front if there are several.

    Raises:
        UserError: no such model or file, a model that does not generate.
    """
    found = (_generated if options.generate else _found)(options)
    for text, hits in zip(options.text, found):
        for hit in hits:
            front = [one_line(text)] if len(options.text) > 1 else []
            yield "\t".join(front + ["%.4f" % hit.score, one_line(hit.text)])


def _found(options):
    table = read_table(options.corpus, format=options.format, header=options.header, max_line=options.max_line)
    columns = choose_columns(table, text=options.text_column, need_label=False)
    if columns.text_b is not None:
        columns.text_b = None
    texts = list(dict.fromkeys(read_examples(table, columns).texts))
    encoder = open_encoder(options.model or "me5-zh-sp", pooling=options.pooling, max_length=options.max_length)
    index = VectorIndex(in_parts(texts, encoder.encode, part=PART, quiet=options.quiet))
    index.texts = texts
    return encoder.search(options.text, index, options.k)


def _generated(options):
    model = options.model or "roformer-sim-zh-small"
    if is_t5(model):
        raise UserError("a T5 is no UniLM; give the folder of a SimBERT or RoFormer-Sim", path=model)
    asked = {"n": options.n, "k": options.k, "seed": options.seed, "mask_positions": options.mask or ()}
    asked.update(min_score=options.min_score, min_edits=options.min_edits, entropy=options.entropy)
    try:
        questions = SimilarQuestions(model, max_length=options.max_length or 64)
        return [
            questions.generate(text, **asked)
            for text in tqdm(options.text, unit="text", leave=False, disable=options.quiet or len(options.text) < 2)
        ]
    except (WeightsError, ValueError) as error:
        raise UserError(error)
