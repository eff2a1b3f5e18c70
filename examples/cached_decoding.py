#! -*- coding: utf-8 -*-
"""Cached, batched decoding: the two lines that change in a bert4keras script with AutoRegressiveDecoder.

Prints whether both find the same texts, and the seconds each took. The model need not be trained for that.
"""

import time

import numpy as np
from bert4keras.snippets import AutoRegressiveDecoder

from kexue_keras import models
from kexue_keras.backend import set_seed
from kexue_keras.data import split_reviews
from kexue_keras.decoding import CachedDecoder

max_length = 32  # tokens to write
topk = 3
texts_to_write = 8
num_hidden_layers = 6  # the lowest 6 of 12, for time

model_path = "me5-zh-char-mlm"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"

set_seed(2021)
texts = [text for text, _ in split_reviews(train=texts_to_write, valid=0, test=0, seed=2021)[0]]
pretrained = models.load(model_path, application="unilm", with_mlm=True, num_hidden_layers=num_hidden_layers)
tokenizer, model = pretrained.tokenizer, pretrained.model


def writer(base):
    """A class that writes texts; its `predict` is the one of the script that you have."""

    class Writer(base):
        """UniLM: what is written has segment 1."""

        @AutoRegressiveDecoder.wraps(default_rtype="probas")
        def predict(self, inputs, output_ids, states):
            token_ids, segment_ids = inputs
            token_ids = np.concatenate([token_ids, output_ids], 1)
            segment_ids = np.concatenate([segment_ids, np.ones_like(output_ids)], 1)
            return self.last_token(model).predict([token_ids, segment_ids])

    return Writer


before = writer(AutoRegressiveDecoder)(start_id=None, end_id=tokenizer._token_end_id, maxlen=max_length)
after = writer(CachedDecoder)(
    start_id=None, end_id=tokenizer._token_end_id, maxlen=max_length, model=model
)  # <- base, model

if __name__ == "__main__":
    inputs = [tokenizer.encode(text, maxlen=64) for text in texts]
    after.beam_search_batch(list(zip(*inputs)), topk=topk)  # the graph is built at the first call
    start = time.time()
    old = [before.beam_search(list(one), topk=topk) for one in inputs]
    middle = time.time()
    new = after.beam_search_batch(list(zip(*inputs)), topk=topk)  # <- all texts at once
    end = time.time()
    same = sum(list(a) == list(b) for a, b in zip(old, new))
    print("the same in %d of %d texts" % (same, len(texts)))
    print(
        "%.1f s before, %.1f s after: %.1f times as fast"
        % (middle - start, end - middle, (middle - start) / (end - middle))
    )
