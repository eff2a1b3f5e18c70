"""Training SimBERT and RoFormer-Sim: one UniLM that paraphrases a text, and whose [CLS] is the text's vector.

A row is `[CLS] a [SEP] b [SEP]`, b a synonym of a; row (b, a) is next to row (a, b). The loss is that of generating
the second text, plus a contrast of the [CLS] vectors within the batch, which see the first text only.

Reference: "鱼与熊掌兼得：融合检索和生成的SimBERT模型", kexue.fm/archives/7427; "SimBERTv2来了！融合检索和生成的RoFormer-Sim模型",
kexue.fm/archives/8454; "用开源的人工标注数据来增强RoFormer-Sim", kexue.fm/archives/8541; UniLM, arXiv 1905.03197.
"""

from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from kexue_keras.checkpoints._convert import save
from kexue_keras.data import checked_texts, encode
from kexue_keras.data._batches import pad
from kexue_keras.data._word_masking import token_words, whole_word_masking
from kexue_keras.errors import UserError
from kexue_keras.finetune._encoder import recomputed
from kexue_keras.finetune._schedule import warmed_up
from kexue_keras.losses import InfoNCE, MaskedCrossentropy, SimilarityDistillation
from kexue_keras.models import load
from kexue_keras.models._lengths import checked_max_length, positions_of
from kexue_keras.similarity import SentenceEncoder
from kexue_keras.trainer import Techniques, train_model
from kexue_keras.trainer._techniques import NOT_FOR_A_CONTRAST
from kexue_keras.types import Array, KerasOptimizer, Path, Say


