"""The folder of a run: what may be put where, what is never overwritten, what a resumed run must have in common."""

import contextlib
import os
import shutil

import tensorflow as tf

import kexue_keras
from kexue_keras.backend import keras_version, stack_name
from kexue_keras.checkpoints._bundled import BUNDLED
from kexue_keras.errors import UserError
from kexue_keras.files import FolderLock, StagedContents, remove_leftovers, restore_interrupted, write_json
from kexue_keras.finetune._fingerprints import check_fingerprints, fingerprints
from kexue_keras.hub._run_card import write_run_card
from kexue_keras.options.finetune import FILES, PASSING, defaults, options_schema
from kexue_keras.schemas import options_file, read_json, read_settings, run_config
from kexue_keras.schemas.messages import shown

CONFIG, METRICS, POINT, BEST = "config.json", "metrics.json", "checkpoint.npz", "best.npz"
STACKS = {
    "keras": "take TensorFlow 1.15 and leave TF_KERAS unset",
    "tf.keras": "take TensorFlow 1.15 and set TF_KERAS=1",
    "tf2": "take TensorFlow 2 with tf-keras",
}


def surroundings():
    """Stack and versions, as config.json keeps them."""
    return {
        "stack": stack_name(),
        "versions": {
            "kexue_keras": kexue_keras.__version__,
            "tensorflow": tf.__version__,
            "keras": keras_version(),
        },
    }


