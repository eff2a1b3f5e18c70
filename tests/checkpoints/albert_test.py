"""ALBERT with its layers unshared: the same outputs at the start, and as many parameters as a BERT."""

import numpy as np
from helpers import tiny_bert_folder

from kexue_keras.backend import K
from kexue_keras.models import load


def test_unshared_layers_compute_the_same_and_learn_apart(tmp_path):
    folder = tiny_bert_folder(tmp_path, "albert", num_hidden_layers=2)
    inputs = [np.array([[2, 7, 8, 9, 3]]), np.zeros([1, 5], int)]
    K.clear_session()
    shared = load(folder)
    output, few = shared.model.predict(inputs), shared.model.count_params()
    K.clear_session()
    unshared = load(folder, kind="albert_unshared")
    np.testing.assert_allclose(unshared.model.predict(inputs), output, atol=1e-6)
    h, inner = unshared.config["hidden_size"], unshared.config["intermediate_size"]
    of_a_layer = 4 * (h * h + h) + 2 * h * inner + h + inner + 4 * h
    assert unshared.model.count_params() - few == of_a_layer

    def kernels():
        return [unshared.bert.layers["Transformer-%d-FeedForward" % i].get_weights()[0] for i in range(2)]

    np.testing.assert_array_equal(*kernels())
    unshared.model.compile("sgd", "mse")
    unshared.model.train_on_batch(inputs, np.random.RandomState(0).randn(*output.shape))
    assert np.abs(np.subtract(*kernels())).max() > 0
