"""CachedDecoder: a script with bert4keras' AutoRegressiveDecoder gives the same with only its base class changed."""

import numpy as np
import pytest
from bert4keras.snippets import AutoRegressiveDecoder
from language_models import END, sources, tiny

from kexue_keras.decoding import CachedDecoder


def script(base, transformer, segment=1, **options):
    """As in bert4keras' examples."""
    model = transformer.model

    class AutoTitle(base):
        @AutoRegressiveDecoder.wraps(default_rtype="probas")
        def predict(self, inputs, output_ids, states):
            token_ids, segment_ids = inputs
            token_ids = np.concatenate([token_ids, output_ids], 1)
            segment_ids = np.concatenate([segment_ids, np.full_like(output_ids, segment)], 1)
            return self.last_token(model).predict([token_ids, segment_ids])

    return AutoTitle(start_id=None, end_id=END, **options)


def test_a_unilm_script():
    transformer = tiny("bert", "unilm")
    before = script(AutoRegressiveDecoder, transformer, maxlen=6, minlen=3)
    now = script(CachedDecoder, transformer, maxlen=6, minlen=3, model=transformer.model)
    texts = sources(5, 3)
    wanted = [before.beam_search([text, [0] * len(text)], topk=2) for text in texts]
    assert [now.beam_search([text, [0] * len(text)], 2).tolist() for text in texts] == [w.tolist() for w in wanted]
    batch = now.beam_search_batch([texts, [[0] * len(text) for text in texts]], 2, batch_size=1)
    assert [b.tolist() for b in batch] == [w.tolist() for w in wanted]
    with pytest.raises(ValueError, match="leave states out"):
        now.beam_search([texts[0], [0] * 5], 2, states=1)


def test_a_predict_that_says_something_else_is_found_out():
    transformer = tiny("bert", "unilm")
    text = [sources(5)[0], [0] * 5]
    other = script(CachedDecoder, transformer, segment=0, maxlen=6, model=transformer.model)
    with pytest.raises(ValueError, match=r"after [1-5] generated tokens predict\(\) of AutoTitle gives other"):
        other.random_sample(text, 4, topk=3, topp=0.95)
    # Who goes on all the same has been told. numpy's seed is bert4keras' one.
    np.random.seed(3)
    drawn = [x.tolist() for x in other.random_sample(text, 4, topk=3, topp=0.95)]
    np.random.seed(3)
    assert drawn == [x.tolist() for x in other.random_sample(text, 4, topk=3, topp=0.95)]
    assert len(drawn) == 4 and all(len(x) <= 6 for x in drawn)
    # At an entropy of 0 only the likeliest is drawn.
    sure = other.random_sample(text, 4, entropy=0.0)
    greedy = other.generator.greedy([text[:1], text[1:]], max_length=6)
    assert [x.tolist() for x in sure] == 4 * greedy.lists()[0]


def test_a_t5_script():
    transformer = tiny("t5.1.1")
    encoder, decoder = transformer.encoder, transformer.decoder

    def make(base, **options):
        class AutoTitle(base):
            @AutoRegressiveDecoder.wraps(default_rtype="probas")
            def predict(self, inputs, output_ids, states):
                return self.last_token(decoder).predict([inputs[0], output_ids])

            def generate(self, ids, topk):
                return self.beam_search([encoder.predict(np.array([ids]))[0]], topk=topk).tolist()

        return AutoTitle(start_id=0, end_id=END, maxlen=6, **options)

    before, now = make(AutoRegressiveDecoder), make(CachedDecoder, model=decoder, check=False)
    for ids in sources(5, 3):
        for topk in (1, 3):
            assert now.generate(ids, topk) == before.generate(ids, topk)
            assert now.generate(ids, topk)[0] == 0
