"""Which font draws a text: matplotlib's own, the one that this package brings, or any that is installed."""

import os
import warnings

ASSETS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "assets")
# Noto Sans CJK SC, the 7,000 characters of GB 2312: simplified Chinese, kana, Greek and Cyrillic letters.
BUNDLED_FONT = os.path.join(ASSETS, "noto_sans_cjk_sc.otf")


def font_for(text):
    """A font that has all characters of `text`.

    Args:
        text: str.

    Returns:
        matplotlib `FontProperties`, or None: no font here has them all.

    >>> os.path.basename(font_for('中文 ABC').get_file())
    'noto_sans_cjk_sc.otf'
    """
    from matplotlib.font_manager import FontProperties

    wanted = {ord(c) for c in text if not c.isspace()}
    for path in _candidates():
        if _has(path, wanted):
            return FontProperties(fname=path)
    return None


def _candidates():
    from matplotlib import font_manager

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield font_manager.findfont(font_manager.FontProperties())
    yield BUNDLED_FONT
    seen = set()
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: entry.name):
        # "Last Resort" has a box for every character.
        if entry.style == "normal" and not entry.name.startswith("Last Resort") and entry.fname not in seen:
            seen.add(entry.fname)
            yield entry.fname


def _has(path, wanted):
    from matplotlib import ft2font

    try:
        font = ft2font.FT2Font(path)
    except (OSError, RuntimeError):
        return False
    return all(font.get_char_index(code) for code in wanted)
