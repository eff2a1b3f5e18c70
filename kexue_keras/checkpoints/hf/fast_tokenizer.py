"""tokenizer.json, as Hugging Face's tokenizers read it, of a bert4keras tokenizer: the same ids for the same texts.

Not their BertNormalizer: what bert4keras does to a text is written out rule by rule, since the two differ in what
counts as a control character, in full-width letters (`tokenizing.widths`), and in special tokens inside a text.
"""

import base64
import re
import unicodedata

from bert4keras.tokenizers import Tokenizer

from kexue_keras.checkpoints.formats.protobuf_message import parse_message
from kexue_keras.errors import WeightsError
from kexue_keras.tokenizing.widths import WIDTHS, WidthTokenizer, own_parts

# What bert4keras cuts a text at, and what is a word of its own; in the words of the regular expressions there.
SPACES = r" \t\n\r\p{Zs}\x{2028}\x{2029}"
ALONE = (
    r"!-/:-@\[-`{-~\p{P}\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{20000}-\x{2a6df}\x{2a700}-\x{2b73f}\x{2b740}-\x{2b81f}"
    r"\x{2b820}-\x{2ceaf}\x{f900}-\x{faff}\x{2f800}-\x{2fa1f}"
)
# Stand for full-width characters that are to become usual ones, while others are still looked at.
_STANDINS = 0xF0000


def fast_tokenizer(tokenizer):
    """The contents of tokenizer.json and tokenizer_config.json.

    Args:
        tokenizer: bert4keras `Tokenizer` or `SpTokenizer`.

    Returns:
        (dict, dict).

    Raises:
        WeightsError: it does something to a text that tokenizer.json has no word for.
    """
    own = own_parts(tokenizer) + (["token_translate"] if tokenizer._token_translate else [])
    if own:
        raise WeightsError(
            "the tokenizer is your own (%s), for which tokenizer.json has no words; such an encoder is saved with "
            "format='tensorflow' alone" % ", ".join(own)
        )
    if isinstance(tokenizer, Tokenizer):
        parts, vocabulary = _word_pieces(tokenizer), tokenizer._token_dict
    else:
        parts, vocabulary = _sentence_pieces(tokenizer)
    special = {
        "pad_token": tokenizer._token_pad,
        "unk_token": tokenizer._token_unk,
        "cls_token": tokenizer._token_start,
        "sep_token": tokenizer._token_end,
        "mask_token": next((token for token in ("[MASK]", "<mask>") if token in vocabulary), None),
    }
    special = {name: token for name, token in special.items() if token is not None}
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": vocabulary[token],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in sorted(set(special.values()), key=vocabulary.get)
        ],
        "post_processor": _template(tokenizer, vocabulary),
    }
    # With that word a [MASK] inside a text is four tokens, as here.
    config = dict(special, tokenizer_class="PreTrainedTokenizerFast", split_special_tokens=True)
    return dict(whole, **parts), config


def _template(tokenizer, vocabulary):
    """Start, text, end; a second text without its start, in segment 1."""
    start = [{"SpecialToken": {"id": tokenizer._token_start, "type_id": 0}}] if tokenizer._token_start else []
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    ends = [[], []]
    if tokenizer._token_end:
        ends = [[{"SpecialToken": {"id": tokenizer._token_end, "type_id": i}}] for i in (0, 1)]
    used = sorted({token for token in (tokenizer._token_start, tokenizer._token_end) if token})
    return {
        "type": "TemplateProcessing",
        "single": start + [first] + ends[0],
        "pair": start + [first] + ends[0] + [second] + ends[1],
        "special_tokens": {token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in used},
    }


def _replace(pattern, by, *, regex=True):
    return {"type": "Replace", "pattern": {"Regex" if regex else "String": pattern}, "content": by}


def _word_pieces(tokenizer):
    steps = []
    if tokenizer._do_lower_case:
        # As `str.lower`: at the end of a word the Greek s is another letter. Then accents off.
        steps = [_replace(r"(?<=\p{L})\x{3a3}(?!\p{L})", "\u03c2"), {"type": "Lowercase"}, {"type": "NFD"}]
        steps.append(_replace(r"\p{Mn}", ""))
    steps.append(_replace(r"[\x{0}-\x{8}\x{b}\x{c}\x{e}-\x{1f}\x{7f}-\x{9f}\x{fffd}\p{Cf}]", ""))
    if isinstance(tokenizer, WidthTokenizer):
        steps.extend(_widths(tokenizer._token_dict))
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "[%s]+" % SPACES}, "behavior": "Removed", "invert": False},
                {"type": "Split", "pattern": {"Regex": "[%s]" % ALONE}, "behavior": "Isolated", "invert": False},
            ],
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": tokenizer._token_unk,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": tokenizer._word_maxlen,
            "vocab": dict(sorted(tokenizer._token_dict.items(), key=lambda item: item[1])),
        },
    }


