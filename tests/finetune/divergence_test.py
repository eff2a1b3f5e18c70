"""Numbers that are not finite never become the best, and saved points that cannot be are refused."""

import copy
import glob
import io
import json
import os
import types

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_optimizers import difference
from reviews import reviews, write_rows

from kexue_keras import models
from kexue_keras.backend import K, keras, nonfinite_weight
from kexue_keras.cli.main import main
from kexue_keras.cli.similar import open_encoder
from kexue_keras.errors import UserError
from kexue_keras.finetune import _classification as classification
from kexue_keras.finetune import _saved_files as checkpoint
from kexue_keras.finetune._loop import Loop
from kexue_keras.finetune._steps import train_steps
from kexue_keras.optimizers import AdamW, ExponentialMovingAverage, SwapAveragedWeights
from kexue_keras.prompting._training import train

BATCHES, EPOCHS = 3, 3
MENDED = "a lower --learning-rate"


def linear_model(optimizer=None):
    """The loss is mean(y_true * y_pred), which is finite where its gradient times the rate is not."""
    model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(2,), name="d%d" % K.get_uid("d"))])
    model.compile(optimizer or keras.optimizers.SGD(1e20), lambda y_true, y_pred: K.mean(y_true * y_pred))
    return model


class Batches:
    """Three batches an epoch, the indices of which are their steps."""

    def __len__(self):
        return BATCHES

    def epoch(self, number):
        return [[BATCHES * number + i] for i in range(BATCHES)]


def batch(indices, poison):
    """Inputs and targets of a step; a poisoned one makes the weights infinite."""
    step = indices[0]
    return np.full((2, 2), 1.0 + step), np.full((2, 1), 1e30 if step == poison else 1e-21)


class FakeRecipe:
    """What `Loop` asks of a recipe."""

    techniques = ()

    def __init__(self, model, poison=None, save_every=0):
        self.model, self.poison, self.said = model, poison, []
        self.options = types.SimpleNamespace(
            epochs=EPOCHS, batch_size=2, quiet=True, save_every=save_every, learning_rate=1e20
        )
        self.batches, self.train, self.random_step = Batches(), [None] * BATCHES, types.SimpleNamespace(set=id)

    def say(self, line):
        self.said.append(line)

    def make_batch(self, indices):
        return batch(indices, self.poison)

    def train_on_batch(self, made):
        return list(np.atleast_1d(self.model.train_on_batch(*made)))


def make_loop(folder, recipe, scores=None, callbacks=()):
    """Each epoch is better than the one before, unless `scores` says otherwise; `loop.seen` has their weights."""
    seen = []

    def evaluate():
        seen.append(recipe.model.get_weights())
        score = float(len(seen)) if scores is None else scores[len(seen) - 1]
        return {"loss": 1.0, "score": score}

    loop = Loop(recipe, str(folder), evaluate, list(callbacks))
    loop.seen = seen
    return loop


@pytest.mark.parametrize(
    "poison, message",
    [
        (2 * BATCHES - 1, "the weights became NaN or infinite at step 6"),
        (BATCHES, "the loss became -inf at step 5"),
    ],
)
def test_the_best_epoch_before_is_kept_and_it_is_said(tmp_path, poison, message):
    """Whether it was the last update of an epoch, or shows in a later step of it."""
    recipe = FakeRecipe(linear_model(), poison)
    loop = make_loop(tmp_path, recipe)
    progress = loop.run()
    assert loop.remarks()["diverged"].startswith(message) and MENDED in loop.diverged
    assert progress.best["epoch"] == 1 == len(progress.history)
    assert difference(recipe.model.get_weights(), loop.seen[0]) == 0.0
    assert "with the model of epoch 1" in recipe.said[-1]


def test_nothing_is_kept_if_the_first_epoch_diverges(tmp_path):
    loop = make_loop(tmp_path, FakeRecipe(linear_model(), BATCHES - 1))
    with pytest.raises(UserError, match="the weights became NaN or infinite at step 3 .*kernel"):
        loop.run()
    assert not os.listdir(str(tmp_path)) and loop.seen == []


