"""`extend_with_fused`: the gradients, weights, names and files of the plain model classes."""

import bert4keras.models as b
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny_bert_folder, tiny_config

from kexue_keras import models
from kexue_keras.backend import K, erf_is_slow, get_session, is_tf2, keras, set_seed
from kexue_keras.backend.graph import reached
from kexue_keras.models import extend_with_fused, extend_with_recompute
from kexue_keras.models._closed_forms import use_closed_forms
from kexue_keras.optimizers import AdamW, GradientAccumulation
from kexue_keras.training._randomness import repeatable_dropout
from kexue_keras.training.adversarial import FGM, GradientPenalty, VirtualAdversarial
from kexue_keras.training.precision import LossScale

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
    # The other technique that extends classes goes with it; once is enough.
    for extended in [extend_with_fused(base)] + [extend_with_recompute(extend_with_fused(base))] * (base is b.BERT):
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
    closed = {"KexueGelu", "KexueNormalize", "KexueScale", "KexueShift", "KexueAttend", "KexueMultiply"}
    closed |= {"KexueCumulative"} if erf_is_slow() else set()
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


@pytest.mark.parametrize("base", [b.BERT, b.RoFormer, b.T5_Encoder])
def test_weights_have_the_names_of_the_plain_model(base):
    """Optimizers exclude by name, and files of weights hold them."""
    names = []
    for model in (base, extend_with_fused(base)):
        K.clear_session()
        transformer, _ = build(model, num_hidden_layers=2)
        names.append([w.name for w in transformer.model.weights])
    assert names[0] == names[1]


@pytest.mark.all_stacks
def test_a_step_has_few_ops_and_one_product_for_three_projections():
    counts = []
    for model in (b.BERT, extend_with_fused(b.BERT)):
        transformer, _ = build(model, num_hidden_layers=1)
        loss = tf.reduce_sum(transformer.model.output)
        ops = reached(tf.gradients(loss, [w for w in transformer.model.trainable_weights if "mbedding" not in w.name]))
        counts.append((len(ops), sum(op.type == "MatMul" for op in ops)))
    (plain, plain_products), (fused, fused_products) = counts
    # Forward and for both gradients: two products fewer each. (TensorFlow 2 has fewer ops anyway.)
    assert fused < (0.7 if is_tf2 else 0.6) * plain and plain_products - fused_products >= 4


@pytest.mark.all_stacks
def test_dropout_is_off_in_prediction_and_drawn_anew_in_training():
    x = keras.layers.Input((400,))
    model = keras.models.Model(x, use_closed_forms(keras.layers.Dropout(0.25))(x))
    ones = np.ones((3, 400), "float32")
    np.testing.assert_array_equal(model.predict(ones), ones)
    draw = K.function([x, K.learning_phase()], [model.output, K.gradients(model.output * 2, x)[0]])
    (first, slope), (second, _) = draw([ones, 1]), draw([ones, 1])
    np.testing.assert_array_equal(np.unique(first), np.array([0, 4 / 3], "float32"))
    np.testing.assert_array_equal(slope, first * 2)
    assert abs(first.mean() - 1) < 0.06 and (first != second).any()
    model.compile("sgd", "mse")
    assert 0.1 < model.train_on_batch(ones, ones) < 0.6, "the learning phase does not reach the layer"


def test_one_mask_is_kept_as_it_is_and_several_are_joined():
    x, y = (keras.layers.Input((5,)) for _ in range(2))
    embed = keras.layers.Embedding(9, 4, mask_zero=True)
    add = use_closed_forms(keras.layers.Add())
    a, b_ = embed(x), keras.layers.Embedding(9, 4, mask_zero=True)(y)
    masks = embed.compute_mask(x), embed.compute_mask(y)
    assert add.compute_mask([a, a], [masks[0], masks[0]]) is masks[0]
    joined = add.compute_mask([a, b_], list(masks))
    joined = get_session().run(joined, {x: [[1, 1, 0, 0, 2]], y: [[1, 0, 1, 0, 2]]})
    np.testing.assert_array_equal(joined, [[True, False, False, False, True]])


TECHNIQUES = {
    "accumulation": (lambda: GradientAccumulation(keras.optimizers.SGD(0.1), 2), lambda model: None),
    "loss scale": (lambda: LossScale(AdamW(1e-3), 1024.0), lambda model: None),
    "FGM": (lambda: keras.optimizers.SGD(0.1), lambda model: FGM(model, epsilon=0.5)),
    "gradient penalty": (lambda: keras.optimizers.SGD(0.1), lambda model: GradientPenalty(model, epsilon=0.1)),
    "VAT": (lambda: keras.optimizers.SGD(0.1), lambda model: VirtualAdversarial(model, iterations=0)),
}


@pytest.mark.dear
@pytest.mark.parametrize("name", list(TECHNIQUES))
def test_techniques_train_it_as_the_plain_model(name):
    """Two steps without dropout, with mixed lengths."""
    make_optimizer, add_technique = TECHNIQUES[name]
    trained = []
    for model in (b.BERT, extend_with_fused(b.BERT)):
        K.clear_session()
        set_seed(3)
        config = dict(tiny_config(), num_hidden_layers=1, dropout_rate=0.0, attention_dropout_rate=0.0)
        bert = b.build_transformer_model(model=model, with_pool="tanh", **config)
        classifier = keras.models.Model(bert.inputs, keras.layers.Dense(2, activation="softmax")(bert.output))
        random = np.random.RandomState(2)
        classifier.set_weights([random.randn(*w.shape) / 4 for w in classifier.get_weights()])
        classifier.compile(make_optimizer(), "sparse_categorical_crossentropy")
        add_technique(classifier)
        before = classifier.get_weights()
        for _ in range(2):
            classifier.train_on_batch([IDS, IDS * 0], np.array([0, 1]))
        trained.append([after - first for after, first in zip(classifier.get_weights(), before)])
    assert max(np.abs(x).max() for x in trained[0]) > 1e-3
    # VAT's direction is that of a divergence that is 0 but for rounding and a small step.
    relative, absolute = (2e-2, 1e-4) if name == "VAT" else (1e-3, 2e-5)
    for wanted, got in zip(*trained):
        np.testing.assert_allclose(got, wanted, rtol=relative, atol=absolute)
