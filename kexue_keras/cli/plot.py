"""`kexue-keras plot`: the sentence vectors of a file in the plane, in the colours of their labels."""

from kexue_keras.cli.output import say
from kexue_keras.data import choose_columns, read_examples, read_table
from kexue_keras.errors import UserError
from kexue_keras.finetune._open_encoder import open_encoder
from kexue_keras.pictures import draw_vectors


def run(options):
    """Write the picture."""
    table = read_table(options.data, format=options.format, header=options.header, max_line=options.max_line)
    chosen = {"text": options.text_column, "label": options.label_column}
    has_labels = options.label_column is not None or len(table.rows[0]) > 1
    columns = choose_columns(table, need_label=has_labels, **chosen)
    if columns.text_b is not None:
        raise UserError("these are pairs; give --text-column for the texts to plot", path=options.data)
    examples = read_examples(table, columns, separator=options.label_separator)
    encoder = open_encoder(options.model, pooling=options.pooling, max_length=options.max_length)
    labels = [label if isinstance(label, str) else "|".join(label) for label in examples.labels] if has_labels else None
    texts = examples.texts if options.write_texts else None
    try:
        how = {"method": options.method, "seed": options.seed}
        draw_vectors(encoder.encode(examples.texts), options.out, labels=labels, texts=texts, **how)
    except ValueError as error:
        raise UserError(error, path=options.data)
    say("%d texts in %s" % (len(examples), options.out))
    return 0
