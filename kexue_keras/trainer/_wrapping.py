"""How techniques are applied to loss, optimizer and model, in their order: `wrapped`, to be read from top to bottom.

To add a technique: a setting in `Techniques`, a line here, and for the command an option of the same name in
`options/techniques.py`. What a model has to be built with is set where it is loaded (`finetune/_encoder.py`).
"""

import contextlib
import warnings
from collections import namedtuple
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import numpy as np

from kexue_keras import backend
from kexue_keras.backend import K, keras
from kexue_keras.errors import UserError
from kexue_keras.losses import MaskedCrossentropy, MaskedRDropCrossentropy, MultilabelCrossentropy, RDropCrossentropy
from kexue_keras.optimizers import (
    Distributed,
    ExponentialMovingAverage,
    GradientAccumulation,
    LayerwiseLearningRate,
    Lookahead,
    accumulate_in_momentum,
)
from kexue_keras.options.choices import XLA_FLAGS
from kexue_keras.regularizers import add_weissi
from kexue_keras.trainer._ranks import Ranks
from kexue_keras.trainer._repeatable import repeatable, unrepeatable_ops
from kexue_keras.trainer._techniques import Techniques
from kexue_keras.training._randomness import Step, drawn_from
from kexue_keras.training.adversarial import FGM, GradientPenalty, VirtualAdversarial
from kexue_keras.training.precision import LossScale, enable_mixed_precision, enable_xla, fp16_lint
from kexue_keras.training.precision._xla import VARIABLE
from kexue_keras.types import KerasOptimizer, Model, Say

# How far virtual adversarial training steps from a text to see where its answer changes: a norm of the whole matrix, as
# in the article, or of each text.
VAT_STEPS = {"matrix": 10.0, "output": 0.1}
Wrapped = namedtuple("Wrapped", "model make_batch random_step ranks")


