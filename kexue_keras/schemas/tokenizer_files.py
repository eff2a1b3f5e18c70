"""Files beside a vocabulary: Hugging Face's tokenizer_config.json and added_tokens.json; tokenizer_settings.json."""

import os

from kexue_keras.errors import WeightsError
from kexue_keras.schemas.reading import Settings, read_settings
from kexue_keras.schemas.words import FLAG, TEXT, VOCABULARY, dict_of, keys, list_of, nullable, one_of, text, whole

# What `models.save` adds to Hugging Face's words: all of a tokenizer that its vocabulary does not tell.
_OURS = keys(
    {
        "token_start": nullable(TEXT),
        "token_end": nullable(TEXT),
        "token_translate": dict_of(TEXT),
        "word_maxlen": whole(1, 10**6),
        "normalize_width": FLAG,
        "do_lower_case": FLAG,
        "own": list_of(TEXT),
    },
    others=False,
)
TOKENIZER_CONFIG = Settings(
    keys({"do_lower_case": nullable(FLAG), "kexue_keras": nullable(_OURS)}),
    remedy="Give the file that belongs to the vocabulary, or none: models for Chinese are lower case without it.",
)


def read_lower_case(folder, *, error=WeightsError):
    """Whether texts are made lower case, as tokenizer_config.json says; true if it or its word is absent.

    Args:
        folder: where the vocabulary is.
        error: `WeightsError` or `UserError`.
    """
    path = os.path.join(folder, "tokenizer_config.json")
    said = read_settings(path, TOKENIZER_CONFIG, error=error) if os.path.exists(path) else {}
    return said.get("do_lower_case") is not False


def _added_twice(added):
    seen = {}
    for token, i in added.items():
        if i in seen:
            return "%.40r and %.40r have the same id %d" % (seen[i], token, i)
        seen[i] = token
    return None


# Token -> id, behind those of the vocabulary.
ADDED_TOKENS = Settings(
    dict(dict_of(whole(0, VOCABULARY)), properties={}),
    remedy="Give the file that belongs to the vocabulary.",
    check=_added_twice,
)

# What only the tokenizer of a vocab.txt takes.
OF_VOCABULARIES = ("do_lower_case", "word_maxlen")


def _lacks_words(said):
    absent = [word for word in OF_VOCABULARIES if word not in said]
    if said["vocabulary"] == "vocab.txt" and absent:
        return "expected the key %r beside vocabulary vocab.txt" % absent[0]
    return None


# Our own: what a run needs to make its tokenizer again. The vocabulary file is next to it.
SAVED_TOKENIZER = Settings(
    keys(
        {
            "vocabulary": one_of("vocab.txt", "spiece.model"),
            "token_start": nullable(TEXT),
            "token_end": nullable(TEXT),
            "token_translate": nullable(dict_of(TEXT)),
            "do_lower_case": FLAG,
            "word_maxlen": whole(1, 10**6),
            "normalize_width": FLAG,
            "sha256": text(64, 64),
        },
        ("vocabulary", "token_start", "token_end", "token_translate"),
    ),
    remedy="Put back the file that the run wrote, or run finetune again.",
    check=_lacks_words,
)
