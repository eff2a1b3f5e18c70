"""Next tokens of a bert4keras language model, at chosen positions only, and how well it predicts them.

Reference: "P-tuning：自动构建模版，释放语言模型潜能", kexue.fm/archives/8295; UniLM, arXiv 1905.03197.
"""

import itertools
from typing import Any, Dict

import numpy as np
from bert4keras.models import GPT, LM_Mask, T5_Base, UniLM_Mask

from kexue_keras.backend import ModelSession, keras
from kexue_keras.data import BucketedBatches, encode, gather_places
from kexue_keras.errors import WeightsError
from kexue_keras.models._masked_lm import gather_at, predict_at, special_ids, token_accuracy
from kexue_keras.types import Model, Texts, Tokenizer, Transformer


def reading_of(transformer):
    """How a bert4keras transformer reads: what a token sees of the others.

    Args:
        transformer: bert4keras transformer object.

    Returns:
        "lm" (what precedes it: GPT, GPT2, application='lm'), "unilm" (all of segment 0, of segment 1 what stands
        before it), or "encoder" (everything).

    Raises:
        ValueError: a T5, which has its text in an encoder and its answer in a decoder.

    >>> from bert4keras.models import BERT, GPT2, extend_with_unified_language_model
    >>> config = dict(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    >>> classes = GPT2, extend_with_unified_language_model(BERT), BERT
    >>> [reading_of(cls(max_position=8, hidden_act='gelu', **config)) for cls in classes]
    ['lm', 'unilm', 'encoder']
    """
    if isinstance(transformer, T5_Base):
        raise ValueError(
            "%s has its text in an encoder and its answer in a decoder, so a prompt is no row of tokens there; take a "
            "GPT, a BERT, or one with application='lm' or 'unilm'" % type(transformer).__name__
        )
    if isinstance(transformer, UniLM_Mask):
        return "unilm"
    return "lm" if isinstance(transformer, LM_Mask) else "encoder"


def predict_next_at(transformer: Transformer) -> Model:
    """A Keras model that gives the logits of the token after each of the given positions.

    Args:
        transformer: bert4keras transformer object that reads left to right: GPT, GPT2, GPT2_ML, or any built with
            application='lm' or 'unilm' and with_mlm='linear'.

    Returns:
        model: inputs token ids `[B, n]`, segment ids `[B, n]` (not for GPT2 and GPT2_ML, which have none), positions
        `[B, m]` int32 -> logits `[B, m, vocabulary]`, before any softmax. It shares all weights with the transformer.

    Raises:
        WeightsError: the transformer does not predict next tokens.

    Reference: kexue.fm/archives/8295.

    >>> from bert4keras.models import GPT2, build_transformer_model
    >>> config = dict(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    >>> gpt = build_transformer_model(model='gpt2', hidden_act='gelu', return_keras_model=False, **config)
    >>> predict_next_at(gpt).predict([np.array([[1, 2, 3]]), np.array([[1, 2]])]).shape
    (1, 2, 9)
    """
    if reading_of(transformer) == "encoder":
        raise WeightsError(
            "%s reads in both directions, so it does not predict next tokens; build it with application='lm' or "
            "'unilm'" % type(transformer).__name__
        )
    if not isinstance(transformer, GPT):
        return predict_at(transformer)
    embedding = transformer.layers[transformer.prefixed("Embedding-Token")]
    logits = transformer.layers[transformer.prefixed("LM-Activation")].get_input_at(0)
    # The call of the embedding that is the output's matrix; it is called for tokens, too, and maybe for segments.
    call = next(i for i in itertools.count() if embedding.get_output_at(i) is logits)
    x, places = gather_at(embedding.get_input_at(call))
    return keras.models.Model(transformer.model.inputs + [places], embedding(x, mode="dense"))


def next_token_accuracy(
    model: Model,
    tokenizer: Tokenizer,
    texts: Texts,
    *,
    reading: str = "lm",
    max_length: int = 128,
    batch_size: int = 32,
) -> Dict[str, Any]:
    """How well the tokens of `texts` are predicted from what precedes them.

    Args:
        model: what `predict_next_at` returned.
        tokenizer: bert4keras tokenizer.
        texts: list of str, or of (str, str).
        reading: "lm": all tokens of a text are asked for; "unilm": those of its second half, after the first in segment
            0.
        max_length: longest text in tokens.
        batch_size: rows per batch.

    Returns:
        dict: accuracy, loss, tokens, chance, as of `masked_accuracy`.

    >>> from kexue_keras.models import load
    >>> encoder = load('me5-zh-char', num_hidden_layers=1, with_mlm='linear', application='lm', missing='initialise')
    >>> scores = next_token_accuracy(predict_next_at(encoder.bert), encoder.tokenizer, ['今天天气不错'])
    >>> scores['tokens'], scores['accuracy'] <= scores['chance']   # the head is random
    (6, True)
    """
    encoded, _ = encode(tokenizer, texts, max_length)
    if reading == "unilm":
        encoded = [(tokens, [int(2 * i >= len(tokens)) for i in range(len(tokens))]) for tokens, _ in encoded]
    batches = BucketedBatches(encoded, batch_size=batch_size, max_length=max_length)

    def examples():
        for indices in batches.in_length_order():
            tokens, segments = batches.inputs(indices)
            asked = askable(tokens, segments, special_ids(tokenizer), reading)
            places, labels = gather_places(next_labels(tokens, asked))
            yield inputs_of(model, tokens, segments, places), labels

    session = ModelSession(model)
    return token_accuracy(lambda inputs: session.predict_on_batch(model, inputs), examples())


def askable(tokens, segments, special, reading):
    """Which tokens may be asked for from the position before them; the same shape as `tokens`, bool."""
    chosen = ~np.isin(tokens, special) & (tokens != 0)
    chosen[:, 0] = False
    # What is in segment 0 of a UniLM is seen by the position before it.
    return chosen & (segments > 0) if reading == "unilm" else chosen


def next_labels(tokens, chosen):
    """Labels at the positions that predict: at each the chosen token after it, else 0."""
    labels = np.zeros_like(tokens)
    labels[:, :-1] = np.where(chosen, tokens, 0)[:, 1:]
    return labels


def inputs_of(model, tokens, segments, places):
    """What the model takes: without segments, if it has none."""
    return [tokens, segments, places] if len(model.inputs) == 3 else [tokens, places]
