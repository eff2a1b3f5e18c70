"""The techniques as the tables of both READMEs have them."""

from kexue_keras.catalogue._lookup import exists
from kexue_keras.catalogue._techniques import TECHNIQUES, Technique


def article_links(technique: Technique) -> str:
    """Markdown links to the technique's articles."""
    return ", ".join("[%d](https://kexue.fm/archives/%d)" % (number, number) for number in technique.articles)


def markdown_table() -> str:
    """The table of techniques as it stands in the READMEs: a tick where everything named exists."""
    lines = ["| | technique | article | in `kexue_keras` |", "|---|---|---|---|"]
    for t in TECHNIQUES:
        names = ", ".join("`%s`" % name for name in t.names)
        done = exists(t)
        title = "[%s](docs/%s)" % (t.title, t.docs) if done else t.title
        lines.append("| %s | %s | %s | %s |" % ("✓" if done else " ", title, article_links(t), names))
    return "\n".join(lines)
