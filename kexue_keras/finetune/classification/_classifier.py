"""A fine-tuned model that labels texts, read from the folder of a run."""

import os
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from kexue_keras import models
from kexue_keras.backend import ModelSession, prediction_batching
from kexue_keras.data import PredictionBatches, checked_texts, encode
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune._run_folder import RunFolder
from kexue_keras.finetune.classification._heads import HEADS, build_classifier, load_head
from kexue_keras.models._lengths import checked_max_length, positions_of
from kexue_keras.options.finetune import make_options
from kexue_keras.schemas.messages import is_wrong
from kexue_keras.schemas.words import one_of, whole
from kexue_keras.tokenizing.saved import load_tokenizer
from kexue_keras.types import Array, Encoded, Model, Path, Texts, Tokenizer

HEAD = "head.npz"


class Classifier(object):
    """A fine-tuned model that predicts, in any thread; `Classifier.load(run)` reads one from the folder of a run.

    Args:
        model: Keras model, token ids and segment ids to logits.
        tokenizer: bert4keras tokenizer.
        labels: list of label names.
        head: head of the task.
        options: namespace with max_length and batch_size.
        pairs: bool, whether it wants pairs of texts; None does not check.
    """

    def __init__(
        self, model: Model, tokenizer: Tokenizer, labels: Sequence[str], head: Any, options: Any, pairs: Optional[bool]
    ) -> None:
        self.model, self.tokenizer, self.labels, self.head = model, tokenizer, labels, head
        try:
            positions = positions_of(model)
            self.max_length = checked_max_length(options.max_length, positions, name="--max-length", least=3)
        except ValueError as error:
            raise UserError(error)
        self.batch_size, self.pairs = options.batch_size, pairs
        self.truncated = 0
        self.session = ModelSession(model)

    @classmethod
    def load(cls, run: Path) -> "Classifier":
        """Read a classifier from the folder of a finished run.

        Args:
            run: the folder, `out` of `finetune`.

        Returns:
            `Classifier`.

        Raises:
            UserError: no such run, one that is not finished, whose files were changed, or whose weights are NaN.
        """
        folder = RunFolder(run)
        if folder.is_run and not os.path.exists(folder.file(HEAD)):
            raise UserError(
                "the run is not finished (no %s); resume it with finetune --resume" % HEAD, path=folder.path
            )
        config = folder.config()
        if config["options"].get("task") == "similarity":
            raise UserError("a run of --task similarity has no labels; read it with SentenceEncoder.load", path=run)
        if config["options"].get("task") == "ner":
            raise UserError("a run of --task ner labels parts of texts; read it with EntityRecognizer.load", path=run)
        options, path = make_options(**config["options"]), folder.file("config.json")
        if config["head"] not in HEADS:
            raise UserError(is_wrong("head", config["head"], one_of(*HEADS)), path=path)
        # Built by our own code: the file of a Keras model may hold code of whoever wrote it (a Lambda), which runs when
        # it is loaded, and is read by the Keras that made it only.
        try:
            encoder = models.load(folder.file("encoder"))
        except WeightsError as error:
            raise UserError(error)
        model = build_classifier(
            encoder.model, len(config["labels"]), pooling=options.pooling, dropout_rate=0.0, seed=options.seed
        )
        load_head(folder.file(HEAD), model)
        shortest, longest = 3 + config["pairs"], encoder.max_positions or options.max_length
        if not shortest <= options.max_length <= longest:
            raise UserError(is_wrong("options.max_length", options.max_length, whole(shortest, longest)), path=path)
        return cls(
            model, load_tokenizer(folder.path), config["labels"], HEADS[config["head"]], options, config["pairs"]
        )

    def encode(self, texts: Texts) -> List[Encoded]:
        """Token ids and segment ids; `self.truncated` then says how many texts were cut."""
        encoded, self.truncated = encode(self.tokenizer, texts, self.max_length)
        return encoded

    def logits(self, encoded: Sequence[Encoded]) -> Array:
        """Logits float32 `[N, C]` of encoded texts, in their order."""
        batches = PredictionBatches(
            encoded, batch_size=self.batch_size, max_length=self.max_length, **prediction_batching()
        )
        out = np.zeros((len(encoded), len(self.labels)), "float32")
        for indices in batches.in_length_order():
            out[indices] = self.session.predict_on_batch(self.model, batches.inputs(indices))
        return out

    def probabilities(self, texts: Texts) -> Array:
        """Probability of each label.

        Args:
            texts: list of str, or of (str, str) for a model of pairs.

        Returns:
            float64 `[N, C]`, columns in the order of `self.labels`.

        Raises:
            UserError: a single str, or something in the list that the model does not take.
        """
        try:
            texts = checked_texts(texts)
        except ValueError as error:
            raise UserError(error)
        for i, text in enumerate(texts):
            if self.pairs is not None and isinstance(text, tuple) != self.pairs:
                wanted = "pairs (str, str)" if self.pairs else "single texts (str)"
                raise UserError("text %d is %r; this model takes %s" % (i + 1, text, wanted))
        if not texts:
            return np.zeros((0, len(self.labels)))
        return self.head.probabilities(self.logits(self.encode(texts)))

    def predict(self, texts: Texts) -> List[Tuple[Any, Any]]:
        """The label of each text with its probability.

        Args:
            texts: list of str, or of (str, str) for a model of pairs.

        Returns:
            list of (label, probability); where texts have several labels, of (list of labels, list of probabilities).

        Raises:
            UserError: see `probabilities`.
        """
        return self.head.describe(self.probabilities(texts), self.labels)