class RunFolder(object):
    """A folder with the results of one fine-tuning run.

    A run is made in the folder itself, or, where it replaces another one, in a folder within it until it is finished;
    so the earlier run and what reads it are as they were if the new one fails. See `files.StagedContents`.

    Args:
        path: the folder.

    Attributes:
        home: the folder.
        path: where the run is made; `home` in the end.
        contents: names of the files and folders that a run makes; no others are ever removed.
        keys: by these keys of its config.json a run is known: no other folder has them.
        dashes: the prefix of option names in messages.

    Raises:
        UserError: an empty name.
    """

    contents = (
        "config.json metrics.json curves.png confusion.png confusion.tsv predictions.tsv head.npz "
        "tokenizer_settings.json vocab.txt spiece.model encoder checkpoint.npz best.npz logs README.md tracking.json"
    ).split()
    keys = ("options", "fingerprints")
    dashes = "--"

    def __init__(self, path):
        path = os.fspath(path)
        if not path:
            raise UserError("the name of the run's folder is empty (a variable that is not set?); give a name")
        self.home = self.path = os.path.abspath(path)
        self._staged = StagedContents(self.home, self.contents)
        self._lock = FolderLock(self.home)
        self._made, self._was_empty, self._begun, self._resume = [], False, False, False

    def file(self, name):
        """Path of a file in it."""
        return os.path.join(self.path, name)

    def cleared(self, name):
        """Path of a file or folder of a run, without what an interrupted attempt has left there."""
        if os.path.isdir(self.file(name)):
            shutil.rmtree(self.file(name))
        return self.file(name)

    @property
    def is_run(self):
        """Whether there is a run in it, finished or not."""
        return self._holds_run(self.path)

    def _holds_run(self, folder):
        try:
            config = read_json(os.path.join(folder, CONFIG), error=UserError)
        except UserError:
            return False
        return isinstance(config, dict) and set(self.keys) <= set(config)

    @property
    def replaces(self):
        """Whether this run should replace one that is there."""
        return self.path != self.home

    @property
    def is_finished(self):
        """Whether the run in it went to its end."""
        return self._is_finished(self.path)

    @staticmethod
    def _is_finished(folder):
        return os.path.exists(os.path.join(folder, METRICS)) and not os.path.exists(os.path.join(folder, POINT))

    def config(self):
        """Contents of config.json.

        Raises:
            UserError: this is no run folder, or config.json is not as it was written.
        """
        self.settle()
        if not os.path.exists(self.file(CONFIG)):
            raise UserError("no config.json in it; is it the folder of a run (--out of finetune)?", path=self.path)
        return read_settings(self.file(CONFIG), self.settings_of_file(), error=UserError)

    def settings_of_file(self):
        """`Settings` of its config.json."""
        return run_config(options_schema())

    def settle(self):
        """Bring to its end what a kill interrupted while a finished run replaced it; for those who read it."""
        if self._staged.is_unsettled and not self._lock.is_held:
            with self._lock:
                self._staged.settle()

    def resumed_config(self):
        """Path of the config.json of the run that resuming continues."""
        return os.path.join(self._staged.next if self._holds_run(self._staged.next) else self.home, CONFIG)

    @contextlib.contextmanager
    def claimed(self, *, resume=False, overwrite=False, inputs=(), check_same=None):
        """Hold the folder for a run; refuse one with contents that nobody asked to replace.

        Whatever fails inside leaves an earlier run as it was.

        Args:
            resume, overwrite: bool, what was asked for.
            inputs: paths that the run reads.
            check_same: function of the config.json of the run to resume; it refuses differences.

        Yields:
            bool, whether the run to resume is finished already.

        Raises:
            UserError: with what to do.
        """
        self._resume = resume
        if resume and overwrite:
            raise UserError("{0}resume and {0}overwrite exclude each other".format(self.dashes))
        try:
            if os.path.isdir(self.home):
                self._enter(resume)
            yield self._choose(resume, overwrite, inputs, check_same)
        except BaseException as error:
            self._give_up(error)
            raise
        finally:
            self._lock.release()

    def _is_untidy(self):
        return self._staged.is_unsettled or any(map(os.path.exists, (self._staged.next, self.file(BEST))))

    def _enter(self, resume):
        """Lock the folder, unless there is nothing that could be done in it."""
        if not self.is_run:
            self._check_no_others()
        elif resume and self.is_finished and not self._is_untidy():
            return  # it may lie where nothing can be written
        self._was_empty = not os.listdir(self.home)
        self._lock.acquire()
        self._staged.settle()

    def _check_no_others(self):
        """Refuse a folder of somebody else's; nothing of ours, no lock either, is left in it."""
        staged = self._staged.is_unsettled or self._holds_run(self._staged.next)
        known = [] if staged else [name for name in self.contents if os.path.lexists(self.file(name))]
        if known + self._staged.others():
            what = "the folder is not empty and holds no run; choose another %sout" % self.dashes
            raise UserError(what, path=self.path)

    def _choose(self, resume, overwrite, inputs, check_same):
        """Set `path`; returns whether there is nothing to do."""
        if not os.path.isdir(self.home):
            self._check_creatable()
            return False
        if resume and self._holds_run(self._staged.next):
            self.path = self._staged.next
        elif not self.is_run:
            self._check_no_others()
            return False
        if resume:
            if check_same is not None:
                check_same(self.config())
            if self.is_finished:
                self._tidy()
                return True
        elif not overwrite:
            what = "there is a run already; {0}resume continues it, {0}overwrite replaces it".format(self.dashes)
            raise UserError(what, path=self.path)
        else:
            self._check_inputs(inputs)
            self.path = self._staged.next
        return False

    def _check_creatable(self):
        parent = self.home
        while not os.path.lexists(parent):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.lstat(parent)  # an impossible name shows before the work begins
            parent = os.path.dirname(parent)
        if not os.path.isdir(parent):
            what = "a link that leads nowhere" if os.path.islink(parent) and not os.path.exists(parent) else "a file"
            raise UserError("%sout is %s; a folder is needed" % (self.dashes, what), path=parent)
        if not os.access(parent, os.W_OK):
            raise UserError("no permission to write here", path=parent)

    def _check_inputs(self, inputs):
        for one in map(os.path.realpath, filter(None, inputs)):
            for name in self.contents:
                part = os.path.realpath(os.path.join(self.home, name))
                if one == part or one.startswith(part + os.sep):
                    what = "this belongs to the run that %soverwrite replaces; copy it, or choose another %sout"
                    raise UserError(what % (self.dashes, self.dashes), path=one)

    def begin(self, config):
        """Make the folder ready and write config.json, or resume the run that is there.

        Args:
            config: function without arguments that gives the contents of config.json.

        Raises:
            UserError: another process was quicker.
        """
        if not self._lock.is_held:
            self._make_home()
        if self._resume and self.is_run:
            self._remove_leftovers(self.path)
            return
        # Into the folder of a finished run somebody's `predict` may be writing.
        if not self._is_finished(self.home):
            self._remove_leftovers(self.home)
        self._staged.discard()
        if self.path != self.home:
            self._staged.begin()
        self._begun = True
        write_json(self.file(CONFIG), config())

    def _remove_leftovers(self, folder):
        """Delete what a killed process was writing."""
        remove_leftovers(folder)
        for name in ("encoder", "model"):
            restore_interrupted(os.path.join(folder, name))

    def _make_home(self):
        missing = self.home
        while not os.path.isdir(missing):
            self._made.append(missing)
            missing = os.path.dirname(missing)
        os.makedirs(self.home, exist_ok=True)
        self._lock.acquire()
        if self.is_run:
            raise UserError("another process has made a run here meanwhile; choose another --out", path=self.home)

    def finish(self):
        """The run is complete: write its model card, and move it to the place of the one that it replaces."""
        write_run_card(self.path)
        if self.path != self.home:
            self._staged.finish()
            self.path = self.home

    def _tidy(self):
        """Remove what a kill at the very end of a run has left."""
        if self._lock.is_held:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.file(BEST))
            self.finish()
            self._staged.discard()
            self._remove_leftovers(self.home)

    def _give_up(self, error):
        """Leave the earlier run as it was; of the new one only what can be gone on with is kept."""
        with contextlib.suppress(OSError):
            if self._begun and self.path != self.home and os.path.isdir(self.path):
                if isinstance(error, UserError) or not os.path.exists(self.file(POINT)):
                    self._staged.discard()
            if (self._made or self._was_empty) and self._lock.is_held and not os.path.exists(self.file(CONFIG)):
                self._staged.remove_if_bare()
                for folder in self._made:
                    os.rmdir(folder)


