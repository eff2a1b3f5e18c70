"""Which font on this machine can draw a text."""

import warnings


def font_for(text):
    """Name of an installed font that has all characters of `text`, or None.

    Args:
        text: str.

    >>> font_for('plain letters') is not None
    True
    """
    from matplotlib import font_manager, ft2font

    wanted = {ord(c) for c in text if not c.isspace()}
    default = font_manager.FontProperties()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        usual = font_manager.findfont(default)
    entries = sorted(font_manager.fontManager.ttflist, key=lambda e: (e.fname != usual, not _for_chinese(e), e.name))
    seen = set()
    for entry in entries:
        # "Last Resort" has a box for every character.
        if entry.fname in seen or entry.style != "normal" or entry.name.startswith("Last Resort"):
            continue
        seen.add(entry.fname)
        try:
            font = ft2font.FT2Font(entry.fname)
        except (OSError, RuntimeError):
            continue
        if all(font.get_char_index(c) for c in wanted):
            return entry.name
    return None


def _for_chinese(entry):
    name = entry.name.lower()
    return any(w in name for w in ("cjk sc", "cjk", "han", "hei", "song", "wenquanyi", "ming", "pingfang", "fallback"))
