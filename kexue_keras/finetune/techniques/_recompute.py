"""Recompute: less memory for more time, the same result (节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367)."""

from kexue_keras.checkpoints._bundled import BUNDLED
from kexue_keras.checkpoints._load import read_folder
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune._recipe import Technique, technique
from kexue_keras.models import extend_with_recompute
from kexue_keras.models._kinds import CLASSES
from kexue_keras.models._recompute import POLICIES


@technique
class Recompute(Technique):
    """Builds the encoder's class with recompute; the steps and the masks of dropout are those of a run without it."""

    name = "recompute"

    def add_arguments(self, parser):
        parser.add_argument(
            "--recompute",
            nargs="?",
            const="selective",
            choices=POLICIES,
            metavar="POLICY",
            help="compute inner results again in the backward pass instead of keeping them: %s (default without a "
            "word: selective, a fifth of the memory or less for about a fifth more time)" % ", ".join(POLICIES),
        )

    def active(self, options):
        return options.recompute is not None and options.recompute is not False

    def check(self, options):
        if options.recompute is True:
            options.recompute = "selective"
        if options.recompute not in POLICIES:
            raise UserError("--recompute is %r; it is one of %s" % (options.recompute, ", ".join(POLICIES)))

    def build_arguments(self, recipe, arguments):
        base = arguments.get("model") or model_class(recipe.options.model)
        return dict(arguments, model=extend_with_recompute(base, recipe.options.recompute))


def model_class(name_or_path):
    """The bert4keras class that `models.load` builds for a bundled name or a folder.

    Raises:
        UserError: no such folder, or nothing in it that is known.

    >>> model_class('me5-zh-char').__name__
    'BERT'
    """
    if name_or_path in BUNDLED:
        return CLASSES["bert"]
    try:
        # What has no place in the model is told where it is loaded.
        return CLASSES[read_folder(name_or_path, extra="ignore")[0]]
    except (WeightsError, ValueError) as error:
        raise UserError(error)
