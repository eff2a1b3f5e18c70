"""`kexue-keras explain`: which tokens a run decided by, or where the heads of a model look."""

import numpy as np

from kexue_keras.cli.output import say
from kexue_keras.data._cells import one_line
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune._open_encoder import open_encoder
from kexue_keras.finetune.classification import Classifier
from kexue_keras.pictures import IntegratedGradients, attention_maps
from kexue_keras.pictures._html import write_attributions_page

STRONGEST = 5  # tokens that are printed


def run(options):
    """Write the picture or page, and print what weighs most."""
    try:
        (_attention if options.attention else _attributions)(options)
    except (ValueError, WeightsError) as error:
        raise UserError(error)
    say("written to %s" % options.out)
    return 0


def _attributions(options):
    classifier = Classifier.load(options.run)
    texts = _texts(options, classifier)
    gradients = IntegratedGradients(classifier, steps=options.steps, baseline=options.baseline)
    found = [gradients.explain(text, label=options.label) for text in texts]
    if options.out.endswith(".html"):
        write_attributions_page(options.out, found)
    else:
        found[0].save(options.out)
    for one in found:
        strongest = np.argsort(-np.abs(one.scores))[:STRONGEST]
        shown = ", ".join("%s %+.2f" % (one.tokens[i], one.scores[i]) for i in strongest)
        say("%s %.3f: %s" % (one_line(str(one.label)), one.probability, shown))


def _attention(options):
    model = Classifier.load(options.run) if options.run else open_encoder(options.model)
    maps = attention_maps(model, _texts(options, model)[0], max_length=model.max_length)
    maps.save(options.out, layer=options.layer, head=options.head)


def _texts(options, model):
    texts = list(options.text)
    if getattr(model, "pairs", False):
        if len(texts) % 2:
            raise UserError("the run takes pairs, and these are %d texts; give both texts of each" % len(texts))
        texts = list(zip(texts[::2], texts[1::2]))
    if len(texts) > 1 and (options.attention or options.out.endswith(".png")):
        raise UserError(
            "%d texts do not go into one picture; give one, or --out FILE.html without --attention" % len(texts)
        )
    return texts
