"""PET's last step: an ordinary classifier learns what the ensemble of patterns says of unlabelled texts, softened.

Reference: Schick and Schütze, arXiv 2001.07676 (temperature 2); Hinton et al., arXiv 1503.02531.
"""

import numpy as np
import tensorflow as tf
from few_shot_untrained import accuracy
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from kexue_keras.data import BucketedBatches, encode
from kexue_keras.data._batches import rows_by_step
from kexue_keras.finetune.classification._heads import build_classifier
from kexue_keras.models import load
from kexue_keras.models._freezing import freeze_below
from kexue_keras.optimizers import AdamW
from kexue_keras.trainer import train_model

TEMPERATURE = 2.0


def softened_crossentropy(y_true, y_pred):
    """T^2 times the cross-entropy of the softened answers: -T^2 sum_c q_c log softmax(logits / T)_c.

    Args:
        y_true: float `[B, labels]`, the teachers' probabilities q at the temperature T.
        y_pred: float `[B, labels]`, logits.
    """
    return -(TEMPERATURE**2) * tf.reduce_sum(y_true * tf.nn.log_softmax(y_pred / TEMPERATURE), axis=-1)


def softened(probabilities):
    """softmax(log p / T), the probabilities of the teachers at the temperature T.

    >>> softened(np.array([[.9, .1]])).round(2).tolist()
    [[0.75, 0.25]]
    """
    return softmax(np.log(np.maximum(probabilities, 1e-12)) / TEMPERATURE, axis=-1)


def likeliest_weights(scores, answers):
    """Weights w >= 0 with which the sum of several teachers' scores makes the right answers likeliest.

    They minimise -sum_n log softmax(sum_k w_k s_k)[n, answer of n] + sum_k (w_k std(s_k))^2 / 2: a teacher that is sure
    of nothing, and often right, gets a large one. The second term keeps them finite where the teachers are never wrong.

    Args:
        scores: list of float `[N, labels]`, log-probabilities.
        answers: list of int, columns.

    >>> p = np.log([[.5, .3, .2], [.3, .4, .3], [.2, .3, .5]])
    >>> likeliest_weights([p, p[::-1]], [0, 1, 2]).round(1).tolist()
    [3.4, 0.0]
    """
    scores = np.stack([one - one.mean(axis=-1, keepdims=True) for one in scores])
    spread = np.maximum(np.std(scores, axis=(1, 2)), 1e-6)
    scores = scores / spread[:, None, None]

    def loss(weights):
        said = log_softmax(np.tensordot(weights, scores, 1), axis=-1)
        return weights @ weights / 2 - np.sum(said[np.arange(len(answers)), answers])

    found = minimize(loss, np.ones(len(scores)), method="L-BFGS-B", bounds=[(0, None)] * len(scores))
    return found.x / spread


def distilled(few, texts, probabilities, *, epochs=3, model=None):
    """Train an ordinary classifier on the teachers' answers; the epoch that is best on `few.valid` counts.

    Args:
        few: `FewShot`.
        texts: list of texts.
        probabilities: float `[N, labels]`, what the teachers say of them.
        epochs: int.
        model: the encoder that learns; None: `few.model`.

    Returns:
        (accuracy on `few.test`, accuracy on `few.valid`).
    """
    pretrained = load(model or few.model, **dict(few.load_options, with_mlm=False))
    bert = pretrained.bert
    if few.train_layers is not None:
        freeze_below(bert, bert.num_hidden_layers - few.train_layers)
    labels = few.verbalizer.labels
    model = build_classifier(bert.model, len(labels), pooling="mean", dropout_rate=0.1, seed=few.seed)
    encoded = encode(pretrained.tokenizer, texts, few.max_length)[0]
    batches = BucketedBatches(encoded, batch_size=few.batch_size, max_length=few.max_length, seed=few.seed)
    targets, rows_of = softened(probabilities).astype("float32"), rows_by_step(batches)

    def make_batch(step):
        indices = rows_of(step)
        return batches.inputs(indices), targets[indices]

    def logits(rows):
        asked = encode(pretrained.tokenizer, [text for text, _ in rows], few.max_length)[0]
        parts = BucketedBatches(asked, batch_size=64, max_length=few.max_length)
        found = np.zeros((len(rows), len(labels)))
        for indices in parts.in_length_order():
            found[indices] = model.predict_on_batch(parts.inputs(indices))
        return found

    train_model(
        model,
        make_batch,
        loss=softened_crossentropy,
        default=(AdamW(few.learning_rate), None),
        steps=epochs * len(batches),
        epoch_steps=len(batches),
        evaluate=lambda: {"score": accuracy(logits(few.valid), few.valid, few)},
        multipliers={"logits": 10.0},
        num_hidden_layers=bert.num_hidden_layers,
        seed=few.seed,
        say=few.say,
    )
    return accuracy(logits(few.test), few.test, few), accuracy(logits(few.valid), few.valid, few)
