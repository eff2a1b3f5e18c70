"""Figures without pyplot, which keeps state in the process of whoever calls, and words that matplotlib can draw."""

import importlib.util

from kexue_keras.errors import UserError, printable, shorten
from kexue_keras.files import atomic_path
from kexue_keras.pictures._fonts import font_for


def has_matplotlib():
    """Whether pictures can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def new_figure(width, height):
    """A figure of so many inches.

    Raises:
        UserError: matplotlib is not installed.
    """
    if not has_matplotlib():
        raise UserError('a picture takes matplotlib (pip install "kexue-keras[report]")')
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110)
    FigureCanvasAgg(figure)
    return figure


def save(figure, path):
    """Write a figure; the file is there when it is complete."""
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def drawable(words, length=30):
    """Words as they can be drawn.

    Args:
        words: list of str.
        length: longest word in characters; of longer ones the beginning is drawn.

    Returns:
        (list of str, dict of keyword arguments for what draws them); where no font has the characters the words are
        numbered, '#1', '#2', ..., and the dict is None.
    """
    words = [shorten(printable(word), length) for word in words]
    font = font_for("".join(words))
    if font is None:
        return ["#%d" % (i + 1) for i in range(len(words))], None
    # A dollar would begin a formula.
    return [word.replace("$", r"\$") for word in words], {"fontproperties": font}