def _widths(tokens):
    """Steps that put full-width characters into the usual width where the vocabulary cannot write their word.

    It has them at most as the first character of a word: such a word is written if nothing but characters that go on a
    word come after it.
    """
    steps, inner = [], "".join(sorted({token[2:] for token in tokens if len(token) == 3 and token.startswith("##")}))
    inside = re.sub(r"([\]\[\\^\-&])", r"\\\1", inner)
    stranger = "[^%s%s%s]" % (SPACES, ALONE, inside)
    standins = {}
    for number, (code, usual) in enumerate(sorted(WIDTHS.items())):
        wide = chr(code)
        if unicodedata.category(wide).startswith("P"):
            if wide not in tokens:
                steps.append(_replace(wide, usual, regex=False))
            continue
        standin = chr(_STANDINS + number)
        standins[standin] = usual
        if wide not in tokens:
            steps.append(_replace(wide, standin, regex=False))
            continue
        rest = r"[%s]*%s" % (inside, stranger) if inner else stranger
        steps.append(_replace(r"(?<=[^%s%s])%s|%s(?=%s)" % (SPACES, ALONE, wide, wide, rest), standin))
    return steps + [_replace(standin, usual, regex=False) for standin, usual in standins.items()]


def _sentence_pieces(tokenizer):
    """(parts of tokenizer.json, dict piece -> id)."""
    # Imported when needed: it registers names with protobuf, which TensorFlow's own copy could collide with.
    from sentencepiece import sentencepiece_model_pb2

    proto = parse_message(sentencepiece_model_pb2.ModelProto, tokenizer.sp_model.serialized_model_proto())
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if trainer.model_type != trainer.UNIGRAM:
        raise WeightsError("the SentencePiece model is no unigram model; tokenizer.json is written of such alone")
    if trainer.treat_whitespace_as_suffix or not normalizer.escape_whitespaces:
        raise WeightsError("the SentencePiece model treats spaces in a way for which tokenizer.json has no words")
    steps = []
    if normalizer.precompiled_charsmap:
        charsmap = base64.b64encode(normalizer.precompiled_charsmap).decode("ascii")
        if "nfkc" in normalizer.name:
            # They look at one character at a time, SentencePiece at two: ka and its mark become ga.
            steps.extend(_replace(pair, one, regex=False) for pair, one in _half_width_pairs())
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if normalizer.remove_extra_whitespaces:
        steps += [{"type": "Strip", "strip_left": True, "strip_right": True}, _replace(" {2,}", " ")]
    splits = [
        {
            "type": "Metaspace",
            "replacement": "\u2581",
            "prepend_scheme": "always" if normalizer.add_dummy_prefix else "never",
            "split": True,
        }
    ]
    # A text may have <s> in it; there it is three characters.
    control = [piece.piece for piece in proto.pieces if piece.type in (2, 3) and len(piece.piece) > 1]
    if control:
        cuts = [(name, 2 if name.startswith("</") else 1) for name in control]
        inside = "|".join("(?<=%s)(?=%s)" % (re.escape(name[:at]), re.escape(name[at:])) for name, at in cuts)
        splits.append({"type": "Split", "pattern": {"Regex": inside}, "behavior": "Isolated", "invert": False})
    vocabulary = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits},
        "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": trainer.unk_id,
            "vocab": [[piece.piece, piece.score] for piece in proto.pieces],
            "byte_fallback": trainer.byte_fallback,
        },
    }, vocabulary


def _half_width_pairs():
    """(two half-width characters, the one that NFKC makes of them)."""
    for base in range(0xFF66, 0xFF9E):
        for mark in "\uff9e\uff9f":
            pair = chr(base) + mark
            one = unicodedata.normalize("NFKC", pair)
            if len(one) == 1:
                yield pair, one
