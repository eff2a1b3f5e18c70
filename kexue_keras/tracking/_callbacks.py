"""Keras callbacks that log the scores of each epoch with Weights & Biases or MLflow, and continue a resumed run there.

Both libraries take where they log to from their own environment (WANDB_MODE, WANDB_PROJECT, MLFLOW_TRACKING_URI, ...).
"""

import importlib
import os
from typing import Any, Callable, Dict, Optional

from kexue_keras.backend import keras
from kexue_keras.errors import UserError
from kexue_keras.files import write_json
from kexue_keras.files.paths import path_text
from kexue_keras.schemas import read_json
from kexue_keras.types import Path


class _Logger(keras.callbacks.Callback):
    """What both have in common.

    Args:
        place: file in which the run's name over there is kept, so that a resumed run continues it; or None.
        name: of the run, shown over there; of a path the last part.
        options: dict, logged as the run's settings.

    Raises:
        UserError: the library is not installed.
    """

    library = None

    def __init__(
        self, place: Optional[Path] = None, name: Optional[Path] = None, options: Optional[Dict[str, Any]] = None
    ) -> None:
        super(_Logger, self).__init__()
        self.place, self.options = None if place is None else path_text(place), dict(options or {})
        self.name = None if name is None else os.path.basename(os.path.normpath(path_text(name)))
        self._module, self._is_open = _import(self.library), False

    def on_train_begin(self, logs: Optional[Dict[str, float]] = None) -> None:
        known = {}
        if self.place is not None and os.path.exists(self.place):
            known = read_json(self.place, error=UserError)
        known = known if isinstance(known, dict) else {}
        identity = self._begin(known.get(self.library))
        self._is_open = True
        if self.place is not None:
            write_json(self.place, dict(known, **{self.library: identity}))

    def on_epoch_end(self, epoch: int, logs: Optional[Dict[str, float]] = None) -> None:
        self._log({name: float(value) for name, value in (logs or {}).items()}, epoch + 1)

    def on_train_end(self, logs: Optional[Dict[str, float]] = None) -> None:
        self._end(True)

    def broken_off(self) -> None:
        """Training ended with an error, or was interrupted: close the run over there, as one that failed."""
        if self._is_open:
            self._end(False)

    def _end(self, is_good):
        self._is_open = False
        self._close(is_good)

    def _begin(self, known):
        raise NotImplementedError

    def _log(self, scores, epoch):
        raise NotImplementedError

    def _close(self, is_good):
        raise NotImplementedError


class WandbLogger(_Logger):
    """Keras callback: the scores of each epoch to Weights & Biases.

    Args:
        place: file in which the run's id is kept, so that a resumed run continues it; or None.
        name: of the run, shown there; of a path the last part.
        options: dict, logged as the run's config.

    Raises:
        UserError: wandb is not installed.

    >>> WandbLogger()
    Traceback (most recent call last):
    ...
    kexue_keras.errors.UserError: logging with wandb takes a package that is not installed: pip install wandb
    """

    library = "wandb"

    def _begin(self, known):
        # The project is that of WANDB_PROJECT, else their default.
        more = {"id": known, "resume": "allow"} if known else {}
        self._run = self._module.init(name=self.name, config=self.options, **more)
        return self._run.id

    def _log(self, scores, epoch):
        self._run.log(dict(scores, epoch=epoch))

    def _close(self, is_good):
        self._run.finish(exit_code=0 if is_good else 1)


class MLflowLogger(_Logger):
    """Keras callback: the scores of each epoch to MLflow.

    Args:
        place: file in which the run's id is kept, so that a resumed run continues it; or None.
        name: of the run, shown there; of a path the last part.
        options: dict, logged as the run's parameters.

    Raises:
        UserError: mlflow is not installed.

    >>> MLflowLogger()
    Traceback (most recent call last):
    ...
    kexue_keras.errors.UserError: logging with mlflow takes a package that is not installed: pip install mlflow
    """

    library = "mlflow"

    def _begin(self, known):
        if known:
            return self._module.start_run(run_id=known).info.run_id
        run = self._module.start_run(run_name=self.name)
        # Longer values are refused there.
        self._module.log_params({name: str(value)[:250] for name, value in self.options.items()})
        return run.info.run_id

    def _log(self, scores, epoch):
        self._module.log_metrics(scores, step=epoch)

    def _close(self, is_good):
        self._module.end_run(status="FINISHED" if is_good else "FAILED")


_LOGGERS = {logger.library: logger for logger in (WandbLogger, MLflowLogger)}


def tracker(name: Optional[str]) -> Optional[Callable[..., Any]]:
    """The class of callback for --track, or None without it.

    Args:
        name: 'wandb', 'mlflow' or None.

    Raises:
        UserError: the library is not installed, which is reported before anything else is done.

    >>> tracker(None) is None
    True
    """
    if name is None:
        return None
    _import(name)
    return _LOGGERS[name]


def _import(library):
    try:
        return importlib.import_module(library)
    except ImportError:
        raise UserError("logging with %s takes a package that is not installed: pip install %s" % ((library,) * 2))
