"""Using only the lowest layers of an encoder: less accurate, and faster in proportion."""

from kexue_keras.tasks.options import positive
from kexue_keras.tasks.recipe import Technique, technique


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
        return dict(arguments, num_hidden_layers=recipe.options.layers)
