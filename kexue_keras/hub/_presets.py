"""`presets`: models by their names, the bundled ones and some of the hub, with size, licence and what they are for."""

from collections import namedtuple
from typing import Any, List

Preset = namedtuple("Preset", "name kind parameters megabytes licence bundled purpose")
Preset.__doc__ = """A model by its name.

Attributes:
    name: for `models.load`.
    kind: 'bert', 'roformer', 't5'.
    parameters: millions of weights that the loaded model has.
    megabytes: of the files; of the hub's those with float32 weights.
    licence: as the authors state it.
    bundled: bool, whether it comes with the package; the others are fetched.
    purpose: what it is for.
"""

_RESEARCH = "research and teaching (texts of differing licences, see kexue_keras/assets/README.md)"
_PRESETS = (
    ("me5-zh-sp", "bert", 31.3, 19.5, "MIT", True, "sentence vectors and fine-tuning; SentencePiece, 25,486 tokens"),
    ("me5-zh-char", "bert", 26.9, 19.0, "MIT", True, "the same with a vocabulary of characters, 14,001 tokens"),
    ("me5-zh-char-mlm", "bert", 27.0, 33.8, _RESEARCH, True, "prompts, masked language modelling, UniLM"),
    ("roformer-sim-zh-small", "roformer", 27.0, 46.0, _RESEARCH, True, "saying a question in other words"),
    ("hfl/rbt3", "bert", 38.5, 154, "Apache-2.0", False, "fine-tuning on a CPU: 3 layers of RoBERTa-wwm-ext"),
    ("hfl/chinese-roberta-wwm-ext", "bert", 102.3, 409, "Apache-2.0", False, "fine-tuning, base size"),
    ("hfl/chinese-macbert-base", "bert", 102.3, 409, "Apache-2.0", False, "fine-tuning, base size"),
    ("BAAI/bge-small-zh-v1.5", "bert", 24.0, 96, "MIT", False, "sentence vectors, retrieval; pooling cls"),
    ("BAAI/bge-base-zh-v1.5", "bert", 102.3, 409, "MIT", False, "sentence vectors, retrieval; pooling cls"),
    ("shibing624/text2vec-base-chinese", "bert", 102.3, 409, "Apache-2.0", False, "sentence vectors; pooling mean"),
    ("google/mt5-small", "t5", 300.2, 1201, "Apache-2.0", False, "one text from another; see trim_sentencepiece"),
)


class _Presets(list):
    """A list that prints as a table."""

    def __repr__(self):
        lines = [("name", "kind", "millions", "MB", "", "licence: for")]
        for one in self:
            where = "bundled" if one.bundled else "hub"
            what = "%s: %s" % (one.licence, one.purpose)
            lines.append((one.name, one.kind, "%.0f" % one.parameters, "%.0f" % one.megabytes, where, what))
        widths = [max(len(line[i]) for line in lines) for i in range(5)]
        return "\n".join("  ".join([c.ljust(w) for c, w in zip(line, widths)] + [line[5]]) for line in lines)


def presets(search: str = "") -> List[Any]:
    """Models that `models.load` takes by their names: the bundled ones, and known ones of the hub.

    The hub has thousands of others; any BERT, RoBERTa-wwm, MacBERT, ALBERT, ELECTRA, RoFormer or T5 there can be named.

    Args:
        search: only those of which name, kind, licence or purpose contains it.

    Returns:
        list of `Preset`, which prints as a table.

    >>> [one.name for one in presets('bge')]
    ['BAAI/bge-small-zh-v1.5', 'BAAI/bge-base-zh-v1.5']
    >>> presets('me5-zh-sp')[0].licence
    'MIT'
    """
    found = (Preset(*row) for row in _PRESETS)
    return _Presets(one for one in found if search.lower() in " ".join(map(str, one)).lower())
