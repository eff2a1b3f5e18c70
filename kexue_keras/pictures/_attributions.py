"""Which tokens a classifier decided by: integrated gradients along the way from an empty text to the text."""

from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np
import tensorflow as tf
from bert4keras.layers import Embedding

from kexue_keras import checks
from kexue_keras.backend import tf1
from kexue_keras.backend.functional_model import layer_calls
from kexue_keras.files.paths import as_text
from kexue_keras.options.choices import BASELINES
from kexue_keras.pictures._figure import drawable, new_figure, save
from kexue_keras.pictures._html import write_attributions_page
from kexue_keras.pictures._tokens import spoken, tokens_of
from kexue_keras.types import Array, Path

COLUMNS = 20  # tokens of a picture in a row


class Attributions(object):
    """What each token of a text adds to a label.

    Attributes:
        text: str, or a pair.
        label: the label whose log-odds are explained.
        probability: float, of this label.
        tokens: list of str, `n` of them.
        scores: float64 `[n]`, in nats of log-odds; positive ones speak for the label.
        log_odds: float, of the text.
        baseline_log_odds: float, of the text without its words.
        gap: float, `sum(scores) - (log_odds - baseline_log_odds)`: the error of the integration.
    """

    def __init__(
        self,
        text: Any,
        label: str,
        probability: float,
        tokens: List[str],
        scores: Array,
        log_odds: float,
        baseline_log_odds: float,
    ) -> None:
        self.text, self.label, self.probability, self.tokens, self.scores = text, label, probability, tokens, scores
        self.log_odds, self.baseline_log_odds = log_odds, baseline_log_odds

    @property
    def gap(self) -> float:
        """Error of the integration; with more steps it goes to 0."""
        return float(np.sum(self.scores) - (self.log_odds - self.baseline_log_odds))

    def facts(self) -> Dict[str, Any]:
        """All of it as JSON takes it."""
        return {
            "text": self.text,
            "label": self.label,
            "probability": self.probability,
            "tokens": [[token, float(score)] for token, score in zip(self.tokens, self.scores)],
            "log_odds": self.log_odds,
            "baseline_log_odds": self.baseline_log_odds,
        }

    def save(self, path: Path) -> None:
        """Write a picture (.png) or a page (.html): the tokens, red for the label and blue against it.

        Raises:
            ValueError: another suffix.
        """
        path = as_text(path)
        if path.endswith(".html"):
            return write_attributions_page(path, [self])
        if not path.endswith(".png"):
            raise ValueError("Attributions.save writes .png or .html, but path is %r" % (path,))
        words, font = drawable([spoken(token) for token in self.tokens], length=8)
        down = -(-len(words) // COLUMNS)
        figure = new_figure(0.55 * min(COLUMNS, len(words)) + 0.4, 0.6 * down + 0.7)
        axes = figure.subplots()
        most = max(np.abs(self.scores).max(), 1e-12)
        grid = np.zeros(down * COLUMNS)
        grid[: len(words)] = self.scores / most
        across = min(COLUMNS, len(words))
        axes.imshow(grid.reshape(down, COLUMNS)[:, :across], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        for i, (word, score) in enumerate(zip(words, self.scores)):
            color = "white" if abs(score) > 0.6 * most else "black"
            axes.text(i % COLUMNS, i // COLUMNS, word, ha="center", va="center", color=color, size=9, **(font or {}))
        axes.axis("off")
        label, label_font = drawable([str(self.label)])
        title = "%s  p = %.3f, log-odds %+.2f" % (label[0], self.probability, self.log_odds)
        axes.set_title(title, size=9, **(label_font or {}))
        save(figure, path)


class IntegratedGradients(object):
    """Integrated gradients of a classifier's log-odds for the token embeddings of texts.

    With x the embeddings and b the baseline, `a_i = sum_d (x_id - b_id) int_0^1 dF/dx_id (b + t (x - b)) dt`, so that
    `sum_i a_i = F(x) - F(b)`. F is the label's log-odds: `s_y - log sum_{j != y} exp(s_j)` with one label per text,
    with several the logit itself (twice it for the multi-label cross-entropy). The integral is a Gauss-Legendre sum.

    Args:
        classifier: `Classifier`.
        steps: points of the sum, int >= 1; each text is one batch of so many rows.
        baseline: what replaces each token but the special ones: 'mask' or 'pad', the embedding of that
            token; 'zero', no embedding at all, as in the article, of which the sum is less exact (docs/pictures.md,
            "Measured"). None: 'mask', or 'pad' where the tokenizer has no mask.

    Raises:
        ValueError: no such baseline, a tokenizer without that token, a model without the embedding of tokens.

    Reference: "积分梯度：一种新颖的神经网络可视化方法", kexue.fm/archives/7533; Sundararajan et al., arXiv 1703.01365.

    >>> from kexue_keras.finetune.classification._heads import HEADS, build_classifier
    >>> from kexue_keras.options.finetune import make_options
    >>> encoder = kexue_keras.models.load('me5-zh-char', num_hidden_layers=1)
    >>> model = build_classifier(encoder.model, 2, pooling='mean', dropout_rate=0.0, seed=1)
    >>> given = encoder.tokenizer, ['neg', 'pos'], HEADS['single'], make_options()
    >>> classifier = kexue_keras.finetune.Classifier(model, *given, pairs=False)
    >>> found = IntegratedGradients(classifier, steps=16).explain('今天天气很好', label='pos')
    >>> found.tokens[:3], found.scores.shape, abs(found.gap) < 1e-3
    (['[CLS]', '今', '天'], (8,), True)
    """

    def __init__(self, classifier: Any, *, steps: int = 32, baseline: Optional[str] = None) -> None:
        if baseline is None:
            has_mask = getattr(classifier.tokenizer, "_token_mask_id", None) is not None
            baseline = "mask" if has_mask else "pad"
        checks.choice(baseline, BASELINES, "baseline", "IntegratedGradients")
        checks.whole_number(steps, "steps", "IntegratedGradients", least=1)
        self.classifier, self.steps = classifier, steps
        self._special = _special_ids(classifier.tokenizer)
        with classifier.session.building() as session:
            calls = [call for call in layer_calls(classifier.model) if isinstance(call.layer, Embedding)]
            calls = [call for call in calls if call.layer.name == "Embedding-Token"] or calls[:1]
            if not calls:
                raise ValueError("IntegratedGradients: the model has no layer of bert4keras' kind Embedding")
            self._embedded = calls[0].outputs[0]
            self._wanted = tf1.placeholder(tf.float32, [len(classifier.labels)])
            self._odds = _log_odds(classifier.model.outputs[0], self._wanted, classifier.head.name)
            self._gradient = tf.gradients(self._odds, self._embedded)[0]
            self._nothing = 0.0
            if baseline != "zero":
                token = getattr(classifier.tokenizer, "_token_%s_id" % baseline, None)
                if token is None:
                    raise ValueError(
                        "IntegratedGradients: baseline is %r, but the tokenizer has no such token; take another one"
                        % (baseline,)
                    )
                self._nothing = session.run(tf.gather(calls[0].layer.embeddings, token))

    def explain(self, text: Union[str, Tuple[str, str]], *, label: Optional[str] = None) -> Attributions:
        """What each token of a text adds to a label.

        Args:
            text: str, or a pair of them for a classifier of pairs.
            label: name of a label; None: the most likely.

        Returns:
            `Attributions`.

        Raises:
            ValueError: no such label.
            UserError: not a text that the classifier takes.
        """
        classifier = self.classifier
        probabilities = classifier.probabilities([text])[0]
        if label is None:
            label = classifier.labels[int(np.argmax(probabilities))]
        if label not in classifier.labels:
            raise ValueError("no label %r; there are %s" % (label, ", ".join(map(str, classifier.labels))))
        index = classifier.labels.index(label)
        tokens, inputs = tokens_of(classifier.tokenizer, text, classifier.max_length)
        wanted = {self._wanted: np.eye(len(classifier.labels), dtype="float32")[index]}
        points, shares = np.polynomial.legendre.leggauss(self.steps)

        def rows(count):
            return {symbol: np.repeat(one, count, axis=0) for symbol, one in zip(classifier.model.inputs, inputs)}

        with classifier.session.entered() as session:
            x, odds = session.run([self._embedded, self._odds], {**rows(1), **wanted})
            words = ~np.isin(inputs[0], self._special)[..., None]
            start = np.where(words, self._nothing, x).astype(x.dtype)
            way = start + ((points + 1) / 2)[:, None, None] * (x - start)
            slopes = session.run(self._gradient, {**rows(self.steps), **wanted, self._embedded: way})
            nothing = session.run(self._odds, {**rows(1), **wanted, self._embedded: start})
        slope = np.tensordot(shares / 2, np.asarray(slopes, "float64"), 1)
        scores = np.sum((x - start)[0].astype("float64") * slope, axis=-1)
        return Attributions(text, label, float(probabilities[index]), tokens, scores, float(odds[0]), float(nothing[0]))


def _special_ids(tokenizer):
    names = ("_token_start_id", "_token_end_id")
    return [getattr(tokenizer, name) for name in names if getattr(tokenizer, name, None) is not None]


def _log_odds(logits, wanted, head):
    """`[B]`, of the label where `wanted` `[C]` is 1."""
    logits = tf.cast(logits, tf.float32)
    own = tf.reduce_sum(logits * wanted, axis=-1)
    if head != "single":
        return 2 * own if head == "multi" else own
    return own - tf.reduce_logsumexp(logits - 1e9 * wanted, axis=-1)
