"""`kexue-keras similar`: the texts of a file that are nearest to a text, or paraphrases of it."""

import sys

from tqdm import tqdm

from kexue_keras.checkpoints._load import is_t5
from kexue_keras.data import choose_columns, read_examples, read_table
from kexue_keras.data._cells import one_line
from kexue_keras.data._parts import in_parts
from kexue_keras.errors import UserError, WeightsError, printable
from kexue_keras.finetune._open_encoder import open_encoder
from kexue_keras.similarity import SimilarQuestions, VectorIndex

# Texts of the corpus between two steps of the progress bar.
PART = 512


def run(options):
    """Print the texts that are found or generated."""
    for line in similar(options):
        print("\t".join(map(printable, line.split("\t"))) if sys.stdout.isatty() else line)
    return 0


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
