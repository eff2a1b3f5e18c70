"""The command's options for techniques do what they say: real runs on a tiny model."""

import numpy as np
import pytest
from helpers import CHARACTERS, tiny_bert_folder

from kexue_keras import checkpoints, optimizers
from kexue_keras.backend import K
from kexue_keras.errors import UserError
from kexue_keras.finetune import _finetune as finetuning
from kexue_keras.finetune._encoder import model_class
from kexue_keras.losses import RDropCrossentropy
from kexue_keras.optimizers._inner import chain
from kexue_keras.trainer import Techniques, Trainer


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
    """Fine-tunes the tiny model and returns (metrics, `Trainer`)."""

    def finetune(**options):
        seen, train = [], Trainer._train
        monkeypatch.setattr(Trainer, "_train", lambda trainer: seen.append(trainer) or train(trainer))
        settings = dict(epochs=2, batch_size=4, max_length=16, quiet=True, overwrite=True, learning_rate=1e-3)
        settings.update(options)
        metrics = finetuning.finetune(folder, files[0], str(tmp_path / "run"), valid=files[1], **settings)
        return metrics, seen[0]

    return finetune


def kinds(trainer):
    return [type(optimizer).__name__ for optimizer in chain(trainer.model.optimizer)]


def test_all_that_wrap_the_optimizer_go_together(run):
    metrics, trainer = run(accumulate=3, ema=0.9, lookahead=2, layerwise_lr_decay=0.5, num_hidden_layers=1)
    order = ["GradientAccumulation", "ExponentialMovingAverage", "Lookahead", "LayerwiseLearningRate"]
    assert kinds(trainer) == order + ["PiecewiseLinear", "AdamW"]
    assert next(o for o in chain(trainer.model.optimizer) if isinstance(o, optimizers.Lookahead)).steps == 2
    # 26 rows in batches of 4 are 7 batches, that is windows of 3, 3 and 1 in each of two epochs
    assert Techniques(accumulate=3).updates(14, 7) == 6
    optimizer = trainer.model.optimizer
    assert int(K.get_value(optimizer.iterations)) == 6 and int(K.get_value(optimizer.micro_step)) == 0
    # at the end the model holds the best epoch's average, so no average is applied on top of it
    average = next(o for o in chain(trainer.model.optimizer) if isinstance(o, optimizers.ExponentialMovingAverage))
    assert not average.applied
    assert np.isfinite(metrics["valid"]["loss"])
    layerwise = next(o for o in chain(trainer.model.optimizer) if isinstance(o, optimizers.LayerwiseLearningRate))
    assert layerwise.factor("logits/kernel:0", num_hidden_layers=2) == 1
    assert layerwise.factor("Transformer-0-FeedForward/dense_1/kernel:0", num_hidden_layers=2) == 0.25


def test_accumulation_in_momentum_replaces_the_optimizer_below_the_rate_of_the_head(run):
    _, trainer = run(accumulate=3, accumulate_in="momentum", head_lr_multiplier=10.0, epochs=1, num_hidden_layers=1)
    layerwise = next(o for o in chain(trainer.model.optimizer) if isinstance(o, optimizers.LayerwiseLearningRate))
    factors = layerwise.factors(trainer.model.trainable_weights)
    head = [name for name in factors if factors[name] != 1]
    assert [name.split("/")[-1] for name in head] == ["kernel:0", "bias:0"] and {factors[n] for n in head} == {10.0}
    assert len(factors) > 10 and layerwise.decay is None
    assert kinds(trainer)[-1] == "MomentumAccumulationAdamW"
    assert int(K.get_value(trainer.model.optimizer.iterations)) == 7 // 3


def test_rdrop_doubles_training_batches_beside_fgm_and_recompute(run):
    metrics, trainer = run(rdrop=4.0, dropout_rate=0.3, fgm=0.5, recompute="ffn", epochs=1, num_hidden_layers=1)
    assert isinstance(trainer.model.loss, RDropCrossentropy)
    inputs, targets, weights = trainer.make_batch(0)
    assert inputs[0].shape[0] == targets.shape[0] == weights.shape[0] == 8
    np.testing.assert_array_equal(inputs[0][::2], inputs[0][1::2])
    assert metrics["valid"]["texts"] == 8


def test_fewer_layers(run):
    _, trainer = run(num_hidden_layers=1, epochs=1)
    names = [layer.name for layer in trainer.model.layers]
    assert "Transformer-0-FeedForward" in names and "Transformer-1-FeedForward" not in names


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(ema=1.5), "--ema is 1.5"),
        (dict(layerwise_lr_decay=0.0), "--layerwise-lr-decay is 0"),
        (dict(head_lr_multiplier=0.0), "--head-lr-multiplier is 0"),
        (dict(fgm=0.5, gradient_penalty=1.0), "--fgm and --gradient-penalty are two forms of one idea"),
        (dict(fgm=0.5, vat=1.0), "--fgm and --vat are two forms of one idea"),
        (dict(vat=-1.0), "--vat is -1"),
        (dict(lookahead=-1), "--lookahead is -1"),
        (dict(weissi=-0.01), "--weissi is -0.01"),
        (dict(rdrop=-1.0), "--rdrop is -1"),
        (dict(rdrop=4.0, dropout_rate=0.0), "--rdrop compares two dropouts"),
        (dict(num_hidden_layers=5), "--num-hidden-layers is 5, but .* has 2 layers"),
    ],
)
def test_bad_values_are_named(run, options, message):
    with pytest.raises(UserError, match=message):
        run(**options)


def test_folders_of_hugging_face_and_t5(folder, files, tmp_path):
    checkpoints.convert(folder, str(tmp_path / "hf"), format="hf")
    assert model_class(str(tmp_path / "hf")) is model_class(folder)
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text('{"model_type": "mt5"}')
    (tmp_path / "t5" / "model.safetensors").write_text("")
    with pytest.raises(UserError, match="a T5 generates"):
        finetuning.finetune(str(tmp_path / "t5"), files[0], str(tmp_path / "run"), valid=files[1], quiet=True)
