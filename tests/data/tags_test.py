"""Tags and the entities that they spell, in both schemes, broken ones too."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_keras.data._tags import TagError, first_overlap, read_tags, spans_of_tags, tag_names, tags_of_spans


@pytest.mark.parametrize(
    "tags, spans",
    [
        ("O O", []),
        ("B-x I-x O", [(0, 2, "x")]),
        ("B-x B-x", [(0, 1, "x"), (1, 2, "x")]),
        ("B-x M-x E-x S-y", [(0, 3, "x"), (3, 4, "y")]),
        ("B-x L-x U-y O W-y", [(0, 2, "x"), (2, 3, "y"), (4, 5, "y")]),
        ("B-a-b I-a-b", [(0, 2, "a-b")]),
    ],
)
def test_schemes(tags, spans):
    assert spans_of_tags(tags.split()) == spans


@pytest.mark.parametrize(
    "tags, message, place",
    [
        ("O I-x", "I-x comes after O; an entity begins with B-x", 1),
        ("B-x I-y", "I-y comes after B-x", 1),
        ("B-x O S-x", "begins with B-x has no E-x before O", 0),
        ("S-x B-x I-x", "no E-x before the end of the text", 2),
        ("O X-x", "the tag is 'X-x'; O, or one of B I M E L S U W", 1),
        ("O B", "the tag is 'B'", 1),
        ("B- O", "the tag is 'B-'", 0),
    ],
)
def test_broken_tags(tags, message, place):
    with pytest.raises(TagError, match=message) as caught:
        spans_of_tags(tags.split())
    assert caught.value.place == place


def test_broken_tags_are_read_as_the_scorer_of_conll_reads_them():
    from_ends = read_tags("M-x E-x O B-x O I-y I-x".split(), True)[0]
    assert from_ends == [(0, 2, "x"), (3, 4, "x"), (5, 6, "y"), (6, 7, "x")]
    seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")
    for tags in ("I-x I-x O B-x O I-y I-x", "B-x I-y I-y B-y", "O I-x B-x I-x"):
        ours = [(label, start, end - 1) for start, end, label in read_tags(tags.split(), False)[0]]
        assert ours == seqeval.get_entities(tags.split())


entity = st.tuples(st.integers(0, 9), st.integers(1, 4), st.sampled_from("xy"))


@settings(deadline=None)
@given(st.lists(entity, max_size=4))
def test_there_and_back(drawn):
    spans = sorted({(start, start + length, label) for start, length, label in drawn})
    overlap = first_overlap(spans)
    places = [i for start, end, _ in spans for i in range(start, end)]
    assert bool(overlap) == (len(places) > len(set(places)))
    if overlap:
        with pytest.raises(ValueError, match="overlap"):
            tags_of_spans(spans, 13)
        return
    tags = tags_of_spans(spans, 13)
    assert spans_of_tags(tags) == spans and set(tags) <= set(tag_names(["x", "y"]))
