"""`SentenceEncoder`: texts to vectors whose cosine says how similar the texts are.

Reference: "无监督语义相似度哪家强？我们做了个比较全面的评测", kexue.fm/archives/8321; "CoSENT（一）：比Sentence-BERT更有效的句向
量方案", kexue.fm/archives/8847.
"""

import os
from collections import namedtuple
from typing import Any, List, Optional, Sequence, Union

import numpy as np

from kexue_keras import checks
from kexue_keras.backend import ModelSession, keras, prediction_batching
from kexue_keras.checkpoints._convert import save_into
from kexue_keras.checkpoints._load import PretrainedModel, load
from kexue_keras.checkpoints._sentence_transformers import has_modules
from kexue_keras.checkpoints._sources import local_folder
from kexue_keras.checkpoints.formats.safetensors_file import read_safetensors, write_safetensors
from kexue_keras.data._batches import PredictionBatches, encode
from kexue_keras.data._texts import checked_texts
from kexue_keras.errors import WeightsError
from kexue_keras.files import restore_interrupted, whole_folder, write_json
from kexue_keras.files.paths import is_path
from kexue_keras.models._lengths import checked_max_length, positions_of
from kexue_keras.options.choices import ENCODER_FORMATS, POOLINGS
from kexue_keras.schemas import read_settings, sentence_encoder_settings
from kexue_keras.similarity._encoder_card import write_encoder_card
from kexue_keras.similarity._index import VectorIndex, unit_rows
from kexue_keras.similarity._pooling import sentence_vector
from kexue_keras.similarity._sentence_transformers import DenseLayer, Modules, write_sentence_transformers
from kexue_keras.similarity._whitening import Whitening
from kexue_keras.types import Array, Encoded, Path

SETTINGS = "sentence_encoder.json"
WHITENING, DENSE = "whitening.npz", "dense.safetensors"

_PARTS = ("kernel", "bias")

Hit = namedtuple("Hit", "place text score")


