"""Whether the head for masked language modelling was ever trained.

Some published checkpoints have none, some have a random one (RoBERTa-wwm-ext-large): a prompt then answers at random
and give no sign of it.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764.
"""

import math
import warnings

from kexue_keras.errors import WeightsError
from kexue_keras.models._causal_lm import next_token_accuracy
from kexue_keras.models._masked_lm import masked_accuracy

HEAD_VARIABLES = "cls/predictions/"
# Below this number of hidden tokens an untrained head and an unlucky one look the same.
ENOUGH = 50


class UntrainedHeadWarning(UserWarning):
    """The head predicts hidden tokens no better than always answering the most frequent one."""


def require_head(pretrained):
    """Refuse a model whose checkpoint had no head.

    Raises:
        WeightsError: the head's variables were not in the checkpoint.
    """
    fresh = [name for name in getattr(pretrained, "fresh_variables", ()) if name.startswith(HEAD_VARIABLES)]
    if fresh:
        raise WeightsError(
            "%s has no head for masked language modelling (it lacks %s), so its answers would be random; take a "
            "model with one (me5-zh-char-mlm), train one (examples/pretrain_mlm.py), or give allow_untrained_head=True"
            % (pretrained.name, ", ".join(fresh))
        )


def is_trained(scores):
    """Whether masked accuracy is above chance by more than two standard errors; None if there is too little text.

    Args:
        scores: dict from `masked_accuracy`.

    >>> [is_trained({'accuracy': a, 'chance': .05, 'tokens': n}) for a, n in [(.4, 200), (.06, 200), (.4, 20)]]
    [True, False, None]
    """
    if scores["tokens"] < ENOUGH:
        return None
    error = math.sqrt(scores["chance"] * (1 - scores["chance"]) / scores["tokens"])
    return bool(scores["accuracy"] > scores["chance"] + 2 * error)


def check_head(model, tokenizer, texts, *, name, max_length, reading="encoder"):
    """Measure the head on texts, and warn if it is no better than chance.

    Args:
        model: what `predict_at` or, for the other readings, `predict_next_at` returned.
        tokenizer: bert4keras tokenizer.
        texts: list of str, or of (str, str).
        name: what messages call the model.
        max_length: longest text in tokens.
        reading: see `reading_of`; "lm" and "unilm" are asked for next tokens, not for hidden ones.

    Returns:
        dict from `masked_accuracy` or `next_token_accuracy`, and "trained": True, False, or None if the texts are too
        few to tell.
    """
    if reading == "encoder":
        task, asked, like = "masked language modelling", "hidden", " (as that of RoBERTa-wwm-ext-large)"
        scores = masked_accuracy(model, tokenizer, list(texts), max_length=max_length)
    else:
        task, asked, like = "left-to-right language modelling", "next", " for that"
        scores = next_token_accuracy(model, tokenizer, list(texts), reading=reading, max_length=max_length)
    scores["trained"] = is_trained(scores)
    if scores["trained"] is False:
        warnings.warn(
            "the head for %s of %s is NOT BETTER THAN CHANCE on these texts: it finds %.1f%% of %d %s tokens, the "
            "most frequent of them alone is %.1f%%. It was probably never trained%s; what it answers to a prompt means "
            "nothing." % (task, name, 100 * scores["accuracy"], scores["tokens"], asked, 100 * scores["chance"], like),
            UntrainedHeadWarning,
            stacklevel=4,
        )
    return scores
