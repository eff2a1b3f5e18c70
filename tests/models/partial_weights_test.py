"""PartialWeights: foreign checkpoints are refused or taken in part, own ones load whole; both loaders."""

import numpy as np
import pytest
from bert4keras.models import BERT
from helpers import tiny_bert_folder
from model_checks import IDS, make, predict

from kexue_keras.backend import K
from kexue_keras.checkpoints import convert
from kexue_keras.errors import WeightsError
from kexue_keras.layers import DeepNormAdd, EntropyInvariantAttention
from kexue_keras.models import (
    UniVAE,
    enlarge,
    extend_with_deepnorm,
    extend_with_entropy_invariance,
    extend_with_mixer,
    extend_with_synthesizer,
    load,
    save,
)
from kexue_keras.models._partial_weights import PartialWeights, summarize


def test_names_are_summarised():
    names = ["bert/encoder/layer_%d/output/dense/kernel" % i for i in range(12)] + ["bert/pooler/dense/bias"]
    assert summarize(names) == "bert/encoder/layer_*/output/dense/kernel, bert/pooler/dense/bias"


def test_a_foreign_checkpoint_is_refused_by_both_loaders(tmp_path):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    cls = extend_with_mixer(BERT, "gmlp")
    with pytest.raises(
        WeightsError, match="not saved by a model with mixer_gmlp.*nothing was loaded.*allow_pretrained"
    ):
        load(folder, model=cls)
    K.clear_session()
    transformer = make(cls)
    before = transformer.model.get_weights()
    with pytest.raises(WeightsError, match="allow_pretrained=True"):
        transformer.load_weights_from_checkpoint(str(tmp_path / "bert_model.ckpt"))
    for a, b in zip(before, transformer.model.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("by_class", [True, False])
def test_what_can_be_kept_is_kept_and_listed(tmp_path, by_class):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    cls = extend_with_mixer(BERT, "resmlp", allow_pretrained=by_class)
    options = {} if by_class else {"allow_pretrained": True}
    with pytest.warns(UserWarning, match=r"Kept, \d+ variables: bert/embeddings.*Fresh, 2 variables: .*/resmlp/kernel"):
        loaded = load(folder, model=cls, **options)
    bert = loaded.bert
    assert sorted(bert.fresh_variables)[0] == "bert/encoder/layer_0/attention/resmlp/bias"
    assert "bert/encoder/layer_0/intermediate/dense/kernel" in bert.kept_variables
    assert not any("self/query" in name for name in bert.kept_variables)
    kernel = K.get_value(bert.layers["Transformer-0-FeedForward"].i0_dense.kernel)
    embeddings = K.get_value(bert.layers["Embedding-Token"].embeddings)
    if by_class:
        return
    K.clear_session()
    plain = load(folder).bert
    np.testing.assert_array_equal(kernel, K.get_value(plain.layers["Transformer-0-FeedForward"].i0_dense.kernel))
    np.testing.assert_array_equal(embeddings, K.get_value(plain.layers["Embedding-Token"].embeddings))


def test_own_checkpoints_load_whole_and_nowhere_else(tmp_path):
    cls = extend_with_synthesizer(BERT, variants=("random", "vanilla", "fixed_random"), seed=3)
    first = make(cls)
    out = predict(first, IDS)
    K.batch_get_value(first.model.weights)
    path = str(tmp_path / "own.ckpt")
    first.save_weights_as_checkpoint(path)
    K.clear_session()
    again = make(cls)
    again.load_weights_from_checkpoint(path)
    assert not again.fresh_variables and len(again.kept_variables) > 15
    # The fixed matrices are in no bert4keras checkpoint; the class draws the same ones.
    np.testing.assert_allclose(predict(again, IDS), out, atol=1e-6)
    K.clear_session()
    other = make(extend_with_synthesizer(BERT, variants=("dense",)))
    with pytest.raises(Exception, match="synthesizer/"):
        other.load_weights_from_checkpoint(path)


def test_dicts_and_classes_that_change_nothing(tmp_path):
    class Same(PartialWeights, BERT):
        changes_function = False

    plain = make(BERT)
    out = predict(plain, IDS)
    variables = {}
    for layer, names in plain.variable_mapping().items():
        if layer in plain.layers:
            variables.update(zip(names, K.batch_get_value(plain.layers[layer].trainable_weights)))
    K.clear_session()
    same = make(Same)
    same.load_weights_from_checkpoint(variables)
    np.testing.assert_allclose(predict(same, IDS), out, atol=1e-6)
    K.clear_session()
    invariant = make(extend_with_entropy_invariance(BERT, base=32))
    with pytest.raises(WeightsError, match="the dict of variables was not saved by a model with entropy_invariance"):
        invariant.load_weights_from_checkpoint(variables)


def test_extensions_stack_in_either_order():
    inner_first = [extend_with_deepnorm, extend_with_entropy_invariance]
    outputs = []
    for first, second in (inner_first, inner_first[::-1]):
        transformer = make(second(first(BERT)))
        rng = np.random.RandomState(0)
        transformer.model.set_weights([0.1 * rng.randn(*w.shape) for w in transformer.model.get_weights()])
        assert isinstance(transformer.layers["Transformer-0-MultiHeadSelfAttention"], EntropyInvariantAttention)
        assert isinstance(transformer.layers["Transformer-0-FeedForward-Add"], DeepNormAdd)
        outputs.append(predict(transformer, IDS))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-6)


EXTENSIONS = {
    "deepnorm": extend_with_deepnorm,
    "entropy_invariance": lambda base: extend_with_entropy_invariance(base, base=32),
    "mixer_resmlp": lambda base: extend_with_mixer(base, "resmlp"),
    "synthesizer": lambda base: extend_with_synthesizer(base, variants=("random",)),
    "univae": lambda base: UniVAE(base, num_latent_layers=1, z_dim=4, max_length=8, length_leak="restart"),
    "deepnorm, entropy_invariance": lambda base: extend_with_deepnorm(extend_with_entropy_invariance(base, base=32)),
}


@pytest.mark.dear
@pytest.mark.parametrize("technique", sorted(EXTENSIONS))
@pytest.mark.filterwarnings("ignore:.*was not saved by a model with")
def test_saved_folders_load_as_what_they_are_and_as_nothing_else(tmp_path, technique):
    cls = EXTENSIONS[technique](BERT)
    build = {} if technique == "univae" else {"with_mlm": True}
    layers = 2 if technique == "univae" else 1  # one below the latents
    first = load(tiny_bert_folder(tmp_path, num_hidden_layers=layers), model=cls, allow_pretrained=True, **build)
    weights = first.bert.model.get_weights()
    own, other = str(tmp_path / "own"), str(tmp_path / "other")
    save(first, own)
    with pytest.raises(WeightsError, match="Hugging Face's library has no model with " + technique):
        convert(own, other, format="hf", extra="ignore")
    with pytest.raises(WeightsError, match="saved by a model with " + technique):
        enlarge(own, other)
    K.clear_session()
    with pytest.raises(WeightsError, match="saved by a model with %s, so its weights would" % technique):
        load(own, **build)
    K.clear_session()
    convert(own, other, format="tensorflow", keep_tokens=range(10))
    with pytest.raises(WeightsError, match="saved by a model with " + technique):
        load(other, **build)
    K.clear_session()
    again = load(own, model=cls, **build).bert
    assert not again.fresh_variables
    for a, b in zip(weights, again.model.get_weights()):
        np.testing.assert_array_equal(a, b)
