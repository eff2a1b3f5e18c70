"""Cuts the font that pictures fall back to: the characters of GB 2312 out of Noto Sans CJK SC.

    .venv-tf2/bin/python tools/make_font.py NotoSansCJKsc-Regular.otf [kexue_keras/assets/noto_sans_cjk_sc.otf]

The source is on PyPI too, in the package mplfonts 0.0.8 (mplfonts/fonts/NotoSansCJKsc-Regular.otf). fontTools comes
with a current matplotlib.
"""

import os
import sys

from fontTools import subset
from fontTools.ttLib import TTFont

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What lays out vertical text and ligatures, for which no picture asks.
UNUSED = ["BASE", "GPOS", "GSUB", "VORG", "vhea", "vmtx"]
KEPT_NAMES = [0, 1, 2, 3, 4, 5, 6, 7, 13, 14]  # copyright, names, trademark, licence


def characters():
    """GB 2312, and the letters and signs of Latin scripts, as one str."""
    pairs = (bytes([row, cell]).decode("gb2312", "ignore") for row in range(0xA1, 0xF8) for cell in range(0xA1, 0xFF))
    return "".join(sorted(set(pairs) | {chr(code) for code in range(0x20, 0x180)}))


def main(source, target=os.path.join(HERE, "kexue_keras", "assets", "noto_sans_cjk_sc.otf")):
    """Write the part of the font at `source` to `target`."""
    font = TTFont(source)
    options = subset.Options(layout_features=[], hinting=False, notdef_outline=True, name_IDs=KEPT_NAMES)
    options.drop_tables += UNUSED
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=characters())
    subsetter.subset(font)
    font.save(target)
    print("%s: %d characters, %.1f MB" % (target, len(characters()), os.path.getsize(target) / 1e6))


if __name__ == "__main__":
    main(*sys.argv[1:])
