"""A smaller SentencePiece vocabulary for one language, and which rows of the embedding go with it.

mT5's 250 thousand pieces are for 101 languages; their embedding and output matrix are 5/6 of mT5 small. For Chinese 30
thousand are enough.

那个屠榜的T5模型，现在可以在中文上玩玩了, kexue.fm/archives/7867. Paper: mT5, arXiv 2010.11934.
"""

import collections
import json
import os
import tempfile
from typing import Any, Dict, Iterable, Optional, Sequence, Union

from bert4keras.tokenizers import SpTokenizer

from kexue_keras.checkpoints.formats.protobuf_message import parse_message
from kexue_keras.data._tables import Lines
from kexue_keras.errors import WeightsError, as_unicode, shorten
from kexue_keras.files import atomic
from kexue_keras.files.paths import is_path, path_text
from kexue_keras.types import Path, Tokenizer

_BATCH = 1000
_LARGEST = 2**26
# Characters of a line of a corpus; beyond that it is no text with a line for each.
LONGEST_LINE = 10**7


class TrimmedSentencePiece(object):
    """What `trim_sentencepiece` returns.

    Attributes:
        model: bytes of the smaller SentencePiece model.
        keep_tokens: list of the old ids of its pieces, then of the spare rows; for `load_t5(..., keep_tokens=...)`.
        coverage: share of the corpus' pieces that are kept.
    """

    def __init__(self, model: bytes, keep_tokens: Sequence[int], coverage: float) -> None:
        self.model = model
        self.keep_tokens = keep_tokens
        self.coverage = coverage

    def tokenizer(self) -> Tokenizer:
        """bert4keras tokenizer of the smaller model."""
        return sentencepiece_tokenizer(self.model)

    def save(self, path: Path) -> None:
        """Write spiece.model and keep_tokens.json into the folder `path`, made if need be; replaces no other files.

        Raises:
            WeightsError: `path` is an empty name.
            OSError: a full disk and the like.
        """
        path = path_text(path)
        if not path:
            raise WeightsError("the name of the folder is empty (a variable that is not set?); give a name")
        os.makedirs(path, exist_ok=True)
        with atomic(os.path.join(path, "spiece.model")) as handle:
            handle.write(self.model)
        with atomic(os.path.join(path, "keep_tokens.json"), "w") as handle:
            json.dump(self.keep_tokens, handle)

    def __repr__(self):
        return "<TrimmedSentencePiece: %d tokens, %.2f%% of the corpus>" % (len(self.keep_tokens), 100 * self.coverage)


def trim_sentencepiece(
    model: Union[Path, bytes],
    corpus: Union[Path, Iterable[str], Dict[Any, int]],
    *,
    min_count: int = 1,
    max_pieces: Optional[int] = None,
    head: int = 259,
    tail: int = 100,
    spare: int = 2,
) -> TrimmedSentencePiece:
    """A smaller SentencePiece model with the pieces that a corpus needs, and `keep_tokens` for the weights.

    kept = the first `head` pieces + those that occur `min_count` times or more + the last `tail`, in their old order.

    Args:
        model: path or bytes of a SentencePiece model.
        corpus: texts (an iterable of str), the path of a UTF-8 file with one text per line (.gz too), or counts: a dict
            from pieces or ids to how often they occur.
        min_count: int; the article's companion takes 1000, with tens of GB of text.
        max_pieces: int or None; of the pieces that occur often enough only the most frequent, so that there are not
            more than this in all.
        head: int, pieces at the beginning that are kept anyway; mT5 has 3 special ones and 256 bytes there, with which
            any character can be written.
        tail: int, pieces at the end that are kept anyway; mT5 has 100 sentinels there.
        spare: int, rows behind the vocabulary to keep: the embedding has some that belong to no piece.

    Returns:
        `TrimmedSentencePiece`.

    Raises:
        WeightsError: no SentencePiece model.
        ValueError: an empty corpus, an unknown piece among the counts, a limit that leaves no room.
        UserError: a file that is not UTF-8, with its line.

    Reference: kexue.fm/archives/7867 (那个屠榜的T5模型，现在可以在中文上玩玩了).

    >>> path = kexue_keras.checkpoints._bundled.ASSETS + '/me5_zh_q4.spiece.model'
    >>> trimmed = trim_sentencepiece(path, ['今天天气不错', '天气'], head=4, tail=0, spare=0)
    >>> trimmed.tokenizer().encode('今天天气')[0] == [trimmed.keep_tokens.index(i) for i in
    ...     sentencepiece_tokenizer(path).encode('今天天气')[0]]
    True
    """
    proto = _proto(model)
    size = len(proto.pieces)
    for name, value in (("head", head), ("tail", tail), ("spare", spare)):
        if not isinstance(value, int) or value < 0:
            raise ValueError("%s is %r; it is a number of pieces, 0 or more" % (name, value))
    counts = _counts(proto, corpus)
    total = sum(counts.values())
    if not total:
        raise ValueError("the corpus has no text, so there is nothing to choose pieces by")
    # Without its unknown piece a SentencePiece model does not load, without control and byte pieces it misreads.
    fixed = {i for i in range(size) if i < head or i >= size - tail or proto.pieces[i].type not in (1, 5)}
    chosen = [i for i, n in counts.most_common() if n >= min_count and i not in fixed]
    if max_pieces is not None:
        room = max_pieces - len(fixed)
        if room < 0:
            raise ValueError("max_pieces is %d, but head, tail and special pieces are %d" % (max_pieces, len(fixed)))
        # Equal counts: the earlier piece is the more frequent one of the old vocabulary.
        chosen = sorted(chosen, key=lambda i: (-counts[i], i))[:room]
    kept = sorted(fixed.union(chosen))
    coverage = sum(counts[i] for i in kept) / float(total)
    keep_tokens = kept + list(range(size, size + spare))
    return TrimmedSentencePiece(keep_pieces(proto.SerializeToString(), kept), keep_tokens, coverage)


