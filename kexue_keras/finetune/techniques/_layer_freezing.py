"""Training only the top of the encoder: the gradient stops below, which saves time and optimizer memory."""

from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune._options import not_negative
from kexue_keras.finetune._recipe import Technique, technique
from kexue_keras.models._freezing import freeze_below


@technique
class LayerFreezing(Technique):
    """Embeddings and lower Transformer layers keep their pretrained weights."""

    name = "layer-freezing"

    def add_arguments(self, parser):
        parser.add_argument(
            "--train-layers",
            type=not_negative,
            metavar="N",
            default=None,
            help="train the top N Transformer layers and the head only; 0 is the head alone (default: everything)",
        )

    def active(self, options):
        return options.train_layers is not None

    def model_built(self, recipe):
        depth = recipe.pretrained.bert.num_hidden_layers
        try:
            freeze_below(recipe.pretrained.bert, depth - recipe.options.train_layers, heads=())
        except WeightsError as error:
            raise UserError("--train-layers on %s: %s" % (recipe.pretrained.name, error))
        trained = sum(int(w.shape.num_elements()) for w in recipe.model.trainable_weights)
        recipe.say(
            "training the top %d of %d layers: %.1f of %.1f million weights"
            % (min(recipe.options.train_layers, depth), depth, trained / 1e6, recipe.model.count_params() / 1e6)
        )
