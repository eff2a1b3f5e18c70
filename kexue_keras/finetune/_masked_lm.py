"""Training a masked language model head, and the layers below it, on plain text; stopped and started at will.

Reference: BERT (arXiv 1810.04805); "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764, which needs
an encoder whose head was trained.
"""

import warnings
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from kexue_keras.backend import ModelSession
from kexue_keras.checkpoints._convert import save
from kexue_keras.data import BucketedBatches, encode
from kexue_keras.data._batches import rows_by_step
from kexue_keras.errors import UserError
from kexue_keras.finetune._encoder import recomputed
from kexue_keras.losses import MaskedCrossentropy
from kexue_keras.models import load, predict_at
from kexue_keras.models._freezing import freeze_below
from kexue_keras.models._lengths import checked_max_length, positions_of
from kexue_keras.models._masked_lm import HEAD, mask_batch, masked_accuracy
from kexue_keras.optimizers import AdamW, WarmupCosine
from kexue_keras.trainer import Techniques, train_model
from kexue_keras.trainer._techniques import NOT_FOR_TOKENS
from kexue_keras.types import Path, Say


class MaskedLanguageModel(object):
    """An encoder with a head that is trained on plain text.

    The lowest layers can stay as they are: that saves a third to a half of the time, and keeps what the encoder knows.

    Args:
        model: name or folder as for `models.load`; a head that it lacks starts from random weights.
        max_length: longest row in tokens.
        frozen: number of lowest layers that are not trained; with more than 0 the embeddings are not either.
        mask_rate: share of the tokens that are predicted.
        techniques: `trainer.Techniques` for building and training; the penalty per sample does not go with a loss of
            tokens.
        **arguments: of `models.load`, for instance num_hidden_layers=6.

    Raises:
        UserError: techniques that do not go with it.
        ValueError: `frozen` outside 0 to the number of layers; a length that the model has no positions for.
        WeightsError: see `models.load`.

    >>> from kexue_keras.finetune._masked_lm import MaskedLanguageModel
    >>> mlm = MaskedLanguageModel('me5-zh-char', max_length=16, num_hidden_layers=1)
    >>> len(mlm.train(['今天天气不错', '我想买一本书'] * 8, steps=1, batch_size=2))
    1
    >>> mlm.evaluate(['今天天气不错'] * 4)['tokens'] > 0
    True
    """

    def __init__(
        self,
        model: Path,
        *,
        max_length: int = 128,
        frozen: int = 0,
        mask_rate: float = 0.15,
        techniques: Optional[Techniques] = None,
        **arguments: Any,
    ) -> None:
        self.techniques = techniques or Techniques()
        self.techniques.refuse("a masked language model", **NOT_FOR_TOKENS)
        # The layers' Dropout is off: a run over a text that is read once or twice has nothing to overfit.
        usual = dict({"dropout_rate": 0.0, "missing": "initialise"}, **recomputed(model, self.techniques))
        self.pretrained = _load(model, dict(usual, **arguments))
        layers = self.pretrained.bert.num_hidden_layers
        if not 0 <= frozen <= layers:
            raise ValueError("frozen is %r; the model has %d layers" % (frozen, layers))
        self.max_length = checked_max_length(
            max_length, positions_of(self.pretrained.bert), source=self.pretrained.name, least=3
        )
        self.frozen, self.mask_rate = frozen, mask_rate
        self.tokenizer = self.pretrained.tokenizer
        self.model = predict_at(self.pretrained.bert)
        self.session = ModelSession(self.model)
        if frozen:
            freeze_below(self.pretrained.bert, frozen)

    def _batch(self, batches, indices, random):
        return mask_batch(self.tokenizer, *batches.inputs(indices), random, mask_rate=self.mask_rate)

    def train(
        self,
        texts: Sequence[str],
        *,
        steps: int,
        batch_size: int = 32,
        learning_rate: float = 2e-4,
        head_lr_multiplier: float = 5.0,
        warmup: float = 0.05,
        seed: int = 0,
        folder: Optional[Path] = None,
        save_every: int = 200,
        valid: Sequence[str] = (),
        valid_every: int = 1000,
        say: Optional[Say] = None,
    ) -> List[float]:
        """Train for `steps` steps, resuming from the checkpoint in `folder` if there is one.

        Args:
            texts: list of str, one per row; cut to `max_length`.
            steps: int, steps of the whole run (the learning rate falls to 0 over them).
            batch_size: rows per step.
            learning_rate: highest rate of AdamW.
            head_lr_multiplier: how much faster the head learns.
            warmup: share of the steps over which the rate rises.
            seed: int, order of the texts and what is masked.
            folder: where a checkpoint is saved every `save_every` steps, or None.
            save_every, valid_every: steps.
            valid: texts for `evaluate`, every `valid_every` steps; the weights with the best accuracy are kept.
            say: function that takes a line; with it there is a progress bar, too.

        Returns:
            list of float, the loss of each step done here.

        Raises:
            UserError: no text, a loss that is not finite, or a checkpoint of another run in `folder`.
        """
        if not len(texts):
            raise UserError("there is no text to train on")
        say = say or (lambda line: None)
        encoded, cut = encode(self.tokenizer, texts, self.max_length)
        say("%d texts, %d tokens; %d cut to %d" % (len(texts), sum(len(t) for t, _ in encoded), cut, self.max_length))
        options = {"batch_size": batch_size, "max_length": self.max_length, "seed": seed}
        batches = BucketedBatches(encoded, rounding=self.techniques.rounding, **options)
        rows_of = rows_by_step(batches)

        def make_batch(step):
            return self._batch(batches, rows_of(step), np.random.RandomState([seed % 2**32, step]))

        def evaluate():
            scores = self.evaluate(valid)
            return dict(scores, score=scores["accuracy"])

        def scheduled(optimizer, updates):
            return WarmupCosine(optimizer, warmup=int(warmup * updates), total=updates)

        facts = {
            "batch_size": batch_size,
            "seed": seed,
            "texts": len(texts),
            "mask_rate": self.mask_rate,
            "max_length": self.max_length,
        }
        facts.update(frozen=self.frozen, learning_rate=learning_rate, warmup=warmup)
        facts.update(head_lr_multiplier=head_lr_multiplier)
        return train_model(
            self.model,
            make_batch,
            loss=MaskedCrossentropy(),
            default=(AdamW(learning_rate), scheduled),
            multipliers={"MLM-": head_lr_multiplier} if head_lr_multiplier != 1 else None,
            num_hidden_layers=self.pretrained.bert.num_hidden_layers,
            techniques=self.techniques,
            steps=steps,
            epoch_steps=min(valid_every, steps) if len(valid) else None,
            evaluate=evaluate if len(valid) else None,
            seed=seed,
            folder=folder,
            facts=facts,
            save_every=save_every,
            say=say,
        ).losses

    def evaluate(self, texts: Sequence[str], *, batch_size: int = 32, seed: int = 12345) -> Dict[str, Any]:
        """How well hidden tokens of `texts` are predicted; see `masked_accuracy`.

        Raises:
            UserError: the texts are too few, no token was hidden.
        """
        options = {"max_length": self.max_length, "mask_rate": self.mask_rate, "batch_size": batch_size, "seed": seed}
        with self.session.entered():
            scores = masked_accuracy(self.model, self.tokenizer, texts, **options)
        if not scores["tokens"]:
            raise UserError("no token of the %d texts was hidden; give more text" % len(texts))
        return scores

    def save(self, path: Path, **options: Any) -> None:
        """Write the encoder with its head as a folder that `models.load` reads; options as for `models.save`."""
        save(self.pretrained, path, **options)


def _load(model, arguments):
    with warnings.catch_warnings():
        # That the head is new is what this is for.
        warnings.filterwarnings("ignore", message=".*(%s|cls/predictions)" % "|".join(HEAD))
        return load(model, with_mlm="linear", **arguments)
