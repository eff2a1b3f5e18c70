"""The settings of the techniques that can be applied to any task: which are on, and with what numbers."""

from typing import Any, Callable, Dict, Optional, Union

from kexue_keras.backend import sessions_created
from kexue_keras.data._batches import ROUNDING
from kexue_keras.errors import UserError
from kexue_keras.options.choices import ATTACK_TARGETS, PENALTY_REDUCTIONS, XLA_FLAGS
from kexue_keras.training.precision._loss_scale import check_loss_scale
from kexue_keras.training.precision._mixed_precision import check_mixed_precision

# XLA compiles each length of a batch; few are worth some padding.
XLA_ROUNDING = 32
# Techniques that tasks with such losses do not go with, and why.
NOT_FOR_TOKENS = {
    "vat": "it compares the classes of texts, and its answers are tokens",
    "penalty_reduction": "its loss is a mean over tokens, there are no per-sample losses",
}
NOT_FOR_A_CONTRAST = {
    "vat": "it compares the classes of texts, and there are none",
    "rdrop": "it repeats the rows of a batch, which are its contrasts",
    "penalty_reduction": "its loss is one number per batch, there are no per-sample losses",
}


class Techniques(object):
    """Settings of the techniques; by default all are off. `wrapped` shows in which order they are applied.

    Args:
        accumulate: int, batches that make one update.
        accumulate_in: 'buffers' (exact) or 'momentum' (no memory; Adam's second moment is that of single batches).
        layerwise_lr_decay: float in (0, 1], factor of the learning rate from each layer of the encoder to that below.
        lookahead: int, updates after which the weights go half of the way back to where they were; 0 is off.
        ema: float in [0, 1), decay of the moving average of the weights that is validated and kept; 0 is off.
        rdrop: float, weight of R-Drop's divergence; 0 is off.
        fgm: float, norm of the perturbation of adversarial training; 0 is off.
        attack_target: 'matrix' or 'output', what is perturbed, see `training.adversarial.FGM`.
        attack_dropout: bool, whether the perturbation is found with the dropout of the step.
        fgm_clean_weight: float, weight of the loss without the perturbation.
        gradient_penalty: float, weight of the penalty on the gradient for the embeddings; 0 is off.
        penalty_reduction: 'author' or 'per_sample', see `training.adversarial.GradientPenalty`.
        vat: float, norm of the perturbation of virtual adversarial training; 0 is off. It goes by `attack_target` and
            `attack_dropout` too.
        weissi: float, weight of the logarithms of the kernels' norms, see `regularizers.add_weissi`; 0 is off.
        recompute: policy of `models.extend_with_recompute`, for tasks that load the model themselves; None is off.
        mixed_precision: loss scale, a number or 'dynamic'; None is off. Within `accelerated`.
        xla: 'auto', 'full' or 'lite', see `training.precision.enable_xla`; None is off. Within `accelerated`.
        spelling: function from the name of a setting to what the user calls it, for messages; None: the name.

    Raises:
        UserError: a value that a technique cannot have, or two that exclude each other.

    >>> Techniques(accumulate=4).updates(10)
    3
    """

    def __init__(
        self,
        *,
        accumulate: int = 1,
        accumulate_in: str = "buffers",
        layerwise_lr_decay: float = 1.0,
        lookahead: int = 0,
        ema: float = 0.0,
        rdrop: float = 0.0,
        fgm: float = 0.0,
        attack_target: str = "matrix",
        attack_dropout: bool = False,
        fgm_clean_weight: float = 0.0,
        gradient_penalty: float = 0.0,
        penalty_reduction: str = "author",
        vat: float = 0.0,
        weissi: float = 0.0,
        recompute: Any = None,
        mixed_precision: Union[None, float, str] = None,
        xla: Optional[str] = None,
        spelling: Optional[Callable[[str], str]] = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "spelling")}
        vars(self).update(given)
        self.spelling = spelling or str
        self._check()

    def _check(self):
        if isinstance(self.accumulate, bool) or not isinstance(self.accumulate, int) or self.accumulate < 1:
            self._refuse_value("accumulate", "a whole number of batches is needed, 1 for none")
        for name, choices in (
            ("accumulate_in", ("buffers", "momentum")),
            ("attack_target", ATTACK_TARGETS),
            ("penalty_reduction", PENALTY_REDUCTIONS),
            ("xla", (None,) + tuple(sorted(XLA_FLAGS))),
        ):
            if getattr(self, name) not in choices:
                self._refuse_value(name, "it is one of %s" % ", ".join(map(str, choices)))
        if not 0 < self.layerwise_lr_decay <= 1:
            self._refuse_value("layerwise_lr_decay", "it has to lie in (0, 1], e.g. 0.9")
        if isinstance(self.lookahead, bool) or not isinstance(self.lookahead, int) or self.lookahead < 0:
            self._refuse_value("lookahead", "a whole number of updates is needed, e.g. 5, or 0 for none")
        if not 0 <= self.ema < 1:
            self._refuse_value("ema", "it has to lie between 0 and 1, e.g. 0.99")
        usually = {"rdrop": 4, "fgm": 0.5, "gradient_penalty": 1, "vat": 1, "weissi": 0.01, "fgm_clean_weight": 0.1}
        for name, usual in usually.items():
            if not 0 <= getattr(self, name) < float("inf"):
                self._refuse_value(name, "it has to be a number above 0, e.g. %s" % usual)
        attacks = [self.spelling(name) for name in ("fgm", "gradient_penalty", "vat") if getattr(self, name)]
        if len(attacks) > 1:
            raise UserError("%s and %s are two forms of one idea; take one of them" % tuple(attacks[:2]))
        if self.mixed_precision is not None:
            try:
                check_loss_scale(self.mixed_precision)
            except (TypeError, ValueError) as error:
                raise UserError("%s: %s" % (self.spelling("mixed_precision"), error))

    def _refuse_value(self, name, wanted):
        value = getattr(self, name)
        shown = "%g" % value if isinstance(value, float) else "%r" % (value,)
        raise UserError("%s is %s; %s" % (self.spelling(name), shown, wanted))

    def refuse(self, task: str, **reasons: str) -> None:
        """Refuse techniques that do not go with a task.

        Args:
            task: what it is called.
            **reasons: name of a setting -> why it has to be left as it is.

        Raises:
            UserError: one of them is on.

        >>> Techniques(rdrop=4.).refuse('CoSENT', rdrop='it repeats rows, of which two and two are a pair')
        Traceback (most recent call last):
        ...
        kexue_keras.errors.UserError: rdrop does not go with CoSENT: it repeats rows, of which two and two are a pair
        """
        for name, reason in reasons.items():
            if name in self.facts():
                raise UserError("%s does not go with %s: %s" % (self.spelling(name), task, reason))

    def refuse_built(self, task: str) -> None:
        """Refuse what a model is built with, for a task that is given one.

        Raises:
            UserError: with what to do.
        """
        self.refuse(
            task,
            recompute="its model is built already; load it with model=kexue_keras.models.extend_with_recompute(BERT)",
        )

    def check_can_begin(self) -> None:
        """Refuse what cannot be turned on any more; before files are read, since nothing can be done about it later.

        Raises:
            UserError: mixed precision or XLA after the first session, or mixed precision on Keras 2.3.1.
        """
        if self.mixed_precision is not None:
            try:
                check_mixed_precision()
            except RuntimeError as error:
                raise UserError("%s: %s" % (self.spelling("mixed_precision"), error))
        if self.xla is not None and sessions_created():
            raise UserError(
                "%s has to be set before TensorFlow's first session, and this process has made one already; run it in "
                "a fresh process" % self.spelling("xla")
            )

    def facts(self) -> Dict[str, Any]:
        """Dict of the settings that are not the default ones, by which a checkpoint recognises its run."""
        defaults = dict(type(self).__init__.__kwdefaults__)
        del defaults["spelling"]
        return {name: getattr(self, name) for name in defaults if getattr(self, name, None) != defaults[name]}

    def accumulates_in(self, where: str) -> bool:
        """Whether several batches make an update, with their gradients in 'buffers' or 'momentum'."""
        return self.accumulate > 1 and self.accumulate_in == where

    def updates(self, steps: int, epoch_steps: Optional[int] = None) -> int:
        """How many updates so many steps make; in buffers the last window of each epoch may be short.

        >>> Techniques(accumulate=3).updates(14, 7), Techniques(accumulate=3, accumulate_in='momentum').updates(14, 7)
        (6, 4)
        """
        if self.accumulates_in("momentum"):
            # A window continues across the end of an epoch.
            return max(1, steps // self.accumulate)
        whole, rest = divmod(steps, epoch_steps or steps)
        return whole * -(-(epoch_steps or steps) // self.accumulate) + -(-rest // self.accumulate)

    @property
    def rounding(self) -> int:
        """What the lengths of batches are rounded up to a multiple of."""
        return ROUNDING if self.xla is None else XLA_ROUNDING
