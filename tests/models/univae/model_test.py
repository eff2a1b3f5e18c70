"""UniVAE: what depends on what, the masks, positions, costs in the loss, checkpoints."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.models import BERT, NEZHA, RoFormer
from helpers import tiny_bert_folder
from model_checks import make

from kexue_keras.backend import K, initialize, keras
from kexue_keras.layers import vmf_kl, vmf_mean_resultant
from kexue_keras.losses import TextAutoencoderLoss
from kexue_keras.models import UniVAE, load, save
from kexue_keras.models.univae._layers import UniAEMask, restarted_positions

SMALL = {"num_latent_layers": 2, "z_dim": 4, "max_length": 6}
SOURCE = np.array([[2, 7, 9, 11, 3, 0], [2, 8, 3, 0, 0, 0]])
TARGET = np.array([[2, 7, 9, 11, 3, 0], [2, 8, 3, 0, 0, 0]])


def univae(base=BERT, **options):
    transformer = make(UniVAE(base, **dict(SMALL, **options)), num_hidden_layers=3)
    rng = np.random.RandomState(0)
    weights = [w for w in transformer.model.weights if "gamma" not in w.name]
    initialize([(w, 0.5 * rng.standard_normal(K.int_shape(w))) for w in weights])
    return transformer


def pair(source, target):
    return [np.concatenate([source, target], 1), np.concatenate([0 * source, 1 + 0 * target], 1)]


def changed(tokens, place):
    tokens = np.array(tokens)
    tokens[:, place] = 20
    return tokens


# Each latent, and each base with both ways to hide the length.
CASES = [(BERT, "vmf", "restart"), (RoFormer, "gaussian", "pad"), (BERT, "none", "pad"), (RoFormer, "vq", "restart")]


@pytest.mark.dear
@pytest.mark.parametrize("base, latent, leak", CASES)
def test_the_target_depends_on_the_source_by_the_code_alone(base, latent, leak):
    vae = univae(base, latent=latent, length_leak=leak)
    # One batch: as it is; the target changed; the source changed; a later token of the target changed.
    others = {
        "target": (SOURCE, changed(TARGET, 1)),
        "source": (changed(SOURCE, 1), TARGET),
        "later": (SOURCE, changed(TARGET, 3)),
    }
    rows = [pair(SOURCE, TARGET)] + [pair(*both) for both in others.values()]
    inputs = [np.concatenate(part) for part in zip(*rows)]
    codes = np.asarray(vae.encoder.predict_on_batch(inputs)).reshape(4, 2, 8)
    np.testing.assert_array_equal(codes[1], codes[0])
    assert np.abs(codes[2] - codes[0]).max() > 1e-3 or latent == "vq"
    given = np.concatenate([codes[0]] * 4 + [codes[0][::-1]])
    inputs = [np.concatenate([part, part[:2]]) for part in inputs]
    logits = np.asarray(vae.decoder.predict_on_batch(inputs + [given])).reshape(5, 2, 12, -1)[:, :, 6:]
    # The code stays: nothing of the target changes with the source, and nothing before a token with the token.
    np.testing.assert_array_equal(logits[2], logits[0])
    np.testing.assert_allclose(logits[3, :, :3], logits[0, :, :3], atol=1e-5)
    assert np.abs(logits[3, 0, 3] - logits[0, 0, 3]).max() > 1e-3
    if np.ptp(codes[0], axis=0).max() > 1e-3:  # the nearest of a table's rows may be the same one
        assert np.abs(logits[4] - logits[0]).max() > 1e-3


def test_codes_on_the_sphere_and_the_constants_of_the_digits():
    vae = univae(latent="vmf", kappa=1e7, length_leak="restart")
    inputs = pair(SOURCE[:, :5], TARGET[:, :5])
    codes = vae.encoder.predict_on_batch(inputs)
    np.testing.assert_allclose(np.square(codes.reshape(2, 2, 4)).sum(-1), 1, atol=1e-5)
    # Without noise to speak of, training computes what encoder and decoder do one after the other.
    np.testing.assert_allclose(
        vae.model.predict_on_batch(inputs)[0], vae.decoder.predict_on_batch(inputs + [codes])[0], atol=0.05
    )
    assert vmf_kl(4, 20) == pytest.approx(3.2583854, abs=1e-7)
    assert vmf_mean_resultant(4, 20) == pytest.approx(0.9259878, abs=1e-7)


def test_masks():
    segments = K.constant([[0, 0, 0, 1, 1, 1]])
    for opened in (False, True):
        c = int(opened)
        expected = [[1, 1, 1, 0, 0, 0]] * 3 + [[c, 0, 0, 1, 0, 0], [c, 0, 0, 1, 1, 0], [c, 0, 0, 1, 1, 1]]
        assert K.eval(UniAEMask(opened)(segments)).astype(int).tolist() == [expected]
    positions = K.eval(restarted_positions(K.constant([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0]])))
    assert positions.tolist() == [[0, 1, 2, 1, 2, 3], [0, 1, 1, 2, 3, 5]]


@pytest.mark.parametrize("base", [BERT, RoFormer])
def test_restarted_targets_do_not_know_how_long_the_source_is(base):
    vae = univae(base, length_leak="restart")
    codes = vae.encoder.predict_on_batch([SOURCE, 0 * SOURCE])
    target = TARGET[:1, :5]
    short = vae.decoder.predict_on_batch(pair(SOURCE[:1, :3], target) + [codes[:1]])[0, 3:]
    long = vae.decoder.predict_on_batch(pair(SOURCE[:1], target) + [codes[:1]])[0, 6:]
    np.testing.assert_allclose(short, long, atol=1e-5)


@pytest.mark.parametrize("latent", ["gaussian", "vq"])
def test_the_cost_of_the_latents_is_in_the_loss(latent):
    vae = univae(latent=latent, kl_weight=0.0, num_latent_layers=1, length_leak="restart")
    K.set_value(vae.layers["Latent-0-Out"].kernel, np.zeros((4, 16)))  # nothing of the noise comes out
    # With one latent the cost depends on no noise: with three times the weight it is three times as much.
    losses = []
    for weight in (0.0, 1.0, 3.0):
        loss = TextAutoencoderLoss(weight=weight)
        values = loss.compute_loss(vae.training_model.layers[-1].input)
        losses.append(K.function(vae.inputs, [values])(pair(SOURCE, TARGET))[0])
    assert len(vae.training_model.layers[-1].input) == 4
    assert losses[1] > losses[0] and losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-3)


@pytest.mark.filterwarnings("ignore:.*was not saved by a model with univae")
def test_pretrained_weights_are_kept_and_the_latents_saved(tmp_path):
    folder = tiny_bert_folder(tmp_path / "bert")
    cls = UniVAE(BERT, num_latent_layers=1, z_dim=4, max_length=6, latent="vq", num_codes=5)
    options = {"model": cls, "missing": "initialise", "dropout_rate": 0.0}
    vae = load(folder, **options)
    np.testing.assert_array_equal(
        K.get_value(vae.bert.layers["Embedding-Token"].embeddings),
        tf.train.load_variable(folder + "/bert_model.ckpt", "bert/embeddings/word_embeddings"),
    )
    vae.bert.training_model.compile(keras.optimizers.Adam(0.01))
    inputs = pair(SOURCE, TARGET)
    losses = [float(np.ravel(vae.bert.training_model.train_on_batch(inputs, None))[0]) for _ in range(8)]
    assert losses[-1] < losses[0]
    codes = vae.bert.encoder.predict_on_batch(inputs)
    save(vae, tmp_path / "vae")
    K.clear_session()
    again = load(tmp_path / "vae", **options)
    np.testing.assert_allclose(again.bert.encoder.predict_on_batch(inputs), codes, atol=1e-5)


def test_errors():
    for options, match in (
        ({"latent": "student"}, "latent must be"),
        ({"length_leak": "no"}, "length_leak must be"),
        ({"z_dim": 1}, "z_dim must be a whole number >= 2"),
        ({"num_latent_layers": 0}, "num_latent_layers must be a whole number >= 1"),
        ({"max_length": 2}, "max_length must be a whole number >= 3"),
    ):
        with pytest.raises(ValueError, match=match):
            UniVAE(BERT, **options)
    with pytest.raises(ValueError, match="'restart' is for BERT and RoFormer; NEZHA needs 'pad'"):
        UniVAE(NEZHA, length_leak="restart")
    with pytest.raises(ValueError, match="num_latent_layers is 3 and num_hidden_layers 3; below the first latent"):
        make(UniVAE(BERT, num_latent_layers=3), num_hidden_layers=3)
    with pytest.raises(
        ValueError, match="max_length=40 needs 80 positions with length_leak='pad', but the model has 64"
    ):
        make(UniVAE(BERT, num_latent_layers=1, max_length=40), num_hidden_layers=2)
