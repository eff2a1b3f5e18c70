"""A pattern for a way of reading and the lengths of the words, and the scores of the words in its slots.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764.
"""

import numpy as np

from kexue_keras.backend import prediction_batching
from kexue_keras.data import PredictionBatches
from kexue_keras.prompting._causal import CausalPattern


def compile_pattern(pattern, words, tokenizer, max_length, *, reading):
    """Dict number of slots -> `TokenizedPattern`.

    Args:
        pattern: `Pattern`.
        words: `TokenizedVerbalizer`.
        tokenizer: bert4keras tokenizer.
        max_length: longest row in tokens.
        reading: see `reading_of`.

    Raises:
        ValueError: slots and words that do not go together; see `Pattern.compile` and `CausalPattern`.
    """
    lengths = words.lengths
    if lengths != [pattern.slots] and not words.verbalizer.normalize_length:
        raise ValueError(
            "%r has %d slot(s), but the labels' words have %d token(s); write {mask} that often"
            % (pattern, pattern.slots, lengths[0])
        )
    versions = {k: pattern if k == pattern.slots else pattern.with_slots(k) for k in lengths}
    if reading == "encoder":
        return {k: version.compile(tokenizer, max_length) for k, version in versions.items()}
    options = {"longest": max(lengths)}
    return {k: CausalPattern(one, tokenizer, max_length, slots=k, **options) for k, one in versions.items()}


def cloze_scores(session, model, pattern, words, texts, *, batch_size):
    """Scores of the words that have as many tokens as a pattern has slots.

    Args:
        session: `ModelSession`.
        model: what `predict_at` returned.
        pattern: `TokenizedPattern`.
        words: `TokenizedVerbalizer`.
        texts: list of str, or of (str, str).
        batch_size: rows per batch.

    Returns:
        float64 `[N, words]`.
    """
    prompts = [pattern.encode(text) for text in texts]
    encoded = [(prompt.token_ids, prompt.segment_ids) for prompt in prompts]
    batches = PredictionBatches(encoded, batch_size=batch_size, max_length=pattern.max_length, **prediction_batching())
    scores = np.zeros((len(texts), len(words.ids[pattern.pattern.slots])))
    for indices in batches.in_length_order() if texts else ():
        places = np.array([prompts[i].slots for i in indices], "int32")
        logits = session.predict_on_batch(model, batches.inputs(indices) + [places])
        scores[indices] = words.word_scores(logits)
    return scores