def test_a_loss_scale_without_a_way_on_ends_like_any_divergence(tmp_path):
    recipe = FakeRecipe(linear_model())
    own = recipe.train_on_batch

    def hopeless(made):
        if made[0][0, 0] == 1.0 + BATCHES:
            raise tf.errors.InvalidArgumentError(None, None, "assertion failed: [LossScale: the gradients were NaN]")
        return own(made)

    recipe.train_on_batch = hopeless
    loop = make_loop(tmp_path, recipe)
    assert loop.run().best["epoch"] == 1 and "no finite gradients at step 4" in loop.diverged


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_never_the_best(tmp_path, bad):
    recipe = FakeRecipe(linear_model())
    loop = make_loop(tmp_path, recipe, scores=[1.0, bad])
    progress = loop.run()
    assert "the validation score became %s after epoch 2" % bad in loop.diverged
    assert progress.best == {"epoch": 1, "score": 1.0, "loss": 1.0}
    assert difference(recipe.model.get_weights(), loop.seen[0]) == 0.0


def test_no_point_is_saved_from_which_there_is_no_way_on(tmp_path):
    recipe = FakeRecipe(linear_model(), BATCHES, save_every=1)
    loop = make_loop(tmp_path, recipe)
    loop.run()
    assert "weights became NaN or infinite at step 4" in loop.diverged
    again = make_loop(tmp_path, FakeRecipe(recipe.model))
    assert again.restore() and again.progress.step == BATCHES
    assert nonfinite_weight(recipe.model.weights) is None


def test_a_run_goes_on_with_its_own_weights_and_not_their_average(tmp_path):
    """The point at the end of an epoch was saved while the averages stood in the model."""
    ends = []
    for stop in (EPOCHS, 1):
        model = linear_model(ExponentialMovingAverage(AdamW(0.1), 0.9))
        model.set_weights([np.ones((2, 1)), np.ones(1)])
        folder = tmp_path / str(stop)
        folder.mkdir()
        first = make_loop(folder, FakeRecipe(model), callbacks=[SwapAveragedWeights()])
        first.recipe.options.epochs = stop
        first.run()
        loop = first
        if stop < EPOCHS:
            loop = make_loop(folder, FakeRecipe(model), callbacks=[SwapAveragedWeights()])
            assert loop.restore()
            loop.seen.extend(first.seen)
            loop.run()
        ends.append(loop.seen)
    assert all(difference(a, b) == 0.0 for a, b in zip(*ends)) and len(ends[1]) == EPOCHS


# Saved points


@pytest.fixture
def point(tmp_path):
    """A loop that stands in the middle of epoch 2: (folder, model, arrays, meta) of its point."""
    recipe = FakeRecipe(linear_model(), save_every=1)
    loop = make_loop(tmp_path, recipe)
    make, steps = recipe.make_batch, []

    def stop_at_five(indices):
        steps.append(indices)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return make(indices)

    recipe.make_batch = stop_at_five
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    arrays, meta = checkpoint.load_arrays(loop.point)
    assert (meta["progress"]["epoch"], meta["progress"]["batch"]) == (1, 1)
    return str(tmp_path), recipe.model, arrays, meta


def restored(point, arrays=None, meta=None):
    """Go back to a changed point; the loop, after a run to the end."""
    folder, model, known, known_meta = point
    path = os.path.join(folder, "checkpoint.npz")
    checkpoint.save_arrays(path, known if arrays is None else arrays, known_meta if meta is None else meta)
    loop = make_loop(folder, FakeRecipe(model))
    loop.restore()
    return loop


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
    (("batch", 10**9), "batch 1000000000 of 3 epochs with 3 batches"),
    (("batch", -1), "batch is -1"),
    (("batch", True), "batch is True"),
    (("batch", 2), "step 4 is not after epoch 1, batch 2"),
    (("epoch", 7), "after epoch 7"),
    (("epoch", "1"), "epoch is '1'"),
    (("step", 5), "step 5 is not after epoch 1, batch 1"),
    (("step", ...), "has the entries batch, best"),
    (("more", 1), "has the entries batch, best"),
    (("losses", []), "not 4 losses"),
    (("losses", [0.0, 0.0, 0.0, float("nan")]), "not 4 losses"),
    (("history", []), "the history has not 1 epochs"),
    (("history", [{"epoch": 2}]), "epoch 1 of the history"),
    (("sums", {}), "the sums over the epoch"),
    (("sums", {"loss": 1.0}), "the sums count None"),
    (("best", None), "the best of 1 epochs is None"),
    (("best", {"epoch": 3, "score": 1.0, "loss": 1.0}), "the best of 1 epochs"),
    (("best", {"epoch": 1, "score": float("nan"), "loss": 1.0}), "the best of 1 epochs"),
    (("seconds", -1), "it took -1 seconds"),
]


