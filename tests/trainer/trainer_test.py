"""The trainer: best epochs, numbers that are not finite, points as anybody may have changed them, its folder."""

import copy
import os

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_optimizers import difference

from kexue_keras.backend import K, keras, nonfinite_weight
from kexue_keras.errors import UserError
from kexue_keras.files import FolderLock
from kexue_keras.optimizers import AdamW, ExponentialMovingAverage, GradientAccumulation
from kexue_keras.trainer import Trainer
from kexue_keras.trainer import _checkpoint as checkpoint
from kexue_keras.trainer._trainer import BEST, POINT

pytestmark = pytest.mark.all_stacks

BATCHES, EPOCHS = 3, 3
MENDED = "a lower --learning-rate"


def linear_model(optimizer=None):
    """The loss is mean(y_true * y_pred), which is finite where its gradient times the rate is not."""
    model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(2,), name="d%d" % K.get_uid("d"))])
    model.compile(optimizer or keras.optimizers.SGD(1e20), lambda y_true, y_pred: K.mean(y_true * y_pred))
    return model


def batch(step, poison):
    """Inputs and targets of a step; a poisoned one makes the weights infinite."""
    return np.full((2, 2), 1.0 + step), np.full((2, 1), 1e30 if step == poison else 1e-21)


def make_trainer(folder, model, poison=None, *, scores=None, epochs=EPOCHS, make=batch, **options):
    """Each epoch is better than the one before, unless `scores` says otherwise; `trainer.seen` has their weights."""
    seen, said = [], []

    def evaluate():
        seen.append(model.get_weights())
        score = float(len(seen)) if scores is None else scores[len(seen) - 1]
        return {"loss": 1.0, "score": score}

    options = dict(dict(evaluate=evaluate, folder=folder and str(folder), remedy=MENDED, say=said.append), **options)
    steps = {"steps": epochs * BATCHES, "epoch_steps": BATCHES}
    trainer = Trainer(model, lambda step: make(step, poison), **dict(steps, **options))
    trainer.seen, trainer.said = seen, said
    return trainer


@pytest.mark.parametrize(
    "poison, message",
    [
        (2 * BATCHES - 1, "the weights became NaN or infinite at step 6"),
        (BATCHES, "the loss became -inf at step 5"),
    ],
)
@pytest.mark.parametrize("kept", ["in a folder", "in memory"])
def test_the_best_epoch_before_is_kept_and_it_is_said(tmp_path, poison, message, kept):
    """Whether it was the last update of an epoch, or shows in a later step of it."""
    model = linear_model()
    trainer = make_trainer(tmp_path if kept == "in a folder" else None, model, poison)
    trainer.run()
    assert trainer.diverged.startswith(message) and MENDED in trainer.diverged
    assert trainer.progress.best["epoch"] == 1 == len(trainer.progress.history)
    assert difference(model.get_weights(), trainer.seen[0]) == 0.0
    assert "with the model of epoch 1" in trainer.said[-1]


def test_nothing_is_kept_if_the_first_epoch_diverges(tmp_path):
    trainer = make_trainer(tmp_path, linear_model(), BATCHES - 1)
    with pytest.raises(UserError, match="the weights became NaN or infinite at step 3 .*kernel"):
        trainer.run()
    assert os.listdir(str(tmp_path)) == [".kexue_keras-lock"] and trainer.seen == []


def test_a_loss_scale_without_a_way_on_ends_like_any_divergence(tmp_path, monkeypatch):
    model = linear_model()
    own = model.train_on_batch

    def hopeless(inputs, targets):
        if inputs[0, 0] == 1.0 + BATCHES:
            raise tf.errors.InvalidArgumentError(None, None, "assertion failed: [LossScale: the gradients were NaN]")
        return own(inputs, targets)

    monkeypatch.setattr(model, "train_on_batch", hopeless)
    trainer = make_trainer(tmp_path, model)
    trainer.run()
    assert trainer.progress.best["epoch"] == 1 and "no finite gradients at step 4" in trainer.diverged


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_never_the_best(tmp_path, bad):
    trainer = make_trainer(tmp_path, linear_model(), scores=[1.0, bad])
    trainer.run()
    assert "the validation score became %s after epoch 2" % bad in trainer.diverged
    assert trainer.progress.best == {"epoch": 1, "score": 1.0, "loss": 1.0}
    assert difference(trainer.model.get_weights(), trainer.seen[0]) == 0.0


def test_no_point_is_saved_from_which_there_is_no_way_on(tmp_path):
    model = linear_model()
    trainer = make_trainer(tmp_path, model, BATCHES, save_every=1)
    trainer.run()
    assert "weights became NaN or infinite at step 4" in trainer.diverged
    again = make_trainer(tmp_path, model)
    assert again.restore() and again.progress.step == BATCHES
    assert nonfinite_weight(model.weights) is None