def keep_pieces(model, keep_tokens):
    """A SentencePiece model with these pieces only, in this order; ids behind its last piece are spare rows.

    Args:
        model: path or bytes.
        keep_tokens: list of int.

    Returns:
        bytes.

    Raises:
        WeightsError: the unknown piece is not kept, or a spare row stands before a piece.
    """
    proto = _proto(model)
    pieces = list(proto.pieces)
    inside = [i for i in keep_tokens if i < len(pieces)]
    if list(keep_tokens[: len(inside)]) != inside:
        raise WeightsError("keep_tokens has ids beyond the %d pieces before others; put them last" % len(pieces))
    if not any(pieces[i].type == 2 for i in inside):
        raise WeightsError("keep_tokens lacks the unknown piece of the SentencePiece model; add its id")
    del proto.pieces[:]
    proto.pieces.extend(pieces[i] for i in inside)
    return proto.SerializeToString()


def sentencepiece_tokenizer(model, **settings):
    """bert4keras tokenizer of a SentencePiece model; as for T5: nothing at the start, </s> at the end.

    Args:
        model: path or bytes of a SentencePiece model.
        **settings: arguments of `SpTokenizer` in place of these.

    Raises:
        WeightsError: no such file, or it is damaged or cut short.
    """
    settings = dict({"token_start": None, "token_end": "</s>"}, **settings)
    # A bad one is an error with a reason here.
    if not any(piece.type in (1, 4) for piece in _proto(model).pieces):
        raise WeightsError("the SentencePiece model has no pieces of text, so it cannot cut anything up")
    if not isinstance(model, bytes):
        return _tokenizer(as_unicode(path_text(model)), model, settings)
    with tempfile.NamedTemporaryFile(suffix=".model") as handle:
        handle.write(model)
        handle.flush()
        return _tokenizer(handle.name, "the SentencePiece model", settings)


def _tokenizer(path, source, settings):
    try:
        return SpTokenizer(path, **settings)
    except (RuntimeError, OSError, IndexError, TypeError, ValueError) as error:
        raise WeightsError("%s is no sound SentencePiece model: %s" % (source, shorten(error, 120)))


def _proto(model):
    # Imported when needed: it registers names with protobuf, which TensorFlow's own copy could collide with.
    from sentencepiece import sentencepiece_model_pb2

    source = "the SentencePiece model"
    if not isinstance(model, bytes):
        source = model
        if not os.path.isfile(model):
            raise WeightsError("%s is no file; expected a SentencePiece model" % (model,))
        if os.path.getsize(model) > _LARGEST:
            raise WeightsError("%s has %d bytes; that is no SentencePiece model" % (model, os.path.getsize(model)))
        with open(model, "rb") as handle:
            model = handle.read()
    proto = parse_message(sentencepiece_model_pb2.ModelProto, model)
    if proto is None:
        raise WeightsError("%s is no SentencePiece model, or was cut short. Download it again." % source)
    if not proto.pieces:
        raise WeightsError("%s is no SentencePiece model: it has no pieces" % source)
    # They come after the pieces, so a file that was cut between two pieces has none.
    if not (proto.HasField("trainer_spec") and proto.HasField("normalizer_spec")):
        raise WeightsError("%s was cut short: what comes after the pieces is not there. Download it again." % source)
    return proto


def _counts(proto, corpus):
    ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    counts = collections.Counter()
    if isinstance(corpus, dict):
        for key, count in corpus.items():
            number = ids.get(key) if isinstance(key, str) else key
            if number is None or not 0 <= number < len(proto.pieces):
                raise ValueError("the counts have %r, which the SentencePiece model lacks" % (key,))
            counts[int(number)] += count
        return counts
    if is_path(corpus) and not os.path.isfile(corpus):
        raise ValueError("corpus=%.60r is no file; give its path, a list of texts, or counts" % (corpus,))
    processor = _processor(proto)
    if is_path(corpus):
        _count(processor, (text for _, text in Lines(path_text(corpus), LONGEST_LINE)), counts)
    else:
        _count(processor, corpus, counts)
    return counts


def _processor(proto):
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def _count(processor, texts, counts):
    batch = []
    for text in texts:
        batch.append(text.strip())
        if len(batch) == _BATCH:
            for ids in processor.encode(batch):
                counts.update(ids)
            batch = []
    for ids in processor.encode(batch):
        counts.update(ids)
