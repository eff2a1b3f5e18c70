"""Adversarial training (FGM) and the gradient penalty on the embeddings of the tokens (kexue.fm/archives/7234)."""

from kexue_keras.errors import UserError
from kexue_keras.finetune._options import number
from kexue_keras.finetune._recipe import Technique, technique
from kexue_keras.training.adversarial import FGM, GradientPenalty
from kexue_keras.training.adversarial._gradient_penalty import REDUCTIONS
from kexue_keras.training.adversarial._training_loss import TARGETS


@technique
class AdversarialTraining(Technique):
    """Trains on embeddings moved against the model; validation and prediction know nothing of it."""

    name = "fgm"

    def add_arguments(self, parser):
        parser.add_argument(
            "--fgm",
            type=number,
            metavar="EPS",
            default=0.0,
            help="adversarial training with a perturbation of this norm, the author's is 0.5; about 1.9 times the time "
            "(default: off)",
        )
        parser.add_argument(
            "--attack-target",
            choices=TARGETS,
            default="matrix",
            help="--fgm perturbs the embedding matrix, with one norm for all texts, or the output of the embedding, "
            "with a norm for each text (%(default)s)",
        )
        parser.add_argument(
            "--attack-dropout",
            action="store_true",
            help="--fgm finds the perturbation with the dropout of the step (default: without dropout, as the author)",
        )
        parser.add_argument(
            "--fgm-clean-weight",
            type=number,
            metavar="W",
            default=0.0,
            help="weight of the loss without the perturbation beside the one with it (%(default)s, as the author)",
        )

    def active(self, options):
        return options.fgm != 0

    def check(self, options):
        if not 0 < options.fgm < float("inf"):
            raise UserError("--fgm is %g; it has to be a number above 0, e.g. 0.5" % options.fgm)
        if not 0 <= options.fgm_clean_weight < float("inf"):
            raise UserError("--fgm-clean-weight is %g; it has to be a number from 0" % options.fgm_clean_weight)
        if options.gradient_penalty:
            raise UserError("--fgm and --gradient-penalty are two forms of one idea; take one of them")

    def compiled(self, recipe):
        options = recipe.options
        FGM(
            recipe.model,
            epsilon=options.fgm,
            target=options.attack_target,
            attack_dropout=options.attack_dropout,
            clean_weight=options.fgm_clean_weight,
        )


@technique
class Penalty(Technique):
    """Adds the squared gradient of the loss for the embeddings."""

    name = "gradient-penalty"

    def add_arguments(self, parser):
        parser.add_argument(
            "--gradient-penalty",
            type=number,
            metavar="EPS",
            default=0.0,
            help="penalty on the gradient for the embeddings, with this weight, the author's is 1 (default: off)",
        )
        parser.add_argument(
            "--penalty-reduction",
            choices=REDUCTIONS,
            default="author",
            help="author: of the mean loss, weaker in larger batches; per_sample: mean over the texts (%(default)s)",
        )

    def active(self, options):
        return options.gradient_penalty != 0

    def check(self, options):
        if not 0 < options.gradient_penalty < float("inf"):
            raise UserError("--gradient-penalty is %g; it has to be a number above 0" % options.gradient_penalty)

    def compiled(self, recipe):
        options = recipe.options
        GradientPenalty(recipe.model, epsilon=options.gradient_penalty, reduction=options.penalty_reduction)
