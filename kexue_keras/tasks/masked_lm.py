"""Training a masked language model head, and the layers below it, on plain text; stopped and started at will.

Reference: BERT (arXiv 1810.04805); "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764, which needs
an encoder whose head was trained.
"""

import math
import os
import re
import time

import numpy as np

from kexue_keras.backend import K
from kexue_keras.data import BucketedBatches, UserError, encode
from kexue_keras.losses import MaskedCrossentropy
from kexue_keras.models import load, predict_at
from kexue_keras.models.convert import save
from kexue_keras.models.masked_lm import HEAD, mask_batch, masked_accuracy
from kexue_keras.optimizers import AdamW, LayerwiseLearningRate, WarmupCosine
from kexue_keras.tasks import checkpoint

POINT = "checkpoint.npz"


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
        ValueError: `frozen` outside 0 to the number of layers.
        WeightsError: see `models.load`.

    >>> from kexue_keras.tasks.masked_lm import MaskedLanguageModel
    >>> mlm = MaskedLanguageModel('me5-zh-char', length=16, load={'num_hidden_layers': 1})
    >>> mlm.train(['今天天气不错', '我想买一本书'] * 8, steps=1, batch_size=2)
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
        self.length, self.frozen, self.rate = length, frozen, rate
        self.tokenizer = self.pretrained.tokenizer
        self.model = predict_at(self.pretrained.bert)
        for name, layer in self.pretrained.bert.layers.items():
            block = re.match(r"Transformer-(\d+)-", name)
            if frozen and (name.startswith("Embedding-") or (block and int(block.group(1)) < frozen)):
                layer.trainable = False

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

        Raises:
            UserError: no text, a loss that is not finite, or a point of another run in `folder`.
        """
        if not texts:
            raise UserError("there is no text to train on")
        say = say or (lambda line: None)
        encoded, cut = encode(self.tokenizer, texts, self.length)
        say("%d texts, %d tokens; %d cut to %d" % (len(texts), sum(len(t) for t, _ in encoded), cut, self.length))
        batches = BucketedBatches(encoded, batch_size=batch_size, maxlen=self.length, seed=seed)
        rate = WarmupCosine(AdamW(learning_rate), warmup=int(warmup * steps), total=steps)
        optimizer = LayerwiseLearningRate(rate, multipliers={"MLM-": head_factor})
        self.model.compile(optimizer, MaskedCrossentropy())
        run = {"steps": steps, "batch_size": batch_size, "seed": seed, "texts": len(texts), "rate": self.rate}
        run.update(length=self.length, frozen=self.frozen)
        run.update(learning_rate=learning_rate, head_factor=head_factor, warmup=warmup)
        step = self._restore(folder, run, batches) if folder else 0
        if step:
            say("going on after step %d" % step)
        order, epoch, losses, began = None, None, [], time.time()
        while step < steps:
            if epoch != step // len(batches):
                epoch = step // len(batches)
                order = batches.epoch(epoch)
            random = np.random.RandomState([seed, step])
            inputs, labels = self._batch(batches, order[step % len(batches)], random)
            loss = float(np.ravel(self.model.train_on_batch(inputs, labels))[0])
            if not math.isfinite(loss):
                raise UserError("the loss became %s at step %d; a lower learning_rate usually helps" % (loss, step + 1))
            losses.append(loss)
            step += 1
            if step % 50 == 0:
                speed = (time.time() - began) / len(losses)
                say("step %d of %d: loss %.3f, %.2f s a step" % (step, steps, np.mean(losses[-50:]), speed))
            if folder and step % save_every == 0:
                self._save(folder, run, step)
            if len(valid) and (step % valid_every == 0 or step == steps):
                say("held out: %s" % self.evaluate(valid))
        if folder:
            self._save(folder, run, step)

    def evaluate(self, texts, *, batch_size=32, seed=12345):
        """How well hidden tokens of `texts` are predicted; see `masked_accuracy`.

        Raises:
            UserError: the texts are too few, no token was hidden.
        """
        options = {"length": self.length, "rate": self.rate, "batch_size": batch_size, "seed": seed}
        scores = masked_accuracy(self.model, self.tokenizer, texts, **options)
        if not scores["tokens"]:
            raise UserError("no token of the %d texts was hidden; give more text" % len(texts))
        return scores

    def save(self, path, **options):
        """Write the encoder with its head as a folder that `models.load` reads; options as for `models.save`."""
        save(self.pretrained, path, **options)

    def _save(self, folder, run, step):
        os.makedirs(folder, exist_ok=True)
        arrays = checkpoint.numbered("model", K.batch_get_value(self.model.trainable_weights))
        arrays.update(checkpoint.numbered("optimizer", self.model.optimizer.get_weights()))
        checkpoint.save_arrays(os.path.join(folder, POINT), arrays, dict(run, step=step))

    def _restore(self, folder, run, batches):
        path = os.path.join(folder, POINT)
        if not os.path.exists(path):
            return 0
        arrays, meta = checkpoint.load_arrays(path)
        step = meta.pop("step")
        if meta != run:
            raise UserError("holds a point of another run (%s, not %s); give another folder" % (meta, run), path=path)
        # Keras makes an optimizer's variables at its first step. What this step does is overwritten below.
        inputs, labels = self._batch(batches, batches.epoch(0)[0], np.random.RandomState(0))
        self.model.train_on_batch(inputs, labels)
        self.model.optimizer.set_weights(checkpoint.from_numbered("optimizer", arrays))
        K.batch_set_value(list(zip(self.model.trainable_weights, checkpoint.from_numbered("model", arrays))))
        return step


def _load(model, arguments):
    import warnings

    with warnings.catch_warnings():
        # That the head is new is what this is for.
        warnings.filterwarnings("ignore", message=".*(%s|cls/predictions)" % "|".join(HEAD))
        return load(model, with_mlm="linear", **arguments)
