"""A progress bar over many texts that are computed in parts."""

import sys

from tqdm import tqdm

# Fewer are done before a bar could be read.
FEW = 200


def in_parts(texts, function, *, part, quiet=False):
    """`function` of all texts, part by part, with a bar on standard error.

    The longest texts come first: what does not fit into memory fails at once, and a part has texts of about one length.

    Args:
        texts: list of str, or of tuples of str.
        function: of a list of texts; gives one result per text.
        part: texts per part.
        quiet: no bar.

    Returns:
        list of the results, in the order of the texts.

    >>> in_parts(['aa', 'b', 'cccc'], lambda some: [len(text) for text in some], part=2)
    [2, 1, 4]
    """
    results = [None] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: -_length(texts[i]))
    interval = 0.2 if sys.stderr is not None and sys.stderr.isatty() else 15
    with tqdm(
        total=len(texts), unit="text", leave=False, mininterval=interval, disable=quiet or len(texts) < FEW
    ) as bar:
        for start in range(0, len(order), part):
            chosen = order[start : start + part]
            for i, result in zip(chosen, function([texts[i] for i in chosen])):
                results[i] = result
            bar.update(len(chosen))
    return results


def _length(text):
    return len(text) if isinstance(text, str) else sum(map(len, text))
