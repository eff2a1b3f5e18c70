"""Using only the lowest layers of an encoder: less accurate, and faster in proportion."""

from kexue_keras.checkpoints._bundled import BUNDLED, bundled_config
from kexue_keras.checkpoints._load import read_folder
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune._options import positive
from kexue_keras.finetune._recipe import Technique, technique


@technique
class EncoderDepth(Technique):
    """Builds the encoder with fewer layers; the checkpoint's upper ones are not read."""

    name = "encoder-depth"

    def add_arguments(self, parser):
        parser.add_argument(
            "--layers", type=positive, metavar="N", default=None, help="use the lowest N layers only (default: all)"
        )

    def active(self, options):
        return options.layers is not None

    def build_arguments(self, recipe, arguments):
        # Building layers that the checkpoint lacks would only show that afterwards, a million of them after hours.
        model, layers = recipe.options.model, recipe.options.layers
        try:
            config = bundled_config(model) if model in BUNDLED else read_folder(model, extra="ignore")[1]
        except WeightsError as error:
            raise UserError(error)
        if layers > config["num_hidden_layers"]:
            raise UserError("--layers is %d, but %s has %d layers" % (layers, model, config["num_hidden_layers"]))
        return dict(arguments, num_hidden_layers=recipe.options.layers)
