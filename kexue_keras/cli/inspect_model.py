"""`kexue-keras inspect`: what the numbers of a model say, as a table and a picture."""


import numpy as np

from kexue_keras import checkpoints
from kexue_keras.analysis import find_unargmaxable, output_layer
from kexue_keras.checkpoints._load import is_t5
from kexue_keras.cli.output import say
from kexue_keras.errors import UserError, WeightsError


def run(parser, arguments):
    """Print what the options ask for."""
    parser.add_argument("model", metavar="MODEL", help="bundled name, or model folder")
    parser.add_argument("--unargmaxable", action="store_true", help="words that can never be the prediction")
    parser.add_argument("--words", type=int, default=50, metavar="N", help="of those, print N (%(default)s)")
    options = parser.parse_args(arguments)
    if not options.unargmaxable:
        raise UserError("nothing to look at; give --unargmaxable")
    for line in unargmaxable_words(options.model, most=options.words):
        say(line)
    return 0


def unargmaxable_words(model, *, most=50):
    """Lines of text: which words of a model's vocabulary greedy decoding can never choose.

    Args:
        model: bundled name or folder.
        most: int, how many words to list.

    Raises:
        UserError: no such model, or one without a head that predicts words.
    """
    try:
        if is_t5(model):
            loaded = checkpoints.load_t5(model)
            W, b = output_layer(loaded.decoder)
        else:
            loaded = checkpoints.load(model, with_mlm="linear")
            W, b = output_layer(loaded)
    except (WeightsError, ValueError) as error:
        raise UserError(error)
    found = find_unargmaxable(W, b)
    yield "%s: %d words, %d numbers each%s" % (model, len(W), W.shape[1], "" if b is None else ", with a bias")
    for status, count in found.counts().items():
        yield "%8d  %s" % (count, status)

    def word(k):
        return loaded.tokenizer.id_to_token(int(k)) if loaded.tokenizer else "token %d" % k

    listed = [k for k in found.of("unargmaxable")]
    for k in listed[:most]:
        yield "%8d  %s  %s" % (k, word(k), _reason(found, int(k), word))
    if len(listed) > most:
        yield "          and %d more; --words %d shows all" % (len(listed) - most, len(listed))


def _reason(found, k, word):
    if k not in found.beaten_by:
        return "no input makes it the largest"
    rows, weights = found.beaten_by[k]
    margin = found.margin[found.classes == k][0]
    if len(rows) == 1:
        return "has the row of %s, whose bias is larger by %.4g" % (word(rows[0]), margin)
    order = np.argsort(-weights)[:3]
    named = ", ".join("%.2f %s" % (weights[i], word(rows[i])) for i in order)
    return "is a mean of %d others (%s%s)" % (len(rows), named, ", ..." if len(rows) > 3 else "")