def stopping(at):
    """`batch`, but for a step at which the run is broken off."""

    def make(step, poison):
        if step == at:
            raise KeyboardInterrupt
        return batch(step, poison)

    return make


def test_a_run_goes_on_with_its_own_weights_and_not_their_average(tmp_path):
    """The point at the end of an epoch was saved while the averages stood in the model."""
    ends = []
    for stop in (None, BATCHES + 1):
        model = linear_model(ExponentialMovingAverage(AdamW(0.1), 0.9))
        model.set_weights([np.ones((2, 1)), np.ones(1)])
        trainer = make_trainer(tmp_path / str(stop), model, make=stopping(stop))
        seen = trainer.seen
        if stop is None:
            trainer.run()
        else:
            with pytest.raises(KeyboardInterrupt):
                trainer.run()
            trainer = make_trainer(tmp_path / str(stop), model)
            trainer.run()
            seen = seen + trainer.seen
        ends.append(seen)
    assert all(difference(a, b) == 0.0 for a, b in zip(*ends)) and len(ends[1]) == EPOCHS


def test_averages_stay_in_a_model_that_is_not_validated(tmp_path):
    model = linear_model(ExponentialMovingAverage(AdamW(0.1), 0.9))
    make_trainer(tmp_path, model, evaluate=None).run()
    average = model.optimizer
    assert average.applied and difference(K.batch_get_value(model.weights), average._applied) == 0.0
    ended = model.get_weights()
    # Its point has the weights that were trained, and ends in the same averages.
    model.set_weights([0 * w for w in ended])
    average.release()
    assert make_trainer(tmp_path, model, evaluate=None).run() == []
    assert difference(model.get_weights(), ended) == 0.0


def test_the_last_window_of_an_epoch_is_applied(tmp_path):
    model = linear_model(GradientAccumulation(keras.optimizers.SGD(1e-3), 2))
    assert len(make_trainer(None, model, evaluate=None).run()) == EPOCHS * BATCHES
    assert int(K.get_value(model.optimizer.iterations)) == 2 * EPOCHS and not K.get_value(model.optimizer.micro_step)


def test_callbacks_are_called_as_keras_calls_them(tmp_path):
    calls = []

    class Spy(keras.callbacks.Callback):
        def __getattribute__(self, name):
            if name.startswith("on_") and "batch" not in name:
                calls.append(name)
            return super().__getattribute__(name)

        def on_epoch_end(self, epoch, logs=None):
            assert {"loss", "val_loss", "val_score"} <= set(logs)
            self.model.stop_training = epoch == 1

    trainer = make_trainer(tmp_path, linear_model(), callbacks=[Spy()])
    trainer.run()
    epoch = ["on_epoch_begin", "on_test_begin", "on_test_end", "on_epoch_end"]
    assert calls == ["on_train_begin"] + 2 * epoch + ["on_train_end"]
    assert trainer.progress.step == 2 * BATCHES


# Saved points


@pytest.fixture
def point(tmp_path):
    """A trainer that stands in the middle of epoch 2: (folder, model, arrays, meta) of its point."""
    model = linear_model()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, model, save_every=1, make=stopping(4)).run()
    arrays, meta = checkpoint.load_arrays(str(tmp_path / POINT))
    assert meta["progress"]["step"] == 4
    return str(tmp_path), model, arrays, meta


def restored(point, arrays=None, meta=None, **options):
    """Go back to a changed point; the trainer."""
    folder, model, known, known_meta = point
    path = os.path.join(folder, POINT)
    checkpoint.save_arrays(path, known if arrays is None else arrays, known_meta if meta is None else meta)
    trainer = make_trainer(folder, model, **options)
    trainer.restore()
    return trainer


def changed(meta, *path_and_value):
    """A copy of nested dicts and lists with one entry set, or taken away (...)."""
    *path, value = path_and_value
    meta = copy.deepcopy(meta)
    place = meta
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return meta


WRONG = [
    (("step", 10**9), "it is after step 1000000000 of 9"),
    (("step", -1), "it is after step -1"),
    (("step", True), "it is after step True"),
    (("step", "4"), "it is after step '4'"),
    (("step", 4.0), "it is after step 4.0"),
    (("step", 5), "not 5 losses"),
    (("step", ...), "has the entries best"),
    (("more", 1), "has the entries best"),
    (("history", []), "the history has not 1 epochs"),
    (("history", [{"epoch": 2}]), "epoch 1 of the history"),
    (("sums", {}), "the sums over the epoch"),
    (("sums", {"loss": 1.0}), "the sums count None"),
    (("best", None), "the best of 1 epochs is None"),
    (("best", {"epoch": 3, "score": 1.0, "loss": 1.0}), "the best of 1 epochs"),
    (("best", {"epoch": 1, "score": float("nan"), "loss": 1.0}), "the best of 1 epochs"),
    (("seconds", -1), "it took -1 seconds"),
]


