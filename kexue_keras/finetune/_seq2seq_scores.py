"""How near generated texts are to the references: ROUGE and BLEU over characters, as in bert4keras' examples.

ROUGE comes from the package `rouge`, BLEU from `nltk`, with the calls that the figures of kexue.fm/archives/7867 (那个屠榜的
T5模型，现在可以在中文上玩玩了) were made with, so that figures can be compared.
"""

import importlib
from typing import Dict, Sequence

from kexue_keras.errors import UserError


def generation_scores(generated: Sequence[str], references: Sequence[str]) -> Dict[str, float]:
    """Mean scores of generated texts, in percent.

    Texts are compared in lower case, character by character. An empty text scores 0. ROUGE is the F value; BLEU is
    that of each text by itself (smoothed, method 1 of Chen and Cherry).

    Args:
        generated: list of str.
        references: list of as many str.

    Returns:
        dict with 'rouge-1', 'rouge-2', 'rouge-l' and 'bleu', floats from 0 to 100.

    Raises:
        ValueError: the lists differ in length or are empty.
        UserError: the packages rouge and nltk are not installed.

    Reference: ROUGE: Lin, W04-1013; BLEU: Papineni et al., P02-1040; smoothing: Chen and Cherry, W14-3346.

    >>> scores = generation_scores(['今天天气好', ''], ['今天天气很好', '晴天'])
    >>> round(scores['rouge-l'], 1), round(scores['bleu'], 1)
    (44.4, 28.9)
    """
    if len(generated) != len(references) or not references:
        raise ValueError("%d generated texts for %d references" % (len(generated), len(references)))
    rouge, bleu = _package("rouge").Rouge(), _package("nltk.translate.bleu_score")
    smooth = bleu.SmoothingFunction().method1
    sums = {"rouge-1": 0.0, "rouge-2": 0.0, "rouge-l": 0.0, "bleu": 0.0}
    for ours, theirs in zip(generated, references):
        # Full stops would end a sentence for `rouge`, and a text of nothing else would be empty.
        ours, theirs = (" ".join("".join(text.lower().split())) for text in (ours, theirs))
        if not ours.replace(".", "").strip() or not theirs.replace(".", "").strip():
            continue
        found = rouge.get_scores(ours, theirs)[0]
        for name in ("rouge-1", "rouge-2", "rouge-l"):
            sums[name] += found[name]["f"]
        sums["bleu"] += bleu.sentence_bleu([theirs.split(" ")], ours.split(" "), smoothing_function=smooth)
    return {name: 100 * value / len(references) for name, value in sums.items()}


def _package(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError("scoring generated texts needs two small packages: pip install rouge==1.0.1 nltk==3.8.1")
