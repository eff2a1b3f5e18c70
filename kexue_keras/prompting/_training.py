"""The training loop of a prompt model: epochs of rows, the best epoch's weights.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764.
"""

import math

import numpy as np

from kexue_keras.backend import K, nonfinite_weight


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
        ValueError: a loss or weights that are not finite; the model has the weights of the best epoch before that
            then, if there is one.
    """
    history, best, step = [], None, 0

    def keep_best():
        if best is not None:
            K.batch_set_value(list(zip(model.trainable_weights, best[1])))

    def diverged(what):
        keep_best()
        kept = "" if best is None else "; the model has the weights of epoch %d, the best before that" % best[2]
        return ValueError("%s at step %d; lower the learning_rate%s" % (what, step, kept))

    for epoch in range(epochs):
        losses = []
        for indices in rows.batches.epoch(epoch):
            losses.append(float(np.ravel(model.train_on_batch(*rows.batch(indices, step)))[0]))
            step += 1
            if not math.isfinite(losses[-1]):
                raise diverged("the loss became %s" % losses[-1])
        name = nonfinite_weight(model.trainable_weights)
        if name is not None:
            raise diverged("the weights became NaN or infinite (%s)" % name)
        row = {"epoch": epoch + 1, "loss": float(np.mean(losses))}
        if evaluate is not None:
            row["valid"] = evaluate()
            if best is None or row["valid"] > best[0]:
                best = row["valid"], K.batch_get_value(model.trainable_weights), epoch + 1
        history.append(row)
        if say is not None:
            say(", ".join("%s %.4g" % item for item in row.items()))
    keep_best()
    return history
