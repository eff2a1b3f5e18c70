"""Tokenizers of vocabularies: full-width letters and digits, and all of a tokenizer that a folder has to hold.

Chinese text has letters and digits in two widths (ＡＢＣ１２３ and ABC123). BERT's word pieces are of the usual width; a
vocabulary at most has the wide characters alone, as the beginning of a word, so that ＡＢＣ１２３ as a whole is one [UNK].
"""

import os
import unicodedata

from bert4keras.tokenizers import SpTokenizer, Tokenizer

from kexue_keras.errors import WeightsError
from kexue_keras.schemas import TOKENIZER_CONFIG, read_settings

CONFIG, OURS = "tokenizer_config.json", "kexue_keras"
# Fullwidth forms whose NFKC is one character, so that places in the text stay what they are.
WIDTHS = {
    code: normal
    for code in list(range(0xFF01, 0xFF5F)) + list(range(0xFFE0, 0xFFE7))
    for normal in [unicodedata.normalize("NFKC", chr(code))]
    if len(normal) == 1
}


class WidthTokenizer(Tokenizer):
    """bert4keras' `Tokenizer`; it looks a word up in the usual width if the vocabulary lacks it in full width.

    Only what was [UNK] changes: words that the vocabulary can write keep their ids, full width or not.

    >>> tokens = ['[UNK]', '[CLS]', '[SEP]', 'abc', '##12', '１', '好']
    >>> WidthTokenizer({token: i for i, token in enumerate(tokens)}, do_lower_case=True).tokenize('ＡＢＣ１２好１')
    ['[CLS]', 'abc', '##12', '好', '１', '[SEP]']
    """

    def _word_piece_tokenize(self, word):
        pieces = super(WidthTokenizer, self)._word_piece_tokenize(word)
        if pieces == [word] and word not in self._token_dict:
            usual = word.translate(WIDTHS)
            if usual != word:
                # Once more from the beginning: a full-width plus sign is no punctuation, a usual one is.
                return self._tokenize(usual, False)
        return pieces

    def rematch(self, text, tokens):
        """As bert4keras'; all in the usual width, in which a text has as many characters."""
        tokens = [token if self._is_special(token) else token.translate(WIDTHS) for token in tokens]
        return super(WidthTokenizer, self).rematch(text.translate(WIDTHS), tokens)


def vocabulary_tokenizer(token_dict, folder=None, *, do_lower_case):
    """The tokenizer of a vocabulary of word pieces, with what the folder of a saved model says of it.

    Args:
        token_dict: dict token -> id.
        folder: where tokenizer_config.json may lie, or None.
        do_lower_case: bool.

    Raises:
        WeightsError: the model was saved with a tokenizer that no file can hold.
    """
    settings = dict({"do_lower_case": do_lower_case}, **_read(folder))
    return (WidthTokenizer if settings.pop("normalize_width", True) else Tokenizer)(token_dict, **settings)


def sentencepiece_settings(folder, **usual):
    """Arguments of `SpTokenizer`: the usual ones, and what the folder of a saved model says.

    Raises:
        WeightsError: as `vocabulary_tokenizer`.
    """
    return dict(usual, **_read(folder))


def _read(folder):
    path = None if folder is None else os.path.join(folder, CONFIG)
    settings = dict(read_settings(path, TOKENIZER_CONFIG).get(OURS) or {}) if path and os.path.exists(path) else {}
    own = settings.pop("own", None)
    if own:
        raise WeightsError(
            "%s: the model was saved with a tokenizer of your own (%s), which no file can hold; give tokenizer=..."
            % (path, ", ".join(own))
        )
    return settings


def written_settings(tokenizer, kind):
    """What a folder has to say of a tokenizer beyond its vocabulary, for tokenizer_config.json; empty if nothing.

    Args:
        tokenizer: bert4keras tokenizer.
        kind: 't5', whose loader expects another tokenizer, or any other kind.
    """
    usual = {"token_start": "<s>", "token_end": "</s>", "token_translate": {}}
    if kind == "t5":
        usual["token_start"] = None
    if isinstance(tokenizer, Tokenizer):
        usual.update(token_start="[CLS]", token_end="[SEP]", word_maxlen=200, normalize_width=True)
        if kind == "t5":
            usual["do_lower_case"] = True
    found = {name: getattr(tokenizer, "_" + name, None) for name in usual}
    if isinstance(tokenizer, Tokenizer):
        found["normalize_width"] = isinstance(tokenizer, WidthTokenizer)
    settings = {name: value for name, value in found.items() if value != usual[name]}
    own = own_parts(tokenizer)
    return dict(settings, own=own) if own else settings


def own_parts(tokenizer):
    """What of a tokenizer is code or a change that no file holds; a list of names, mostly empty."""
    own = ["pre_tokenize"] if getattr(tokenizer, "_pre_tokenize", None) is not None else []
    if type(tokenizer) not in (Tokenizer, WidthTokenizer, SpTokenizer):
        own.append("the class %s" % type(tokenizer).__name__)
    if isinstance(tokenizer, Tokenizer):
        usual = {"_token_pad": "[PAD]", "_token_unk": "[UNK]", "_token_mask": "[MASK]"}
        own.extend(name[1:] for name in usual if getattr(tokenizer, name) != usual[name])
    return own
