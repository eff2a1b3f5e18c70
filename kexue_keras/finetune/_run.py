"""One run of the command: its options, where it is made, and how what a task has built is trained."""

import contextlib
import os

from kexue_keras.errors import UserError, printable
from kexue_keras.finetune._other_ranks import end, ranks_of, tell
from kexue_keras.finetune._run_folder import POINT, config_of
from kexue_keras.finetune._schedule import schedule_of
from kexue_keras.finetune._similarity_heads import head_lr_multiplier
from kexue_keras.finetune._tensorboard import ScalarLogger
from kexue_keras.hub._run_card import write_run_card
from kexue_keras.optimizers import AdamW
from kexue_keras.options.choices import METRICS
from kexue_keras.options.finetune import as_option, finetune_parser
from kexue_keras.tracking import tracker
from kexue_keras.trainer import Techniques, Trainer, wrapped

# What the names of the heads' variables contain: logits/kernel:0, pair_logits/kernel:0.
HEAD_VARIABLES = "logits"


class Run(object):
    """A run whose options are checked, before any file is read.

    Args:
        options: namespace.
        folder: `RunFolder`.
        say: function that prints a line.
        callbacks: list of Keras callbacks that are called beside the run's own.

    Attributes:
        techniques: `Techniques`.

    Raises:
        UserError: options that cannot be, or do not go together.
    """

    def __init__(self, options, folder, say=print, callbacks=()):
        self.options, self.folder, self.callbacks = options, folder, list(callbacks)
        self.metric = checked_metric(options)
        self._tracker = tracker(options.track)
        # Labels and names come from files that may hold anything.
        self.say = lambda line: say(printable(line))
        self.techniques, self.schedule = techniques_of(options), schedule_of(options)
        self.multiplier = head_lr_multiplier(options)
        self.techniques.check_can_begin()
        if self.techniques.rdrop and options.dropout_rate == 0:
            raise UserError(
                "--rdrop compares two dropouts of the same text, so --dropout-rate 0 leaves nothing to compare"
            )

    def train(
        self, model, make_batch, *, head, epoch_steps, num_hidden_layers, random_step, evaluate, facts, multipliers=None
    ):
        """Train a model to the end, from the checkpoint on if that is asked for.

        Args:
            model: Keras model.
            make_batch, evaluate: see `Trainer`.
            head: head of the task, with its loss and metrics.
            epoch_steps: batches per epoch.
            num_hidden_layers: blocks of the encoder.
            random_step: see `wrapped`.
            facts: dict for config.json.
            multipliers: dict {regular expression: factor} of learning rates besides that of the head.

        Returns:
            `Trainer`, the best weights in the model.
        """
        options, folder = self.options, self.folder
        length = {"steps": epoch_steps * options.epochs, "epoch_steps": epoch_steps}
        factors = dict(multipliers or {})
        if self.multiplier != 1:
            factors[HEAD_VARIABLES] = self.multiplier
        tell(options, trains=True)
        ranks, semi_supervised = ranks_of(options, head), options.unlabelled is not None
        with wrapped(
            model,
            make_batch,
            loss=head.loss(),
            optimizer=AdamW(options.learning_rate, weight_decay=options.weight_decay),
            techniques=self.techniques,
            schedule=self.schedule,
            multipliers=factors or None,
            num_hidden_layers=num_hidden_layers,
            # A text without a label is no text that is answered rightly or wrongly.
            metrics=None if semi_supervised else head.metrics(),
            random_step=random_step,
            ranks=ranks,
            semi_supervised=semi_supervised,
            say=self.say,
            **length,
        ) as ready:
            folder.begin(lambda: config_of(options, facts))
            if options.resume and not os.path.exists(folder.file(POINT)):
                self.say("nothing to resume from in %s; starting from the beginning" % folder.home)
            trainer = Trainer(
                ready.model,
                ready.make_batch,
                random_step=ready.random_step,
                ranks=ready.ranks,
                evaluate=self._scored(evaluate),
                patience=options.patience,
                folder=folder.path,
                is_locked=True,
                save_every=options.save_every,
                remedy="a lower --learning-rate (now %g) or a longer --warmup usually helps" % options.learning_rate,
                quiet=options.quiet,
                say=self.say,
                **length,
            )
            trainer.callbacks.append(ScalarLogger(folder.file("logs"), lambda: trainer.progress.step))
            trainer.callbacks.extend(self.callbacks)
            if self._tracker is None:
                trainer.run()
                end(options)
                return trainer
            known = {name: value for name, value in vars(options).items() if value is not None}
            logger = self._tracker(folder.file("tracking.json"), folder.home, known)
            # Before the others, one of which may end the training with an error.
            trainer.callbacks.insert(0, logger)
            try:
                trainer.run()
            finally:
                logger.broken_off()
        return trainer

    def _scored(self, evaluate):
        """`evaluate` with the score that --metric asks for."""
        if self.metric is None:
            return evaluate

        def scored():
            scores = evaluate()
            return dict(scores, score=-scores["loss"] if self.metric == "loss" else scores[self.metric])

        return scored

    def main_metric(self, usual):
        """The metric that chooses the best epoch, as metrics.json calls it; `usual` where none is asked for."""
        return self.metric or usual