@pytest.mark.stacks("one")
def test_changed_counters_are_refused_and_nothing_is_set(point):
    before = point[1].get_weights()
    for change, message in WRONG:
        with pytest.raises(UserError, match=r"checkpoint\.npz: is no saved point of this run: .*" + message):
            restored(point, meta=changed(point[3], "progress", *change))
    for change in (("learning_rate", float("nan")), ("learning_rate", "1"), ("progress", ...), ("progress", None)):
        with pytest.raises(UserError, match="is no saved point of this run"):
            restored(point, meta=changed(point[3], *change))
    for arrays in (
        {k: v for k, v in point[2].items() if k != "model/0001"},
        dict(point[2], **{"model/0002": np.zeros(1, "float32")}),
        dict(point[2], **{"model/0000": np.zeros((7, 1), "float32")}),
        dict(point[2], **{"model/0000": np.array([["a"], ["b"]])}),
        dict(point[2], **{"model/0000": np.full((2, 1), np.nan, "float32")}),
    ):
        with pytest.raises(UserError, match="is no saved point of this run: (it has|array|its weights)"):
            restored(point, arrays=arrays)
    assert difference(point[1].get_weights(), before) == 0.0
    for arrays in (
        {k: v for k, v in point[2].items() if not k.startswith("optimizer")},
        dict(point[2], **{"optimizer/0009": np.zeros(3)}),
        {k: v for k, v in point[2].items() if k != "random"},
        dict(point[2], random=np.zeros(3)),
    ):
        with pytest.raises(UserError, match="is no saved point of this run"):
            restored(point, arrays=arrays)


