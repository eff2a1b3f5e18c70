"""`ElectraPretraining`: generator and discriminator trained together.

用ALBERT和ELECTRA之前，请确认你真的了解它们, kexue.fm/archives/7846; paper: arXiv 2003.10555.
"""

from typing import Dict, Iterable, List

import numpy as np
from scipy.special import log_softmax

from kexue_keras import checks
from kexue_keras.backend import ModelSession, keras, model_to_call
from kexue_keras.data import gather_places
from kexue_keras.losses import ElectraLoss, constant_guess_loss
from kexue_keras.models._language_models_only import is_electra
from kexue_keras.models._masked_lm import predict_at, special_ids
from kexue_keras.models.electra._layers import SampledReplacement
from kexue_keras.types import Array, Tokenizer, Transformer


class ElectraPretraining(object):
    """A generator fills masked positions, a discriminator tells which tokens are not the original ones.

    Loss: that of the masked language model over the hidden tokens, plus disc_weight times the binary cross-entropy over
    all tokens that are no padding. The draws of the generator let no gradient through.

    Args:
        generator: bert4keras transformer object with `with_mlm="linear"`, for instance of `build_electra_generator`,
            which shares the embeddings.
        discriminator: bert4keras ELECTRA object with `with_discriminator="linear"`; it is what is kept.
        mask_rate: share of the tokens that are hidden.
        disc_weight: number >= 0.
        temperature: number > 0 of the draws.

    Attributes:
        training_model: Keras model to compile with an optimizer and no loss; inputs as `make_batch` gives them.

    Raises:
        ValueError: models that do not fit together, or numbers out of range.
        WeightsError: the generator has no MLM head.

    Reference: kexue.fm/archives/7846; arXiv 2003.10555.

    >>> from bert4keras.models import build_transformer_model
    >>> sizes = dict(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32,
    ...     hidden_act='gelu', max_position=8, return_keras_model=False)
    >>> discriminator = build_transformer_model(model='electra', with_discriminator='linear', **sizes)
    >>> electra = kexue_keras.models.ElectraPretraining(
    ...     kexue_keras.models.build_electra_generator(discriminator), discriminator)
    >>> electra.training_model.compile('sgd')
    >>> tokens = np.array([[2, 7, 8, 9, 3, 0]])
    >>> batch = electra.make_batch(tokens, 0 * tokens, np.random.RandomState(0), mask_id=4, protected=[2, 3])
    >>> electra.training_model.train_on_batch(batch, None) > 0
    True
    """

    def __init__(
        self,
        generator: Transformer,
        discriminator: Transformer,
        *,
        mask_rate: float = 0.15,
        disc_weight: float = 50.0,
        temperature: float = 1.0,
    ) -> None:
        _check_models(generator, discriminator)
        self.mask_rate = checks.number(mask_rate, "mask_rate", "ElectraPretraining", above=0, most=1)
        self.generator, self.discriminator = generator, discriminator
        predict = predict_at(generator)
        tokens, segments, places = predict.inputs
        originals = keras.layers.Input((None,), dtype="int32", name="Originals")
        sample = SampledReplacement(temperature, name="Sampled-Replacement")
        seen, replaced = sample([tokens, places, originals, predict.output])
        found = model_to_call(discriminator.model)([seen, segments])
        outputs = [originals, predict.output, seen, replaced, found]
        inputs = [tokens, segments, places, originals]
        loss = ElectraLoss(disc_weight=disc_weight, name="Electra-Loss")
        self.training_model = keras.models.Model(inputs, loss(outputs))
        self._looked_at = keras.models.Model(inputs, outputs[1:])

    def make_batch(
        self,
        tokens: Array,
        segments: Array,
        random: np.random.RandomState,
        *,
        mask_id: int,
        protected: Iterable[int] = (),
    ) -> List[Array]:
        """Inputs of `training_model`: in each row about mask_rate of the tokens become [MASK].

        Args:
            tokens, segments: int [B, n], 0 is padding.
            random: `np.random.RandomState`.
            mask_id: id of [MASK].
            protected: ids that are never hidden ([CLS], [SEP]); see `special_ids` of a tokenizer.

        Returns:
            [tokens with [MASK], segments, places [B, m], originals [B, m]].
        """
        tokens = np.asarray(tokens)
        free = (tokens != 0) & ~np.isin(tokens, list(protected))
        chosen = free & (random.rand(*tokens.shape) < self.mask_rate)
        places, originals = gather_places(np.where(chosen, tokens, 0))
        return [np.where(chosen, mask_id, tokens), np.asarray(segments), places, originals]

    def batch_of(
        self, tokenizer: Tokenizer, tokens: Array, segments: Array, random: np.random.RandomState
    ) -> List[Array]:
        """`make_batch` with the ids of a bert4keras tokenizer."""
        return self.make_batch(
            tokens, segments, random, mask_id=tokenizer._token_mask_id, protected=special_ids(tokenizer)
        )

    def evaluate(self, batches: Iterable[List[Array]]) -> Dict[str, float]:
        """How both models do, and what a discriminator gets that always says the same.

        Args:
            batches: iterable of what `make_batch` gives.

        Returns:
            dict: generator_loss (nats per masked token), generator_accuracy (of its most likely token),
            sampled_accuracy (of the one drawn), replaced (share of all tokens), discriminator_loss (nats per token),
            constant_guess (the loss to beat), found (share of the replaced ones with a probability above 1/2),
            false_alarms (share of the others).

        Raises:
            ValueError: there are no batches, or nothing in them is hidden.
        """
        session, sums = ModelSession(self._looked_at), np.zeros(8)
        for batch in batches:
            generated, seen, replaced, found = session.predict_on_batch(self._looked_at, list(batch))
            sums += _counts(batch[3], np.asarray(generated), np.asarray(seen), np.asarray(replaced), np.asarray(found))
        hidden, loss, likeliest, tokens, wrong, binary, found, alarms = sums
        if not hidden:
            raise ValueError("ElectraPretraining.evaluate: nothing is hidden in the batches")
        sampled = 1 - wrong / hidden
        return {
            "generator_loss": loss / hidden,
            "generator_accuracy": likeliest / hidden,
            "sampled_accuracy": sampled,
            "replaced": wrong / tokens,
            "discriminator_loss": binary / tokens,
            "constant_guess": float(constant_guess_loss(sampled, hidden / tokens)),
            "found": found / max(wrong, 1),
            "false_alarms": alarms / max(tokens - wrong, 1),
        }


