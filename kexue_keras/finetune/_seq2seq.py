"""`Seq2Seq`: a model that makes one text of another (a title of an abstract), for training and for generating.

T5 and mT5: an encoder reads the source, a decoder writes. UniLM: one BERT reads `[CLS] source [SEP] target [SEP]`,
in which the target sees what is to its left only.

那个屠榜的T5模型，现在可以在中文上玩玩了, kexue.fm/archives/7867; 从语言模型到Seq2Seq：Transformer如戏，全靠Mask, kexue.fm/archives/6933.
Papers: T5, arXiv 1910.10683; UniLM, arXiv 1905.03197.
"""

import os
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np
from bert4keras.models import build_transformer_model
from bert4keras.snippets import sequence_padding

from kexue_keras import checkpoints, models
from kexue_keras.backend import keras
from kexue_keras.checkpoints._bundled import ASSETS, BUNDLED
from kexue_keras.checkpoints._load import PretrainedModel, is_t5
from kexue_keras.checkpoints._vocabulary import read_vocabulary
from kexue_keras.checkpoints.t5.loading import PretrainedT5
from kexue_keras.data import checked_texts, gather_places
from kexue_keras.decoding import Generator
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.files.paths import path_text
from kexue_keras.finetune._encoder import recomputed, recomputed_class
from kexue_keras.losses import MaskedCrossentropy
from kexue_keras.models._lengths import checked_max_length
from kexue_keras.tokenizing.widths import vocabulary_tokenizer
from kexue_keras.trainer import Techniques
from kexue_keras.types import Array, Path

SMALL_T5 = "small-t5"
# For mT5 the article says ten times BERT's rate and more, of the order of 1e-4.
LEARNING_RATES = {"t5": 2e-4, "unilm": 2e-5}