class SimBERT(object):
    """A UniLM with a linear pooler, trained on groups of synonyms.

    Args:
        model: folder of a BERT, RoFormer, SimBERT or RoFormer-Sim as for `models.load`. Pooler and head that the
            checkpoint lacks start from random weights, and a warning says so.
        max_length: longest single text in tokens; a row has up to twice as many.
        words: function of a text to its words; the noise then masks whole words (`data.word_cutter()` is jieba); `list`
            masks characters.
        techniques: `trainer.Techniques` for building and training; R-Drop and the penalty per sample do not go with a
            contrast within the batch.
        **arguments: of `models.load`, for instance dropout_rate=0.2 as in the article.

    Attributes:
        pretrained: `PretrainedModel`; its model gives [vectors, logits].
        encoder: `SentenceEncoder` of the same weights.

    Raises:
        WeightsError: see `models.load`.
        UserError: a vocabulary without [MASK]; techniques that do not go with it.
        ValueError: a length that the model has no positions for; a row has up to 2 max_length - 1 tokens.

    Reference: kexue.fm/archives/7427, 8454.
    """

    def __init__(
        self,
        model: Path,
        *,
        max_length: int = 64,
        words: Callable[[str], Sequence[str]] = list,
        techniques: Optional[Techniques] = None,
        **arguments: Any,
    ) -> None:
        self.techniques = techniques or Techniques()
        self.techniques.refuse("SimBERT", **NOT_FOR_A_CONTRAST)
        arguments = dict({"missing": "initialise"}, **dict(recomputed(model, self.techniques), **arguments))
        self.pretrained = load(model, application="unilm", with_pool="linear", with_mlm="linear", **arguments)
        positions, name = positions_of(self.pretrained.transformer), self.pretrained.name
        self.max_length = checked_max_length(max_length, positions, least=3, source=name, rows=lambda n: 2 * n - 1)
        self.tokenizer, self.words = self.pretrained.tokenizer, words
        self.mask_id = getattr(self.tokenizer, "_token_mask_id", None)
        if self.mask_id is None:
            raise UserError("the vocabulary has no [MASK], which the noise needs", path=self.pretrained.name)
        self.encoder = SentenceEncoder(self.pretrained, pooling="linear-pooler", max_length=max_length)

    def row(
        self, source: str, target: str, random: Optional[np.random.RandomState] = None, mask_rate: float = 0.15
    ) -> Tuple[List[int], List[int]]:
        """Token ids and segment ids of `[CLS] source [SEP] target [SEP]`; with `random` the source is damaged."""
        ids = [list(map(int, encode(self.tokenizer, [text], self.max_length)[0][0][0])) for text in (source, target)]
        if random is not None:
            noisy = whole_word_masking(
                token_words(self.tokenizer, source, self.words),
                random,
                mask_id=self.mask_id,
                vocab_size=self.tokenizer._vocab_size,
                mask_rate=mask_rate,
            )
            ids[0] = [ids[0][0]] + noisy[: self.max_length - 2] + [ids[0][-1]]
        return ids[0] + ids[1][1:], [0] * len(ids[0]) + [1] * (len(ids[1]) - 1)

    def batch(
        self, groups: Sequence[Sequence[str]], step: int, *, batch_size: int, noise: float, mask_rate: float, seed: int
    ) -> Tuple[List[Array], Array, List[str]]:
        """Rows of a step: ([token ids, segment ids], next tokens `[2P, n, 1]`, the texts that are sources)."""
        random = np.random.RandomState([seed % 2**32, step])
        several = min(batch_size, len(groups))
        rows, sources = [], []
        # Without repetition: a group twice in a batch would be its own negative.
        for number in random.choice(len(groups), several, replace=False):
            group = groups[number]
            a, b = (group[i] for i in random.choice(len(group), 2, replace=False))
            for source, target in ((a, b), (b, a)):
                rows.append(self.row(source, target, random if random.random_sample() < noise else None, mask_rate))
                sources.append(source)
        rounding = 1 if self.techniques.xla is None else self.techniques.rounding
        longest = max(len(ids) for ids, _ in rows)
        tokens, segments = pad(rows, -(-longest // rounding) * rounding)
        following = np.zeros_like(tokens)
        following[:, :-1] = np.where(segments[:, 1:] == 1, tokens[:, 1:], 0)
        return [tokens, segments], following[..., None], sources

    def train(
        self,
        groups: Sequence[Sequence[str]],
        *,
        steps: int,
        batch_size: int = 48,
        learning_rate: float = 1e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        scale: float = 20.0,
        noise: float = 0.5,
        mask_rate: float = 0.15,
        teacher: Optional[SentenceEncoder] = None,
        distillation: float = 100.0,
        optimizer: Optional[KerasOptimizer] = None,
        seed: int = 0,
        folder: Optional[Path] = None,
        save_every: Optional[int] = 200,
        say: Optional[Say] = None,
    ) -> List[float]:
        """Train; with a teacher its cosines replace the contrast (second stage, and back from fine-tuning).

        Args:
            groups: list of lists of texts that mean the same, at least 2 each.
            steps, folder, save_every, say: see `Trainer`; with `say` there is a progress bar, too.
            batch_size: groups per step; two rows each.
            learning_rate: highest rate of AdamW; it falls to 0.
            weight_decay: decoupled.
            warmup: share of the updates over which the rate rises.
            scale: what cosines are multiplied by in the contrast: 20 in RoFormer-Sim, 30 in SimBERT.
            noise: share of the sources that are damaged (BART); 0 for SimBERT.
            mask_rate: share of their words that are hidden.
            teacher: `SentenceEncoder` that sees the undamaged texts, or None.
            distillation: weight of the teacher's loss, lambda of the article.
            optimizer: Keras optimizer instance in place of AdamW with that schedule.
            seed: int.

        Returns:
            list of float, the losses of the steps done here. With accumulation the contrast stays within each batch.

        Raises:
            UserError: a group with fewer than two different texts, fewer than 2 groups, or as in `Trainer.run`.

        Reference: kexue.fm/archives/7427, 8454, 8541.
        """
        groups = [
            list(dict.fromkeys(checked_texts(group, name="groups[%d]" % i, pairs=False)))
            for i, group in enumerate(groups)
        ]
        short = [i for i, group in enumerate(groups) if len(group) < 2]
        if short:
            raise UserError("group %d has fewer than two different texts: %r" % (short[0] + 1, groups[short[0]]))
        if min(batch_size, len(groups)) < 2:
            raise UserError(
                "a batch of one group has nothing to contrast; at least 2 groups and batch_size 2 are needed"
            )
        first = InfoNCE(1 / scale, layout="two_view") if teacher is None else SimilarityDistillation(distillation)

        def make_batch(step):
            inputs, following, sources = self.batch(
                groups, step, batch_size=batch_size, noise=noise, mask_rate=mask_rate, seed=seed
            )
            wanted = np.zeros((len(sources), 1)) if teacher is None else teacher.encode(sources)
            return inputs, [wanted, following]

        facts = {"batch_size": batch_size, "seed": seed, "groups": len(groups), "teacher": teacher is not None}
        facts.update(learning_rate=learning_rate, noise=noise, mask_rate=mask_rate, scale=scale)
        return train_model(
            self.pretrained.model,
            make_batch,
            loss=[first, MaskedCrossentropy()],
            optimizer=optimizer,
            default=warmed_up(learning_rate, warmup, weight_decay),
            techniques=self.techniques,
            steps=steps,
            seed=seed,
            folder=folder,
            facts=facts,
            save_every=save_every,
            say=say,
        ).losses

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write a folder for `models.load(path, application='unilm', with_pool='linear', with_mlm=True)`."""
        save(self.pretrained, path, overwrite=overwrite)
