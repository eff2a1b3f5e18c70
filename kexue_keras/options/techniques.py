"""The command's options for techniques; `trainer.Techniques` has settings of the same names."""

from kexue_keras.options.choices import (
    ATTACK_TARGETS,
    ENTITY_HEAD_LR_MULTIPLIER,
    HEAD_LR_MULTIPLIERS,
    PENALTY_REDUCTIONS,
    RECOMPUTE_POLICIES,
    XLA_FLAGS,
)
from kexue_keras.options.ranges import Ranged, not_negative, number, positive
from kexue_keras.schemas import words


def _number_or_dynamic(text):
    return text if text == "dynamic" else float(text)


loss_scale = Ranged(_number_or_dynamic, words.either(words.number(), words.one_of("dynamic")))


def add_training_techniques(group):
    """Techniques round loss, optimizer and batches."""
    group.add_argument(
        "--warmup",
        type=number,
        metavar="W",
        default=0.1,
        help="updates of rising learning rate; below 1 it is a share of all updates (default: 0.1)",
    )
    group.add_argument(
        "--schedule",
        choices=("linear", "constant"),
        default="linear",
        help="learning rate after the warm-up: linear decay to 0, or constant (default: linear)",
    )
    group.add_argument(
        "--class-weights",
        metavar="balanced|none|FILE",
        default="none",
        help="weight of each class in the loss; FILE has lines LABEL<TAB>WEIGHT (default: none)",
    )
    group.add_argument(
        "--accumulate", type=positive, metavar="K", default=1, help="batches that make one update (%(default)s)"
    )
    group.add_argument(
        "--accumulate-in",
        choices=("buffers", "momentum"),
        default="buffers",
        help="buffers: exact, memory of one more copy of the weights; momentum: no memory, Adam's second moment "
        "is that of the single batches (%(default)s)",
    )
    group.add_argument(
        "--layerwise-lr-decay",
        type=number,
        metavar="DECAY",
        default=1.0,
        help="factor of the learning rate from each layer to the one below, e.g. 0.9 (default: 1, the same rate)",
    )
    group.add_argument(
        "--head-lr-multiplier",
        type=number,
        metavar="FACTOR",
        help="factor of the learning rate for the new head (default: 1; --similarity-loss sbert: %g; --task ner: %g)"
        % (HEAD_LR_MULTIPLIERS["sbert"], ENTITY_HEAD_LR_MULTIPLIER),
    )
    group.add_argument(
        "--lookahead",
        type=not_negative,
        metavar="K",
        default=0,
        help="after every K updates the weights go half of the way back to where they were, e.g. 5 (default: off)",
    )
    group.add_argument(
        "--ema",
        type=number,
        metavar="DECAY",
        default=0.0,
        help="average the weights with this decay, e.g. 0.99, and validate and save the average (default: off)",
    )
    group.add_argument(
        "--rdrop",
        type=number,
        metavar="ALPHA",
        default=0.0,
        help="R-Drop with this weight, the author's is 4 with --dropout-rate 0.3; twice the time (default: off)",
    )
    group.add_argument(
        "--fgm",
        type=number,
        metavar="EPS",
        default=0.0,
        help="adversarial training with a perturbation of this norm, the author's is 0.5; about 1.9 times the time "
        "(default: off)",
    )
    group.add_argument(
        "--attack-target",
        choices=ATTACK_TARGETS,
        default="matrix",
        help="--fgm and --vat perturb the embedding matrix, with one norm for all texts, or the output of the "
        "embedding, with a norm for each text (%(default)s)",
    )
    group.add_argument(
        "--attack-dropout",
        action="store_true",
        help="--fgm and --vat find the perturbation with the dropout of the step (default: without dropout, as the "
        "author)",
    )
    group.add_argument(
        "--fgm-clean-weight",
        type=number,
        metavar="W",
        default=0.0,
        help="weight of the clean loss, added to the perturbed one (%(default)s, as the author)",
    )
    group.add_argument(
        "--gradient-penalty",
        type=number,
        metavar="EPS",
        default=0.0,
        help="penalty on the gradient for the embeddings, with this weight, the author's is 1 (default: off)",
    )
    group.add_argument(
        "--penalty-reduction",
        choices=PENALTY_REDUCTIONS,
        default="author",
        help="author: of the mean loss, weaker in larger batches; per_sample: mean over the texts (%(default)s)",
    )
    group.add_argument(
        "--vat",
        type=number,
        metavar="EPS",
        default=0.0,
        help="virtual adversarial training with a perturbation of this norm, the author's is 1; it needs no labels, "
        "see --unlabelled; about 2.8 times the time (default: off)",
    )
    group.add_argument(
        "--weissi",
        type=number,
        metavar="LAMBDA",
        default=0.0,
        help="penalty on the logarithms of the trained kernels' norms, with this weight, e.g. 0.01 (default: off)",
    )


def add_model_techniques(group):
    """Techniques that have to be known before the model is built."""
    group.add_argument(
        "--num-hidden-layers",
        type=positive,
        metavar="N",
        default=None,
        help="use the lowest N layers only (default: all)",
    )
    group.add_argument(
        "--train-layers",
        type=not_negative,
        metavar="N",
        default=None,
        help="train the top N Transformer layers and the head only; 0 is the head alone (default: everything)",
    )
    group.add_argument(
        "--recompute",
        nargs="?",
        const="selective",
        choices=RECOMPUTE_POLICIES,
        metavar="POLICY",
        help="recompute activations in the backward pass instead of storing them: %s (default without a "
        "word: selective, a fifth of the memory or less for about a fifth more time)" % ", ".join(RECOMPUTE_POLICIES),
    )
    group.add_argument(
        "--mixed-precision",
        nargs="?",
        type=loss_scale,
        const=1000.0,
        metavar="SCALE",
        help="compute in half precision on a GPU, with this loss scale: a number (default 1000) or 'dynamic'; "
        "needs TF_KERAS=1",
    )
    group.add_argument(
        "--xla",
        nargs="?",
        const="auto",
        choices=sorted(XLA_FLAGS),
        help="let XLA compile the model: auto (default), full, lite (NVIDIA's images); it pays on a GPU, and each "
        "length of a batch is compiled by itself, for seconds up to minutes",
    )