def test_changed_counters_are_refused_and_nothing_is_set(point):
    before = point[1].get_weights()
    for change, message in WRONG:
        with pytest.raises(UserError, match=r"checkpoint\.npz: is not a checkpoint of this run: .*" + message):
            restored(point, meta=changed(point[3], "progress", *change))
    for change in (("learning_rate", float("nan")), ("learning_rate", "1"), ("progress", ...), ("progress", None)):
        with pytest.raises(UserError, match="is not a checkpoint of this run"):
            restored(point, meta=changed(point[3], *change))
    for meta in (None, [1], 3):
        with pytest.raises(UserError, match="is not a checkpoint of this run: it has no facts"):
            restored(point, meta=[] if meta is None else meta)
    for change in (("facts", ...), ("facts", "steps", ...), ("facts", "steps", 10), ("facts", "seed", 1)):
        with pytest.raises(UserError, match="is not a checkpoint of this run|holds a point of another run"):
            restored(point, meta=changed(point[3], *change))
    for arrays in (
        {k: v for k, v in point[2].items() if k != "model/0001"},
        dict(point[2], **{"model/0002": np.zeros(1, "float32")}),
        dict(point[2], **{"model/0000": np.zeros((7, 1), "float32")}),
        dict(point[2], **{"model/0000": np.array([["a"], ["b"]])}),
        dict(point[2], **{"model/0000": np.full((2, 1), np.nan, "float32")}),
    ):
        with pytest.raises(UserError, match="is not a checkpoint of this run: (it has|array|its weights)"):
            restored(point, arrays=arrays)
    for losses in (np.zeros(3), np.array([0.0, 0.0, 0.0, np.nan]), np.zeros((4, 2)), np.array(["a"] * 4)):
        with pytest.raises(UserError, match="not 4 losses"):
            restored(point, arrays=dict(point[2], losses=losses))
    with pytest.raises(UserError, match="not 4 losses"):
        restored(point, arrays={k: v for k, v in point[2].items() if k != "losses"})
    assert difference(point[1].get_weights(), before) == 0.0
    for arrays in (
        {k: v for k, v in point[2].items() if not k.startswith("optimizer")},
        dict(point[2], **{"optimizer/0009": np.zeros(3)}),
        {k: v for k, v in point[2].items() if k != "random"},
        dict(point[2], random=np.zeros(3)),
    ):
        with pytest.raises(UserError, match="is not a checkpoint of this run"):
            restored(point, arrays=arrays)


