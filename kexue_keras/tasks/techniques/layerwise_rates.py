"""Layer-wise learning rates: lower layers of the encoder move less."""

from kexue_keras.data import UserError
from kexue_keras.optimizers import LayerwiseLearningRate
from kexue_keras.tasks.recipe import Technique, technique


@technique
class LayerwiseRates(Technique):
    """The head has the full rate, each layer below the one above it times the decay."""

    name = "layerwise-rates"
    order = 40

    def add_arguments(self, parser):
        parser.add_argument(
            "--layerwise-lr",
            type=float,
            metavar="DECAY",
            default=1.0,
            help="factor of the learning rate from each layer to the one below, e.g. 0.9 (default: 1, the same rate)",
        )

    def active(self, options):
        return options.layerwise_lr != 1

    def check(self, options):
        if not 0 < options.layerwise_lr <= 1:
            raise UserError("--layerwise-lr is %g; it has to lie in (0, 1], e.g. 0.9" % options.layerwise_lr)

    def optimizer(self, recipe, optimizer):
        return LayerwiseLearningRate(
            optimizer, decay=recipe.options.layerwise_lr, num_layers=recipe.pretrained.bert.num_hidden_layers
        )