class Seq2Seq(object):
    """A T5 or a UniLM with what training and generation need.

    Args:
        pretrained: what `checkpoints.load_t5` (with_lm='linear') or `models.load` (application='unilm',
            with_mlm='linear')
            returned, with a tokenizer.
        max_source_length, max_target_length: longest source and target in tokens, special ones included.

    Attributes:
        architecture: 't5' or 'unilm'.
        model: Keras model whose output are logits `[B, m, V]`, of a UniLM at every token of source and target.
        training_model: the same weights, with logits for target tokens only; train it on what `training_batch` returns
            with `losses.MaskedCrossentropy()`.

    Raises:
        UserError: no tokenizer, or more tokens than the model has positions.
        ValueError: a length that is no whole number from 2, of the target from 1.
    """

    def __init__(
        self,
        pretrained: Union[PretrainedModel, PretrainedT5],
        *,
        max_source_length: int = 256,
        max_target_length: int = 32,
    ) -> None:
        self.pretrained, self.model, self.tokenizer = pretrained, pretrained.model, pretrained.tokenizer
        self.architecture = "t5" if isinstance(pretrained, checkpoints.PretrainedT5) else "unilm"
        self.max_source_length = checked_max_length(max_source_length, name="max_source_length")
        self.max_target_length = checked_max_length(max_target_length, name="max_target_length", least=1)
        if self.tokenizer is None:
            raise UserError("the folder has no vocabulary (spiece.model or vocab.txt)", path=pretrained.name)
        positions = pretrained.max_positions if self.architecture == "unilm" else None
        if positions and max_source_length + max_target_length > positions:
            raise UserError(
                "max_source_length %d + max_target_length %d are more than the %d positions of %s"
                % (max_source_length, max_target_length, positions, pretrained.name)
            )
        # The head over all of a long source costs as much as a layer or two, and nothing is predicted there.
        self.training_model = self.model if self.architecture == "t5" else models.predict_at(pretrained.transformer)
        start = 0 if self.architecture == "t5" else None
        self._scored = None
        self._generator = Generator(self.model, end_id=self.tokenizer._token_end_id, start_id=start)

    def encode(self, text: str, max_length: int, target: bool = False) -> List[int]:
        """Token ids of a text with its end token, cut to `max_length`; of a target without the start token."""
        ids = [int(i) for i in self.tokenizer.tokens_to_ids(self.tokenizer.tokenize(text))]
        if target and self.tokenizer._token_start is not None:
            ids = ids[1:]
        return ids if len(ids) <= max_length else ids[: max_length - 1] + [self.tokenizer._token_end_id]

    def encode_pairs(self, pairs: Sequence[Tuple[str, str]]) -> List[Tuple[List[int], List[int]]]:
        """List of (source ids, target ids) of (source, target) texts."""
        pairs = checked_texts(pairs, name="pairs", pairs=True)
        return [
            (self.encode(s, self.max_source_length), self.encode(t, self.max_target_length, target=True))
            for s, t in pairs
        ]

    def batch(
        self, encoded: Sequence[Tuple[Sequence[int], Sequence[int]]], *, rounding: int = 1
    ) -> Tuple[List[Array], Array]:
        """Teacher forcing: each target token is to be predicted from the source and the target tokens before it.

        Args:
            encoded: list of (source ids, target ids).
            rounding: lengths are padded to a multiple of it.

        Returns:
            (list of input arrays `[B, n]`, targets int `[B, m]`, 0 where nothing is to be predicted).
        """
        if self.architecture == "t5":
            sources, targets = (_padded(side, rounding) for side in zip(*encoded))
            before = np.concatenate([np.zeros_like(targets[:, :1]), targets[:, :-1]], axis=1)
            return [sources, before], targets
        tokens = _padded([s + t for s, t in encoded], rounding)
        segments = _padded([[0] * len(s) + [1] * len(t) for s, t in encoded], rounding)
        after = np.concatenate([tokens * segments, np.zeros_like(tokens[:, :1])], axis=1)[:, 1:]
        return [tokens, segments], after

    def training_batch(
        self, encoded: Sequence[Tuple[Sequence[int], Sequence[int]]], *, rounding: int = 1
    ) -> Tuple[List[Array], Array]:
        """What `training_model` is trained on: the same as `batch`, of a UniLM with the places of the target tokens.

        Args:
            encoded, rounding: see `batch`.

        Returns:
            (list of input arrays, targets int `[B, m, 1]`, 0 where nothing is to be predicted).
        """
        inputs, targets = self.batch(encoded, rounding=rounding)
        if self.architecture == "unilm":
            places, targets = (_padded(rows, rounding) for rows in gather_places(targets))
            inputs = inputs + [places]
        return inputs, targets[:, :, None]

    def token_loss(self, pairs: Sequence[Tuple[str, str]], *, batch_size: int = 32) -> float:
        """Mean cross-entropy of a target token, in nats, without dropout, whatever the model is trained with.

        Args:
            pairs: list of (source, target) texts.
            batch_size: pairs computed together.

        Returns:
            float, 0 of no pairs.
        """
        if self._scored is None:
            # The same layers: how the model itself is compiled is the business of who trains it.
            self._scored = keras.models.Model(self.training_model.inputs, self.training_model.output)
            self._scored.compile("sgd", MaskedCrossentropy())
        encoded, total, tokens = self.encode_pairs(pairs), 0.0, 0
        for start in range(0, len(encoded), batch_size):
            inputs, targets = self.training_batch(encoded[start : start + batch_size])
            count = int((targets > 0).sum())
            total += count * float(self._scored.test_on_batch(inputs, targets))
            tokens += count
        return total / max(tokens, 1)

    def generate(self, texts: Sequence[str], *, beams: int = 1, batch_size: int = 32, **options: Any) -> List[str]:
        """A text for each source.

        Args:
            texts: list of str.
            beams: 1 is greedy.
            batch_size: texts computed together.
            **options: further ones of `Generator.beam_search`, or with sample=True of `Generator.sample`.

        Returns:
            list of str.
        """
        ids = [[self.encode(text, self.max_source_length) for text in checked_texts(texts, pairs=False)]]
        options.update(max_length=self.max_target_length, batch_size=batch_size)
        if options.pop("sample", False):
            found = self._generator.sample(ids, **options)
        elif beams == 1:
            found = self._generator.greedy(ids, **options)
        else:
            found = self._generator.beam_search(ids, beams=beams, **options)
        return [self.tokenizer.decode(rows[0]) for rows in found.lists(end_id=self.tokenizer._token_end_id)]


