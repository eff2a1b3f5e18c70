"""The training loop of a prompt model: epochs of rows, the best epoch's weights.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764.
"""

import math

import numpy as np

from kexue_keras.backend import K


def train(model, rows, *, epochs, evaluate=None, say=None):
    """Train a compiled model on `TrainingRows`.

    Args:
        model: compiled, from `predict_at`.
        rows: `TrainingRows`.
        epochs: int.
        evaluate: function without arguments, accuracy in [0, 1]; the weights of the first epoch with the best are kept.
        say: function that takes a line.

    Returns:
        list of dict, one an epoch: epoch, loss, and valid if there is `evaluate`.

    Raises:
        ValueError: a loss that is not finite.
    """
    history, best, step = [], None, 0
    for epoch in range(epochs):
        losses = []
        for indices in rows.batches.epoch(epoch):
            losses.append(float(np.ravel(model.train_on_batch(*rows.batch(indices, step)))[0]))
            step += 1
            if not math.isfinite(losses[-1]):
                raise ValueError("the loss became %s at step %d; lower the learning_rate" % (losses[-1], step))
        row = {"epoch": epoch + 1, "loss": float(np.mean(losses))}
        if evaluate is not None:
            row["valid"] = evaluate()
            if best is None or row["valid"] > best[0]:
                best = row["valid"], K.batch_get_value(model.trainable_weights)
        history.append(row)
        if say is not None:
            say(", ".join("%s %.4g" % item for item in row.items()))
    if best is not None:
        K.batch_set_value(list(zip(model.trainable_weights, best[1])))
    return history
