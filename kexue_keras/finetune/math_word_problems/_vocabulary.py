"""What a tokenizer must have for equations, and how little of its vocabulary they need."""

import os
from typing import List, Optional, Sequence, Tuple

from kexue_keras.checkpoints._load import is_t5, read_folder
from kexue_keras.checkpoints._vocabulary import read_vocabulary
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune._seq2seq import SMALL_T5
from kexue_keras.finetune.math_word_problems._writing import ALPHABETS, PIS, ProblemWriting
from kexue_keras.schemas import read_lower_case
from kexue_keras.tokenizing.widths import vocabulary_tokenizer
from kexue_keras.types import Tokenizer

CHARACTERS = "0123456789.+-*/()"


def tokenizer_before_loading(model: str) -> Optional[Tokenizer]:
    """The tokenizer of a BERT's vocab.txt, by which to cut the vocabulary before the model is built; else None.

    Raises:
        UserError: no such model.
    """
    if model == SMALL_T5 or is_t5(model):
        return None
    try:
        path = read_folder(model, extra="ignore")[3]
        if path is None or not path.endswith(".txt"):
            return None
        folder = os.path.dirname(path)
        return vocabulary_tokenizer(read_vocabulary(path), folder, do_lower_case=read_lower_case(folder))
    except WeightsError as error:
        raise UserError(error)


def fit_to_vocabulary(writing: ProblemWriting, tokenizer: Tokenizer, *, copy: bool, pi: bool) -> None:
    """Give a `ProblemWriting` the signs that a tokenizer gives back as they are.

    Raises:
        UserError: the vocabulary cannot write equations, or has no signs.
    """
    missing = [character for character in CHARACTERS if not _survives(tokenizer, character)]
    if missing:
        raise UserError("the vocabulary cannot write %s, which equations need" % " ".join(missing))
    writing.signs = _first(tokenizer, ALPHABETS, "--no-copy turns copying off") if copy else ""
    writing.pi = _first(tokenizer, PIS, "--no-pi writes 3.14 as it is") if pi else ""


def _first(tokenizer, choices, remedy):
    for signs in choices:
        if all(_survives(tokenizer, sign) for sign in signs):
            return signs
    raise UserError("the vocabulary has none of the signs %s; %s" % (", ".join(choices), remedy))


def _survives(tokenizer, character):
    ids = tokenizer.tokens_to_ids(tokenizer.tokenize("1 %s 2" % character))
    return "".join(tokenizer.decode(ids).split()) == "1%s2" % character


def used_tokens(tokenizer: Tokenizer, pairs: Sequence[Tuple[str, str]], writing: ProblemWriting) -> List[int]:
    """Ids that texts need, in their order: those in the texts, of the special tokens, of all that equations may have.

    The article cuts its vocabulary, too; the matrix of the output is the largest of a small model.
    """
    texts = [text for pair in pairs for text in pair] + [" ".join(CHARACTERS + writing.signs + writing.pi)]
    found = {int(i) for text in texts for i in tokenizer.tokens_to_ids(tokenizer.tokenize(text))}
    for name in ("pad", "unk", "start", "end", "mask"):
        token = getattr(tokenizer, "_token_%s_id" % name, None)
        if token is not None:
            found.add(int(token))
    return sorted(found)
