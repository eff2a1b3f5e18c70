"""Sentence vectors from labelled pairs of several data sets: one Sentence-BERT head, shared, in groups of classes.

RoFormer-Sim-FT: binary sets (the same meaning or not) and inference sets (contradiction, entailment, neutral) train one
encoder through one Dense(5) on [u, v, |u - v|]; a pair counts among the classes of its own group.

Reference: "用开源的人工标注数据来增强RoFormer-Sim", kexue.fm/archives/8541; arXiv 1705.02364, 1908.10084.
"""

from typing import List, Optional, Sequence, Tuple, Union

import numpy as np

from kexue_keras.data import checked_texts, encode, inference_classes
from kexue_keras.data._batches import POOL, ROUNDING, pad
from kexue_keras.errors import UserError
from kexue_keras.finetune._schedule import warmed_up
from kexue_keras.losses import GroupedCrossentropy
from kexue_keras.options.choices import HEAD_LR_MULTIPLIERS
from kexue_keras.similarity import SentenceEncoder, pair_classifier
from kexue_keras.trainer import Techniques, train_model
from kexue_keras.types import KerasOptimizer, Model, Path, Say


class PairSet(object):
    """Labelled pairs of one data set.

    Args:
        pairs: list of (str, str).
        labels: list of int, classes from 0 within the group; for a binary group 1 is "similar".
        group: number of the group of classes, from 0.

    Raises:
        ValueError: not as many labels as pairs, or none.

    >>> len(PairSet([('今天天气不错', '今天天气很好')], [1]))
    1
    """

    def __init__(self, pairs: Sequence[Tuple[str, str]], labels: Sequence[int], group: int = 0) -> None:
        self.pairs, self.labels, self.group = checked_texts(pairs, name="pairs", pairs=True), np.asarray(labels), group
        self.labels = self.labels.astype("int32")
        if len(self.pairs) != len(self.labels) or not self.pairs:
            raise ValueError("%d pairs and %d labels; as many are needed, and at least one" % (len(pairs), len(labels)))

    def __len__(self) -> int:
        return len(self.pairs)

    @classmethod
    def from_inference(
        cls, pairs: Sequence[Tuple[str, str]], labels: Sequence[Union[str, int]], group: int = 1
    ) -> "PairSet":
        """Three classes from names (contradiction, entailment, neutral, or 矛盾, 蕴含, 中立) or numbers 0, 1, 2.

        >>> PairSet.from_inference([('我喜欢北京', '我不喜欢北京')], ['contradiction']).labels.tolist()
        [0]
        """
        return cls(pairs, inference_classes(labels), group)

    @classmethod
    def from_scores(
        cls, pairs: Sequence[Tuple[str, str]], scores: Sequence[float], above: float, group: int = 0
    ) -> "PairSet":
        """Two classes from scores: similar if the score is above `above` (2.5 for STS-B)."""
        return cls(pairs, (np.asarray(scores) > above).astype("int32"), group)


