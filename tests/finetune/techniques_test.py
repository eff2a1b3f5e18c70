"""Each technique that hangs on fine-tuning does what it says: real runs on a tiny model."""

import numpy as np
import pytest
from helpers import CHARACTERS, tiny_bert_folder

from kexue_keras import checkpoints, optimizers
from kexue_keras.backend import K
from kexue_keras.errors import UserError
from kexue_keras.finetune import _classification as classification
from kexue_keras.finetune._recipe import TECHNIQUES
from kexue_keras.finetune.techniques._accumulation import windows
from kexue_keras.finetune.techniques._recompute import model_class
from kexue_keras.losses import RDropCrossentropy
from kexue_keras.optimizers._base import chain


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tiny_bert_folder(tmp_path_factory.mktemp("model"))
    K.clear_session()
    return path


@pytest.fixture
def files(tmp_path, rng):
    paths = []
    for name, rows in (("train", 26), ("valid", 8)):
        path = tmp_path / (name + ".tsv")
        texts = ["".join(rng.choice(list(CHARACTERS), 6)) for _ in range(rows)]
        path.write_text("text\tlabel\n" + "".join("%s\t%s\n" % (t, "ab"[i % 2]) for i, t in enumerate(texts)))
        paths.append(str(path))
    return paths


@pytest.fixture
def run(folder, files, tmp_path, monkeypatch):
    """Fine-tunes the tiny model and returns (metrics, compiled Keras model)."""

    def finetune(**options):
        seen = []
        build = classification._build

        def keep(recipe):
            build(recipe)
            seen.append(recipe)

        monkeypatch.setattr(classification, "_build", keep)
        settings = dict(epochs=2, batch_size=4, length=16, quiet=True, overwrite=True, learning_rate=1e-3)
        settings.update(options)
        metrics = classification.finetune(folder, files[0], str(tmp_path / "run"), valid=files[1], **settings)
        return metrics, seen[0]

    return finetune


def kinds(recipe):
    return [type(optimizer).__name__ for optimizer in chain(recipe.optimizer)]


@pytest.mark.stacks("one")
def test_all_that_wrap_the_optimizer_go_together(run):
    metrics, recipe = run(accumulate=3, ema=0.9, layerwise_lr=0.5, layers=1)
    order = ["GradientAccumulation", "ExponentialMovingAverage", "LayerwiseLearningRate", "PiecewiseLinear", "AdamW"]
    assert kinds(recipe) == order
    # 26 rows in batches of 4 are 7 batches, that is windows of 3, 3 and 1 in each of two epochs
    assert recipe.updates == windows(7, 2, 3) == 6
    assert int(K.get_value(recipe.optimizer.iterations)) == 6
    assert int(K.get_value(recipe.optimizer.micro_step)) == 0
    # at the end the model holds the best epoch's average, so no average is applied on top of it
    average = next(o for o in chain(recipe.optimizer) if isinstance(o, optimizers.ExponentialMovingAverage))
    assert not average.applied
    assert np.isfinite(metrics["valid"]["loss"])
    layerwise = next(o for o in chain(recipe.optimizer) if isinstance(o, optimizers.LayerwiseLearningRate))
    assert layerwise.factor("logits/kernel:0", num_layers=2) == 1
    assert layerwise.factor("Transformer-0-FeedForward/dense_1/kernel:0", num_layers=2) == 0.25


@pytest.mark.stacks("one")
def test_accumulation_in_momentum_replaces_the_optimizer_below_the_rate_of_the_head(run):
    _, recipe = run(accumulate=3, accumulate_in="momentum", head_lr=10.0, epochs=1, layers=1)
    layerwise = next(o for o in chain(recipe.optimizer) if isinstance(o, optimizers.LayerwiseLearningRate))
    factors = layerwise.factors(recipe.model.trainable_weights)
    head = [name for name in factors if factors[name] != 1]
    assert [name.split("/")[-1] for name in head] == ["kernel:0", "bias:0"] and {factors[n] for n in head} == {10.0}
    assert len(factors) > 10 and layerwise.decay is None
    assert kinds(recipe)[-1] == "MomentumAccumulationAdamW"
    assert recipe.updates == 7 // 3


@pytest.mark.stacks("one")
def test_rdrop_doubles_training_batches_beside_fgm_and_recompute(run):
    metrics, recipe = run(rdrop=4.0, dropout=0.3, fgm=0.5, recompute="ffn", epochs=1, layers=1)
    assert isinstance(recipe.model.loss, RDropCrossentropy)
    batch = recipe.make_batch(np.arange(3))
    assert batch.inputs[0].shape[0] == batch.targets.shape[0] == batch.weights.shape[0] == 6
    np.testing.assert_array_equal(batch.inputs[0][::2], batch.inputs[0][1::2])
    assert metrics["valid"]["texts"] == 8


@pytest.mark.stacks("one")
def test_fewer_layers(run):
    _, recipe = run(layers=1, epochs=1)
    assert recipe.pretrained.bert.num_hidden_layers == 1


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(ema=1.5), "--ema is 1.5"),
        (dict(layerwise_lr=0.0), "--layerwise-lr is 0"),
        (dict(head_lr=0.0), "--head-lr is 0"),
        (dict(rdrop=-1.0), "--rdrop is -1"),
        (dict(rdrop=4.0, dropout=0.0), "--rdrop compares two dropouts"),
        (dict(layers=5), "--layers is 5, but .* has 2 layers"),
    ],
)
def test_bad_values_are_named(run, options, message):
    with pytest.raises(UserError, match=message):
        run(**options)


def test_names_and_orders():
    assert len({t.name for t in TECHNIQUES}) == len(TECHNIQUES)
    order = {t.name: t.order for t in TECHNIQUES}
    assert order["momentum-accumulation"] < order["schedule"] < order["averaging"] < order["accumulation"]


def test_folders_of_hugging_face_and_t5(folder, files, tmp_path):
    checkpoints.convert(folder, str(tmp_path / "hf"), format="hf")
    assert model_class(str(tmp_path / "hf")) is model_class(folder)
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text('{"model_type": "mt5"}')
    (tmp_path / "t5" / "model.safetensors").write_text("")
    with pytest.raises(UserError, match="a T5 generates"):
        classification.finetune(str(tmp_path / "t5"), files[0], str(tmp_path / "run"), valid=files[1], quiet=True)
