"""The folder of a run: kills at every call, two processes, what is replaced and when, what is held to."""

import json
import os
import shutil

import pytest
from files.kills import killed_everywhere
from forking import fork

from kexue_keras.errors import UserError
from kexue_keras.files import FolderLock, whole_folder, write_json
from kexue_keras.finetune import _run_folder as runs
from kexue_keras.finetune._fingerprints import check_readable_again
from kexue_keras.finetune._run_folder import RunFolder, check_same, config_of, known_options
from kexue_keras.options.finetune import make_options
from kexue_keras.schemas import Settings, read_json

pytestmark = pytest.mark.usefixtures("fork", "quick_disk")
STEPS = 2


def write(path, text):
    with open(path, "w") as handle:
        handle.write(text)


class Folder(RunFolder):
    """The folder of a run without a model, whose config.json says little."""

    def settings_of_file(self):
        return Settings({"required": list(self.keys)}, remedy="")


def train(path, text, *, fail=None, **options):
    """A run without a model: the same files in the same order. Returns what its metrics say."""
    folder = Folder(path)
    with folder.claimed(**options) as done:
        if done:
            return read_json(folder.file("metrics.json"))
        folder.begin(lambda: {"options": {"text": text}, "fingerprints": {}})
        point, step = folder.file("checkpoint.npz"), 0
        if os.path.exists(point):
            text, step = read_json(point)
        while step < STEPS:
            step += 1
            write_json(folder.file("best.npz"), [text, step])
            if fail is not None and step == STEPS:
                raise fail
            write_json(point, [text, step])
        assert read_json(folder.file("best.npz")) == [text, STEPS]
        write_json(folder.file("head.npz"), text)
        with whole_folder(folder.cleared("encoder")) as encoder:
            write(os.path.join(encoder, "weights"), text)
        write_json(folder.file("metrics.json"), text)
        os.remove(point)
        os.remove(folder.file("best.npz"))
        folder.finish()
    return text


def state(path):
    """The text of the finished run in a folder, where nothing else is but what the user put there."""
    folder = Folder(path)
    names = set(os.listdir(path)) - {".kexue_keras-lock", "notes.txt"}
    assert names == {"config.json", "head.npz", "metrics.json", "encoder"}
    with open(os.path.join(path, "encoder", "weights")) as handle:
        texts = {handle.read(), read_json(folder.file("head.npz")), read_json(folder.file("metrics.json"))}
    (text,) = texts | {folder.config()["options"]["text"]}
    return text


def old_run(path):
    shutil.rmtree(path, ignore_errors=True)
    train(path, "old")
    write(os.path.join(path, "notes.txt"), "mine")


@pytest.mark.parametrize("again", ["resume", "plain", "overwrite"])
def test_a_first_run_killed_at_any_call_is_gone_on_with(tmp_path, again):
    path, refused = str(tmp_path / "a" / "run"), []

    def check():
        try:
            assert train(path, "new", **({again: True} if again != "plain" else {})) == "new"
        except UserError as error:
            assert again == "plain" and "there is a run already" in str(error) and Folder(path).is_run
            refused.append(error)
            assert train(path, "new", resume=True) == "new"
        assert state(path) == "new"

    calls = killed_everywhere(lambda: shutil.rmtree(path, ignore_errors=True), lambda: train(path, "new"), check)
    assert calls > 30 and (again == "plain") == bool(refused) and len(refused) < calls - 3


@pytest.mark.parametrize("again", ["resume", "overwrite"])
def test_a_run_that_replaces_another_killed_at_any_call(tmp_path, again):
    path, ended, kept = str(tmp_path / "run"), [], []

    def check():
        # Whoever reads the folder sees the old run until the new one is finished.
        with FolderLock(path):
            pass
        Folder(path).config()
        kept.append(read_json(os.path.join(path, "metrics.json")))
        ended.append(train(path, "new", **{again: True}))
        assert state(path) == ended[-1]
        assert os.path.exists(os.path.join(path, "notes.txt"))

    calls = killed_everywhere(lambda: old_run(path), lambda: train(path, "new", overwrite=True), check)
    assert calls > 40 and set(kept) == {"old", "new"}
    # Resuming goes on with the new one as soon as it has begun; before, there is only the old one.
    first = ended.index("new")
    assert set(ended[first:]) == {"new"} and first < (1 if again == "overwrite" else 12)