def _padded(rows, rounding):
    """Rows as one array, its length a multiple of `rounding`."""
    rows = sequence_padding([np.array(row) for row in rows])
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % rounding)), mode="constant")


def load_seq2seq(
    model: Path,
    *,
    max_source_length: int = 256,
    max_target_length: int = 32,
    keep_tokens: Optional[Sequence[int]] = None,
    dropout_rate: Optional[float] = None,
    techniques: Optional[Techniques] = None,
    **build: Any,
) -> Seq2Seq:
    """Load or create a sequence-to-sequence model.

    Args:
        model: a T5 or mT5 folder as `checkpoints.load_t5` takes it; a BERT or RoFormer folder or a bundled name as
            `models.load` takes it, which becomes a UniLM (a head that the file lacks starts from random values); or
            'small-t5'.
        max_source_length, max_target_length: see `Seq2Seq`.
        keep_tokens: ids of the tokens to keep, see `checkpoints.load_t5` and `models.load`.
        dropout_rate: float, of the whole model (`attention_dropout_rate` gives its attention another); None: the
            model's own.
        techniques: `trainer.Techniques`, whose `recompute` is how the model is built; or None.
        **build: further arguments of the loaders, or the sizes of `small_t5`.

    Returns:
        `Seq2Seq`.

    Raises:
        UserError: the model cannot be loaded, or has no vocabulary.
    """
    if dropout_rate is not None:
        build = dict({"attention_dropout_rate": dropout_rate}, dropout_rate=dropout_rate, **build)
    techniques = techniques or Techniques()
    t5 = recomputed_class(models.T5, techniques)
    try:
        if model == SMALL_T5:
            pretrained = small_t5(t5=t5, **build)
        elif is_t5(model):
            pretrained = checkpoints.load_t5(model, keep_tokens=keep_tokens, with_lm="linear", model=t5, **build)
        else:
            build.update(recomputed(model, techniques))
            build.update(application="unilm", with_mlm="linear", missing="initialise")
            if keep_tokens is not None:
                build["keep_tokens"] = keep_tokens
            pretrained = models.load(model, **build)
    except WeightsError as error:
        raise UserError(error)
    return Seq2Seq(pretrained, max_source_length=max_source_length, max_target_length=max_target_length)


def small_t5(
    *,
    vocabulary=None,
    hidden_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    dropout_rate=0.1,
    attention_dropout_rate=0.1,
    t5=models.T5,
):
    """An untrained T5 1.1 with a vocabulary of Chinese characters, for trying out what mT5 is for.

    Args:
        vocabulary: path of a vocab.txt; None: the bundled one, 14001 tokens.
        hidden_size, num_hidden_layers, num_attention_heads: sizes; the feed-forward layers have 2 hidden_size units.
        dropout_rate, attention_dropout_rate: floats.
        t5: `models.T5` or a subclass of it.

    Returns:
        `checkpoints.PretrainedT5`.

    >>> small_t5(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    <PretrainedT5 small-t5: t5.1.1, 1 + 1 layers x 16, 14001 tokens>
    """
    path = path_text(vocabulary or os.path.join(ASSETS, BUNDLED["me5-zh-char"].vocabulary))
    tokenizer = vocabulary_tokenizer(read_vocabulary(path), do_lower_case=True)
    config = {
        "vocab_size": tokenizer._vocab_size,
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_decoder_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "attention_head_size": hidden_size // num_attention_heads,
        "intermediate_size": 2 * hidden_size,
        "hidden_act": ["gelu_tanh", "linear"],
        "tie_word_embeddings": False,
        "hidden_dropout_prob": dropout_rate,
        "layer_norm_eps": 1e-6,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "scale_output": False,
        "cross_position_bias": False,
        "model_type": "t5",
        "norm_name": "layer_norm",
    }
    build = {k: v for k, v in config.items() if k not in ("tie_word_embeddings", "model_type", "norm_name")}
    build.update(dropout_rate=dropout_rate, attention_dropout_rate=attention_dropout_rate, with_lm="linear")
    made = build_transformer_model(None, model=t5, version="t5.1.1", return_keras_model=False, **build)
    return checkpoints.PretrainedT5(SMALL_T5, "t5.1.1", made, tokenizer, config)
