"""Classification by filling the slots of a pattern, or by continuing it: zero-shot, PET, P-tuning.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; "P-tuning：自动构建模版，释放语言模型潜能",
kexue.fm/archives/8295.
"""

import os
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from kexue_keras.backend import ModelSession
from kexue_keras.checkpoints._load import PretrainedModel
from kexue_keras.data import checked_texts
from kexue_keras.data._batches import rows_by_step
from kexue_keras.errors import WeightsError
from kexue_keras.losses import MaskedCrossentropy
from kexue_keras.models._causal_lm import predict_next_at, reading_of
from kexue_keras.models._lengths import checked_max_length, positions_of
from kexue_keras.models._masked_lm import predict_at
from kexue_keras.optimizers import AdamW
from kexue_keras.prompting._calibration import Calibrated
from kexue_keras.prompting._causal import causal_scores
from kexue_keras.prompting._folder import SETTINGS, loading_settings, read_prompt, write_prompt
from kexue_keras.prompting._head import check_head, require_head
from kexue_keras.prompting._label_words import warn_of_equal_words
from kexue_keras.prompting._pattern import Pattern
from kexue_keras.prompting._rows import history_of
from kexue_keras.prompting._scores import cloze_scores, compile_pattern
from kexue_keras.prompting._soft_tokens import soft_ids, with_soft_tokens, write_back
from kexue_keras.prompting._training import training_rows
from kexue_keras.prompting._verbalizer import Verbalizer
from kexue_keras.schemas.prompt import VERBALIZER_WORDS
from kexue_keras.trainer import Techniques, train_model
from kexue_keras.trainer._techniques import NOT_FOR_TOKENS
from kexue_keras.types import Array, KerasOptimizer, Path, Say, Texts, Tokenizer

TRAINED = ("all", "soft_tokens")
CHECKED_TEXTS = 64


