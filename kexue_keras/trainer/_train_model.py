"""Training of a model that stays in memory: the techniques applied to it, then the `Trainer`."""

from typing import Any, Callable, Dict, Optional, Tuple

from kexue_keras.trainer._techniques import Techniques
from kexue_keras.trainer._trainer import Diverged, Trainer
from kexue_keras.trainer._wrapping import wrapped
from kexue_keras.types import KerasOptimizer, Model, Say


def train_model(
    model: Model,
    make_batch: Callable[[int], Tuple[Any, ...]],
    *,
    loss: Any,
    steps: int,
    default: Tuple[KerasOptimizer, Optional[Callable[[KerasOptimizer, int], KerasOptimizer]]],
    techniques: Optional[Techniques] = None,
    optimizer: Optional[KerasOptimizer] = None,
    epoch_steps: Optional[int] = None,
    multipliers: Optional[Dict[str, float]] = None,
    num_hidden_layers: Optional[int] = None,
    seed: int = 0,
    facts: Optional[Dict[str, Any]] = None,
    say: Optional[Say] = None,
    **how: Any,
) -> Trainer:
    """Train a model that stays in memory, resuming from the checkpoint in a folder if there is one.

    Args:
        model, make_batch, loss, techniques, steps, epoch_steps, multipliers, num_hidden_layers, seed, say: see
            `wrapped`.
        default: (optimizer, schedule or None) where the user gives no `optimizer`.
        optimizer: the user's, or None.
        facts: see `Trainer`.
        **how: further arguments of `Trainer`.

    Returns:
        `Trainer`, at its end.

    Raises:
        UserError: see `wrapped` and `Trainer.run`; training diverged, also after a good epoch, whose weights are in the
            model then.
    """
    techniques = techniques or Techniques()
    facts = dict(facts or {}, techniques=techniques.facts())
    if optimizer is not None:
        facts["optimizer"] = type(optimizer).__name__
    innermost, schedule = default if optimizer is None else (optimizer, None)
    length = {"steps": steps, "epoch_steps": epoch_steps}
    with wrapped(
        model,
        make_batch,
        loss=loss,
        optimizer=innermost,
        schedule=schedule,
        techniques=techniques,
        multipliers=multipliers,
        num_hidden_layers=num_hidden_layers,
        seed=seed,
        say=say,
        **length,
    ) as ready:
        how.update(length, random_step=ready.random_step, facts=facts, say=say, quiet=say is None)
        trainer = Trainer(ready.model, ready.make_batch, **how)
        trainer.run()
    if trainer.diverged is not None:
        kept = "; the model has the weights of epoch %d, the best before that" % trainer.progress.best["epoch"]
        raise Diverged(trainer.diverged + kept)
    return trainer
