"""New weights depend on the seed alone, whatever the graph has so far."""

import numpy as np
import pytest
from bert4keras.models import BERT
from helpers import tiny_vocabulary

from kexue_keras import models
from kexue_keras.backend import K, keras, set_seed
from kexue_keras.checkpoints._seeded_start import extend_with_seeded_start
from kexue_keras.finetune._seq2seq import small_t5

pytestmark = pytest.mark.all_stacks


def weights(build, seed, operations=0):
    """Values of what `build` returns, in a graph that has some operations already."""
    K.clear_session()
    for _ in range(operations):
        K.zeros((2,))
    set_seed(seed)
    return build().model.get_weights()


def scratch_t5(folder):
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(tiny_vocabulary()), encoding="utf-8")
    return small_t5(vocabulary=str(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)


@pytest.mark.dear
@pytest.mark.parametrize("kind", ["missing head", "more layers", "t5"])
def test_new_weights_are_those_of_the_seed(tiny, tmp_path, kind):
    options = {"missing head": {"with_mlm": "linear", "with_pool": True}, "more layers": {"num_hidden_layers": 3}}

    def build():
        if kind == "t5":
            return scratch_t5(tmp_path)
        return models.load(tiny, missing="initialise", **options[kind])

    first, again, other = weights(build, 3), weights(build, 3, operations=7), weights(build, 4)
    for one, same in zip(first, again):
        np.testing.assert_array_equal(one, same)
    assert any(not np.array_equal(one, another) for one, another in zip(first, other))
    # No two layers begin alike.
    matrices = [w for w in first if w.ndim == 2 and w.shape == (16, 16) and w.std() > 0]
    assert len({w.tobytes() for w in matrices}) == len(matrices) > 1


def test_what_draws_with_numpy_is_left():
    assert extend_with_seeded_start("no such kind") == "no such kind"
    assert extend_with_seeded_start("roformer_v2").__name__ == "RoFormerV2"


@pytest.mark.parametrize("own", ["he_normal", "seeded"])
def test_a_class_with_another_initializer_keeps_it(own):
    made = keras.initializers.TruncatedNormal(stddev=0.5, seed=3) if own == "seeded" else keras.initializers.get(own)

    class Own(BERT):
        initializer = property(lambda self: made)

    sizes = dict(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = extend_with_seeded_start(Own)(max_position=8, hidden_act="gelu", **sizes)
    assert model.initializer is made
