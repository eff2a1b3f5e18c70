"""What finds entities on top of an encoder: GlobalPointer, Efficient GlobalPointer, or a CRF over BIOES tags.

References: "GlobalPointer：用统一的方式处理嵌套和非嵌套NER", kexue.fm/archives/8373; "Efficient GlobalPointer：少点参数，多点
效果", kexue.fm/archives/8877; "简明条件随机场CRF介绍（附带纯Keras实现）", kexue.fm/archives/5542.
"""

import numpy as np
from bert4keras.layers import EfficientGlobalPointer, GlobalPointer

from kexue_keras.backend import keras
from kexue_keras.data._tags import spans_of_tags, tag_names
from kexue_keras.finetune.named_entities._chain import (
    chains_of,
    negative_log_likelihood,
    stretch_probabilities,
    viterbi,
)
from kexue_keras.layers import LinearChainCRF
from kexue_keras.losses import MultilabelCrossentropy, crf_negative_log_likelihood, multilabel_probabilities

# Names of layers; by the first a head's learning rate is known (`--head-lr-multiplier`), by the second that of the
# transitions.
LOGITS, TRANSITIONS = "logits", "transitions"
# bert4keras' lecun_normal is cut at two deviations, which leaves this much of one.
_OF_A_CUT_NORMAL = 0.87962566


class PointerHead(object):
    """GlobalPointer: a score for each label, first and last token; above 0 it is an entity.

    Args:
        labels: list of str.
        head_size: width of queries and keys.
        flat: bool; of entities that overlap the one with the highest score stays.
    """

    name = "global-pointer"
    main_metric = "f1"
    layer = GlobalPointer

    def __init__(self, labels, *, head_size=64, flat=True):
        self.labels, self.head_size, self.flat = labels, head_size, flat

    def build(self, hidden, seed):
        """Output `[B, labels, n * n]` on hidden states `[B, n, d]`; the start depends on the seed alone."""
        pointer = self.layer(len(self.labels), self.head_size, name=LOGITS)
        scores = pointer(hidden)
        random = np.random.RandomState(seed % 2**32)
        pointer.set_weights([_start(random, weight.shape) for weight in pointer.get_weights()])
        # As classes, of which the loss takes the right ones by their numbers.
        return keras.layers.Reshape((len(self.labels), -1), name="pairs")(scores)

    def loss(self):
        """Keras loss."""
        return MultilabelCrossentropy(from_sparse=True, mask_zero=True)

    def metrics(self):
        """None."""

    def multipliers(self, options):
        """Learning rates of its own, {pattern: factor}."""
        return {}

    def targets(self, rows, encoded, length):
        """float32 `[B, labels, P]`: first * n + last; 0, which [CLS] would be, where there are fewer.

        Args:
            rows: lists of (first token, last token, label).
            encoded: `EncodedText` of each.
            length: tokens n that the batch is padded to.
        """
        number = {label: i for i, label in enumerate(self.labels)}
        found = [[[] for _ in self.labels] for _ in rows]
        for row, entities in zip(found, rows):
            for first, last, label in entities:
                row[number[label]].append(first * length + last)
        most = max([len(pairs) for row in found for pairs in row] + [1])
        return np.array([[pairs + [0] * (most - len(pairs)) for pairs in row] for row in found], "float32")

    def loss_of(self, outputs, targets, encoded):
        """The loss of each text, in numpy: float64 `[B]`."""
        logits, right = np.asarray(outputs, "float64"), targets.astype("int64")
        is_right = np.zeros(logits.shape, bool)
        np.put_along_axis(is_right, right, True, axis=-1)
        is_right[..., 0] = False
        wrong = np.where(is_right, -np.inf, logits)
        wrong[..., 0] = -np.inf
        right = np.where(is_right, -logits, -np.inf)
        both = [np.logaddexp(0, np.logaddexp.reduce(part, axis=-1)) for part in (wrong, right)]
        return sum(both).mean(axis=-1)

    def decode(self, outputs, encoded):
        """The entities of a batch.

        Args:
            outputs: of the model.
            encoded: `EncodedText` of each row.

        Returns:
            list of lists of (first token, last token, label, probability), in the order of the text.
        """
        found = []
        for output, text in zip(outputs, encoded):
            length = int(round(np.sqrt(output.shape[-1])))
            entities = []
            for label, pair in zip(*np.nonzero(output > 0)):
                first, last = divmod(int(pair), length)
                if last < len(text.spans) and text.spans[first] and text.spans[last]:
                    entities.append((float(output[label, pair]), first, last, self.labels[label]))
            if self.flat:
                entities = _without_overlaps(entities)
            scores = multilabel_probabilities(np.array([entity[0] for entity in entities]))
            found.append(sorted(entity[1:] + (float(score),) for entity, score in zip(entities, scores)))
        return found


