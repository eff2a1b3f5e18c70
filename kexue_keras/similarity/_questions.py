"""`SimilarQuestions`: paraphrase a text many times, then keep what is nearest to it.

The most likely samples are near copies, and the lower ranks drift away, some to the opposite: both ends can be cut off.

Reference: "鱼与熊掌兼得：融合检索和生成的SimBERT模型", kexue.fm/archives/7427; "SimBERTv2来了！融合检索和生成的RoFormer-Sim模型",
kexue.fm/archives/8454.
"""

from collections import namedtuple
from typing import Any, List, Optional, Sequence, Union

from kexue_keras import checks
from kexue_keras.checkpoints._load import PretrainedModel, load
from kexue_keras.data._texts import checked_texts
from kexue_keras.decoding import Generator
from kexue_keras.errors import WeightsError
from kexue_keras.files.paths import is_path
from kexue_keras.models._lengths import checked_max_length, positions_of
from kexue_keras.similarity._encoder import SentenceEncoder
from kexue_keras.types import Path

Question = namedtuple("Question", "text score")


class SimilarQuestions(object):
    """Generates texts like a given one with a SimBERT or RoFormer-Sim, and ranks them by cosine.

    Args:
        pretrained: the bundled 'roformer-sim-zh-small', a folder of a SimBERT or RoFormer-Sim as for `models.load`, or
            a `PretrainedModel` loaded with application='unilm', with_mlm=True or 'linear' and, without `encoder`,
            with_pool='linear'.
        encoder: `SentenceEncoder` that ranks; None: the same model's, by its linear pooler.
        max_length: longest text in tokens, of the source and of what is generated; a row has both, so up to
            2 max_length - 1 tokens.
        **arguments: of `models.load`.

    Attributes:
        generator: `decoding.Generator`.
        encoder: `SentenceEncoder`.

    Raises:
        WeightsError: see `models.load`; the checkpoint has no head that generates, or no pooler.
        ValueError: a `PretrainedModel` that was loaded without what is needed; a length that the model has no
            positions for.

    Reference: kexue.fm/archives/7427, 8454.
    """

    def __init__(
        self,
        pretrained: Union[Path, PretrainedModel] = "roformer-sim-zh-small",
        *,
        encoder: Optional[SentenceEncoder] = None,
        max_length: int = 64,
        **arguments: Any,
    ) -> None:
        if is_path(pretrained):
            arguments = dict({"application": "unilm", "with_mlm": "linear"}, **arguments)
            if encoder is None:
                arguments.setdefault("with_pool", "linear")
            pretrained = load(pretrained, **arguments)
        elif arguments:
            raise TypeError("%s: arguments of models.load, but the model is loaded already" % ", ".join(arguments))
        self.pretrained, self.tokenizer = pretrained, pretrained.tokenizer
        self.max_length = checked_max_length(
            max_length, positions_of(pretrained.transformer), source=pretrained.name, rows=lambda n: 2 * n - 1
        )
        if self.tokenizer is None:
            raise WeightsError("%s has no vocabulary (vocab.txt)" % pretrained.name)
        self.generator = Generator(pretrained.model, end_id=self.tokenizer._token_end_id)
        if encoder is None:
            encoder = SentenceEncoder(pretrained, pooling="linear-pooler", max_length=max_length)
        self.encoder = encoder

    def generate(
        self,
        text: Union[str, Sequence[str]],
        *,
        n: int = 100,
        k: int = 20,
        top_p: Optional[float] = 0.95,
        top_k: Optional[int] = None,
        entropy: Optional[float] = None,
        temperature: float = 1.0,
        min_score: float = -1.0,
        min_edits: int = 0,
        mask_positions: Sequence[Any] = (),
        seed: int = 0,
        batch_size: int = 64,
    ) -> List[Any]:
        """Texts like `text`, the nearest first.

        Args:
            text: str, or a list of B str, which are decoded together, n rows each.
            n: how many are sampled.
            k: how many are kept at most; there are fewer if the samples repeat each other.
            top_p, top_k, entropy, temperature: see `Generator.sample`; the article samples with top_p 0.95.
            min_score: texts whose cosine with `text` is smaller are left out.
            min_edits: texts that differ from `text` in fewer characters are left out (inserted, deleted or replaced;
                punctuation, white space and capitals do not count).
            mask_positions: numbers of tokens of `text` that the generator sees as [MASK], 0 being [CLS]: there it is
                free to say something else; for a list of texts a list of such numbers for each.
            seed: int; the same seed and texts give the same result.
            batch_size: texts that are encoded together.

        Returns:
            list of `Question` (text, score: cosine with `text`), neither empty nor `text` itself, each once; for a list
            of B texts a list of B such lists.

        Raises:
            ValueError: a text empty or no str, a position that the text does not have or that is no token of it, not as
                many lists of positions as texts, or a vocabulary without [MASK].
        """
        single = isinstance(text, str)
        texts, positions = ([text], [mask_positions]) if single else (list(text), list(mask_positions))
        positions = positions or [()] * len(texts)
        for one in texts:
            if not isinstance(one, str) or not one.strip():
                raise ValueError("text is %r; a text is needed" % (one,))
        checked_texts(texts, name="text")
        if len(positions) != len(texts):
            raise ValueError("%d lists of mask_positions for %d texts" % (len(positions), len(texts)))
        for name, value, least in (("n", n, 1), ("k", k, 1), ("min_edits", min_edits, 0)):
            checks.whole_number(value, name, type(self).__name__, least=least)
        if not texts:
            return []
        ids = [self._source(*pair) for pair in zip(texts, positions)]
        most, longest = self.generator.structure.max_positions(), max(map(len, ids))
        room = self.max_length if most is None else min(self.max_length, most - longest)
        sampled = self.generator.sample(
            [ids], max_length=room, n=n, top_p=top_p, top_k=top_k, entropy=entropy, temperature=temperature, seed=seed
        )
        rows = sampled.lists(self.tokenizer._token_end_id)
        found = [self._different(one, map(self.tokenizer.decode, row), min_edits) for one, row in zip(texts, rows)]
        vectors = self.encoder.encode(texts + [x for row in found for x in row], batch_size=batch_size)
        ranked, first = [], len(texts)
        for vector, row in zip(vectors, found):
            nearest = _nearest(vector, row, vectors[first : first + len(row)], k)
            ranked.append([question for question in nearest if question.score >= min_score])
            first += len(row)
        return ranked[0] if single else ranked

    def _source(self, text, mask_positions):
        """Token ids of a text with [MASK] at the given positions."""
        ids = list(map(int, self.tokenizer.encode(text, maxlen=self.max_length)[0]))
        for position in mask_positions:
            if not 0 < position < len(ids) - 1:
                raise ValueError("mask position %r; the tokens of %r are 1 to %d" % (position, text, len(ids) - 2))
            if getattr(self.tokenizer, "_token_mask_id", None) is None:
                raise ValueError("mask_positions: the vocabulary has no [MASK]")
            ids[position] = self.tokenizer._token_mask_id
        return ids

    def _different(self, text, found, min_edits):
        """The texts found, each once, without the empty ones, `text` itself and what is too near to it."""
        # Decoding and encoding again drops what the vocabulary does not tell apart, such as capitals.
        same = self.tokenizer.decode(self._source(text, ()))
        found = [one for one in dict.fromkeys(found) if one.strip() and one not in (same, text)]
        return [one for one in found if min_edits == 0 or edit_distance(_words(text), _words(one)) >= min_edits]


def edit_distance(first, second):
    """Levenshtein's distance of two strings: characters inserted, left out or replaced.

    >>> edit_distance('怎么办信用卡', '信用卡怎么办理')
    6
    """
    row = list(range(len(second) + 1))
    for i, a in enumerate(first):
        before, row = row, [i + 1]
        for j, b in enumerate(second):
            row.append(min(before[j] + (a != b), before[j + 1] + 1, row[j] + 1))
    return row[-1]


def _words(text):
    """The content of a text: letters and digits."""
    return "".join(c for c in text.lower() if c.isalnum())


def _nearest(vector, texts, vectors, k):
    scores = vectors @ vector
    order = (-scores).argsort(kind="stable")[:k]
    return [Question(texts[i], float(scores[i])) for i in order]
