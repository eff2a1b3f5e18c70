"""Training a masked language model head, and the layers below it, on plain text; stopped and started at will.

Reference: BERT (arXiv 1810.04805); "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764, which needs
an encoder whose head was trained.
"""

import warnings

import numpy as np

from kexue_keras.backend import ModelSession
from kexue_keras.checkpoints._convert import save
from kexue_keras.data import BucketedBatches, encode
from kexue_keras.errors import UserError
from kexue_keras.finetune._steps import train_steps
from kexue_keras.losses import MaskedCrossentropy
from kexue_keras.models import load, predict_at
from kexue_keras.models._freezing import freeze_below
from kexue_keras.models._lengths import checked_length, positions_of
from kexue_keras.models._masked_lm import HEAD, mask_batch, masked_accuracy
from kexue_keras.optimizers import AdamW, LayerwiseLearningRate, WarmupCosine


class MaskedLanguageModel(object):
    """An encoder with a head that is trained on plain text.

    The lowest layers can stay as they are: that saves a third to a half of the time, and keeps what the encoder knows.

    Args:
        model: name or folder as for `models.load`; a head that it lacks starts from random weights.
        length: longest row in tokens.
        frozen: number of lowest layers that are not trained; with more than 0 the embeddings are not either.
        rate: share of the tokens that are predicted.
        load: dict of further arguments of `models.load`.

    Raises:
        ValueError: `frozen` outside 0 to the number of layers; a length that the model has no positions for.
        WeightsError: see `models.load`.

    >>> from kexue_keras.finetune._masked_lm import MaskedLanguageModel
    >>> mlm = MaskedLanguageModel('me5-zh-char', length=16, load={'num_hidden_layers': 1})
    >>> len(mlm.train(['今天天气不错', '我想买一本书'] * 8, steps=1, batch_size=2))
    1
    >>> mlm.evaluate(['今天天气不错'] * 4)['tokens'] > 0
    True
    """

    def __init__(self, model, *, length=128, frozen=0, rate=0.15, load=None):
        # The layers' Dropout is off: a run over a text that is read once or twice has nothing to overfit.
        arguments = dict({"dropout_rate": 0.0, "missing": "initialise"}, **(load or {}))
        self.pretrained = _load(model, arguments)
        layers = self.pretrained.bert.num_hidden_layers
        if not 0 <= frozen <= layers:
            raise ValueError("frozen is %r; the model has %d layers" % (frozen, layers))
        self.length = checked_length(length, positions_of(self.pretrained.bert), source=self.pretrained.name, least=3)
        self.frozen, self.rate = frozen, rate
        self.tokenizer = self.pretrained.tokenizer
        self.model = predict_at(self.pretrained.bert)
        self.session = ModelSession(self.model)
        if frozen:
            freeze_below(self.pretrained.bert, frozen)

    def _batch(self, batches, indices, random):
        return mask_batch(self.tokenizer, *batches.inputs(indices), random, rate=self.rate)

    def train(
        self,
        texts,
        *,
        steps,
        batch_size=32,
        learning_rate=2e-4,
        head_factor=5.0,
        warmup=0.05,
        seed=0,
        folder=None,
        save_every=200,
        valid=(),
        valid_every=1000,
        say=None,
    ):
        """Train for `steps` steps, going on from the point in `folder` if there is one.

        Args:
            texts: list of str, one a row; cut to `length`.
            steps: int, steps of the whole run (the learning rate falls to 0 over them).
            batch_size: rows a step.
            learning_rate: highest rate of AdamW.
            head_factor: how much faster the head learns.
            warmup: share of the steps over which the rate rises.
            seed: int, order of the texts and what is masked.
            folder: where the point is saved every `save_every` steps, or None.
            save_every, valid_every: steps.
            valid: texts for `evaluate`, which is said every `valid_every` steps.
            say: function that takes a line.

        Returns:
            list of float, the loss of each step done here.

        Raises:
            UserError: no text, a loss that is not finite, or a point of another run in `folder`.
        """
        if not len(texts):
            raise UserError("there is no text to train on")
        say = say or (lambda line: None)
        encoded, cut = encode(self.tokenizer, texts, self.length)
        say("%d texts, %d tokens; %d cut to %d" % (len(texts), sum(len(t) for t, _ in encoded), cut, self.length))
        batches = BucketedBatches(encoded, batch_size=batch_size, maxlen=self.length, seed=seed)
        rate = WarmupCosine(AdamW(learning_rate), warmup=int(warmup * steps), total=steps)
        optimizer = LayerwiseLearningRate(rate, multipliers={"MLM-": head_factor})
        self.model.compile(optimizer, MaskedCrossentropy())
        orders = {}

        def make_batch(step):
            epoch = step // len(batches)
            if epoch not in orders:
                orders.clear()
                orders[epoch] = batches.epoch(epoch)
            indices = orders[epoch][step % len(batches)]
            return self._batch(batches, indices, np.random.RandomState([seed % 2**32, step]))

        def after_step(step):
            if len(valid) and (step % valid_every == 0 or step == steps):
                say("held out: %s" % self.evaluate(valid))

        run = {"batch_size": batch_size, "seed": seed, "texts": len(texts), "rate": self.rate, "length": self.length}
        run.update(frozen=self.frozen, learning_rate=learning_rate, head_factor=head_factor, warmup=warmup)
        options = dict(folder=folder, facts=run, save_every=save_every, after_step=after_step, say=say)
        return train_steps(self.model, make_batch, steps=steps, **options)

    def evaluate(self, texts, *, batch_size=32, seed=12345):
        """How well hidden tokens of `texts` are predicted; see `masked_accuracy`.

        Raises:
            UserError: the texts are too few, no token was hidden.
        """
        options = {"length": self.length, "rate": self.rate, "batch_size": batch_size, "seed": seed}
        with self.session.entered():
            scores = masked_accuracy(self.model, self.tokenizer, texts, **options)
        if not scores["tokens"]:
            raise UserError("no token of the %d texts was hidden; give more text" % len(texts))
        return scores

    def save(self, path, **options):
        """Write the encoder with its head as a folder that `models.load` reads; options as for `models.save`."""
        save(self.pretrained, path, **options)


def _load(model, arguments):
    with warnings.catch_warnings():
        # That the head is new is what this is for.
        warnings.filterwarnings("ignore", message=".*(%s|cls/predictions)" % "|".join(HEAD))
        return load(model, with_mlm="linear", **arguments)
