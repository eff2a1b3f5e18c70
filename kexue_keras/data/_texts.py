"""What is given as texts to the functions that take lists of them."""

from typing import Any, Iterable, List, Optional

from kexue_keras.errors import has_half_pair


def checked_texts(texts: Iterable[Any], *, name: str = "texts", pairs: Optional[bool] = None) -> List[Any]:
    """The texts as a list.

    Args:
        texts: list (or any iterable) of str, or of (str, str).
        name: the argument, for messages.
        pairs: True: each has to be a (str, str), for which a list will do; False: each a str; None: either.

    Raises:
        ValueError: one str, whose characters would be taken for texts; something in the list that is none; half of a
            surrogate pair, which neither a tokenizer nor a file can take.

    >>> checked_texts(('今天天气不错',))
    ['今天天气不错']
    >>> checked_texts('今天天气不错')
    Traceback (most recent call last):
    ...
    ValueError: texts is one str; give a list of texts
    """
    if isinstance(texts, (str, bytes)):
        raise ValueError("%s is one %s; give a list of texts" % (name, type(texts).__name__))
    texts = [tuple(text) if pairs and isinstance(text, list) else text for text in texts]
    wanted = {True: "a pair (str, str)", False: "a str", None: "a str or a pair (str, str)"}[pairs]
    for i, text in enumerate(texts):
        parts = text if isinstance(text, tuple) and pairs is not False else (text,)
        if len(parts) != 1 + isinstance(text, tuple) or not all(isinstance(part, str) for part in parts):
            raise ValueError("%s[%d] is %.80r; %s is needed" % (name, i, text, wanted))
        if pairs and not isinstance(text, tuple):
            raise ValueError("%s[%d] is %.80r; %s is needed" % (name, i, text, wanted))
        if any(map(has_half_pair, parts)):
            raise ValueError(
                "%s[%d] is %.80r, with half of a surrogate pair (an emoji that was cut in two?); repair it with "
                "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')" % (name, i, text)
            )
    return texts
