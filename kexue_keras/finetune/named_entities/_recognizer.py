"""`EntityRecognizer`: the entities of texts, with their positions in the original text."""

import os
from collections import namedtuple
from typing import Any, Callable, List, Optional, Sequence

from kexue_keras import models
from kexue_keras.backend import ModelSession, keras, prediction_batching
from kexue_keras.data import PredictionBatches, checked_texts
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune._run_folder import RunFolder
from kexue_keras.finetune._saved_head import saved_head
from kexue_keras.finetune.named_entities._heads import HEADS, LOGITS, TRANSITIONS
from kexue_keras.finetune.named_entities._tokens import encode_with_spans
from kexue_keras.models._lengths import checked_max_length, positions_of
from kexue_keras.options.finetune import make_options
from kexue_keras.schemas.messages import is_wrong
from kexue_keras.schemas.words import one_of, whole
from kexue_keras.tokenizing.saved import load_tokenizer
from kexue_keras.trainer._checkpoint import save_arrays
from kexue_keras.types import Model, Path, Tokenizer

TASK = "ner"
HEAD = "head.npz"


class Entity(namedtuple("Entity", "start end label text score")):
    """An entity of a text.

    Attributes:
        start, end: its first character in the text, and the one after its last.
        label: str.
        text: str, the characters there.
        score: how probable it is, for the model.
    """


class EntityRecognizer(object):
    """Finds entities in texts, in any thread; `EntityRecognizer.load(run)` reads one from the folder of a run.

    Args:
        model: Keras model, token ids and segment ids to the head's scores.
        tokenizer: bert4keras tokenizer.
        head: head of the task.
        options: namespace with max_length and batch_size.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, head: Any, options: Any) -> None:
        self.model, self.tokenizer, self.head = model, tokenizer, head
        try:
            self.max_length = checked_max_length(options.max_length, positions_of(model), name="--max-length", least=3)
        except ValueError as error:
            raise UserError(error)
        self.batch_size = options.batch_size
        self.truncated = 0
        self.session = ModelSession(model)

    @property
    def labels(self) -> List[str]:
        """Names of the labels."""
        return self.head.labels

    @classmethod
    def load(cls, run: Path) -> "EntityRecognizer":
        """Read a recognizer from the folder of a finished run of `finetune --task ner`, on any stack.

        Args:
            run: the folder, `out` of `finetune`.

        Returns:
            `EntityRecognizer`.

        Raises:
            UserError: no such run, one of another task or not finished, or files that were changed.
        """
        folder = RunFolder(run)
        if folder.is_run and not os.path.exists(folder.file(HEAD)):
            raise UserError(
                "the run is not finished (no %s); resume it with finetune --resume" % HEAD, path=folder.path
            )
        config = folder.config()
        task = config["options"].get("task", "classification")
        if task != TASK:
            raise UserError("the run is one of --task %s, and has no entities" % task, path=run)
        options, path = make_options(**config["options"]), folder.file("config.json")
        if config["head"] not in HEADS:
            raise UserError(is_wrong("head", config["head"], one_of(*HEADS)), path=path)
        if not isinstance(config.get("flat"), bool):
            raise UserError("flat is %r; true or false is needed" % (config.get("flat"),), path=path)
        # As `Classifier.load`: built by our own code, so that it runs on every stack and no code of others is run.
        try:
            encoder = models.load(folder.file("encoder"))
        except WeightsError as error:
            raise UserError(error)
        head = HEADS[config["head"]](config["labels"], head_size=options.head_size, flat=config["flat"])
        model = build_recognizer(encoder.model, head, dropout_rate=0.0, seed=options.seed)
        load_head(folder.file(HEAD), model)
        longest = encoder.max_positions or options.max_length
        if not 3 <= options.max_length <= longest:
            raise UserError(is_wrong("options.max_length", options.max_length, whole(3, longest)), path=path)
        return cls(model, load_tokenizer(folder.path), head, options)

    def outputs(self, encoded: Sequence[Any]) -> Any:
        """Yields (indices, what the model says of them, tokens the batch was padded to), the longest texts first."""
        batches = PredictionBatches(
            [text.ids for text in encoded],
            batch_size=self.batch_size,
            max_length=self.max_length,
            **prediction_batching(),
        )
        for indices in batches.in_length_order():
            inputs = batches.inputs(indices)
            yield indices, self.session.predict_on_batch(self.model, inputs), inputs[0].shape[1]

    def decoded(
        self, texts: Sequence[str], encoded: Sequence[Any], *, seen: Optional[Callable[..., None]] = None
    ) -> List[List[Entity]]:
        """The entities of texts that are encoded; `seen` is called with all that `outputs` yields."""
        found = [[] for _ in texts]
        for indices, outputs, length in self.outputs(encoded):
            if seen is not None:
                seen(indices, outputs, length)
            for i, entities in zip(indices, self.head.decode(outputs, [encoded[i] for i in indices])):
                found[i] = as_characters(texts[i], encoded[i].spans, entities)
        return found

    def predict(self, texts: Sequence[str]) -> List[List[Entity]]:
        """The entities of each text; `self.truncated` then says how many texts were cut.

        Args:
            texts: list of str.

        Returns:
            list of lists of `Entity`, in the order of the text. start and end count characters of the str as given.

        Raises:
            UserError: a single str, or something in the list that is none.
        """
        try:
            texts = checked_texts(texts, pairs=False)
        except ValueError as error:
            raise UserError(error)
        encoded, self.truncated = encode_with_spans(self.tokenizer, texts, self.max_length)
        return self.decoded(texts, encoded)


def as_characters(text, spans, entities):
    """List of `Entity` from (first token, last token, label, score); several of one span and label are one."""
    found = {}
    for first, last, label, score in entities:
        key = (spans[first][0], spans[last][1], label)
        found[key] = max(score, found.get(key, 0.0))
    return [Entity(s, e, label, text[s:e], score) for (s, e, label), score in sorted(found.items()) if s < e]


def build_recognizer(encoder, head, *, dropout_rate, seed):
    """Keras model: the encoder, dropout, and a head of `HEADS`.

    Args:
        encoder: Keras model with output `[B, n, d]`.
        head: head of the task.
        dropout_rate: rate before the head.
        seed: int; the head's start depends on it alone.
    """
    x = keras.layers.Dropout(dropout_rate, name="head_dropout")(encoder.output)
    return keras.models.Model(encoder.inputs, head.build(x, seed))


def head_weights(model):
    """Dict name -> list of arrays of the layers of the head."""
    return {layer.name: layer.get_weights() for layer in model.layers if layer.name in (LOGITS, TRANSITIONS)}


def save_head(path, model):
    """Write the head of a model of `build_recognizer`."""
    save_arrays(path, _named(head_weights(model)))


def load_head(path, model):
    """Set the head of a model of `build_recognizer` to what `save_head` wrote.

    Raises:
        UserError: it is of another model, or damaged, or not finite.
    """
    expected = head_weights(model)
    arrays = saved_head(path, _named(expected))
    for name, weights in expected.items():
        model.get_layer(name).set_weights([arrays.pop(0) for _ in weights])


def _named(weights):
    return {"%s/%d" % (name, i): weight for name, several in weights.items() for i, weight in enumerate(several)}
