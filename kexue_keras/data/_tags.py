"""Tags of characters and the entities that they spell: BIO and BIOES (also written BMES, BMEWO, BILOU)."""

from typing import Iterable, List, Sequence, Tuple

from kexue_keras.plain_types import Span

# How other schemes call I, E and S.
_ALIKE = {"M": "I", "L": "E", "U": "S", "W": "S"}
PREFIXES = "B I M E L S U W"


def spans_of_tags(tags: Sequence[str]) -> List[Span]:
    """The entities that tags spell.

    Args:
        tags: list of str: 'O', or prefix and label such as 'B-NAME'. A scheme with E or S is recognised by them.

    Returns:
        list of (start, end, label), the end exclusive, in their order.

    Raises:
        TagError: no tag, or one that cannot stand where it stands.

    Reference: Ramshaw and Marcus, cmp-lg/9505040 (BIO).

    >>> spans_of_tags(['B-LOC', 'I-LOC', 'O', 'B-LOC'])
    [(0, 2, 'LOC'), (3, 4, 'LOC')]
    >>> spans_of_tags(['B-LOC', 'M-LOC', 'E-LOC', 'S-NAME'])
    [(0, 3, 'LOC'), (3, 4, 'NAME')]
    """
    spans, faults = read_tags(tags, uses_ends(tags))
    if faults:
        raise faults[0]
    return spans


def uses_ends(tags: Iterable[str]) -> bool:
    """Whether tags are of a scheme that tells where an entity ends: a file is in one scheme."""
    return any(_ALIKE.get(tag[:1], tag[:1]) in "ES" and tag[1:2] == "-" for tag in tags if tag)


class TagError(ValueError):
    """A tag that cannot be; `place` is its number from 0."""

    def __init__(self, message, place):
        super(TagError, self).__init__(message)
        self.place = place


def read_tags(tags: Sequence[str], ends_are_told: bool) -> Tuple[List[Span], List[TagError]]:
    """The entities that tags spell, read as CoNLL's scorer reads them where the scheme is broken.

    An entity without its end stops where the label does; one without its beginning begins where it stands.

    Args:
        tags: list of str.
        ends_are_told: whether the scheme has E and S.

    Returns:
        (list of (start, end, label), list of what is broken).

    Raises:
        TagError: something is no tag at all.

    >>> spans, faults = read_tags(['O', 'I-LOC', 'E-LOC'], True)
    >>> spans, str(faults[0])
    ([(1, 3, 'LOC')], 'I-LOC comes after O; an entity begins with B-LOC')
    """
    spans, faults, start, inside = [], [], 0, None
    for place, (prefix, label) in enumerate([_parsed(tag, i) for i, tag in enumerate(tags)] + [("O", None)]):
        goes_on = prefix in ("I", "E")
        if inside is not None and not (goes_on and label == inside):
            if ends_are_told:
                end = tags[place] if place < len(tags) else "the end of the text"
                message = "the entity that begins with %s has no E-%s before %s" % (tags[start], inside, end)
                faults.append(TagError(message, place - 1))
            spans.append((start, place, inside))
            inside = None
        if goes_on and inside is None:
            before = tags[place - 1] if place else "the beginning of the text"
            message = "%s comes after %s; an entity begins with B-%s" % (tags[place], before, label)
            faults.append(TagError(message, place))
        if prefix in ("B", "S") or (goes_on and inside is None):
            start, inside = place, label
        if prefix in ("E", "S"):
            spans.append((start, place + 1, inside))
            inside = None
    return spans, faults


def _parsed(tag, place):
    if tag == "O":
        return "O", None
    prefix, dash, label = tag.partition("-")
    prefix = _ALIKE.get(prefix, prefix)
    if not dash or prefix not in ("B", "I", "E", "S") or not label:
        raise TagError("the tag is %.40r; O, or one of %s with a label (B-NAME) is needed" % (tag, PREFIXES), place)
    return prefix, label


def tag_names(labels: Sequence[str]) -> List[str]:
    """The tags of a scheme with ends, BIOES, for these labels: 'O' first, then four a label.

    >>> tag_names(['LOC'])
    ['O', 'B-LOC', 'I-LOC', 'E-LOC', 'S-LOC']
    """
    return ["O"] + ["%s-%s" % (prefix, label) for label in labels for prefix in "BIES"]


def tags_of_spans(spans: Iterable[Span], length: int) -> List[str]:
    """The BIOES tags of `length` places with these entities, of which no two have a place in common.

    Raises:
        ValueError: two overlap.

    >>> tags_of_spans([(0, 3, 'LOC'), (3, 4, 'NAME')], 5)
    ['B-LOC', 'I-LOC', 'E-LOC', 'S-NAME', 'O']
    """
    tags = ["O"] * length
    for start, end, label in spans:
        if any(tag != "O" for tag in tags[start:end]):
            raise ValueError("the entities overlap at %d to %d" % (start, end))
        inner = ["S"] if end - start == 1 else ["B"] + ["I"] * (end - start - 2) + ["E"]
        tags[start:end] = ["%s-%s" % (prefix, label) for prefix in inner]
    return tags


def first_overlap(spans: Iterable[Span]) -> Tuple[Span, ...]:
    """Two entities that have a place in common, or ().

    >>> first_overlap([(0, 3, 'a'), (5, 6, 'b'), (2, 4, 'a')])
    ((0, 3, 'a'), (2, 4, 'a'))
    """
    furthest = None
    for span in sorted(spans):
        if furthest is not None and span[0] < furthest[1]:
            return furthest, span
        if furthest is None or span[1] > furthest[1]:
            furthest = span
    return ()