@pytest.mark.parametrize(
    "error, goes_on",
    [(UserError("the loss became nan"), False), (OSError(28, "full"), True), (KeyboardInterrupt(), True)],
    ids=["diverged", "full", "interrupted"],
)
def test_what_is_left_when_a_new_run_fails(tmp_path, error, goes_on):
    path = str(tmp_path / "run")
    old_run(path)
    before = sorted(os.listdir(path))
    with pytest.raises(type(error)):
        train(path, "new", overwrite=True, fail=error)
    assert [name for name in sorted(os.listdir(path)) if name != ".kexue_keras-next"] == before
    assert os.path.exists(os.path.join(path, ".kexue_keras-next")) == goes_on
    assert read_json(os.path.join(path, "head.npz")) == "old"
    assert train(path, "new", resume=True) == ("new" if goes_on else "old")
    assert state(path) == ("new" if goes_on else "old")


def test_a_first_run_that_could_not_begin_leaves_nothing(tmp_path, monkeypatch):
    def fail(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_json", fail)
    with pytest.raises(OSError):
        train(str(tmp_path / "a" / "run"), "new")
    assert os.listdir(str(tmp_path)) == []


def test_one_process_at_a_time(tmp_path):
    path = str(tmp_path / "run")
    first = Folder(path)
    with first.claimed():
        # Both saw a free place; the second one is quicker.
        assert train(path, "second") == "second"
        with pytest.raises(UserError, match="another process has made a run here meanwhile"):
            first.begin(dict)
    assert state(path) == "second"
    with first.claimed(overwrite=True):
        first.begin(lambda: {"options": {}, "fingerprints": {}})
        temporary = os.path.join(first.path, ".kexue_keras-0123456789ab.tmp")
        write(temporary, "being written")
        before = sorted(os.listdir(path))
        for options in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(UserError, match="run: another process is at work in this folder"):
                train(path, "third", **options)
        assert sorted(os.listdir(path)) == before and os.path.exists(temporary)


def test_what_is_no_run_is_not_taken_for_one(tmp_path):
    cases = {
        "photos": {"cat.jpg": "x"},
        "hf": {"config.json": json.dumps({"model_type": "bert", "hidden_size": 16}), "model.safetensors": "x"},
        "broken": {"config.json": "{"},
        "keras": {"model.h5": "x", "vocab.txt": "x"},
        "list": {"config.json": "[]"},
        "temporary": {"notes.2021.tmp": "mine", "config.json.1.tmp": "mine"},
    }
    for name, files in cases.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            write(str(tmp_path / name / file), text)
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(UserError, match="is not empty and holds no run"):
                train(str(tmp_path / name), "new", **options)
            assert set(os.listdir(str(tmp_path / name))) == set(files)
    write(str(tmp_path / "file"), "x")
    os.symlink("nowhere", str(tmp_path / "dangling"))
    for name, words in [
        ("", "name of the run's folder is empty"),
        ("file", "--out is a file"),
        ("file/below", "--out is a file"),
        ("dangling", "--out is a link that leads nowhere"),
    ]:
        with pytest.raises(UserError, match=words):
            train(str(tmp_path / name) if name else "", "new")
    with pytest.raises(OSError, match="name too long"):
        train(str(tmp_path / ("a" * 300)), "new")
    with pytest.raises(UserError, match="exclude each other"):
        train(str(tmp_path / "new"), "new", resume=True, overwrite=True)
    assert not os.path.exists(str(tmp_path / "new"))


@pytest.mark.parametrize("name", ["predictions.tsv", "encoder/vocab.txt", "encoder", "head.npz"])
def test_a_run_is_not_replaced_by_one_that_reads_it(tmp_path, monkeypatch, name):
    path = str(tmp_path / "run")
    old_run(path)
    os.symlink("run", str(tmp_path / "link"))
    monkeypatch.chdir(str(tmp_path))
    for given in (os.path.join("run", name), os.path.join(str(tmp_path), "link", name)):
        with pytest.raises(UserError, match="belongs to the run that --overwrite replaces; copy it"):
            train("run", "new", overwrite=True, inputs=[None, given])
    assert state(path) == "old"
    # A file of the user's that lies beside them is not touched.
    assert train("run", "new", overwrite=True, inputs=["run/notes.txt"]) == "new"


def test_finished_runs_that_cannot_be_written_are_finished(tmp_path, monkeypatch):
    path = str(tmp_path / "run")
    train(path, "old")

    def acquire(self):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(FolderLock, "acquire", acquire)
    assert train(path, "old", resume=True) == "old"


def options_of(tmp_path, **changes):
    (tmp_path / "model").mkdir(exist_ok=True)
    for name in ("data", "valid", "weights", "model/vocab.txt", "model/bert_config.json", "model/bert_model.ckpt"):
        if not os.path.exists(str(tmp_path / name)):
            write(str(tmp_path / name), name)
    paths = {"data": "data", "valid": "valid", "class_weights": "weights", "model": "model"}
    paths = {name: str(tmp_path / path) for name, path in paths.items()}
    return make_options(out=str(tmp_path / "run"), **dict(paths, **changes))


@pytest.mark.parametrize(
    "name, words",
    [
        ("data", "data: --resume: the file has changed"),
        ("valid", "valid: --resume: the file has changed"),
        ("weights", "weights: --resume: the file has changed"),
        ("model/vocab.txt", "vocab.txt: --resume: the file has changed"),
        ("model/bert_config.json", "bert_config.json: --resume: the file has changed"),
        ("model/tokenizer_config.json", "tokenizer_config.json: --resume: the file was not there"),
        ("model/bert_model.ckpt", None),  # the weights are in the saved point
        ("model/README.md", None),
    ],
)
def test_a_resumed_run_reads_the_same_files(tmp_path, name, words):
    options = options_of(tmp_path)
    config = json.loads(json.dumps(config_of(options, {})))
    check_same(config, options, "config.json")
    for gone in (False, True):
        write(str(tmp_path / name), "changed")
        if gone:
            os.remove(str(tmp_path / name))
        if words is None or (gone and "was not there" in words):
            check_same(config, options, "config.json")
            continue
        with pytest.raises(UserError, match="no such file any more" if gone else words) as error:
            check_same(config, options, "config.json")
        assert str(tmp_path / name) in str(error.value)


def test_a_resumed_run_has_its_options_and_its_stack(tmp_path, monkeypatch):
    options = options_of(tmp_path, class_weights="balanced", model="me5-zh-char")
    config = config_of(options, {})
    other = "keras" if config["stack"] == "tf.keras" else "tf.keras"
    said = "made on the stack %s and this is %s.*(set TF_KERAS|leave TF_KERAS unset)" % (other, config["stack"])
    with pytest.raises(UserError, match=said):
        check_same(dict(config, stack=other), options, "config.json")
    with pytest.raises(UserError, match="config.json: --resume: epochs was 3 and is 4 now"):
        check_same(config, options_of(tmp_path, class_weights="balanced", model="me5-zh-char", epochs=4), "config.json")
    # A run of an earlier version, which knew the data alone.
    check_same(dict(config, fingerprints={"data": config["fingerprints"]["data"]}), options, "config.json")
    # Words stay words, also where a file is called so.
    monkeypatch.chdir(str(tmp_path))
    for name in ("balanced", "me5-zh-char"):
        (tmp_path / name).mkdir()
    check_same(config, options, "config.json")
    write_json(str(tmp_path / "config.json"), config)
    assert known_options(str(tmp_path / "config.json"))["model"] == "me5-zh-char"


def test_what_can_be_read_only_once_is_refused(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    for path in ("-", str(tmp_path / "pipe"), os.devnull):
        with pytest.raises(UserError, match="--class-weights: this can be read only once") as error:
            check_readable_again({"data": None, "class_weights": path})
        assert str(error.value).startswith("standard input: " if path == "-" else path)
    check_readable_again({"data": __file__, "valid": str(tmp_path), "test": "nowhere", "class_weights": "balanced"})


def test_where_there_are_no_locks_it_works_without(tmp_path, monkeypatch):
    def acquire(self, timeout):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.BaseFileLock.acquire", acquire)
    path = str(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(path, "old", fail=KeyboardInterrupt())
    assert train(path, "old", resume=True) == "old"
    with pytest.raises(OSError):
        train(path, "new", overwrite=True, fail=OSError(28, "full"))
    assert train(path, "new", resume=True) == "new" == state(path)


def test_of_several_that_begin_together_one_wins(tmp_path):
    for trial in range(4):
        path, children = str(tmp_path / str(trial)), []
        if trial % 2:
            train(path, "old")
        for number in range(4):
            child = fork()
            if child == 0:
                code = 1
                try:
                    train(path, str(number), overwrite=trial % 2 == 1)
                    code = 0
                except UserError:
                    code = 2
                finally:
                    os._exit(code)
            children.append(child)
        codes = [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]
        # One after the other may replace it; nothing is ever mixed.
        assert set(codes) <= {0, 2} and (codes.count(0) == 1 or trial % 2)
        assert codes[int(state(path))] == 0
