"""Lists of token ids: --keep-tokens of `convert`, and what a configuration records of a trimmed vocabulary."""

from kexue_keras.errors import WeightsError
from kexue_keras.schemas.messages import is_wrong, shown
from kexue_keras.schemas.reading import fail, read_json
from kexue_keras.schemas.words import VOCABULARY, list_of, whole


def read_token_ids(path, *, error=WeightsError):
    """A JSON list of different token ids.

    Args:
        path: the file.
        error: `WeightsError` or `UserError`.

    Returns:
        list of int.

    Raises:
        error: no such file, no JSON, no list, or an entry that is no token id or appears twice.
    """
    ids = read_json(path, error=error)
    if not isinstance(ids, list) or not ids:
        fail(error, path, is_wrong("it", ids, list_of(whole(0), 1)))
    problem = wrong_ids(ids, VOCABULARY)
    if problem:
        fail(error, path, "%s. Give the list that `trim_sentencepiece` made, or one like it." % problem)
    return [int(i) for i in ids]


def wrong_ids(ids, rows):
    """What is wrong with a list of token ids of an embedding with `rows` rows, or None.

    Beside the schema: for 250,000 ids jsonschema takes ten seconds.

    >>> wrong_ids([0, 3, 3], 9)
    'the token id 3 appears twice in the list'
    """
    seen = set()
    for place, i in enumerate(ids):
        if isinstance(i, bool) or not isinstance(i, (int, float)) or i != int(i) or not 0 <= i < rows:
            return is_wrong("entry %d of the list" % (place + 1), i, whole(0, rows - 1))
        if i in seen:
            return "the token id %s appears twice in the list" % shown(i)
        seen.add(i)
    return None


def wrong_trimming(trimmed):
    """What is wrong with the record of a trimming, {"rows", "keep_tokens"}, or None."""
    problem = wrong_ids(trimmed["keep_tokens"], trimmed["rows"])
    return problem and "trimmed.keep_tokens: " + problem