def _counts(originals, generated, seen, replaced, found):
    """Sums over a batch, in the order of `evaluate`."""
    logits, right = generated[originals > 0].astype("float64"), originals[originals > 0]
    losses = -log_softmax(logits, axis=1)[np.arange(len(right)), right]
    real = seen != 0
    z, wrong = found[real][:, 0].astype("float64"), replaced[real] != 0
    binary = np.logaddexp(0, z) - z * wrong
    return np.array(
        [
            len(right),
            losses.sum(),
            (logits.argmax(axis=1) == right).sum(),
            real.sum(),
            wrong.sum(),
            binary.sum(),
            (z[wrong] > 0).sum(),
            (z[~wrong] > 0).sum(),
        ]
    )


def _check_models(generator, discriminator):
    if not is_electra(discriminator) or "Discriminator-Prediction" not in "".join(discriminator.layers):
        raise ValueError(
            "ElectraPretraining: the discriminator is %r; a bert4keras ELECTRA with with_discriminator='linear' is "
            "needed" % (discriminator,)
        )
    last = discriminator.layers[discriminator.prefixed("Discriminator-Prediction")]
    if getattr(last.activation, "__name__", None) != "linear":
        raise ValueError(
            "ElectraPretraining: the discriminator ends in %r; build it with with_discriminator='linear', so that it "
            "gives logits" % getattr(last.activation, "__name__", last.activation)
        )
    for word in ("vocab_size", "segment_vocab_size"):
        one, other = getattr(generator, word), getattr(discriminator, word)
        if one != other:
            raise ValueError(
                "ElectraPretraining: %s is %r in the generator and %r in the discriminator" % (word, one, other)
            )
