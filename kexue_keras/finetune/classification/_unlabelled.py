"""Texts without labels beside those with: virtual adversarial training and R-Drop learn from both.

泛化性乱弹：从随机噪声、梯度惩罚到虚拟对抗训练, kexue.fm/archives/7466; 又是Dropout两次！这次它做到了有监督任务的SOTA,
kexue.fm/archives/8496.
"""

import numpy as np

from kexue_keras.data import BucketedBatches, read_examples, read_table
from kexue_keras.data._batches import rows_by_step
from kexue_keras.data._columns import columns_as_trained
from kexue_keras.errors import UserError
from kexue_keras.finetune._corpus import warn_of_overlap


def check_unlabelled(run):
    """Refuse unlabelled texts where nothing learns from them, and virtual adversarial training without classes.

    Args:
        run: `Run`.

    Raises:
        UserError: with what to do.
    """
    options = run.options
    if options.task != "classification":
        run.techniques.refuse("--task " + options.task, vat="it compares the classes of texts, and there are none")
        if options.unlabelled is not None:
            raise UserError(
                "--unlabelled goes with classes of texts, which --task %s has not; leave it out" % options.task
            )
    if options.unlabelled is not None and not (run.techniques.vat or run.techniques.rdrop):
        raise UserError("--unlabelled: only --vat and --rdrop learn from texts without labels; give one of them")


def read_unlabelled(options, parts, facts, say):
    """The texts of `--unlabelled`: lines, or a table with the columns of the training file.

    Args:
        options: namespace.
        parts, facts: of `read_parts`.
        say: function that takes a line.

    Returns:
        list of str, or of (str, str) for pairs.

    Raises:
        UserError: with file and line.
    """
    trained, pairs = facts["columns"], facts["pairs"]
    names = {name for name in trained.values() if isinstance(name, str)}
    table = read_table(options.unlabelled, max_line=options.max_line, known=names)
    columns = columns_as_trained(table, trained, pairs=pairs)
    if (columns.text_b is not None) != pairs:
        wanted = "pairs of texts, as those of the training file" if pairs else "single texts"
        raise UserError("the texts without labels have to be %s" % wanted, path=table.path, line=table.lines[0])
    texts = read_examples(table, columns).texts
    say("texts without labels: %d" % len(texts))
    warn_of_overlap(parts, say, texts=texts, where="among those without labels")
    return texts


def with_unlabelled(make_batch, encoded, **how):
    """`make_batch` whose batches have as many texts without labels behind those with.

    They have weight 0, and the others so much more that their part of the loss is as without them: Keras divides by all
    rows.

    Args:
        make_batch: function from the number of a step to ([token ids, segment ids], targets, weights).
        encoded: list of (token ids, segment ids).
        **how: of `BucketedBatches`.

    >>> def make_batch(step):
    ...     return [np.full([2, 3], 5), np.zeros([2, 3])], np.array([1, 0]), np.ones(2)
    >>> inputs, targets, weights = with_unlabelled(make_batch, [([7] * 8, [0] * 8)], batch_size=2, max_length=8)(0)
    >>> inputs[0].tolist()
    [[5, 5, 5, 0, 0, 0, 0, 0], [5, 5, 5, 0, 0, 0, 0, 0], [7, 7, 7, 7, 7, 7, 7, 7]]
    >>> targets.tolist(), weights.tolist()
    ([1, 0, 0], [1.5, 1.5, 0.0])
    """
    batches = BucketedBatches(encoded, **how)
    rows_of = rows_by_step(batches)

    def make(step):
        inputs, targets, weights = make_batch(step)
        more = batches.inputs(rows_of(step))
        length = max(inputs[0].shape[1], more[0].shape[1])
        both = [np.concatenate([_widened(x, length) for x in pair]) for pair in zip(inputs, more)]
        without = len(both[0]) - len(targets)
        targets = np.concatenate([targets, np.zeros_like(targets[:1]).repeat(without, axis=0)])
        weights = np.concatenate([weights * (len(both[0]) / len(weights)), np.zeros(without, weights.dtype)])
        return both, targets, weights

    return make


def _widened(x, length):
    return np.pad(x, [(0, 0), (0, length - x.shape[1])], mode="constant")