class PairSampler(object):
    """Batches of pairs drawn from several sets, each group as often as the others, in a group each set.

    Pairs are drawn for a pool of batches at a time. Sorted by padded length within their group, they are dealt out so
    that a batch has pairs of about equal length of every group, and the batches of the pool are shuffled.

    Args:
        tokenizer: bert4keras tokenizer.
        sets: list of `PairSet`.
        groups: classes of each group.
        max_length: longest text in tokens.
        batch_size: pairs per batch.
        seed: int, with the step what a batch depends on.
        rounding: int, lengths are rounded up to a multiple of it.

    Raises:
        UserError: a label that its group does not have, or a group without a set.
    """

    def __init__(self, tokenizer, sets, *, groups, max_length, batch_size, seed=0, rounding=ROUNDING):
        first = np.concatenate([[0], np.cumsum(groups)])
        self.sets = [[] for _ in groups]
        for number, one in enumerate(sets):
            if not 0 <= one.group < len(groups):
                raise UserError("set %d is of group %r; there are %d groups" % (number, one.group, len(groups)))
            wrong = [label for label in one.labels if not 0 <= label < groups[one.group]]
            if wrong:
                raise UserError(
                    "set %d has the label %d; its group has the classes 0 to %d"
                    % (number, wrong[0], groups[one.group] - 1)
                )
            texts = [text for pair in one.pairs for text in pair]
            encoded = encode(tokenizer, texts, max_length)[0]
            pairs = list(zip(encoded[::2], encoded[1::2]))
            self.sets[one.group].append((pairs, one.labels + first[one.group]))
        empty = [group for group, members in enumerate(self.sets) if not members]
        if empty:
            raise UserError("group %d has no set; give groups for what there is" % empty[0])
        self.max_length, self.batch_size, self.seed, self.rounding = max_length, batch_size, seed, rounding
        self._pool = None, []

    def __call__(self, step):
        """The batch of a step: ([token ids, segment ids] of 2P rows, labels `[2P]`)."""
        if self._pool[0] != step // POOL:
            self._pool = step // POOL, self._draw(step // POOL)
        rows, labels = [], []
        for pair, label in self._pool[1][step % POOL]:
            rows.extend(pair)
            labels.extend([label] * 2)
        return list(pad(rows, self._padded_length(rows))), np.array(labels, "int32")

    def _draw(self, number):
        """The batches of a pool, lists of (pair, label)."""
        random = np.random.RandomState([self.seed % 2**32, number])
        group_of = random.randint(len(self.sets), size=(POOL, self.batch_size))
        batches = [[] for _ in range(POOL)]
        for group, members in enumerate(self.sets):
            drawn = [self._pair(members, random) for _ in range(np.sum(group_of == group))]
            drawn.sort(key=lambda one: self._padded_length(one[0]))
            for batch, count in zip(batches, np.sum(group_of == group, axis=1)):
                batch.extend(drawn[:count])
                del drawn[:count]
        return [batches[i] for i in random.permutation(POOL)]

    def _padded_length(self, rows):
        """Tokens of each of the rows in a batch of them alone."""
        longest = max(len(token_ids) for token_ids, _ in rows)
        return min(-(-longest // self.rounding) * self.rounding, self.max_length)

    def _pair(self, members, random):
        """(pair, label) of one of the sets."""
        pairs, labels = members[random.randint(len(members))]
        i = random.randint(len(labels))
        # The features of a pair are not symmetric, its meaning is (or may be taught to be).
        return pairs[i][:: 1 - 2 * random.randint(2)], labels[i]


def train_sentence_bert(
    encoder: SentenceEncoder,
    sets: Sequence[PairSet],
    *,
    groups: Sequence[int] = (2,),
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 2e-5,
    head_lr_multiplier: float = HEAD_LR_MULTIPLIERS["sbert"],
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    optimizer: Optional[KerasOptimizer] = None,
    techniques: Optional[Techniques] = None,
    seed: int = 0,
    folder: Optional[Path] = None,
    save_every: Optional[int] = 200,
    say: Optional[Say] = None,
) -> Tuple[List[float], Model]:
    """Train a `SentenceEncoder` on labelled pairs; the head is discarded.

    Args:
        encoder: `SentenceEncoder`; its model is trained in place.
        sets: list of `PairSet`.
        groups: classes of each group, (2, 3) for binary and inference sets as in the article.
        steps, folder, save_every, say: see `Trainer`; with `say` there is a progress bar, too.
        batch_size: pairs per step (the article: 96).
        learning_rate: highest rate of AdamW; it falls to 0.
        head_lr_multiplier: factor of the rate for the head, which starts from noise; the article's 1 wants many more
            steps.
        weight_decay: decoupled.
        warmup: share of the updates over which the rate rises.
        optimizer: Keras optimizer instance in place of AdamW with that schedule; `head_lr_multiplier` applies to it
            too.
        techniques: `trainer.Techniques`; R-Drop does not go with pairs of rows, and recompute is chosen when the
            encoder is loaded.
        seed: int.

    Returns:
        (list of float: the losses of the steps done here, Keras model with the head).

    Raises:
        UserError: see `PairSampler`, `Trainer.run`; techniques that do not go with it.

    Reference: kexue.fm/archives/8541.
    """
    techniques = techniques or Techniques()
    techniques.refuse("Sentence-BERT", rdrop="it repeats the rows of a batch, of which two and two are a pair")
    techniques.refuse_built("Sentence-BERT")
    drawn = {"batch_size": batch_size, "seed": seed, "rounding": techniques.rounding}
    sampler = PairSampler(encoder.tokenizer, sets, groups=groups, max_length=encoder.max_length, **drawn)
    model = pair_classifier(encoder.model, sum(groups), seed=seed)
    facts = {"batch_size": batch_size, "seed": seed, "pairs": [len(one) for one in sets], "groups": list(groups)}
    facts.update(learning_rate=learning_rate, head_lr_multiplier=head_lr_multiplier)
    losses = train_model(
        model,
        sampler,
        loss=GroupedCrossentropy(groups),
        optimizer=optimizer,
        default=warmed_up(learning_rate, warmup, weight_decay),
        multipliers={"pair_logits": head_lr_multiplier} if head_lr_multiplier != 1 else None,
        techniques=techniques,
        steps=steps,
        seed=seed,
        folder=folder,
        facts=facts,
        save_every=save_every,
        say=say,
    ).losses
    return losses, model
