"""Layer-wise learning rates: lower layers of the encoder move less, the new head more."""

from kexue_keras.errors import UserError
from kexue_keras.finetune._options import number
from kexue_keras.finetune._recipe import Technique, technique
from kexue_keras.finetune._similarity_heads import HEADS as SIMILARITY_HEADS
from kexue_keras.optimizers import LayerwiseLearningRate

# What the names of the head's variables contain: logits/kernel:0, pair_logits/kernel:0.
HEAD = "logits"


def head_factor(options):
    """Factor of the head's learning rate, as given, else as the task's loss wants it."""
    if options.head_lr is not None:
        return options.head_lr
    if options.task == "similarity" and options.similarity_loss in SIMILARITY_HEADS:
        return SIMILARITY_HEADS[options.similarity_loss].head_lr
    return 1.0


@technique
class LayerwiseRates(Technique):
    """Each layer of the encoder has the rate of the one above it times the decay; the head has a factor of its own."""

    name = "layerwise-rates"
    order = 40

    def add_arguments(self, parser):
        parser.add_argument(
            "--layerwise-lr",
            type=number,
            metavar="DECAY",
            default=1.0,
            help="factor of the learning rate from each layer to the one below, e.g. 0.9 (default: 1, the same rate)",
        )
        parser.add_argument(
            "--head-lr",
            type=number,
            metavar="FACTOR",
            help="factor of the learning rate for the new head (default: 1; --similarity-loss sbert: %g)"
            % SIMILARITY_HEADS["sbert"].head_lr,
        )

    def active(self, options):
        return options.layerwise_lr != 1 or head_factor(options) != 1

    def check(self, options):
        if not 0 < options.layerwise_lr <= 1:
            raise UserError("--layerwise-lr is %g; it has to lie in (0, 1], e.g. 0.9" % options.layerwise_lr)
        if not 0 < head_factor(options) < float("inf"):
            raise UserError("--head-lr is %g; it has to be above 0, e.g. 10" % options.head_lr)
        if options.head_lr is not None and options.task == "similarity" and options.similarity_loss == "cosent":
            raise UserError("--head-lr %g: CoSENT trains the encoder alone, there is no head" % options.head_lr)

    def optimizer(self, recipe, optimizer):
        factor, decay = head_factor(recipe.options), recipe.options.layerwise_lr
        return LayerwiseLearningRate(
            optimizer,
            decay=decay if decay != 1 else None,
            multipliers={HEAD: factor} if factor != 1 else None,
            num_layers=recipe.pretrained.bert.num_hidden_layers,
        )
