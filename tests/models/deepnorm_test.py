"""DeepNorm models: initial values, forms, pre-norm, refusal of foreign checkpoints, saving, composition."""

import json

import numpy as np
import pytest
from bert4keras.layers import MultiHeadAttention
from bert4keras.models import ALBERT, BERT, GPT2, GPT2_ML, T5, RoFormer, T5_Encoder, build_transformer_model
from helpers import tiny_bert_folder, tiny_config

from kexue_keras import models
from kexue_keras.backend import K, keras
from kexue_keras.errors import WeightsError
from kexue_keras.models import extend_with_deepnorm, extend_with_entropy_invariance

CONFIG = tiny_config(num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
TOKENS = np.array([[2, 9, 12, 7, 3], [2, 8, 3, 0, 0]])
SEGMENTS = np.array([[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]])


def build(cls, **kwargs):
    return build_transformer_model(model=cls, **dict(CONFIG, **kwargs))


@pytest.mark.parametrize("base, application", [(BERT, "encoder"), (BERT, "lm"), (RoFormer, "unilm")])
def test_with_alpha_one_and_equal_weights_it_is_the_plain_model_bit_for_bit(base, application):
    plain = build(base, application=application)
    deep = build(extend_with_deepnorm(base, alpha=1, beta=1), application=application)
    changed = build(extend_with_deepnorm(base), application=application)
    rng = np.random.RandomState(0)
    weights = [w + 0.2 * rng.randn(*w.shape) for w in plain.get_weights()]
    outputs = []
    for model in (plain, deep, changed):
        model.set_weights(weights)
        outputs.append(model.predict([TOKENS, SEGMENTS]))
    np.testing.assert_array_equal(outputs[1], outputs[0])
    assert abs(outputs[2] - outputs[0]).max() > 1e-3


def test_gain_is_on_value_output_and_ffn_only():
    config = dict(hidden_size=192, num_attention_heads=4, intermediate_size=384)
    bert = build(extend_with_deepnorm(BERT, beta=0.25), return_keras_model=False, **config)
    attention = bert.layers["Transformer-0-MultiHeadSelfAttention"]
    ffn = bert.layers["Transformer-0-FeedForward"]
    kernels = {name: getattr(attention, name).kernel for name in ("q_dense", "k_dense", "v_dense", "o_dense")}
    kernels.update(inner=ffn.i0_dense.kernel, outer=ffn.o_dense.kernel)
    values = dict(zip(kernels, K.batch_get_value(list(kernels.values()))))
    for name, value in values.items():
        gain = 1 if name in ("q_dense", "k_dense") else 0.25
        xavier = np.sqrt(2 / sum(value.shape))
        assert value.std() / xavier == pytest.approx(gain, rel=0.03), name
    biases = [w for w in attention.get_weights() + ffn.get_weights() if w.ndim == 1]
    assert len(biases) == 6 and not any(b.any() for b in biases)
    table = bert.layers["Embedding-Token"].get_weights()[0]
    assert table.std() == pytest.approx(0.02 * 0.88, rel=0.1)  # bert4keras' truncated normal is kept elsewhere


def test_alpha_follows_rule_and_depth():
    for rule, alpha in (("adam", 4**0.5), ("lamb", 1.0)):
        bert = build(extend_with_deepnorm(BERT, rule=rule), return_keras_model=False, num_hidden_layers=2)
        adds = [layer for name, layer in bert.layers.items() if name.endswith("-Add") and "Transformer" in name]
        assert len(adds) == 4 and all(a.alpha == pytest.approx(alpha) for a in adds)
        assert bert.changes_function is (rule != "lamb")
    shared = build(extend_with_deepnorm(ALBERT), return_keras_model=False, num_hidden_layers=2)
    assert shared.layers["Transformer-FeedForward-Add"].alpha == pytest.approx(4**0.25)


@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_what_comes_later_does_not_leak_and_padding_does_not_count(application):
    model = build(extend_with_deepnorm(RoFormer), application=application, with_mlm="linear")
    later = TOKENS.copy()
    later[0, 4] = 20
    segments = np.array([[0, 0, 1, 1, 1], [0, 0, 1, 0, 0]])
    ours, other = model.predict([TOKENS, segments]), model.predict([later, segments])
    np.testing.assert_allclose(ours[0, :4], other[0, :4], atol=1e-6)
    assert abs(ours[0, 4] - other[0, 4]).max() > 1e-5
    short = model.predict([TOKENS[1:, :3], segments[1:, :3]])
    np.testing.assert_allclose(ours[1:, :3], short, atol=1e-6)


def test_foreign_checkpoints_are_refused_unless_asked_for(tmp_path):
    folder = tiny_bert_folder(tmp_path / "bert", num_hidden_layers=1)
    with pytest.raises(WeightsError, match="deepnorm.*allow_pretrained=True"):
        models.load(folder, model=extend_with_deepnorm(BERT))
    with pytest.warns(UserWarning, match="Kept, .*attention/output"):
        loaded = models.load(folder, model=extend_with_deepnorm(BERT, allow_pretrained=True))
    assert loaded.bert.fresh_variables == []
    with pytest.warns(UserWarning):
        build_transformer_model(
            folder + "/bert_config.json",
            folder + "/bert_model.ckpt",
            model=extend_with_deepnorm(BERT),
            allow_pretrained=True,
        )
    plain, deep = (models.load(folder, model=cls) for cls in (BERT, extend_with_deepnorm(BERT, alpha=1)))
    inputs = [TOKENS, SEGMENTS]
    np.testing.assert_array_equal(plain.model.predict(inputs), deep.model.predict(inputs))


def test_own_checkpoints_and_whole_models_load_in_a_fresh_process(tmp_path, run_python):
    bert = build(extend_with_deepnorm(RoFormer), return_keras_model=False)
    expected = bert.model.predict([TOKENS, SEGMENTS])
    np.savez(str(tmp_path / "x.npz"), tokens=TOKENS, segments=SEGMENTS, expected=expected)
    bert.model.save(str(tmp_path / "model.h5"))
    bert.save_weights_as_checkpoint(str(tmp_path / "deep.ckpt"))
    said = run_python(
        """
import sys, json, warnings, numpy as np
import kexue_keras
from kexue_keras.backend import keras
from bert4keras.models import RoFormer, build_transformer_model
folder, config = sys.argv[1], json.loads(sys.argv[2])
x = np.load(folder + "/x.npz")
first = keras.models.load_model(folder + "/model.h5", compile=False)
cls = kexue_keras.models.extend_with_deepnorm(RoFormer)
second = build_transformer_model(None, folder + "/deep.ckpt", model=cls, **config)
for model in (first, second):
    np.testing.assert_allclose(model.predict([x["tokens"], x["segments"]]), x["expected"], atol=1e-6)
kinds = {type(layer).__name__ for layer in first.layers}
assert {"DeepNormAdd", "DeepNormAttention"} <= kinds, kinds
clone = keras.models.clone_model(first)
assert clone.get_layer("Transformer-0-MultiHeadSelfAttention").gain == 8**-0.25
print("same")
""",
        tmp_path,
        json.dumps(CONFIG),
    )
    assert "same" in said


def test_composes_with_another_extension():
    cls = extend_with_deepnorm(extend_with_entropy_invariance(BERT), beta=0.1)
    bert = build(cls, return_keras_model=False, hidden_size=64, num_attention_heads=2)
    attention = bert.layers["Transformer-0-MultiHeadSelfAttention"]
    assert type(attention).__name__ == "EntropyInvariantAttention"
    q, v, o = K.batch_get_value([getattr(attention, n).kernel for n in ("q_dense", "v_dense", "o_dense")])
    assert v.std() / q.std() == pytest.approx(0.1, rel=0.1) and o.std() / q.std() == pytest.approx(0.1, rel=0.1)
    assert bert.layers["Transformer-0-FeedForward-Add"].alpha == pytest.approx(2**0.25)
    assert extend_with_deepnorm(extend_with_entropy_invariance(BERT), rule="lamb")(
        max_position=8, **{k: v for k, v in CONFIG.items() if k != "max_position_embeddings"}
    ).changes_function


def test_residual_attention_scores_still_flow():
    model = build(extend_with_deepnorm(BERT), residual_attention_scores=True)
    assert model.predict([TOKENS, SEGMENTS]).shape == (2, 5, 16)


def kernels_of(transformer, name):
    attention, ffn = (transformer.layers[name % part] for part in ("MultiHeadSelfAttention", "FeedForward"))
    found = {kind: getattr(attention, kind + "_dense").kernel for kind in "qkvo"}
    found.update(inner=ffn.i0_dense.kernel, outer=ffn.o_dense.kernel)
    return dict(zip(found, K.batch_get_value(list(found.values()))))


@pytest.mark.parametrize("rule, beta", [(None, 1 / 2), ("sgd", 2**-0.5), ("lamb", 2**-0.5)])
def test_gpt2_starts_with_the_gains_of_pre_norm(rule, beta):
    config = dict(hidden_size=192, num_attention_heads=4, intermediate_size=384)
    gpt = build(extend_with_deepnorm(GPT2, rule=rule), return_keras_model=False, **config)
    assert (gpt.alpha, gpt.beta, gpt.changes_function) == (1, pytest.approx(beta), False)
    for name, value in kernels_of(gpt, "Transformer-0-%s").items():
        gain = 1 if name in "qk" else beta
        assert value.std() / np.sqrt(2 / sum(value.shape)) == pytest.approx(gain, rel=0.03), name
    counted = build(extend_with_deepnorm(GPT2, rule="sgd", stream=0.025), return_keras_model=False)
    assert counted.beta == pytest.approx(0.025 * 2**-0.5)


def test_pre_norm_computes_what_the_plain_model_does_and_takes_its_checkpoints(tmp_path):
    plain = build(GPT2, return_keras_model=False)
    rng = np.random.RandomState(0)
    plain.model.set_weights([w + 0.2 * rng.randn(*w.shape) for w in plain.model.get_weights()])
    expected = plain.model.predict(TOKENS)
    plain.save_weights_as_checkpoint(str(tmp_path / "plain.ckpt"))
    deep = extend_with_deepnorm(GPT2)
    loaded = build_transformer_model(None, str(tmp_path / "plain.ckpt"), model=deep, **CONFIG)  # nothing is refused
    np.testing.assert_array_equal(loaded.predict(TOKENS), expected)
    layers = [type(layer).__name__ for layer in loaded.layers]
    assert "DeepNormAdd" not in layers and layers.count("Add") == 2


@pytest.mark.parametrize("base", [T5, models.T5])
def test_the_decoder_of_a_t5_counts_three_branches_a_layer(base):
    config = dict(CONFIG, version="t5.1.1", hidden_act=["gelu", "linear"], hidden_size=96)
    t5 = build_transformer_model(model=extend_with_deepnorm(base), return_keras_model=False, **config)
    assert t5._encoder.beta == pytest.approx(1 / 2) and t5._decoder.beta == pytest.approx(1 / 3)
    for side, gain in (("Encoder", 1 / 2), ("Decoder", 1 / 3)):
        for name, layer in t5.layers.items():
            if name.startswith(side) and isinstance(layer, MultiHeadAttention):
                q, k, v, o = K.batch_get_value([getattr(layer, kind + "_dense").kernel for kind in "qkvo"])
                spread = [w.std() * 96**0.5 for w in (q, k, v, o)]
                np.testing.assert_allclose(spread, [48**-0.5, 1, gain, gain], rtol=0.06)
    ids = np.array([[5, 6, 7, 0]])
    assert t5.model.predict([ids, ids]).shape == (1, 4, config["vocab_size"])
    assert extend_with_deepnorm(T5_Encoder)(**config).beta == pytest.approx(1 / 2)


def test_a_trained_gpt2_is_saved_and_loaded_in_a_fresh_process(tmp_path, run_python):
    config = dict(CONFIG, final_activation="linear")
    gpt = build_transformer_model(model=extend_with_deepnorm(GPT2, rule="sgd"), return_keras_model=False, **config)
    gpt.model.compile(keras.optimizers.SGD(0.1), "mse")
    gpt.model.train_on_batch(TOKENS, np.ones((2, 5, config["vocab_size"])))
    gpt.model.save(str(tmp_path / "model.h5"))
    gpt.save_weights_as_checkpoint(str(tmp_path / "gpt.ckpt"))
    np.savez(str(tmp_path / "x.npz"), tokens=TOKENS, expected=gpt.model.predict(TOKENS))
    run_python(
        """
import sys, json, numpy as np
import kexue_keras
from kexue_keras.backend import keras
from bert4keras.models import GPT2, build_transformer_model
x = np.load(sys.argv[1] + "/x.npz")
first = keras.models.load_model(sys.argv[1] + "/model.h5")
cls = kexue_keras.models.extend_with_deepnorm(GPT2, rule="sgd")
second = build_transformer_model(None, sys.argv[1] + "/gpt.ckpt", model=cls, **json.loads(sys.argv[2]))
for model in (first, second):
    np.testing.assert_allclose(model.predict(x["tokens"]), x["expected"], atol=1e-6)
assert first.get_layer("Transformer-0-MultiHeadSelfAttention").gain == 2**-0.5
""",
        tmp_path,
        json.dumps(config),
    )


def test_one_step_moves_a_gpt2_less_than_with_plain_xavier():
    rng = np.random.RandomState(0)
    batch = rng.randint(1, 50, (1, 8)), rng.randint(1, 50, (1, 8, 1))

    def loss(labels, logits):
        return K.sparse_categorical_crossentropy(labels, logits / 4, from_logits=True)

    change = {}
    for beta in (None, 1.0):
        cls = extend_with_deepnorm(GPT2, rule="sgd", beta=beta)
        model = build(cls, num_hidden_layers=2, final_activation="linear")
        for name, scale in (("Embedding-Token", 0.8), ("Embedding-Position", 0.6)):  # a stream of size 1
            layer = model.get_layer(name)
            layer.set_weights([scale * rng.randn(*w.shape) for w in layer.get_weights()])
            layer.trainable = False
        result = models.update_magnitude(model, batch, keras.optimizers.SGD(0.1), loss=loss)
        change[beta] = result.output_change
    assert change[1.0] > 1.5 * change[None] > 0, change


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="GPT2_ML.*one LayerNormalization for two branches"):
        extend_with_deepnorm(GPT2_ML)
    with pytest.raises(ValueError, match="rule='paper' is for post-norm models; give rule='adam', 'sgd' or 'lamb'"):
        extend_with_deepnorm(GPT2, rule="paper")
    with pytest.raises(ValueError, match="alpha is 2, but T5 is pre-norm"):
        extend_with_deepnorm(T5, alpha=2)
    with pytest.raises(ValueError, match="stream=0.5 is for norm='pre'"):
        extend_with_deepnorm(BERT, stream=0.5)
    with pytest.raises(ValueError, match="model class of bert4keras.*'bert'"):
        extend_with_deepnorm("bert")
    with pytest.raises(ValueError, match="rule must be one of .*'paper'.* but is 'adamw'"):
        extend_with_deepnorm(BERT, rule="adamw")
    with pytest.raises(ValueError, match="extend_with_deepnorm: alpha must be a number >= 0, but is -1"):
        extend_with_deepnorm(BERT, alpha=-1)
