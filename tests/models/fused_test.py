"""`extend_with_fused`: the gradients, weights, names and files of the plain model classes."""

import bert4keras.models as b
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny_bert_folder, tiny_config

from kexue_keras import models
from kexue_keras.backend import K, erf_is_slow, get_session
from kexue_keras.backend.graph import reached
from kexue_keras.models import extend_with_fused, extend_with_recompute
from kexue_keras.training._randomness import repeatable_dropout

IDS = np.array([[2, 7, 9, 11, 3, 0, 0], [2, 8, 5, 3, 12, 4, 3]])


def build(model, **settings):
    """(bert4keras object, its `Step`), with dropout."""
    with repeatable_dropout(5) as step:
        config = dict(tiny_config(), **settings)
        return b.build_transformer_model(model=model, return_keras_model=False, **config), step


def derivatives(transformer, step):
    """The loss, its gradients, and those of the gradients' squared norm, as a gradient penalty wants them."""
    model = transformer.model
    step.set(3)
    outputs = model.outputs[-1]
    loss = tf.reduce_mean(outputs * np.cos(1 + np.arange(int(outputs.shape[-1]))).astype("float32"))
    weights = [w for w in model.trainable_weights if "mbedding" not in w.name]
    first = tf.gradients(loss, weights)
    penalty = tf.add_n([tf.reduce_sum(tf.square(g)) for g in first if g is not None])
    second = tf.gradients(penalty, weights)
    found = [tf.convert_to_tensor(g) for g in first + second if g is not None]
    feed = {x: IDS if i == 0 else IDS * 0 for i, x in enumerate(model.inputs)}
    flag = K.learning_phase()
    if not isinstance(flag, int):
        feed[flag] = 1
    return get_session().run([loss] + found, feed), [g is None for g in first + second]


@pytest.mark.parametrize("base, settings", [(b.BERT, {"with_mlm": "linear"}), (b.RoFormer, {"application": "unilm"})])
def test_first_and_second_derivatives_are_those_of_the_plain_model(base, settings):
    settings = dict(settings, num_hidden_layers=1)
    plain, step = build(base, **settings)
    values = [np.random.RandomState(i).randn(*w.shape) / 4 for i, w in enumerate(plain.model.get_weights())]
    plain.model.set_weights(values)
    wanted, absent = derivatives(plain, step)
    for extended in (extend_with_fused(base), extend_with_recompute(extend_with_fused(base))):
        model, step = build(extended, **settings)
        assert [w.shape for w in model.model.weights] == [w.shape for w in plain.model.weights]
        assert model.variable_mapping() == plain.variable_mapping()
        model.model.set_weights(values)
        got, absent_again = derivatives(model, step)
        assert absent_again == absent
        # A floor, since the gradient of a key's bias is 0 up to rounding.
        floor = 0.1 * np.median([np.linalg.norm(g) for g in wanted[1:]])
        for x, y in zip(got, wanted):
            assert np.linalg.norm(x - y) <= 2e-5 * max(np.linalg.norm(y), floor)


def test_every_kind_of_layer_is_in_closed_form():
    closed = {"KexueGelu", "KexueNormalize", "KexueAttend"} | ({"KexueCumulative"} if erf_is_slow() else set())
    for base, expected in (
        (b.BERT, set()),
        (extend_with_fused(b.BERT), closed),
    ):
        transformer, _ = build(base, num_hidden_layers=1)
        ops = [op for op in reached([transformer.model.output]) if op.type == "IdentityN"]
        assert {op.get_attr("_gradient_op_type").decode() for op in ops} == expected


def test_checkpoints_load_and_files_are_those_of_the_plain_model(tmp_path, run_python):
    folder = tiny_bert_folder(tmp_path / "model", num_hidden_layers=1)
    plain, fused = models.load(folder), models.load(folder, model=extend_with_fused(b.BERT))
    inputs = [IDS, IDS * 0]
    wanted = plain.model.predict(inputs)
    np.testing.assert_allclose(fused.model.predict(inputs), wanted, rtol=1e-5, atol=1e-6)
    fused.model.compile("sgd", "mse")
    fused.model.fit(inputs, wanted * 0, verbose=0)
    path = str(tmp_path / "m.h5")
    fused.model.save(path)
    source = "import sys, numpy as np, kexue_keras\nfrom kexue_keras.backend import keras\n"
    source += "model = keras.models.load_model(sys.argv[1])\n"
    source += "print(model.predict([np.array(%r), np.zeros([2, 7])]).tolist())" % IDS.tolist()
    values = run_python(source, path).strip().split("\n")[-1]
    np.testing.assert_allclose(np.array(eval(values)), fused.model.predict(inputs), rtol=1e-5, atol=1e-6)


def test_errors_and_twice():
    with pytest.raises(TypeError, match="such as BERT, not 3"):
        extend_with_fused(3)
    assert extend_with_fused(extend_with_fused(b.BERT)).__name__ == "FusedBERT"
