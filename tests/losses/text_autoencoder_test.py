"""The loss of a text autoencoder: which tokens count, its value against float64 numpy, its config."""

import numpy as np
import pytest

from kexue_keras.backend import K, get_session, keras
from kexue_keras.losses import TextAutoencoderLoss, next_target_tokens

# [CLS] 7 8 [SEP] [CLS] 7 8 [SEP] [PAD], and a shorter one that is padded between source and target.
TOKENS = np.array([[2, 7, 8, 3, 2, 7, 8, 3, 0], [2, 9, 3, 0, 2, 9, 3, 0, 0]])
SEGMENTS = np.array([[0, 0, 0, 0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1, 1, 1]])


def test_only_the_target_counts():
    expected = [[0, 0, 0, 0, 7, 8, 3, 0, 0], [0, 0, 0, 0, 9, 3, 0, 0, 0]]
    assert K.eval(next_target_tokens(TOKENS, SEGMENTS)).tolist() == expected


def test_value(rng):
    logits = rng.standard_normal((2, 9, 12))
    costs = [np.array([0.5, 1.5]), np.array([2.0, 0.0])]
    inputs = [keras.layers.Input((9,)), keras.layers.Input((9,)), keras.layers.Input((9, 12))]
    loss = TextAutoencoderLoss(weight=0.25)
    value = loss.compute_loss([K.constant(x) for x in [TOKENS, SEGMENTS, logits] + costs])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = [(0, 4, 7), (0, 5, 8), (0, 6, 3), (1, 4, 9), (1, 5, 3)]
    expected = (-sum(log_p[i] for i in chosen) + 0.25 * 4) / 5
    assert get_session().run(value) == pytest.approx(expected, rel=1e-5)
    assert K.int_shape(loss(inputs)) == (None, 9, 12)
    assert TextAutoencoderLoss.from_config(loss.get_config()).weight == 0.25


def test_nothing_to_predict_is_no_loss():
    loss = TextAutoencoderLoss().compute_loss([K.zeros((1, 3)), K.zeros((1, 3)), K.zeros((1, 3, 4))])
    assert K.eval(loss) == 0


@pytest.mark.all_stacks
def test_in_a_saved_model(tmp_path, run_python):
    inputs = [keras.layers.Input((None,)), keras.layers.Input((None,))]
    logits = keras.layers.Embedding(12, 12)(inputs[0])
    model = keras.models.Model(inputs, TextAutoencoderLoss(name="loss")(inputs + [logits]))
    model.compile(keras.optimizers.SGD(0.5))
    losses = [float(np.ravel(model.train_on_batch([TOKENS, SEGMENTS], None))[0]) for _ in range(3)]
    assert losses[2] < losses[0]
    model.save_weights(str(tmp_path / "weights.h5"))
    (tmp_path / "model.json").write_text(model.to_json())
    out = run_python(
        "import sys, kexue_keras\n"
        "from kexue_keras.backend import keras\n"
        "model = keras.models.model_from_json(open(sys.argv[1] + '/model.json').read())\n"
        "model.load_weights(sys.argv[1] + '/weights.h5')\n"
        "print(model.get_layer('loss').weight)\n",
        str(tmp_path),
    )
    assert out.split()[-1] == "1.0"


def test_errors():
    with pytest.raises(ValueError, match="weight must be a number >= 0"):
        TextAutoencoderLoss(weight=-1)