def places(value, path=()):
    """All paths into nested dicts and lists."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(min(len(value), 4)) if isinstance(value, list) else ():
        yield from places(value[key], path + (key,))


@pytest.mark.stacks("one")
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
        (lambda: open(path, "wb").write(content[: len(content) // 2]), "is no saved point"),
        (write({"model/0000": arrays["model/0000"]}, meta), "it has 1 arrays of weights, the model 2"),
        (write(dict(arrays, **{"model/0000": np.full((2, 1), np.inf, "float32")}), meta), "are NaN or infinite"),
        (write(arrays, dict(meta, epoch=0)), "not of epoch 1"),
        (write(arrays, [1]), "not of epoch 1"),
    ):
        if when == "at the end":
            # The best epoch of all is the first.
            loop = make_loop(folder, FakeRecipe(model), scores=[-1.0, -2.0])
            checkpoint.save_arrays(path, arrays, meta)
            checkpoint.save_arrays(loop.point, point[2], point[3])
            assert loop.restore()
            damage()
            with pytest.raises(UserError, match=r"best\.npz: .*" + message):
                loop.run()
        else:
            damage()
            with pytest.raises(UserError, match=r"best\.npz: .*" + message):
                restored(point)


def test_best_weights_of_the_epoch_that_a_kill_has_cut_off_count(point):
    folder, model, _, _ = point
    path = os.path.join(folder, "best.npz")
    arrays, _ = checkpoint.load_arrays(path)
    checkpoint.save_arrays(path, arrays, {"epoch": 2, "score": 5.0, "loss": 1.0})
    loop = restored(point)
    assert loop.progress.best["epoch"] == 2
    loop.run()
    assert difference(model.get_weights(), checkpoint.from_numbered("model", arrays)) == 0.0
    # As an earlier version wrote it.
    checkpoint.save_arrays(path, arrays)
    assert restored(point).progress.best["epoch"] == 1


# Training by steps, and prompts


def test_steps_end_with_numbers_or_an_error(tmp_path):
    options = dict(steps=6, folder=str(tmp_path), save_every=2)
    for poison, message in (
        (5, "the weights became NaN or infinite by step 6 .*kernel"),
        (2, "the loss became -inf at step 4"),
    ):
        model = linear_model()
        for name in os.listdir(str(tmp_path)):
            os.remove(str(tmp_path / name))
        with pytest.raises(UserError, match=message):
            train_steps(model, lambda step: batch([step], poison), **options)
    path = str(tmp_path / "checkpoint.npz")
    arrays, meta = checkpoint.load_arrays(path)
    assert meta["step"] == 2 and all(np.isfinite(a).all() for a in arrays.values())

    def resume(arrays=arrays, meta=meta):
        checkpoint.save_arrays(path, arrays, meta)
        return train_steps(model, lambda step: batch([step], None), **options)

    for value in (10**9, 0, -1, "2", None, 2.5, True, ...):
        with pytest.raises(UserError, match="it stands after step"):
            resume(meta=changed(meta, "step", value))
    for bad in (None, [1], changed(meta, "steps", ...)):
        with pytest.raises(UserError, match="holds a point of another run"):
            resume(meta=bad)
    for name in ("model/0000", "optimizer/0000"):
        with pytest.raises(UserError, match="is no saved point of this run"):
            resume(arrays={k: v for k, v in arrays.items() if k != name})
        with pytest.raises(UserError, match="is no saved point of this run"):
            resume(arrays=dict(arrays, **{name: np.zeros((5, 5), "float32")}))
    with pytest.raises(UserError, match="its weights are NaN"):
        resume(arrays=dict(arrays, **{"model/0000": np.full((2, 1), np.nan, "float32")}))
    assert len(resume()) == 4


class Rows:
    """What the training of prompts asks of its rows."""

    batches = Batches()

    def __init__(self, poison):
        self.poison = poison

    def batch(self, indices, step):
        return batch(indices, self.poison)


@pytest.mark.parametrize("poison", [BATCHES, 2 * BATCHES - 1])
def test_prompts_keep_the_best_epoch_too(poison):
    model, seen = linear_model(), []

    def evaluate():
        seen.append(model.get_weights())
        return 0.5

    with pytest.raises(ValueError, match="at step [56]; lower.*the model has the weights of epoch 1, the best before"):
        train(model, Rows(poison), epochs=EPOCHS, evaluate=evaluate)
    assert len(seen) == 1 and difference(model.get_weights(), seen[0]) == 0.0
    with pytest.raises(ValueError, match="NaN or infinite .*kernel.* at step 3; lower the learning_rate$"):
        train(linear_model(), Rows(BATCHES - 1), epochs=1)


# Whole runs, and models with NaN


@pytest.mark.stacks("one")
def test_a_diverged_run_is_delivered_with_an_error(tiny, tmp_path, monkeypatch, capsys):
    """Also when the same line stands in a job script and runs once more; prediction refuses weights of NaN."""
    build = classification._build

    def poisoned(recipe):
        build(recipe)
        own = recipe.train_on_batch
        recipe.train_on_batch = lambda made: [float("nan")] + own(made)[1:] if recipe.step == 4 else own(made)

    monkeypatch.setattr(classification, "_build", poisoned)
    data, run = write_rows(tmp_path / "train.tsv", reviews(40)), str(tmp_path / "run")
    line = ["finetune", "--model", tiny, "--data", data, "--out", run, "--epochs", "3", "--quiet", "--layers", "1"]
    line += ["--length", "16", "--batch-size", "16"]
    for more in ([], ["--resume"]):
        assert main(line + more) == 2
        shown = capsys.readouterr().err
        assert "training diverged: the loss became nan at step 5; a lower --learning-rate" in shown
        assert "The model of epoch 1, the best before that, is kept here and can be used" in shown
    with io.open(os.path.join(run, "metrics.json"), encoding="utf-8") as handle:
        metrics = json.load(handle)
    assert metrics["best_epoch"] == 1 == len(metrics["history"]) and "step 5" in metrics["diverged"]
    assert not os.path.exists(os.path.join(run, "best.npz"))
    predict = ["predict", "--data", data, "--quiet", "--run", run]
    head = os.path.join(run, "head.npz")
    arrays, _ = checkpoint.load_arrays(head)
    assert all(np.isfinite(array).all() for array in arrays.values())
    arrays["kernel"][0, 0] = np.nan
    checkpoint.save_arrays(head, arrays)
    assert main(predict) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "head.npz: its weights are NaN or infinite (kernel)" in shown.err


@pytest.mark.stacks("one")
def test_a_model_with_nan_is_not_loaded(tiny, tmp_path):
    loaded = models.load(tiny)
    loaded.model.set_weights([w + np.nan for w in loaded.model.get_weights()])
    models.save(loaded, str(tmp_path / "model"))
    K.clear_session()
    with pytest.raises(UserError, match="embeddings.* holds NaN or infinity; nothing was loaded"):
        open_encoder(str(tmp_path / "model"))


@pytest.mark.stacks("one")
def test_every_task_with_a_loop_reports_divergence():
    users = []
    for path in glob.glob(os.path.join(ROOT, "kexue_keras", "**", "*.py"), recursive=True):
        with open(path, encoding="utf-8") as handle:
            source = handle.read()
        if "loop.forget()" in source:
            users.append(path)
            assert "report_divergence(metrics" in source and "loop.remarks()" in source, path
    assert len(users) >= 3
