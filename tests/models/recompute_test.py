"""Extended model classes: the gradients, weights, names and files of the plain ones."""

import bert4keras.models as b
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny_bert_folder, tiny_config

from kexue_keras import models
from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.models import extend_with_recompute
from kexue_keras.training._randomness import repeatable_dropout
from kexue_keras.training.recompute._segments import segments

IDS = np.array([[2, 7, 9, 11, 3, 0, 0], [2, 8, 5, 3, 12, 4, 3]])


def build(model, **settings):
    """(bert4keras object, its `Step`); dropout everywhere, as in the stock configurations."""
    config = tiny_config()
    config.update(settings)
    with repeatable_dropout(5) as step:
        return b.build_transformer_model(model=model, return_keras_model=False, **config), step


def loss_and_gradients(transformer, step):
    """The loss on random targets, gradients and weights, with padding and dropout on."""
    model = transformer.model
    step.set(3)
    outputs = model.outputs[-1]
    width = int(outputs.shape[-1])
    loss = tf.reduce_mean(outputs * np.cos(1 + np.arange(width)).astype("float32"))
    weights = model.trainable_weights
    gradients = tf.gradients(loss, weights)
    found = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    feed = {x: IDS if i == 0 or "Decoder" in x.name else IDS * 0 for i, x in enumerate(model.inputs)}
    flag = K.learning_phase()
    if not isinstance(flag, int):
        feed[flag] = 1
    return get_session().run([loss] + found, feed), [g is None for g in gradients], feed


def assert_equal(plain, extended):
    """Losses and gradients agree to 1e-5 of a weight's gradient (with a floor: that of a key's bias is 0)."""
    (once, absent, _), (again, absent_again, _) = plain, extended
    assert absent == absent_again
    np.testing.assert_allclose(again[0], once[0], rtol=1e-5)
    floor = 1e-2 * np.median([np.linalg.norm(g) for g in once[1:]])
    for x, y in zip(again[1:], once[1:]):
        assert np.linalg.norm(x - y) <= 1e-5 * max(np.linalg.norm(y), floor)


def compare(base, policies, **settings):
    plain, step = build(base, **settings)
    values = [np.random.RandomState(i).randn(*w.shape) / 4 for i, w in enumerate(plain.model.get_weights())]
    plain.model.set_weights(values)
    wanted = loss_and_gradients(plain, step)
    for policy in policies:
        before = len(segments(tf1.get_default_graph()))
        extended, step = build(extend_with_recompute(base, **policy), **settings)
        assert len(segments(tf1.get_default_graph())) > before
        assert [w.shape for w in extended.model.weights] == [w.shape for w in plain.model.weights]
        assert [x for x in extended.layers if "Recompute" not in x and ":" not in x] == [
            x for x in plain.layers if ":" not in x
        ]
        extended.model.set_weights(values)
        assert_equal(wanted, loss_and_gradients(extended, step))
    return plain, extended


def test_bert_with_a_tied_head_under_every_policy():
    policies = [{"policy": "selective"}, {"policy": "layers"}]
    plain, extended = compare(b.BERT, policies, with_mlm=True, with_pool=True, num_hidden_layers=1)
    assert extended.model.trainable_weights and plain.variable_mapping() == extended.variable_mapping()


@pytest.mark.parametrize("policy, base", [("attention", b.NEZHA), ("ffn", b.GPT2_ML)])
def test_policies_of_one_kind_of_layer(policy, base):
    _, extended = compare(base, [{"policy": policy}], num_hidden_layers=1)
    recomputed = [layer.name for layer in extended.model.layers if hasattr(layer.call, "recomputed")]
    names = {"attention": "MultiHeadSelfAttention", "ffn": "FeedForward"}
    assert len(recomputed) == 1 and recomputed[0].endswith(names[policy])


@pytest.mark.parametrize(
    "base, settings",
    [
        (b.ALBERT, {"embedding_size": 8, "residual_attention_scores": True}),
        (b.RoFormer, {"application": "unilm"}),
    ],
    ids=["ALBERT", "RoFormer"],
)
def test_other_models(base, settings):
    compare(base, [{"keep_cost": 0.05, "segment": 2}], **settings)


def test_conditional_layer_normalisation_on_an_input_of_ones_own():
    condition = keras.layers.Input([4], name="condition")
    settings = dict(layer_norm_cond=condition, additional_input_layers=condition, num_hidden_layers=1)
    plain, _ = build(b.BERT, **settings)
    extended, _ = build(extend_with_recompute(b.BERT), **settings)
    assert len(plain.model.weights) == len(extended.model.weights)


def test_t5_extends_its_encoder_and_its_decoder():
    settings = dict(version="t5.1.1", hidden_act=["gelu", "linear"], num_hidden_layers=1)
    plain, extended = compare(b.T5, [{"policy": "blocks"}], **settings)
    names = [layer.name for layer in extended.model.layers]
    assert sum(n.endswith("Recompute") for n in names) == 2


LOADED = (
    """
import sys
import numpy as np
import kexue_keras
from kexue_keras.backend import keras
from kexue_keras.training.recompute._segments import segments
model = keras.models.load_model(sys.argv[1])
print(len(segments(model.output.graph)))
print(model.predict([np.array(%r), np.zeros([2, 7])]).tolist())
"""
    % IDS.tolist()
)


def test_checkpoints_load_and_models_are_saved(tmp_path, run_python):
    folder = tiny_bert_folder(tmp_path / "model", num_hidden_layers=1)
    plain = models.load(folder)
    inputs = [IDS, IDS * 0]
    wanted = plain.model.predict(inputs)
    loaded = models.load(folder, model=extend_with_recompute(b.BERT))
    np.testing.assert_allclose(loaded.model.predict(inputs), wanted, rtol=1e-5, atol=1e-6)
    path = str(tmp_path / "m.h5")
    loaded.model.compile("sgd", "mse")
    loaded.model.fit(inputs, wanted * 0, verbose=0)
    loaded.model.save(path)
    count, values = run_python(LOADED, path).strip().split("\n")
    assert int(count) == 1
    np.testing.assert_allclose(np.array(eval(values)), loaded.model.predict(inputs), rtol=1e-5, atol=1e-6)
    plain.model.load_weights(path)
    np.testing.assert_allclose(plain.model.predict(inputs), loaded.model.predict(inputs), rtol=1e-5, atol=1e-6)


def test_errors():
    with pytest.raises(TypeError, match="such as BERT, not 3"):
        extend_with_recompute(3)
    with pytest.raises(ValueError, match="policy must be one of .*, but is 'all'"):
        extend_with_recompute(b.BERT, "all")
    with pytest.raises(ValueError, match="segment must be a whole number >= 1, but is 0"):
        extend_with_recompute(b.BERT, "blocks", segment=0)
    with pytest.raises(ValueError, match="segment goes with"):
        extend_with_recompute(b.BERT, "ffn", segment=2)
    with pytest.raises(ValueError, match="keep_cost goes with"):
        extend_with_recompute(b.BERT, "blocks", keep_cost=1.0)
    with pytest.raises(ValueError, match="recomputes already"):
        extend_with_recompute(extend_with_recompute(b.BERT))


def test_bert4keras_own_recompute_is_refused(run_python):
    source = """
from bert4keras.models import BERT
from kexue_keras.models import extend_with_recompute
try:
    extend_with_recompute(BERT)
except RuntimeError as error:
    print(error)
"""
    assert "RECOMPUTE" in run_python("import os; os.environ['RECOMPUTE'] = '1'" + source, bare=True)
