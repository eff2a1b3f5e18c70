"""`finetune --distributed`: what the other ranks do, which train along and write nothing."""

import argparse
import os
import shutil
import tempfile

from kexue_keras import distributed
from kexue_keras.errors import UserError
from kexue_keras.trainer._ranks import Ranks


class Finished(Exception):
    """A rank other than the first has nothing left to do: rank 0 measures and writes."""


def join(options):
    """Begin to talk to the other processes, after a look at the options.

    Args:
        options: namespace, with --distributed.

    Raises:
        UserError: options that do not go with it; no Horovod.
    """
    for given, name in (
        (options.folds is not None, "--folds"),
        (options.frozen, "--frozen"),
        (options.teaforn > 1, "--teaforn"),
        (options.vat > 0, "--vat"),
        (options.unlabelled is not None, "--unlabelled"),
    ):
        if given:
            raise UserError("%s does not go with --distributed; leave one of them out" % name)
    try:
        distributed.init()
    except RuntimeError as error:
        raise UserError("--distributed: %s" % error)
    if distributed.size() > options.batch_size:
        raise UserError(
            "--batch-size is %d, the rows of all ranks together; %d ranks need at least as many"
            % (options.batch_size, distributed.size())
        )


def follow(options, work):
    """Train along on a rank other than the first, in a folder of its own that is thrown away.

    Args:
        options: namespace.
        work: function of (options, function that prints a line) that fine-tunes.

    Returns:
        dict, empty.
    """
    scratch = tempfile.mkdtemp(prefix="kexue-rank-")
    changed = dict(out=os.path.join(scratch, "run"), resume=False, overwrite=False, track=None, quiet=True)
    try:
        work(argparse.Namespace(**dict(vars(options), **changed)), lambda line: None)
    except Finished:
        pass
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {}


def ranks_of(options, head):
    """`Ranks` for the head of a task, or None for one process."""
    if not options.distributed:
        return None
    how = {name: getattr(head, name) for name in ("unit", "coupled", "count") if hasattr(head, name)}
    return Ranks(**how)


def tell(options, *, trains):
    """Rank 0 tells the others whether there is anything to train, and they hear it.

    Raises:
        Finished: there is not; on the others alone.
    """
    if options.distributed and not distributed.broadcast(trains) and not distributed.is_first():
        raise Finished()


def end(options):
    """Let the others go; rank 0 goes on.

    Raises:
        Finished: on the others.
    """
    if options.distributed and not distributed.is_first():
        raise Finished()