def places(value, path=()):
    """All paths into nested dicts and lists."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(min(len(value), 4)) if isinstance(value, list) else ():
        yield from places(value[key], path + (key,))


def test_whatever_is_changed_in_a_point_it_is_refused_or_the_run_goes_on(point):
    junk = st.one_of(
        st.just(...),
        st.none(),
        st.booleans(),
        st.integers(-(10**20), 10**20),
        st.floats(),
        st.text(max_size=3),
        st.lists(st.integers(), max_size=2),
        st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    )
    refused = []

    @settings(max_examples=60)
    @given(st.sampled_from(sorted(places(point[3]), key=repr)), junk)
    def change(path, value):
        try:
            restored(point, meta=changed(point[3], *path, value)).run()
        except UserError as error:
            refused.append(str(error))

    change()
    assert len(refused) > 20 and all(line.count("\n") == 0 for line in refused)


@pytest.mark.parametrize("when", ["at the end", "when it is resumed"])
def test_best_weights_that_cannot_be_read_again_are_an_error(point, when):
    """Keras sets as many arrays as it is given, so that a cut file left the weights of the last epoch."""
    folder, model, _, _ = point
    path = os.path.join(folder, "best.npz")
    arrays, meta = checkpoint.load_arrays(path)
    with open(path, "rb") as handle:
        content = handle.read()

    def write(arrays, meta):
        return lambda: checkpoint.save_arrays(path, arrays, meta)

    for damage, message in (
        (lambda: os.remove(path), "the file with the weights of epoch 1, the best, is missing"),
        (lambda: open(path, "wb").write(content[: len(content) // 2]), "is not a checkpoint"),
        (write({"model/0000": arrays["model/0000"]}, meta), "it has 1 arrays of weights, the model 2"),
        (write(dict(arrays, **{"model/0000": np.full((2, 1), np.inf, "float32")}), meta), "are NaN or infinite"),
        (write(arrays, dict(meta, epoch=0)), "not of epoch 1"),
        (write(arrays, [1]), "not of epoch 1"),
    ):
        if when == "at the end":
            # The best epoch of all is the first.
            checkpoint.save_arrays(path, arrays, meta)
            trainer = restored(point, scores=[-1.0, -2.0])
            os.remove(os.path.join(folder, POINT))
            damage()
            with pytest.raises(UserError, match=r"best\.npz: .*" + message):
                trainer.run()
        else:
            damage()
            with pytest.raises(UserError, match=r"best\.npz: .*" + message):
                restored(point)


def test_best_weights_of_the_epoch_that_a_kill_has_cut_off_count(point):
    folder, model, _, _ = point
    path = os.path.join(folder, BEST)
    arrays, _ = checkpoint.load_arrays(path)
    checkpoint.save_arrays(path, arrays, {"epoch": 2, "score": 5.0, "loss": 1.0})
    trainer = restored(point)
    assert trainer.progress.best["epoch"] == 2
    trainer.run()
    assert difference(model.get_weights(), checkpoint.from_numbered("model", arrays)) == 0.0


# The folder


class Model(object):
    """Enough of a Keras model."""

    weights = ()
    get_weights = staticmethod(list)
    set_weights = staticmethod(list)

    class optimizer(object):  # noqa: N801
        get_weights = staticmethod(list)
        set_weights = staticmethod(list)

    def train_on_batch(self, inputs, targets):
        return 1.0


def test_one_process_has_the_folder_of_a_point(tmp_path):
    def train(folder, steps=2):
        return Trainer(Model(), lambda step: ([[0]], None), steps=steps, folder=folder).run()

    with pytest.raises(UserError, match="name of the folder for the checkpoint is empty"):
        train("")
    for steps in (0, -1, 1.5, True):
        with pytest.raises(UserError, match="steps is .*; a whole number from 1 is needed"):
            train(None, steps)
    folder = str(tmp_path / "a" / "run")
    assert train(folder) == [1.0, 1.0]
    temporary, users = ".kexue_keras-0123456789ab.tmp", "notes.2021.tmp"
    for name in (temporary, users):
        (tmp_path / "a" / "run" / name).write_text("x")
    with FolderLock(folder):
        with pytest.raises(UserError, match="another process is at work in this folder"):
            train(folder)
        assert temporary in os.listdir(folder)
    assert train(folder) == []
    assert sorted(os.listdir(folder)) == [".kexue_keras-lock", POINT, users]
    with pytest.raises(UserError, match="holds a point of another run"):
        train(folder, 3)


# Patience

UPS_AND_DOWNS = [0.5, 0.7, 0.6, 0.7, 0.9, 0.9]


@pytest.mark.parametrize("patience, epochs", [(1, 3), (2, 4), (3, 6), (None, 6)])
def test_training_ends_after_so_many_epochs_without_a_better_score(patience, epochs):
    trainer = make_trainer(
        None, linear_model(keras.optimizers.SGD(1e-3)), scores=UPS_AND_DOWNS, epochs=6, patience=patience
    )
    trainer.run()
    assert [row["epoch"] for row in trainer.progress.history] == list(range(1, epochs + 1))
    best = 5 if epochs == 6 else 2
    assert trainer.progress.best["epoch"] == best
    assert all((a == b).all() for a, b in zip(trainer.model.get_weights(), trainer.seen[best - 1]))
    told = [line for line in trainer.said if "no better score for" in line]
    assert bool(told) == (epochs < 6)


def test_a_run_that_is_stopped_in_between_ends_at_the_same_epoch(tmp_path):
    class Stop(Exception):
        pass

    def stopping(step, poison):
        if step == 8:
            raise Stop
        return batch(step, poison)

    with pytest.raises(Stop):
        make_trainer(
            tmp_path,
            linear_model(keras.optimizers.SGD(1e-3)),
            scores=UPS_AND_DOWNS,
            epochs=6,
            patience=2,
            make=stopping,
            save_every=1,
        ).run()
    # Two epochs are validated; the third is under way.
    again = make_trainer(
        tmp_path, linear_model(keras.optimizers.SGD(1e-3)), scores=UPS_AND_DOWNS[2:], epochs=6, patience=2
    )
    again.run()
    assert len(again.progress.history) == 4 and again.progress.best["epoch"] == 2
    # A kill after the end, before the results are written: nothing more is trained.
    assert os.path.exists(str(tmp_path / POINT))
    once_more = make_trainer(tmp_path, linear_model(keras.optimizers.SGD(1e-3)), scores=[], epochs=6, patience=2)
    assert once_more.run() == [] and len(once_more.progress.history) == 4