class EfficientPointerHead(PointerHead):
    """Efficient GlobalPointer: whether something is an entity, one for all labels, and which label, from its ends."""

    name = "efficient-global-pointer"
    layer = EfficientGlobalPointer


class CRFHead(object):
    """A linear-chain CRF over BIOES tags of the tokens; what it finds does not overlap.

    Args: as `PointerHead`.
    """

    name = "crf"
    main_metric = "f1"
    flat = True

    def __init__(self, labels, *, head_size=None, flat=True):
        self.labels, self.tags = labels, tag_names(labels)
        self.allowed = legal(self.tags)

    def build(self, hidden, seed):
        """Output of `LinearChainCRF`; see `PointerHead.build`."""
        dense = keras.layers.Dense(len(self.tags), name=LOGITS, dtype="float32")
        scores = dense(hidden)
        random = np.random.RandomState(seed % 2**32)
        dense.set_weights([_start(random, weight.shape) for weight in dense.get_weights()])
        return LinearChainCRF(name=TRANSITIONS)(scores)

    def loss(self):
        """Keras loss."""
        return crf_negative_log_likelihood

    def metrics(self):
        """None."""

    def multipliers(self, options):
        """See `PointerHead.multipliers`."""
        factor = options.transition_lr_multiplier
        return {TRANSITIONS + "/": factor} if factor != 1 else {}

    def targets(self, rows, encoded, length):
        """float32 `[B, n, 1]`: numbers of the tags, -1 at special tokens and padding; see `PointerHead.targets`."""
        number = {tag: i for i, tag in enumerate(self.tags)}
        out = np.full((len(rows), length, 1), -1, "float32")
        for tags, entities, text in zip(out[:, :, 0], rows, encoded):
            tags[places(text)] = 0
            for first, last, label in entities:
                inner = [i for i in range(first, last + 1) if text.spans[i]]
                names = ["S"] if len(inner) == 1 else ["B"] + ["I"] * (len(inner) - 2) + ["E"]
                tags[inner] = [number["%s-%s" % (name, label)] for name in names]
        return out

    def loss_of(self, outputs, targets, encoded):
        """See `PointerHead.loss_of`."""
        chosen = [places(text) for text in encoded]
        tags = [row[where, 0].astype("int64") for row, where in zip(targets, chosen)]
        chains = chains_of(outputs, chosen)
        return np.array([0.0 if chain is None else negative_log_likelihood(chain, y) for chain, y in zip(chains, tags)])

    def decode(self, outputs, encoded):
        """See `PointerHead.decode`: the best sequence of tags that spells entities."""
        found, chosen = [], [places(text) for text in encoded]
        for chain, where in zip(chains_of(outputs, chosen), chosen):
            if chain is None:
                found.append([])
                continue
            tags = viterbi(chain, self.allowed)
            spans = spans_of_tags([self.tags[tag] for tag in tags]) if tags.any() else []
            scores = stretch_probabilities(chain, tags, [(start, end - 1) for start, end, _ in spans])
            found.append(
                [(where[start], where[end - 1], label, score) for (start, end, label), score in zip(spans, scores)]
            )
        return found


HEADS = {head.name: head for head in (PointerHead, EfficientPointerHead, CRFHead)}


def places(text):
    """The tokens of an `EncodedText` that stand for characters, a list of int."""
    return [i for i, span in enumerate(text.spans) if span]


def legal(tags):
    """Which BIOES tags may come first, last, and after another: bool `[C]`, `[C]`, `[C, C]` (row: the tag before).

    >>> [rule.tolist() for rule in legal(['O', 'B-x', 'E-x'])]
    [[True, True, False], [True, False, True], [[True, True, False], [False, False, True], [True, True, False]]]
    """
    begins = np.array([tag[0] in "OBS" for tag in tags])
    ends = np.array([tag[0] in "OES" for tag in tags])
    same = np.array([[a[2:] == b[2:] for b in tags] for a in tags])
    return begins, ends, np.where(ends[:, None], begins[None], ~begins[None] & same)


def _without_overlaps(entities):
    """Of (score, first, last, ...), by falling scores, those that have no token in common with one before."""
    kept = []
    for entity in sorted(entities, key=lambda e: (-e[0],) + e[1:]):
        if all(entity[2] < other[1] or entity[1] > other[2] for other in kept):
            kept.append(entity)
    return kept


def _start(random, shape):
    """A kernel like bert4keras' lecun_normal, zeros for a bias."""
    if len(shape) == 1:
        return np.zeros(shape, "float32")
    return np.clip(random.standard_normal(shape), -2, 2) / (_OF_A_CUT_NORMAL * np.sqrt(shape[0]))