@contextlib.contextmanager
def wrapped(
    model: Model,
    make_batch: Callable[[int], Tuple[Any, ...]],
    *,
    loss: Any,
    optimizer: KerasOptimizer,
    techniques: Techniques,
    steps: int,
    epoch_steps: Optional[int] = None,
    schedule: Optional[Callable[[KerasOptimizer, int], KerasOptimizer]] = None,
    multipliers: Optional[Dict[str, float]] = None,
    num_hidden_layers: Optional[int] = None,
    metrics: Any = None,
    seed: int = 0,
    random_step: Optional[Step] = None,
    ranks: Optional[Ranks] = None,
    semi_supervised: bool = False,
    say: Optional[Say] = None,
) -> Iterator[Wrapped]:
    """Compile a model for training, with the techniques applied; they are removed at the end of the context.

    Args:
        model: Keras model.
        make_batch: see `Trainer`.
        loss, metrics: as for Keras' `compile`.
        optimizer: optimizer instance, the innermost.
        techniques: `Techniques`.
        steps, epoch_steps: see `Trainer`.
        schedule: function (optimizer, number of updates) that gives an optimizer with a schedule, or None.
        multipliers: dict {regular expression: factor} of learning rates, for a head that starts from noise; or None.
        num_hidden_layers: blocks of the encoder, for `techniques.layerwise_lr_decay`; None counts the trained ones.
        seed: int, of the random numbers in the model.
        random_step: the `Step` of a model that was built in `repeatable_dropout`.
        ranks: `Ranks`, if several processes train the model together, each with its part of the batch.
        semi_supervised: whether rows of sample weight 0 are texts without a label, which R-Drop learns from as well.
        say: function that takes a line, or None.

    Yields:
        (model to train, make_batch, random_step, ranks), for `Trainer`.

    Raises:
        UserError: techniques that do not go with the loss; mixed precision or XLA that is not on.
        ValueError: what a technique finds wrong with the model.

    >>> from kexue_keras.optimizers import AdamW
    >>> from kexue_keras.trainer import Techniques, Trainer, wrapped
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> how = dict(loss='mse', optimizer=AdamW(1e-3), techniques=Techniques(accumulate=2, ema=.9), steps=5)
    >>> with wrapped(model, lambda step: (np.ones((4, 3)), np.ones((4, 1))), **how) as ready:
    ...     losses = Trainer(ready.model, ready.make_batch, steps=5).run()
    >>> int(K.get_value(model.optimizer.iterations))
    3
    """
    t, say = techniques, say or (lambda line: None)
    check_accelerated(t)
    if random_step is None:
        model, random_step = repeatable(model, seed)
    several = ranks is not None and ranks.are_several
    if several:
        make_batch = ranks.dealt(make_batch)
    compared = vat_comparison(loss, t, several) if t.vat else None
    if t.rdrop:
        loss, make_batch = rdrop_loss(loss, t, semi_supervised), doubled(make_batch)
    if t.weissi:
        model = penalised(model, t)
    if t.accumulates_in("momentum"):
        optimizer = accumulate_in_momentum(optimizer, t.accumulate)
    if schedule is not None:
        optimizer = schedule(optimizer, t.updates(steps, epoch_steps))
    if t.layerwise_lr_decay != 1 or multipliers:
        decay = t.layerwise_lr_decay if t.layerwise_lr_decay != 1 else None
        optimizer = LayerwiseLearningRate(
            optimizer, decay=decay, multipliers=multipliers, num_hidden_layers=num_hidden_layers
        )
    if t.lookahead:
        optimizer = Lookahead(optimizer, steps=t.lookahead)
    if t.ema:
        optimizer = ExponentialMovingAverage(optimizer, t.ema)
    if several:
        optimizer = Distributed(optimizer, share=ranks.share)
    if t.accumulates_in("buffers"):
        optimizer = GradientAccumulation(optimizer, t.accumulate)
    if t.mixed_precision is not None:
        say_half(model, say)
        optimizer = LossScale(optimizer, t.mixed_precision)
    model.compile(optimizer, loss, metrics=metrics)
    with contextlib.ExitStack() as stack:
        if t.fgm:
            how = dict(target=t.attack_target, attack_dropout=t.attack_dropout, clean_weight=t.fgm_clean_weight)
            stack.enter_context(FGM(model, epsilon=t.fgm, distributed=several, **how))
        if t.gradient_penalty:
            how = dict(reduction=t.penalty_reduction, distributed=several)
            stack.enter_context(GradientPenalty(model, epsilon=t.gradient_penalty, **how))
        if t.vat:
            how = dict(compared, target=t.attack_target, attack_dropout=t.attack_dropout)
            random_step = random_step or Step(seed)
            with drawn_from(random_step):
                vat = VirtualAdversarial(model, epsilon=t.vat, xi=VAT_STEPS[t.attack_target], **how)
            stack.enter_context(vat)
        say_unrepeatable(model, say)
        yield Wrapped(model, make_batch, random_step, ranks)
        say_skipped(optimizer, steps, say)


@contextlib.contextmanager
def accelerated(techniques: Techniques, say: Optional[Say] = None) -> Iterator[None]:
    """Mixed precision and XLA on, if `techniques` say so; to be opened before a model is built, closed after training.

    `finetune` and `finetune_seq2seq` open it themselves. For the other tasks, whose models live on, use it yourself:
    `with accelerated(techniques): simbert = SimBERT(folder, techniques=techniques); simbert.train(...)`.

    Args:
        techniques: `Techniques`.
        say: function that takes a line, or None.

    Raises:
        UserError: too late, or not on this Keras.

    >>> from kexue_keras.trainer import Techniques, accelerated
    >>> with accelerated(Techniques()):
    ...     model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    """
    t, say = techniques, say or (lambda line: None)
    t.check_can_begin()
    with contextlib.ExitStack() as stack:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if t.mixed_precision is not None:
                    stack.enter_context(enable_mixed_precision(t.mixed_precision))
                if t.xla is not None:
                    stack.enter_context(enable_xla(t.xla))
        except RuntimeError as error:
            raise UserError(error)
        if t.mixed_precision is not None and not backend.has_gpu():
            name = t.spelling("mixed_precision")
            say("note: %s does nothing here but scale the loss, for there is no GPU" % name)
        if t.xla is not None:
            say("XLA compiles the model for each length of a batch; the first batches take longer")
        yield