class SentenceEncoder(object):
    """A pretrained encoder that gives one vector per text.

    Args:
        pretrained: name or folder as for `models.load`, or a `PretrainedModel`.
        pooling: 'mean' (P3), 'cls' (P1), 'pooler' (P2), 'linear-pooler' (SimBERT and RoFormer-Sim), 'first-last' (P4),
            'max'; see `sentence_vector`. The bundled models were trained with 'mean'.
        max_length: longest text in tokens, special ones included; what is longer is cut.
        normalize: bool, whether `encode` scales vectors to length 1 unless told otherwise.
        **arguments: further arguments of `models.load`.

    Attributes:
        model: Keras model, token ids and segment ids `[B, n]` to vectors `[B, d]`; train it as any other.
        pretrained: `PretrainedModel`; `tokenizer` is its tokenizer.
        session: `backend.ModelSession`, by which any thread may call `encode` and all that uses it.
        whitening: `Whitening` that `encode` applies, or None.
        dense: list of Keras Dense layers behind the pooling, which some folders of sentence-transformers have.

    Raises:
        ValueError: unknown pooling; a `PretrainedModel` without pooler for 'pooler'; a length that the model has no
            positions for.
        WeightsError: see `models.load`; with a pooler that the checkpoint lacks as well.

    Reference: kexue.fm/archives/8321, 8847.

    >>> encoder = kexue_keras.similarity.SentenceEncoder('me5-zh-char', num_hidden_layers=1)
    >>> encoder.encode(['今天天气不错', '我想买一本书']).shape
    (2, 384)
    >>> [hit.text for hit in encoder.search(['今天天气很好'], ['买书', '今天的天气', '看电影'], k=1)[0]]
    ['今天的天气']
    """

    def __init__(
        self,
        pretrained: Union[Path, PretrainedModel],
        *,
        pooling: str = "mean",
        max_length: int = 64,
        normalize: bool = True,
        **arguments: Any,
    ) -> None:
        checks.choice(pooling, POOLINGS, "pooling", "SentenceEncoder")
        if is_path(pretrained):
            if POOLINGS[pooling]:
                arguments.setdefault("with_pool", POOLINGS[pooling])
            pretrained = load(pretrained, **arguments)
        elif arguments:
            raise TypeError("%s: arguments of models.load, but the model is loaded already" % ", ".join(arguments))
        if pretrained.tokenizer is None:
            raise WeightsError("%s has no vocabulary (vocab.txt)" % pretrained.name)
        self.pretrained, self.tokenizer = pretrained, pretrained.tokenizer
        self.pooling, self.max_length, self.whitening = pooling, max_length, None
        self.normalize, self.dense = normalize, []
        self.model = sentence_vector(pretrained.transformer, pooling)
        self.session = ModelSession(self.model)

    def _add_dense(self, layers):
        """Put `DenseLayer`s behind the pooling."""
        vector = self.model.output
        for given in layers:
            if len(given.kernel) != vector.shape[-1]:
                raise WeightsError(
                    "a Dense layer takes vectors of %d numbers, but those before it have %d"
                    % (len(given.kernel), vector.shape[-1])
                )
            name = "sentence-dense-%d" % len(self.dense)
            layer = keras.layers.Dense(given.kernel.shape[1], activation=given.activation, name=name)
            vector = layer(vector)
            layer.set_weights([given.kernel, given.bias])
            self.dense.append(layer)
        if layers:
            self.model = keras.models.Model(self.model.inputs, vector)
            self.session = ModelSession(self.model)

    @property
    def max_length(self) -> int:
        """Longest text in tokens; setting it checks it as the constructor does."""
        return self._max_length

    @max_length.setter
    def max_length(self, max_length: int) -> None:
        self._max_length = self._checked("max_length", max_length)

    def _checked(self, name, max_length):
        return checked_max_length(
            max_length, positions_of(self.pretrained.transformer), name=name, source=self.pretrained.name
        )

    def __repr__(self):
        return "<SentenceEncoder %s, pooling %s, max_length %d>" % (self.pretrained.name, self.pooling, self.max_length)

    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 64,
        max_length: Optional[int] = None,
        normalize: Optional[bool] = None,
    ) -> Array:
        """One vector per text.

        Texts of about the same length share a batch; the vectors come in the order of the texts.

        Args:
            texts: list of str.
            batch_size: texts computed together.
            max_length: longest text in tokens; None: as the encoder has it.
            normalize: scale each vector to length 1, so that a product of two is their cosine; None: as the encoder
                has it (which is so, but for a folder of sentence-transformers without Normalize).

        Returns:
            float32 `[N, d]`.

        Raises:
            ValueError: a single str, something in the list that is no str, half of a surrogate pair, max_length below 2
                or beyond the model's positions.
        """
        texts = checked_texts(texts, pairs=False)
        max_length = self.max_length if max_length is None else self._checked("max_length", max_length)
        encoded, _ = encode(self.tokenizer, texts, max_length)
        vectors = self.encode_ids(encoded, batch_size=batch_size, max_length=max_length)
        if self.whitening is not None:
            vectors = self.whitening.transform(vectors)
        return unit_rows(vectors) if (self.normalize if normalize is None else normalize) else vectors

    def encode_ids(
        self, encoded: Sequence[Encoded], *, batch_size: int = 64, max_length: Optional[int] = None
    ) -> Array:
        """The model's own vectors of encoded texts.

        Args:
            encoded: list of (token ids, segment ids), as from `data.encode`.
            batch_size, max_length: as in `encode`.

        Returns:
            float32 `[N, d]`, neither whitened nor scaled.
        """
        batches = PredictionBatches(
            encoded, batch_size=batch_size, max_length=max_length or self.max_length, **prediction_batching()
        )
        vectors = np.zeros((len(encoded), self.model.output_shape[-1]), "float32")
        for indices in batches.in_length_order():
            vectors[indices] = self.session.predict_on_batch(self.model, batches.inputs(indices))
        return vectors

    def similarity(
        self, a: Union[str, Sequence[str]], b: Union[str, Sequence[str]], **options: Any
    ) -> Union[float, Array]:
        """Cosines of texts, pair by pair.

        Args:
            a, b: lists of N texts each, or two texts.
            **options: of `encode`.

        Returns:
            float32 `[N]`, or a float for two texts.

        Raises:
            ValueError: lists of different lengths.
        """
        if isinstance(a, str) and isinstance(b, str):
            return float(self.similarity([a], [b], **options)[0])
        a, b = checked_texts(a, name="a", pairs=False), checked_texts(b, name="b", pairs=False)
        if len(a) != len(b):
            raise ValueError(
                "%d texts and %d texts; similarity compares pair by pair, search all with all" % (len(a), len(b))
            )
        vectors = self.encode(a + b, **dict(options, normalize=True))
        return np.sum(vectors[: len(a)] * vectors[len(a) :], axis=1)

    def index(self, corpus: Sequence[str], *, method: str = "exact", **options: Any) -> VectorIndex:
        """`VectorIndex` of texts, for many searches in one corpus; method 'hnsw' pays off from about 100,000 texts."""
        corpus = checked_texts(corpus, name="corpus", pairs=False)
        index = VectorIndex(self.encode(corpus, **dict(options, normalize=True)), method=method)
        index.texts = corpus
        return index

    def search(
        self, queries: Sequence[str], corpus: Union[Sequence[str], VectorIndex], k: int = 10, **options: Any
    ) -> List[List[Hit]]:
        """The nearest texts of each query, the nearest first.

        Args:
            queries: list of Q texts.
            corpus: list of N texts, or what `index` returned.
            k: texts for each query, at most N are given.
            **options: of `encode`.

        Returns:
            list of Q lists of `Hit` (place in the corpus, text, score: cosine).
        """
        index = corpus if isinstance(corpus, VectorIndex) else self.index(corpus, **options)
        places, scores = index.search(self.encode(queries, **dict(options, normalize=True)), k)
        return [
            [Hit(int(i), index.texts[i], float(score)) for i, score in zip(*row) if i >= 0]
            for row in zip(places, scores)
        ]

    def fit_whitening(
        self, texts: Sequence[str], components: Optional[int] = None, **options: Any
    ) -> "SentenceEncoder":
        """From now on whiten all vectors, as fitted on `texts` (kexue.fm/archives/8069); returns the encoder.

        Args:
            texts: list of str, some thousands.
            components: dimensions that are kept; None: all.
            **options: of `encode`.
        """
        self.whitening = None
        self.whitening = Whitening.fit(self.encode(texts, **dict(options, normalize=False)), components)
        return self

    def save(self, path: Path, *, format: str = "tensorflow", overwrite: bool = False) -> None:
        """Write a folder that `SentenceEncoder.load` reads, and `models.load` too; it appears when it is complete.

        Args:
            path: str, a folder that does not exist or is empty.
            format: 'tensorflow' (as `models.save`, with what the encoder adds), or 'sentence-transformers': a folder
                for `SentenceTransformer(path)`, with tokenizer.json and a model card; token ids and vectors are the
                same there.
            overwrite: bool, replace a folder that was written here; others are never deleted.

        Raises:
            WeightsError: there is something in `path` that is not to be replaced, see `models.save`; a pooling, a kind
                of model or a tokenizer that has no form there.
            ValueError: unknown format.
            OSError: a full disk and the like; what was in `path` is as before.
        """
        checks.choice(format, ENCODER_FORMATS, "format", "SentenceEncoder.save")
        with whole_folder(path, overwrite=overwrite) as folder:
            if format == "sentence-transformers":
                write_sentence_transformers(folder, self)
                write_encoder_card(folder, self)
                return
            save_into(folder, self.pretrained)
            settings = {"pooling": self.pooling, "max_length": self.max_length, "whitening": self.whitening is not None}
            if self.whitening is not None:
                np.savez(os.path.join(folder, WHITENING), mean=self.whitening.mean, kernel=self.whitening.kernel)
            if not self.normalize:
                settings["normalize"] = False
            if self.dense:
                settings["dense"] = [keras.activations.serialize(layer.activation) for layer in self.dense]
                names = ["%d/%s" % (i, name) for i in range(len(self.dense)) for name in ("kernel", "bias")]
                values = [value for layer in self.dense for value in layer.get_weights()]
                write_safetensors(os.path.join(folder, DENSE), dict(zip(names, values)))
            write_json(os.path.join(folder, SETTINGS), settings)

    @classmethod
    def load(cls, path: Path, **arguments: Any) -> "SentenceEncoder":
        """The encoder that `save` wrote, or one of a sentence-transformers folder.

        Of the latter's modules known are Transformer, Pooling (mean, cls, max), Dense and Normalize.

        Args:
            path: str, the folder, or the name of one on the hub, see `models.load`.
            **arguments: of `models.load`.

        Raises:
            WeightsError: no such folder, or one that `save` did not write, or that was changed since; a module that is
                not known here.
        """
        path = local_folder(path)
        restore_interrupted(path)
        if has_modules(path) and not os.path.exists(os.path.join(path, SETTINGS)):
            return cls._of_modules(Modules(path), arguments)
        settings = read_settings(os.path.join(path, SETTINGS), sentence_encoder_settings(POOLINGS))
        how = dict({"normalize": settings.get("normalize", True)}, **arguments)
        encoder = cls(path, pooling=settings["pooling"], max_length=settings["max_length"], **how)
        if settings.get("dense"):
            encoder._add_dense(_read_dense(os.path.join(path, DENSE), settings["dense"]))
        if settings["whitening"]:
            encoder.whitening = Whitening.load(os.path.join(path, WHITENING), encoder.model.output_shape[-1])
        return encoder

    @classmethod
    def _of_modules(cls, modules, arguments):
        pretrained = load(modules.transformer, **arguments)
        if not isinstance(pretrained, PretrainedModel):
            raise WeightsError("%s is a T5, which has no sentence vectors here" % modules.path)
        length = modules.length_for(pretrained.transformer)
        encoder = cls(pretrained, pooling=modules.pooling, max_length=length, normalize=modules.normalize)
        encoder._add_dense(modules.dense)
        return encoder


def _read_dense(path, activations):
    arrays, layers = read_safetensors(path), []
    for i, activation in enumerate(activations):
        kernel, bias = (arrays["%d/%s" % (i, name)] if "%d/%s" % (i, name) in arrays else None for name in _PARTS)
        if kernel is None or bias is None or kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
            raise WeightsError("%s has no kernel and bias of Dense layer %d. Save the encoder again." % (path, i))
        layers.append(DenseLayer(kernel, bias, activation))
    return layers
