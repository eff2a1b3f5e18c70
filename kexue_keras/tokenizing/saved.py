"""A bert4keras tokenizer as files, so that a run folder needs nothing else."""

import hashlib
import os

from bert4keras.tokenizers import SpTokenizer, Tokenizer, load_vocab, save_vocab

from kexue_keras.errors import UserError, as_unicode
from kexue_keras.files import atomic_path, write_json
from kexue_keras.files.paths import check_regular
from kexue_keras.schemas import SAVED_TOKENIZER, read_settings
from kexue_keras.schemas.tokenizer_files import OF_VOCABULARIES
from kexue_keras.tokenizing.widths import WidthTokenizer, own_parts


def save_tokenizer(tokenizer, folder):
    """Write tokenizer_settings.json and the vocabulary into `folder`.

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
    config["sha256"] = checksum(os.path.join(folder, config["vocabulary"]))
    write_json(os.path.join(folder, "tokenizer_settings.json"), config)


def load_tokenizer(folder):
    """The tokenizer that `save_tokenizer` wrote.

    Raises:
        UserError: a file is missing, tokenizer_settings.json is not as it was written, or the vocabulary is another.
    """
    config = read_settings(os.path.join(folder, "tokenizer_settings.json"), SAVED_TOKENIZER, error=UserError)
    vocabulary = os.path.join(folder, config["vocabulary"])
    if not os.path.exists(vocabulary):
        raise UserError("no such file", path=vocabulary)
    expected = config.get("sha256")  # runs of earlier versions have none
    if expected is not None and checksum(vocabulary) != expected:
        raise UserError(
            "this is not the vocabulary that the run was trained with (its SHA-256 is not %.12s...); put that one back"
            % expected,
            path=vocabulary,
        )
    words = ("token_start", "token_end", "token_translate")
    if vocabulary.endswith(".model"):
        return SpTokenizer(as_unicode(vocabulary), **{word: config[word] for word in words})
    # A run of before there was such a thing keeps the tokens that it was trained with.
    tokenizer = WidthTokenizer if config.get("normalize_width", False) else Tokenizer
    return tokenizer(vocabulary, **{word: config[word] for word in words + OF_VOCABULARIES})


def checksum(path):
    """SHA-256 of a vocabulary file, as hexadecimal digits."""
    check_regular(path)
    with open(path, "rb") as handle:
        return hashlib.sha256(handle.read()).hexdigest()