def vat_comparison(loss, techniques, several):
    """How virtual adversarial training compares the answers that a loss is for.

    Returns:
        dict, arguments of `VirtualAdversarial`: divergence, from_logits.

    Raises:
        UserError: the loss is for something else than classes of texts, or several processes train together.
    """
    name = techniques.spelling("vat")
    if several:
        raise UserError("%s does not go with several processes: each would look for a perturbation of its own" % name)
    if isinstance(loss, (MultilabelCrossentropy, keras.losses.BinaryCrossentropy)):
        return {"divergence": "multilabel", "from_logits": takes_logits(loss)}
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        return {"divergence": "kl", "from_logits": takes_logits(loss)}
    raise UserError("%s goes with classes of texts, one or several a text" % name)


def takes_logits(loss):
    """Whether a Keras loss takes logits; those of this package do unless they say otherwise."""
    return bool(loss.get_config().get("from_logits", True))


def rdrop_loss(loss, techniques, semi_supervised=False):
    """R-Drop in place of a cross-entropy of one label, of several, or of tokens.

    Args:
        loss: Keras loss.
        techniques: `Techniques`.
        semi_supervised: see `wrapped`.

    Raises:
        UserError: the loss is another one.
    """
    if isinstance(loss, MaskedCrossentropy):
        own = ("from_logits", "ignore", "normalization", "reduction")
        options = {name: value for name, value in loss.get_config().items() if name in own}
        return MaskedRDropCrossentropy(alpha=techniques.rdrop, **options)
    several = isinstance(loss, MultilabelCrossentropy)
    if not several and not isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        raise UserError(
            "%s goes with one label per text, with the multi-label cross-entropy (--multilabel-loss zlpr) and with "
            "tokens" % techniques.spelling("rdrop")
        )
    divergence = "multilabel" if several else "kl"
    how = dict(sparse=not several, divergence=divergence, semi_supervised=semi_supervised)
    return RDropCrossentropy(alpha=techniques.rdrop, from_logits=takes_logits(loss), **how)


def penalised(model, techniques):
    """A model of the same layers and weights with the penalty of WEISSI, which `model` itself is left without.

    Raises:
        UserError: nothing that it is for is trained, or the model has losses of its own, which stay with it.
    """
    several = len(model.inputs) > 1, len(model.outputs) > 1
    inputs, outputs = ((x if more else x[0]) for x, more in zip((model.inputs, model.outputs), several))
    made = keras.models.Model(inputs, outputs, name=model.name)
    name = techniques.spelling("weissi")
    if len(made.losses) != len(model.losses):
        raise UserError(
            "%s does not go with losses that are added with model.add_loss; call regularizers.add_weissi for this "
            "model yourself" % name
        )
    try:
        add_weissi(made, lambda1=techniques.weissi)
    except ValueError as error:
        raise UserError("%s: %s" % (name, error))
    return made


def doubled(make_batch):
    """The batches with each row twice, one after the other."""

    def make(step):
        made = [part if part is None else _twice(part) for part in make_batch(step)]
        return tuple(made)

    return make


def _twice(part):
    return [_twice(x) for x in part] if isinstance(part, (list, tuple)) else np.repeat(part, 2, axis=0)


def check_accelerated(techniques):
    """Refuse mixed precision or XLA that is not on, for nothing can turn it on once a model is built.

    Raises:
        UserError: with what to do.
    """
    t, off = techniques, None
    if t.mixed_precision is not None and not backend.is_mixed_precision_on():
        off = "mixed_precision"
    if t.xla is not None and XLA_FLAGS[t.xla].split()[0] not in backend.environment_variable(VARIABLE).split():
        off = "xla"
    if off is not None:
        raise UserError(
            "%s is not on; load the model and train within `with kexue_keras.trainer.accelerated(techniques):`, at the "
            "beginning of a fresh process" % t.spelling(off)
        )


def say_half(model, say):
    """Tell which constants of a model half precision cannot hold."""
    for finding in [finding for finding in fp16_lint(model) if finding.half][:3]:
        say("note: half precision cannot hold a constant of the model: %s" % str(finding))


def say_skipped(optimizer, steps, say):
    """Tell how many steps a loss scale has skipped."""
    skipped = int(K.get_value(optimizer.skipped)) if isinstance(optimizer, LossScale) else 0
    if skipped:
        say("%d of %d steps were skipped: gradients not finite" % (skipped, steps))


def say_unrepeatable(model, say):
    """Report which random numbers no checkpoint can hold."""
    found = unrepeatable_ops(model)
    if found:
        say("note: a resumed run will differ slightly; not repeatable: %s" % ", ".join(found[:3]))