def checked_metric(options):
    """--metric as metrics.json calls it, or None.

    Raises:
        UserError: the task has no such metric.

    >>> from kexue_keras.options.finetune import make_options
    >>> checked_metric(make_options(metric='macro-f1'))
    'macro_f1'
    """
    if options.metric is None:
        return None
    known, asked = METRICS.get(options.task, ()), options.metric
    if asked not in known:
        raise UserError(
            "--metric %s: --task %s has %s" % (options.metric, options.task, ", ".join(known) or "no choice of metrics")
        )
    return asked.replace("-", "_")


def metrics_of(trainer, **more):
    """What metrics.json says of a training; `report_divergence` reads it."""
    p = trainer.progress
    metrics = {"best_epoch": p.best["epoch"], "history": p.history, "seconds": round(p.seconds, 1)}
    if trainer.diverged is not None:
        metrics["diverged"] = trainer.diverged
    return dict(metrics, **more)


def report_divergence(metrics, folder):
    """End a run that has diverged with an error, although the best epoch before that was kept.

    Args:
        metrics: dict, the contents of metrics.json.
        folder: `RunFolder`, not yet finished where it replaces an earlier run, which then stays.

    Raises:
        UserError: the run has diverged.
    """
    if metrics.get("diverged") and folder.replaces:
        raise UserError(
            "training diverged: %s. The earlier run here was kept, the new one is gone; into another folder the model "
            "of its epoch %d would have been kept" % (metrics["diverged"], metrics["best_epoch"]),
            path=folder.home,
        )
    if metrics.get("diverged"):
        with contextlib.suppress(OSError):  # that of a run which was finished long ago may lie anywhere
            write_run_card(folder.path)
        raise UserError(
            "training diverged: %s. The model of epoch %d, the best before that, is kept here and can be used"
            % (metrics["diverged"], metrics["best_epoch"]),
            path=folder.home,
        )


def techniques_of(options):
    """`Techniques` with the options of the same names.

    Raises:
        UserError: values that a technique cannot have, or two that exclude each other.

    >>> from kexue_keras.options.finetune import make_options
    >>> techniques_of(make_options(accumulate=4, xla=True)).facts()
    {'accumulate': 4, 'xla': 'auto'}
    """
    given = dict(vars(options))
    for action in finetune_parser()._actions:
        # The option without a word, as finetune(xla=True) says it.
        if action.nargs == "?" and isinstance(given[action.dest], bool):
            given[action.dest] = action.const if given[action.dest] else None
    names = [name for name in Techniques.__init__.__kwdefaults__ if name in given]
    return Techniques(spelling=as_option, **{name: given[name] for name in names})
