"""`ExportedModel`: an exported folder, from texts to labels or vectors."""

import os
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np

from kexue_keras.data import PredictionBatches, checked_texts, encode
from kexue_keras.errors import UserError
from kexue_keras.exported.decisions import describe_one, describe_several
from kexue_keras.exported.graphs import open_graph
from kexue_keras.options.choices import EXPORT_FORMATS
from kexue_keras.plain_types import Array, Encoded, Path, Texts
from kexue_keras.schemas import EXPORTED, exported_settings, is_exported, read_settings
from kexue_keras.tokenizing.saved import load_tokenizer


class ExportedModel(object):
    """What `kexue-keras export` wrote, read again; any thread may call it.

    Args:
        folder: the folder.
        threads: of a batch; None: one for each core.

    Attributes:
        config: contents of exported.json.
        labels: list of label names, or None for vectors.
        pairs: bool, whether it wants pairs of texts.
        max_length: longest text in tokens; what is longer is cut.
        batch_size: texts computed together, can be set.
        truncated: how many texts of the last call were cut.

    Raises:
        UserError: no such folder, a file in it that is missing or was changed, or no onnxruntime.
    """

    def __init__(self, folder: Path, *, threads: Optional[int] = None) -> None:
        folder = os.fspath(folder)
        path = os.path.join(folder, EXPORTED)
        if not is_exported(folder):
            raise UserError("no %s in it; is it a folder that kexue-keras export wrote?" % EXPORTED, path=folder)
        self.config = read_settings(path, exported_settings(EXPORT_FORMATS), error=UserError)
        self.labels, self.pairs = self.config["labels"], self.config["pairs"]
        self.max_length, self.batch_size = self.config["max_length"], self.config["batch_size"]
        self.tokenizer = load_tokenizer(folder)
        self.graph = open_graph(folder, self.config["format"], threads=threads)
        self.truncated = 0

    def predict(self, texts: Texts) -> List[Tuple[Any, Any]]:
        """The label of each text with its probability.

        Args:
            texts: list of str, or of (str, str) for a model of pairs.

        Returns:
            list of (label, probability); where texts have several labels, of (list of labels, list of probabilities).

        Raises:
            UserError: the model gives vectors; or a single str, or something in the list that the model does not take.
        """
        if self.labels is None:
            raise UserError("this model gives vectors and no labels; call encode or similarity")
        texts = self._checked(texts, self.pairs)
        encoded, self.truncated = encode(self.tokenizer, texts, self.max_length)
        probabilities = self.compute(encoded).reshape(-1, len(self.labels))
        return (describe_several if self.config["several"] else describe_one)(probabilities, self.labels)

    def encode(self, texts: Sequence[str], *, batch_size: Optional[int] = None) -> Array:
        """One vector of length 1 a text, float32 `[N, d]`.

        Args:
            texts: list of str.
            batch_size: texts computed together; None: as the model has it.

        Raises:
            UserError: the model gives labels; or something in the list that is no str.
        """
        if self.labels is not None:
            raise UserError("this model gives labels and no vectors; call predict")
        encoded, self.truncated = encode(self.tokenizer, self._checked(texts, False), self.max_length)
        return self.compute(encoded, batch_size=batch_size)

    def similarity(self, a: Sequence[str], b: Sequence[str], *, batch_size: Optional[int] = None) -> Array:
        """Cosines of N texts and N others, pair by pair, float32 `[N]`.

        Args:
            a, b: lists of str.
            batch_size: texts computed together; None: as the model has it.

        Raises:
            UserError: lists of different lengths; as `encode`.
        """
        a, b = list(self._checked(a, False)), list(self._checked(b, False))
        if len(a) != len(b):
            raise UserError("%d texts and %d texts; similarity compares pair by pair" % (len(a), len(b)))
        vectors = self.encode(a + b, batch_size=batch_size)
        return np.sum(vectors[: len(a)] * vectors[len(a) :], axis=1)

    def compute(self, encoded: Sequence[Encoded], *, batch_size: Optional[int] = None) -> Array:
        """What the graph gives for encoded texts (`data.encode`), in their order."""
        batches = PredictionBatches(encoded, batch_size=batch_size or self.batch_size, max_length=self.max_length)
        out: Union[None, Array] = None
        for indices in batches.in_length_order():
            found = self.graph(batches.inputs(indices))
            if out is None:
                out = np.zeros((len(encoded),) + found.shape[1:], "float32")
            out[indices] = found
        return np.zeros((0, 0), "float32") if out is None else out

    def _checked(self, texts, pairs):
        try:
            return checked_texts(texts, pairs=pairs)
        except ValueError as error:
            raise UserError(error)
