"""tokenizer.json read for folders that have no other vocabulary: those that today's Hugging Face library saves.

Read are word pieces (BERT's), and unigrams with SentencePiece's normalization, of which a SentencePiece model is made.
"""

import base64
import binascii

from kexue_keras.errors import WeightsError, shorten
from kexue_keras.schemas.reading import read_object

UNIGRAM_KINDS = {"control": 3, "unknown": 2, "text": 1}


def read_fast_tokenizer(path):
    """The vocabulary of a tokenizer.json.

    Args:
        path: the file.

    Returns:
        (dict token -> id, whether texts are made lower case) for word pieces, or bytes of a SentencePiece model.

    Raises:
        WeightsError: no JSON, another kind of tokenizer, ids with gaps.
    """
    whole = read_object(path)
    model = whole.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if kind == "WordPiece":
        return _word_pieces(path, whole, model)
    if kind == "Unigram":
        return _unigrams(path, whole, model)
    raise WeightsError(
        "%s is of the kind %s; read are WordPiece and Unigram. Put the vocab.txt or the SentencePiece model of the "
        "model beside it, or give tokenizer=..." % (path, shorten(ascii(kind), 40))
    )


def _added(path, whole):
    found = {}
    for one in whole.get("added_tokens") or ():
        if not isinstance(one, dict) or not isinstance(one.get("content"), str) or not _is_id(one.get("id")):
            raise WeightsError("%s: an added token is %s" % (path, shorten(ascii(one), 60)))
        found[one["content"]] = one["id"]
    return found


def _is_id(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _word_pieces(path, whole, model):
    tokens = model.get("vocab")
    if not isinstance(tokens, dict) or not all(map(_is_id, tokens.values())):
        raise WeightsError("%s: model.vocab must be an object of tokens and their ids" % path)
    if model.get("continuing_subword_prefix", "##") != "##":
        raise WeightsError("%s: word pieces continue with %r, not ##" % (path, model["continuing_subword_prefix"]))
    tokens = dict(_added(path, whole), **tokens)
    if sorted(tokens.values()) != list(range(len(tokens))):
        raise WeightsError("%s: the ids of its %d tokens are not 0 to %d" % (path, len(tokens), len(tokens) - 1))
    return tokens, _is_lower(whole.get("normalizer"))


def _is_lower(step):
    """Whether a normalizer makes lower case, alone or in a sequence."""
    if not isinstance(step, dict):
        return False
    if step.get("type") == "Sequence":
        return any(map(_is_lower, step.get("normalizers") or ()))
    return step.get("type") == "Lowercase" or (step.get("type") == "BertNormalizer" and step.get("lowercase") is True)


def _charsmap(step):
    """The table of SentencePiece's normalization, or empty bytes."""
    if not isinstance(step, dict):
        return b""
    if step.get("type") == "Sequence":
        return b"".join(map(_charsmap, step.get("normalizers") or ()))
    if step.get("type") != "Precompiled":
        return b""
    try:
        return base64.b64decode(step.get("precompiled_charsmap") or "")
    except (binascii.Error, ValueError, TypeError):
        raise WeightsError("precompiled_charsmap is not base64")


def _unigrams(path, whole, model):
    # Imported when needed: it registers names with protobuf, which TensorFlow's own copy could collide with.
    from sentencepiece import sentencepiece_model_pb2

    pieces, unknown = model.get("vocab"), model.get("unk_id")
    if model.get("byte_fallback") or not isinstance(pieces, list) or not _is_id(unknown) or unknown >= len(pieces):
        raise WeightsError("%s: expected model.vocab, a list, unk_id in it, and no byte_fallback" % path)
    control = set(_added(path, whole))
    proto = sentencepiece_model_pb2.ModelProto()
    for i, pair in enumerate(pieces):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str) or not pair[0]:
            raise WeightsError("%s: entry %d of model.vocab is %s" % (path, i, shorten(ascii(pair), 60)))
        kind = "unknown" if i == unknown else "control" if pair[0] in control else "text"
        proto.pieces.add(piece=pair[0], score=float(pair[1]), type=UNIGRAM_KINDS[kind])
    proto.trainer_spec.model_type = proto.trainer_spec.UNIGRAM
    proto.trainer_spec.vocab_size = len(pieces)
    names = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    proto.trainer_spec.unk_id, proto.trainer_spec.unk_piece = unknown, proto.pieces[unknown].piece
    for name, piece in (("bos", "<s>"), ("eos", "</s>"), ("pad", "<pad>")):
        setattr(proto.trainer_spec, name + "_id", names.get(piece, -1))
    table = _charsmap(whole.get("normalizer"))
    proto.normalizer_spec.name = "nmt_nfkc" if table else "identity"
    proto.normalizer_spec.precompiled_charsmap = table
    return proto.SerializeToString()
