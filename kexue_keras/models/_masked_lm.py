"""The masked language model head of a bert4keras transformer, at chosen positions only, and how well it predicts.

With 15% of the tokens to predict, the dense layer, the norm and the large product with the embedding run over these
alone, which saves most of the head's time and memory.
"""

from typing import Any, Dict

import numpy as np
import tensorflow as tf

from kexue_keras.backend import ModelSession, keras
from kexue_keras.data import BucketedBatches, encode, gather_places, random_masking
from kexue_keras.errors import WeightsError
from kexue_keras.models._language_models_only import guard_mlm
from kexue_keras.types import Model, Texts, Tokenizer, Transformer

HEAD = ("MLM-Dense", "MLM-Norm", "MLM-Bias")


def predict_at(transformer: Transformer) -> Model:
    """A Keras model that gives the head's logits at given positions.

    Args:
        transformer: bert4keras transformer object, built with `with_mlm="linear"`.

    Returns:
        model: inputs token ids `[B, n]`, segment ids `[B, n]`, positions `[B, m]` int32 -> logits `[B, m, vocabulary]`.
        It shares all weights with the transformer.

    Raises:
        WeightsError: the transformer has no head for masked language modelling.
        ValueError: it is an ELECTRA.

    Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; arXiv 1810.04805.

    >>> from kexue_keras.models import load, predict_at
    >>> encoder = load('me5-zh-char', num_hidden_layers=1, with_mlm='linear', missing='initialise')
    >>> token_ids, segment_ids = encoder.tokenizer.encode('今天天气不错')
    >>> predict_at(encoder.bert).predict([np.array([token_ids]), np.array([segment_ids]), np.array([[3, 4]])]).shape
    (1, 2, 14001)
    """
    guard_mlm(transformer)
    layers = {name: transformer.layers.get(transformer.prefixed(name)) for name in HEAD + ("Embedding-Token",)}
    absent = [name for name in HEAD if layers[name] is None]
    if absent:
        raise WeightsError(
            "this model has no head for masked language modelling (no layer %s); build it with with_mlm='linear'"
            % ", ".join(absent)
        )
    x, places = gather_at(layers["MLM-Dense"].get_input_at(0))
    x = layers["MLM-Norm"](layers["MLM-Dense"](x))
    x = layers["MLM-Bias"](layers["Embedding-Token"](x, mode="dense"))
    return keras.models.Model(transformer.model.inputs[:2] + [places], x)


def gather_at(sequence):
    """The vectors of a sequence at positions that are an input.

    Args:
        sequence: tensor `[B, n, size]`.

    Returns:
        (tensor `[B, m, size]`, the input of positions `[B, m]` int32).
    """
    places = keras.layers.Input((None,), dtype="int32", name="Places")
    # What comes out is no sequence of tokens any more, so the padding mask ends here.
    x = keras.layers.Lambda(
        lambda pair: tf.gather(pair[0], tf.cast(pair[1], tf.int32), batch_dims=1),
        mask=lambda *_: None,
        name="At-Places",
    )([sequence, places])
    return x, places


def mask_batch(tokenizer, tokens, segments, random, *, mask_rate=0.15, protected=None):
    """Inputs and labels of `predict_at`'s model for a batch with random masking.

    Args:
        tokenizer: bert4keras tokenizer.
        tokens, segments: int arrays `[B, n]`.
        random: `np.random.RandomState`.
        mask_rate, protected: see `random_masking`; None protects what is no text ([CLS], [SEP], ...).

    Returns:
        ([tokens with some hidden, segments, positions `[B, m]`], labels `[B, m, 1]` with 0 for padding).
    """
    inputs, labels = random_masking(
        tokens,
        random,
        mask_id=tokenizer._token_mask_id,
        vocab_size=tokenizer._vocab_size,
        protected=special_ids(tokenizer) if protected is None else protected,
        mask_rate=mask_rate,
    )
    places, labels = gather_places(labels)
    return [inputs, segments, places], labels[..., None]


def special_ids(tokenizer):
    """Ids of [CLS], [SEP] and what else is no text."""
    names = ("_token_start_id", "_token_end_id", "_token_pad_id", "_token_mask_id")
    return [i for i in (getattr(tokenizer, name, None) for name in names) if i is not None]


def masked_accuracy(
    model: Model,
    tokenizer: Tokenizer,
    texts: Texts,
    *,
    max_length: int = 128,
    mask_rate: float = 0.15,
    batch_size: int = 32,
    seed: int = 12345,
) -> Dict[str, Any]:
    """How well hidden tokens of `texts` are predicted; the same ones each time.

    Args:
        model: what `predict_at` returned.
        tokenizer: bert4keras tokenizer.
        texts: list of str, or of (str, str).
        max_length: longest text in tokens.
        mask_rate: share of the tokens that are hidden.
        batch_size: rows per batch.
        seed: int, what is hidden.

    Returns:
        dict: accuracy, loss (nats per token), tokens (how many were hidden; 0: the other three are None), chance (share
        of the most frequent among them, what answering always the same would get).

    >>> from kexue_keras.models import load, predict_at
    >>> encoder = load('me5-zh-char', num_hidden_layers=1, with_mlm='linear', missing='initialise')
    >>> scores = masked_accuracy(predict_at(encoder.bert), encoder.tokenizer, ['今天天气不错，我们去公园走走'] * 4)
    >>> scores['tokens'], scores['accuracy'] <= scores['chance']   # the head is random
    (6, True)
    """
    session = ModelSession(model)
    examples = masked_examples(
        tokenizer, texts, max_length=max_length, mask_rate=mask_rate, batch_size=batch_size, seed=seed
    )
    return token_accuracy(lambda inputs: session.predict_on_batch(model, inputs), examples)


def masked_examples(tokenizer, texts, *, max_length, mask_rate=0.15, batch_size=32, seed=12345):
    """Yields (inputs of `predict_at`'s model, labels `[B, m]`) of all texts; arguments as for `masked_accuracy`."""
    encoded, _ = encode(tokenizer, texts, max_length)
    batches = BucketedBatches(encoded, batch_size=batch_size, max_length=max_length)
    random = np.random.RandomState(seed)
    for indices in batches.in_length_order():
        inputs, labels = mask_batch(tokenizer, *batches.inputs(indices), random, mask_rate=mask_rate)
        yield inputs, labels[..., 0]


def token_accuracy(predict, examples):
    """How well tokens are predicted.

    Args:
        predict: function of inputs, gives logits `[B, m, vocabulary]`.
        examples: iterable of (inputs, labels int `[B, m]`, 0 where nothing is predicted).

    Returns:
        dict, see `masked_accuracy`.
    """
    hits, loss, truth = 0, 0.0, [np.zeros(0, "int32")]
    for inputs, labels in examples:
        logits = np.asarray(predict(inputs))
        rows, right = logits[labels != 0].astype("float64"), labels[labels != 0]
        top = rows.max(axis=1)
        loss += (top + np.log(np.exp(rows - top[:, None]).sum(axis=1)) - rows[np.arange(len(right)), right]).sum()
        hits += (rows.argmax(axis=1) == right).sum()
        truth.append(right)
    truth = np.concatenate(truth)
    if not truth.size:
        return {"accuracy": None, "loss": None, "tokens": 0, "chance": None}
    return {
        "accuracy": round(float(hits) / truth.size, 4),
        "loss": round(float(loss) / truth.size, 4),
        "tokens": int(truth.size),
        "chance": round(float(np.bincount(truth).max()) / truth.size, 4),
    }
