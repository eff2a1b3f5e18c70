"""A bert4keras tokenizer as files, so that a run folder needs nothing else."""

import os

from bert4keras.tokenizers import SpTokenizer, Tokenizer, load_vocab, save_vocab

from kexue_keras.data import UserError
from kexue_keras.errors import as_unicode
from kexue_keras.models.tokenizers import WidthTokenizer, own_parts
from kexue_keras.tasks.checkpoint import atomic_path, read_json, write_json


def save_tokenizer(tokenizer, folder):
    """Write tokenizer.json and the vocabulary into `folder`.

    Args:
        tokenizer: bert4keras `Tokenizer` or `SpTokenizer`.
        folder: an existing folder.

    Raises:
        UserError: it cuts the text up with a function of its own, which no file can hold.
    """
    own = own_parts(tokenizer)
    if own:
        raise UserError("the tokenizer is your own (%s), which cannot be saved with a run" % ", ".join(own))
    config = {
        "token_start": tokenizer._token_start,
        "token_end": tokenizer._token_end,
        "token_translate": tokenizer._token_translate,
    }
    if isinstance(tokenizer, SpTokenizer):
        config["vocabulary"] = "spiece.model"
        with atomic_path(os.path.join(folder, "spiece.model")) as path, open(path, "wb") as handle:
            handle.write(tokenizer.sp_model.serialized_model_proto())
    else:
        config.update(
            vocabulary="vocab.txt",
            do_lower_case=tokenizer._do_lower_case,
            word_maxlen=tokenizer._word_maxlen,
            normalize_width=isinstance(tokenizer, WidthTokenizer),
        )
        with atomic_path(os.path.join(folder, "vocab.txt")) as path:
            save_vocab(path, tokenizer._token_dict)
        kept = load_vocab(os.path.join(folder, "vocab.txt"))
        if kept != tokenizer._token_dict:
            raise UserError("the vocabulary has gaps or tokens with spaces and cannot be written to vocab.txt")
    write_json(os.path.join(folder, "tokenizer.json"), config)


def load_tokenizer(folder):
    """The tokenizer that `save_tokenizer` wrote.

    Raises:
        UserError: a file is missing.
    """
    config = read_json(os.path.join(folder, "tokenizer.json"))
    vocabulary = os.path.join(folder, config.pop("vocabulary"))
    if not os.path.exists(vocabulary):
        raise UserError("no such file", path=vocabulary)
    if vocabulary.endswith(".model"):
        return SpTokenizer(as_unicode(vocabulary), **config)
    # A run of before there was such a thing keeps the tokens that it was trained with.
    return (WidthTokenizer if config.pop("normalize_width", False) else Tokenizer)(vocabulary, **config)