def check_stack(stack):
    """Refuse to resume a run on another stack than it was started on.

    Raises:
        UserError: with what to do.
    """
    if stack in STACKS and stack != surroundings()["stack"]:
        raise UserError(
            "--resume: the run was made on the stack %s and this is %s, where its numbers would differ; %s"
            % (stack, surroundings()["stack"], STACKS[stack])
        )


def check_same(config, options, path):
    """Refuse to resume with options, files or a stack other than those the run started with.

    Args:
        config: contents of its config.json.
        options: namespace.
        path: of that config.json, for messages.

    Raises:
        UserError: naming what differs.
    """
    old, new = dict(defaults(), **config["options"]), vars(as_absolute(options))
    for name in sorted(set(new) - set(PASSING)):
        if old.get(name) != new[name]:
            raise UserError(
                "--resume: %s was %s and is %s now; a resumed run keeps its options (--overwrite starts over)"
                % (name, shown(old.get(name)), shown(new[name])),
                path=path,
            )
    check_stack(config.get("stack"))
    check_fingerprints(config["fingerprints"], input_files(options), options.model)


def input_files(options):
    """Dict option -> path of the files that a run with these options reads, besides the model; or None."""
    files = {name: getattr(options, name) for name in FILES}
    if options.class_weights not in ("balanced", "none"):
        files["class_weights"] = options.class_weights
    return files


def config_of(options, facts):
    """Contents of config.json.

    Args:
        options: namespace.
        facts: JSON-able dict of what the run found out (labels, columns, ...).
    """
    kept = {k: v for k, v in vars(as_absolute(options)).items() if k not in ("resume", "overwrite", "config")}
    known = fingerprints(input_files(options), options.model)
    return dict(facts, options=kept, fingerprints=known, **surroundings())


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
    # Words that mean something of their own, also where a file is called so.
    for name, words in (("model", BUNDLED), ("class_weights", ("balanced", "none"))):
        if changed[name] and changed[name] not in words and os.path.exists(changed[name]):
            changed[name] = os.path.abspath(changed[name])
    return type(options)(**changed)