class PromptClassifier(Calibrated):
    """A classifier that asks a language model, with no new weights.

    p(label | text) = softmax of the scores of the labels' words at the slots of the pattern; with several patterns
    their weighted mean. A masked language model is asked for all tokens of a word at once. One that reads left to right
    continues the pattern at its end, so its slots are there, and a word's score is its log-likelihood,
    sum_j log p(w_j | pattern, w_1 ... w_{j-1}); with `normalize_length` the mean over its tokens.

    Args:
        pretrained: what `models.load(..., with_mlm='linear')` returned; it is trained in place. With
            `application='lm'` or `'unilm'`, or a GPT (`kind='gpt'`, `'gpt2'`, `'gpt2_ml'`, without `with_mlm`), it
            reads left to right.
        patterns: `Pattern`, its template, or a list of them.
        verbalizer: `Verbalizer`, or the dict for one.
        max_length: longest row in tokens; only the text is cut.
        trained: "all" weights, or "soft_tokens": only the embeddings of the patterns' tokens [unused...] (P-tuning).
        batch_size: rows per batch in prediction.
        allow_untrained_head: whether a head that was in no checkpoint is taken, and not measured.
        calibrate: texts without labels, a few hundred of the kind to be classified; see `calibrate`.

    Attributes:
        labels: list of labels, the columns of `predict_proba`.
        weights: weights of the patterns, sum 1.
        reading: "encoder" (masked language model), "lm" or "unilm".
        head_scores: dict of `check_head`, or None before there was text.
        prior: list of float64 `[labels]`, one per pattern, or None without calibration.

    Raises:
        WeightsError: the model has no head for masked language modelling, or one that was in no checkpoint.
        ValueError: patterns and words that do not go together, a pattern that truncation would cut, no soft token; for
            a model that reads left to right, a pattern with text after its masks.

    Warns:
        EqualWordsWarning: a label word has the row of another word in the output layer, so that the model can never say
            it, or the words of two labels have one row, so that no text tells them apart.

    Reference: kexue.fm/archives/7764, kexue.fm/archives/8295.

    >>> from kexue_keras.prompting import PromptClassifier
    >>> from kexue_keras.models import load
    >>> encoder = load('me5-zh-char', num_hidden_layers=1, with_mlm='linear', missing='initialise')
    >>> words = {'负面': '不', '正面': '很'}
    >>> classifier = PromptClassifier(encoder, '{mask}满意。{text}', words, max_length=32, allow_untrained_head=True)
    >>> classifier.fit([('很好用', '正面'), ('坏了', '负面')], epochs=1)[0]['epoch']
    1
    >>> classifier.predict_proba(['东西不错']).shape, classifier.predict(['东西不错'])[0] in classifier.labels
    ((1, 2), True)
    """

    def __init__(
        self,
        pretrained: PretrainedModel,
        patterns: Union[str, Pattern, Sequence[Union[str, Pattern]]],
        verbalizer: Union[Verbalizer, Dict[str, Union[str, Sequence[str]]]],
        *,
        max_length: int = 128,
        trained: str = "all",
        batch_size: int = 32,
        allow_untrained_head: bool = False,
        calibrate: Optional[Texts] = None,
    ) -> None:
        if trained not in TRAINED:
            raise ValueError("trained=%r; it is one of %s" % (trained, ", ".join(TRAINED)))
        if pretrained.tokenizer is None:
            raise ValueError("%s has no vocabulary; give load(..., tokenizer=...)" % pretrained.name)
        self.reading = reading_of(pretrained.transformer)
        if not allow_untrained_head:
            require_head(pretrained)
        self.pretrained, self.tokenizer = pretrained, pretrained.tokenizer
        given = [patterns] if isinstance(patterns, (str, Pattern)) else list(patterns)
        self.patterns = [one if isinstance(one, Pattern) else Pattern(one) for one in given]
        if not self.patterns or len({pattern.fields for pattern in self.patterns}) > 1:
            raise ValueError("patterns=%r; at least one, all for single texts or all for pairs" % (patterns,))
        self.verbalizer = verbalizer if isinstance(verbalizer, Verbalizer) else Verbalizer(verbalizer)
        self.max_length = checked_max_length(
            max_length, positions_of(pretrained.transformer), name="max_length", source=pretrained.name, least=3
        )
        self.trained, self.batch_size = trained, batch_size
        self.allow_untrained_head, self.head_scores = bool(allow_untrained_head), None
        self._words = self.verbalizer.compile(self.tokenizer)
        self.labels = self.verbalizer.labels
        warn_of_equal_words(self._words, pretrained)
        self._compiled = [
            compile_pattern(pattern, self._words, self.tokenizer, self.max_length, reading=self.reading)
            for pattern in self.patterns
        ]
        self.weights = [1.0 / len(self.patterns)] * len(self.patterns)
        self._bert = pretrained.bert
        if trained == "soft_tokens":
            self._bert = with_soft_tokens(pretrained.bert, soft_ids(self.patterns, self.tokenizer))
        self.model = (predict_at if self.reading == "encoder" else predict_next_at)(self._bert)
        self.session = ModelSession(self.model)
        self.calibrate(calibrate)

    def check_head(self, texts: Texts) -> Dict[str, Any]:
        """Masked accuracy of the head against chance on some of `texts`; warns if it is no better.

        `fit` and the first `predict` with enough text do it by themselves.

        Returns:
            dict: accuracy, chance, loss, tokens, trained (None if the texts are too few to tell).

        Warns:
            UntrainedHeadWarning: the head is no better than chance.
        """
        texts = checked_texts(texts)
        some = texts[:: max(1, len(texts) // CHECKED_TEXTS)][:CHECKED_TEXTS]
        named = {"name": self.pretrained.name, "max_length": self.max_length, "reading": self.reading}
        with self.session.entered():
            scores = check_head(self.model, self.tokenizer, some, **named)
        if scores["trained"] is not None:
            self.head_scores = scores
        return scores

    def _check_once(self, texts):
        if self.head_scores is None and not self.allow_untrained_head:
            # Threads that come first all at once measure it one after the other, that is, once.
            with self.session.building():
                if self.head_scores is None:
                    self.check_head(texts)

    def predict_proba(self, texts: Texts) -> Array:
        """Probabilities of the labels.

        Args:
            texts: list of str, or of (str, str).

        Returns:
            float64 `[N, labels]`, columns in the order of `labels`; nothing outside the verbalizer has a share.

        Raises:
            ValueError: a single str, or something in the list that is no text or, for patterns with two, no pair.
        """
        each = self.probabilities_by_pattern(texts)
        return sum(weight * one for weight, one in zip(self.weights, each))

    def predict(self, texts: Texts) -> List[str]:
        """The most likely label of each text, a list."""
        return [self.labels[i] for i in self.predict_proba(texts).argmax(axis=1)]

    def probabilities_by_pattern(self, texts: Texts) -> List[Array]:
        """List of `predict_proba` by each pattern alone."""
        texts = checked_texts(texts)
        if texts:
            self._check_once(texts)
        priors = self.prior or [0.0] * len(self.patterns)
        each = self._scores_by_pattern(texts)
        return [self._words.probabilities(scores, prior) for scores, prior in zip(each, priors)]

    def _scores_by_pattern(self, texts):
        """List of dict number of slots -> `_scores`, one per pattern."""
        return [
            {length: self._scores(pattern, texts) for length, pattern in versions.items()}
            for versions in self._compiled
        ]

    def _scores(self, pattern, texts):
        """Scores of the words with as many tokens as the pattern has slots, float64 `[N, words]`."""
        options = {"batch_size": self.batch_size}
        if self.reading == "encoder":
            return cloze_scores(self.session, self.model, pattern, self._words, texts, **options)
        with self.session.entered():
            return causal_scores(self.model, pattern, self._words, texts, **options)

    def accuracy(self, labelled: Sequence[Tuple[Any, str]]) -> float:
        """Share of right answers; `labelled` is a list of (text, label)."""
        predicted = self.predict([text for text, _ in labelled])
        return sum(one == label for one, (_, label) in zip(predicted, labelled)) / len(labelled)

    def weigh_patterns(self, labelled: Sequence[Tuple[Any, str]]) -> None:
        """Weigh the patterns by their accuracy on labelled texts, as PET does before training.

        Args:
            labelled: list of (text, label).
        """
        right = self.verbalizer.indices_of(labelled)
        each = self.probabilities_by_pattern([text for text, _ in labelled])
        accuracies = [float(np.mean(one.argmax(axis=1) == right)) for one in each]
        total = sum(accuracies)
        self.weights = [a / total for a in accuracies] if total else [1.0 / len(each)] * len(each)

    def fit(
        self,
        labelled: Sequence[Tuple[Any, str]],
        unlabelled: Optional[Texts] = None,
        *,
        epochs: int = 10,
        batch_size: int = 16,
        learning_rate: float = 1e-5,
        optimizer: Optional[KerasOptimizer] = None,
        repeats: int = 1,
        mask_rate: float = 0.15,
        mask_pattern: bool = False,
        valid: Optional[Sequence[Tuple[Any, str]]] = None,
        techniques: Optional[Techniques] = None,
        seed: int = 0,
        folder: Optional[Path] = None,
        save_every: Optional[int] = None,
        say: Optional[Say] = None,
    ) -> List[Dict[str, Any]]:
        """Train on labelled texts in the pattern, with random masking, and on unlabelled texts as they are.

        L = sum of the cross-entropies over slots and hidden tokens / their number. A model that reads left to right
        learns the answer token by token, given its correct beginning, and the text's tokens without hiding any.

        Args:
            labelled: list of (text, label).
            unlabelled: list of texts, for random masking alone; None or empty leaves them out.
            epochs: int, over both together.
            batch_size: rows per batch.
            learning_rate: rate of Adam; 1e-5 is the article's for all weights, 6e-4 that of P-tuning.
            optimizer: Keras optimizer to use instead.
            repeats: how often each labelled text occurs per epoch.
            mask_rate: share of the tokens that are hidden at random, or asked for left to right; 0 for none.
            mask_pattern: whether tokens of the pattern may be hidden (the author's code does so).
            valid: list of (text, label); the weights of the epoch with the best accuracy on it are kept.
            techniques: `trainer.Techniques`; R-Drop compares the answers and the hidden tokens of two dropouts of
                a row; recompute is chosen when the model is loaded.
            seed: int, order and masks.
            folder: for a checkpoint at the end of each epoch, from which training resumes if there is one; or None.
            save_every: int, steps between further checkpoints.
            say: function that takes a line; with it there is a progress bar, too.

        Returns:
            list of dict, one per epoch: epoch, loss, and valid if there is such.

        Raises:
            ValueError: an unknown label, or unlabelled texts for a UniLM, which sees all of a text at once; a
                calibration that was loaded without its texts, so that it cannot be measured again.
            UserError: a loss that is not finite, techniques that do not go with it, or a checkpoint of another run
                in `folder`.
        """
        techniques = techniques or Techniques()
        techniques.refuse("prompts", **NOT_FOR_TOKENS)
        techniques.refuse_built("prompts")
        labelled, unlabelled = list(labelled), checked_texts(unlabelled or (), name="unlabelled")
        self._check_calibration_can_follow()
        rows = training_rows(
            self,
            labelled,
            unlabelled,
            batch_size=batch_size,
            seed=seed,
            repeats=repeats,
            mask_rate=mask_rate,
            mask_pattern=mask_pattern,
            rounding=techniques.rounding,
        )
        self.verbalizer.indices_of(valid or ())
        self._check_once([text for text, _ in labelled] + unlabelled)
        rows_of, epoch_steps = rows_by_step(rows.batches), len(rows.batches)
        facts = {"batch_size": batch_size, "seed": seed, "labelled": len(labelled), "unlabelled": len(unlabelled)}
        facts.update(learning_rate=learning_rate, repeats=repeats, mask_rate=mask_rate, mask_pattern=mask_pattern)

        def evaluate():
            self._prior = None  # it is to be that of the weights as they are now
            return {"score": self.accuracy(valid)}

        try:
            progress = train_model(
                self.model,
                lambda step: rows.batch(rows_of(step), step),
                loss=MaskedCrossentropy(),
                optimizer=optimizer,
                default=(AdamW(learning_rate, weight_decay=0.0), None),
                techniques=techniques,
                steps=epochs * epoch_steps,
                epoch_steps=epoch_steps,
                evaluate=evaluate if valid else None,
                num_hidden_layers=self._bert.num_hidden_layers,
                seed=seed,
                folder=folder,
                facts=facts,
                save_every=save_every,
                say=say,
            ).progress
        finally:
            self._prior = None
        return history_of(progress, epoch_steps)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write model, patterns, verbalizer and prior; `PromptClassifier.load` reads them.

        Trained soft tokens are in the saved embedding, so that `path/model` is an ordinary model folder.

        Args:
            path: str, a folder that does not exist or is empty; it appears when it is complete.
            overwrite: bool, replace a folder that was written here; others are never deleted.

        Raises:
            WeightsError: there is something in `path` that is not to be replaced, see `models.save`.
            OSError: a full disk and the like; what was in `path` is as before.
        """
        if self.trained == "soft_tokens":
            write_back(self._bert, self.pretrained.bert)
        settings = {
            "patterns": [pattern.template for pattern in self.patterns],
            "weights": self.weights,
            "verbalizer": self.verbalizer.get_config(),
            "max_length": self.max_length,
            "batch_size": self.batch_size,
            "prior": self.prior and [one.tolist() for one in self.prior],
            **loading_settings(self.pretrained),
        }
        write_prompt(path, self.pretrained, settings, overwrite=overwrite)

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        trained: str = "all",
        allow_untrained_head: bool = False,
        tokenizer: Optional[Tokenizer] = None,
    ) -> "PromptClassifier":
        """Read what `save` wrote.

        Args:
            path: str.
            trained, allow_untrained_head: as above.
            tokenizer: the one it was saved with, if that was your own, see `models.save`.

        Returns:
            `PromptClassifier`.

        Raises:
            WeightsError: the folder holds none.
        """
        if trained not in TRAINED:
            raise ValueError("trained=%r; it is one of %s" % (trained, ", ".join(TRAINED)))
        pretrained, settings = read_prompt(path, tokenizer=tokenizer)
        try:
            classifier = cls(
                pretrained,
                settings["patterns"],
                Verbalizer.from_config({word: settings["verbalizer"][word] for word in VERBALIZER_WORDS}),
                max_length=settings["max_length"],
                batch_size=settings["batch_size"],
                trained=trained,
                allow_untrained_head=allow_untrained_head,
            )
        except ValueError as error:
            # What the constructor refuses as an argument is wrong in the file here.
            raise WeightsError("%s: %s" % (os.path.join(path, SETTINGS), error))
        classifier.weights = settings["weights"]
        if settings.get("prior"):
            classifier._prior = [np.array(one, "float64") for one in settings["prior"]]
        return classifier
