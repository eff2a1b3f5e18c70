"""Training only the top of the encoder: the gradient stops below, which saves time and optimizer memory."""

import re

from kexue_keras.data import UserError
from kexue_keras.tasks.recipe import Technique, technique


@technique
class LayerFreezing(Technique):
    """Embeddings and lower Transformer layers keep their pretrained weights."""

    name = "layer-freezing"

    def add_arguments(self, parser):
        parser.add_argument(
            "--train-layers",
            type=int,
            metavar="N",
            default=None,
            help="train the top N Transformer layers and the head only; 0 is the head alone (default: everything)",
        )

    def active(self, options):
        return options.train_layers is not None

    def check(self, options):
        if options.train_layers < 0:
            raise UserError("--train-layers is %d; it has to be 0 or more" % options.train_layers)

    def model_built(self, recipe):
        depth = recipe.pretrained.bert.num_hidden_layers
        numbers = {layer.name: layer_number(layer.name) for layer in recipe.pretrained.model.layers}
        if depth > 1 and max([n for n in numbers.values() if n is not None], default=-1) < depth - 1:
            raise UserError(
                "%s shares its weights between all layers, so --train-layers cannot part them" % recipe.pretrained.name
            )
        lowest = depth - recipe.options.train_layers
        for layer in recipe.pretrained.model.layers:
            number = numbers[layer.name]
            if number is None or number < lowest:
                layer.trainable = False
        trained = sum(int(w.shape.num_elements()) for w in recipe.model.trainable_weights)
        recipe.say(
            "training the top %d of %d layers: %.1f of %.1f million weights"
            % (min(recipe.options.train_layers, depth), depth, trained / 1e6, recipe.model.count_params() / 1e6)
        )


def layer_number(name):
    """Number of the Transformer layer that a Keras layer of this name belongs to, from 0; None outside of them.

    >>> layer_number('Transformer-11-FeedForward-Norm'), layer_number('Embedding-Token')
    (11, None)
    """
    found = re.match(r"Transformer-(\d+)-", name)
    return int(found.group(1)) if found else None
