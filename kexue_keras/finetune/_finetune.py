"""What `kexue-keras finetune` does, as a function: the options are checked, the folder is taken, the task is called."""

import os
from typing import Any, Dict, Optional, Sequence

from kexue_keras.backend import preserved_random_state
from kexue_keras.distributed import is_first, size
from kexue_keras.errors import UserError
from kexue_keras.finetune._fingerprints import check_readable_again
from kexue_keras.finetune._other_ranks import follow, join, tell
from kexue_keras.finetune._run import Run, report_divergence
from kexue_keras.finetune._run_folder import RunFolder, check_same, input_files
from kexue_keras.finetune._similarity import check_similarity, checked_range, finetune_similarity
from kexue_keras.finetune.classification._training import check_classification, finetune_classification
from kexue_keras.finetune.folds._runs import finetune_folds
from kexue_keras.finetune.math_word_problems._training import (
    TASK,
    check_math_word_problems,
    finetune_math_word_problems,
)
from kexue_keras.finetune.named_entities._recognizer import TASK as NER
from kexue_keras.finetune.named_entities._training import check_ner, finetune_ner
from kexue_keras.options.finetune import make_options
from kexue_keras.schemas import METRICS, read_settings
from kexue_keras.types import Path, Say


@preserved_random_state()
def finetune(
    model: Optional[Path] = None,
    data: Optional[Path] = None,
    out: Optional[Path] = None,
    *,
    say: Say = print,
    callbacks: Sequence[Any] = (),
    **options: Any,
) -> Dict[str, Any]:
    """Fine-tune a pretrained model from files: labels for texts, or what else `task` says (similarity, ner, ...).

    Args:
        model: a bundled name, a folder, or a name of the hub, as `models.load` takes it.
        data: training file (TSV, CSV, JSON lines; also .gz).
        out: folder for the results.
        say: function that prints a line; quiet=True silences it.
        callbacks: list of Keras callbacks; `on_epoch_end` gets the scores of the validation as `val_...`.
        **options: every option of `kexue-keras finetune` under its name with underscores: valid, test, epochs,
            batch_size, max_length, learning_rate, warmup, pooling, class_weights, train_layers, seed, resume, ...

    Returns:
        dict, the contents of metrics.json.

    Raises:
        UserError: something about the data, the options or the folder; nothing has been written then, and with
            overwrite=True the earlier run is there as before.
        TypeError: no such option.
    """
    options = make_options(model=model, data=data, out=out, **options)
    for name in ("model", "data", "out"):
        if not getattr(options, name):
            raise UserError("--%s is needed" % name)
    try:
        os.fsencode(options.out).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError("--out is a name that is not UTF-8, which TensorFlow cannot write to", path=options.out)
    if options.quiet:

        def say(line):
            pass

    options.score_range = checked_range(options.score_range)

    def work(options, say):
        return _finetune(options, say, callbacks)

    if options.distributed:
        join(options)
        if not is_first():
            return follow(options, work)
        say("%d processes train together, each with its part of a batch of %d" % (size(), options.batch_size))
    return work(options, say)


def _finetune(options, say, callbacks):
    """`finetune` with options that are checked."""
    folder, files = RunFolder(options.out), input_files(options)
    check_readable_again(files)
    if options.folds is not None:
        return finetune_folds(options, say, callbacks, finetune)
    run = Run(options, folder, say, callbacks)
    # Of what goes with labels of texts alone each task refuses what it is given.
    check_classification(run)
    task = finetune_classification
    if options.task == "similarity":
        check_similarity(run)
        task = finetune_similarity
    elif options.task == TASK:
        check_math_word_problems(run)
        task = finetune_math_word_problems
    elif options.task == NER:
        check_ner(run)
        task = finetune_ner

    def check(config):
        check_same(config, options, folder.file("config.json"))

    inputs = [options.model] + list(files.values())
    with folder.claimed(resume=options.resume, overwrite=options.overwrite, inputs=inputs, check_same=check) as done:
        if done:
            tell(options, trains=False)
            say("%s is finished already; nothing to do" % folder.home)
            metrics = read_settings(folder.file("metrics.json"), METRICS, error=UserError)
            report_divergence(metrics, folder)
            return metrics
        return task(run)
