"""The folder of a run: what may be put where, what is never overwritten, what a resumed run must have in common."""

import os
import shutil
import zlib

from kexue_keras.data import UserError
from kexue_keras.schemas import options_file, read_settings, run_config
from kexue_keras.schemas.messages import shown
from kexue_keras.tasks.checkpoint import remove_leftovers, write_json
from kexue_keras.tasks.options import FILES, PASSING, defaults, options_schema


class RunFolder(object):
    """A folder with the results of one fine-tuning run.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
        contents: names of the files and folders that a run makes; no others are ever removed.
    """

    contents = (
        "config.json metrics.json curves.png confusion.png confusion.tsv predictions.tsv model.h5 tokenizer.json "
        "vocab.txt spiece.model encoder checkpoint.npz best.npz logs"
    ).split()

    def __init__(self, path):
        self.path = os.path.abspath(path)

    def file(self, name):
        """Path of a file in it."""
        return os.path.join(self.path, name)

    @property
    def is_run(self):
        """Whether there is a run in it, finished or not."""
        return os.path.exists(self.file("config.json"))

    @property
    def is_finished(self):
        """Whether the run in it went to its end."""
        return os.path.exists(self.file("metrics.json")) and not os.path.exists(self.file("checkpoint.npz"))

    def config(self):
        """Contents of config.json.

        Raises:
            UserError: this is no run folder, or config.json is not as it was written.
        """
        if not self.is_run:
            raise UserError("no config.json in it; is it the folder of a run (--out of finetune)?", path=self.path)
        return read_settings(self.file("config.json"), self.settings_of_file(), error=UserError)

    def settings_of_file(self):
        """`Settings` of its config.json."""
        return run_config(options_schema())

    def check_free(self, options):
        """Refuse a folder in which something stands that nobody asked to replace; touches nothing.

        Raises:
            UserError: with what to do.
        """
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise UserError("--out is a file; a folder is needed", path=self.path)
        if options.resume and options.overwrite:
            raise UserError("--resume and --overwrite exclude each other")
        if not os.path.isdir(self.path) or not os.listdir(self.path):
            parent = os.path.dirname(self.path)
            while not os.path.isdir(parent):
                parent = os.path.dirname(parent)
            if not os.access(parent, os.W_OK):
                raise UserError("no permission to write here", path=parent)
            return
        if not self.is_run:
            raise UserError("the folder is not empty and holds no run; choose another --out", path=self.path)
        if options.resume:
            self.check_same(options)
        elif not options.overwrite:
            raise UserError("there is a run already; --resume goes on with it, --overwrite replaces it", path=self.path)

    def check_same(self, options):
        """Refuse to go on with other options or data than the run began with.

        Raises:
            UserError: naming what differs.
        """
        config = self.config()
        old, new = dict(defaults(), **config["options"]), vars(as_absolute(options))
        for name in sorted(set(new) - set(PASSING)):
            if old.get(name) != new[name]:
                raise UserError(
                    "--resume: %s was %s and is %s now; a resumed run keeps its options (--overwrite starts anew)"
                    % (name, shown(old.get(name)), shown(new[name])),
                    path=self.file("config.json"),
                )
        for name, known in config["fingerprints"].items():
            if not isinstance(new.get(name), str):
                raise UserError("has a fingerprint of %r, which is no file" % name, path=self.file("config.json"))
            if fingerprint(new[name]) != known:
                raise UserError("--resume: the file has changed since the run began", path=new[name])

    def make(self, *, empty):
        """Make the folder if it is not there, without what a killed process left in it; `empty`: without any run."""
        os.makedirs(self.path, exist_ok=True)
        remove_leftovers(self.path)
        for name in self.contents if empty else ():
            if os.path.isdir(self.file(name)):
                shutil.rmtree(self.file(name))
            elif os.path.exists(self.file(name)):
                os.remove(self.file(name))

    def begin(self, options, facts):
        """Make the folder ready: empty it if that was asked for, and write config.json.

        Args:
            options: namespace.
            facts: JSON-able dict of what the run found out (labels, columns, versions, ...).
        """
        goes_on = options.resume and self.is_run
        self.make(empty=not goes_on)
        if goes_on:
            return
        kept = {k: v for k, v in vars(as_absolute(options)).items() if k not in ("resume", "overwrite", "config")}
        files = {name: fingerprint(kept[name]) for name in FILES if kept[name]}
        write_json(self.file("config.json"), dict(facts, options=kept, fingerprints=files))


def known_options(path):
    """The options in a config.json.

    Raises:
        UserError: no such file, no config.json, options that this version does not have, or with other values than
            they can have.
    """
    return read_settings(path, options_file(options_schema()), error=UserError)["options"]


def as_absolute(options):
    """The options with absolute paths, so that config.json works from any folder."""
    changed = dict(vars(options))
    for name in FILES + ("out",):
        if changed[name]:
            changed[name] = os.path.abspath(changed[name])
    for name in ("model", "class_weights"):
        if changed[name] and os.path.exists(changed[name]):
            changed[name] = os.path.abspath(changed[name])
    return type(options)(**changed)


def fingerprint(path):
    """Size and CRC-32 of a file."""
    checksum = 0
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            checksum = zlib.crc32(block, checksum)
        return "%d bytes, crc32 %08x" % (handle.tell(), checksum)
