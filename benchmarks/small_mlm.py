"""Small masked language models on Chinese text: the training that length.py and mixers.py share.

Text: ../shared/data/unlabelled (news, novels), one stream of characters; the last part is held out. A row predicts the
same number of hidden characters (15%; of these 80% [MASK], 10% another character, 10% left), and only their outputs go
through the large softmax, which is what makes this affordable on a CPU.
"""

import glob
import gzip
import os
import time
from collections import namedtuple

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
TEXT = os.path.join(HERE, "..", "..", "shared", "data", "unlabelled")
# Running text only: a long context of unrelated reviews would be no context.
SOURCES = ("chid_novel_news", "literature", "msra_news", "peopledaily_199801")
PAD, UNKNOWN, MASK = 0, 1, 2
SPECIAL = 3
# Larger models (hidden 128, 4000 characters, rate 1e-3) were still at the frequencies of single characters after 800
# steps, whatever mixed their tokens; this one leaves them behind after about 400.
SIZE = {"hidden": 64, "layers": 2, "heads": 2, "units": 256, "vocabulary": 1000}
# Of all places, and of those that show [MASK]: at the others the model sees a character, and half of the time the right
# one, so that it gains by copying what it sees.
Score = namedtuple("Score", "accuracy loss masked_accuracy masked_loss")
TINY = {"hidden": 16, "layers": 1, "heads": 2, "units": 32, "vocabulary": 200}


def read_stream(vocabulary, held_out, limit=None):
    """`(train, test)`: ids of all characters in a row, int32; the most frequent characters are known."""
    parts = []
    for name in SOURCES:
        for path in sorted(glob.glob(os.path.join(TEXT, name + "*.txt.gz"))):
            with gzip.open(path, "rt", encoding="utf-8") as handle:
                parts.append("".join(line.strip() for line in handle))
    if not parts:
        raise SystemExit("no text in %s: this benchmark needs the shared data" % TEXT)
    # Held out from the end of every source.
    each = held_out // len(parts)
    if limit:
        parts = [part[: limit // len(parts) + each] for part in parts]
    train, test = "".join(p[:-each] for p in parts), "".join(p[-each:] for p in parts)
    codes = np.frombuffer(train.encode("utf-32-le"), np.uint32)
    kinds, counts = np.unique(codes, return_counts=True)
    known = kinds[np.argsort(-counts)][: vocabulary - SPECIAL]
    table = np.full(0x110000, UNKNOWN, np.int32)
    table[known] = SPECIAL + np.arange(len(known))
    return table[codes], table[np.frombuffer(test.encode("utf-32-le"), np.uint32)]


def hidden_places(rng, rows, length):
    """Sorted positions `[rows, m]`, m = 15% of the length, that are to be predicted."""
    m = max(1, int(round(0.15 * length)))
    return np.sort(np.argsort(rng.rand(rows, length), axis=1)[:, :m], axis=1)


def corrupt(ids, places, rng, vocabulary):
    """`(inputs, labels)`."""
    labels = np.take_along_axis(ids, places, 1)
    dice = rng.rand(*places.shape)
    other = rng.randint(SPECIAL, vocabulary, places.shape)
    new = np.where(dice < 0.8, MASK, np.where(dice < 0.9, other, labels))
    inputs = np.array(ids)
    np.put_along_axis(inputs, places, new, 1)
    return inputs, labels


def build(model_class, size, length):
    """Keras model: `[ids, segments, places]` -> logits `[b, m, vocabulary]` at the places."""
    import tensorflow as tf
    from bert4keras.layers import LayerNormalization, ScaleOffset
    from bert4keras.models import build_transformer_model

    from kexue_keras.backend import keras

    bert = build_transformer_model(
        config_path=None,
        model=model_class,
        return_keras_model=False,
        vocab_size=size["vocabulary"],
        hidden_size=size["hidden"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        intermediate_size=size["units"],
        hidden_act="gelu",
        max_position=length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    places = keras.layers.Input((None,), dtype="int32", name="places")
    x = bert.model.output
    # Weights are made in float32 and the places are ints, so the mask of the tokens has no use after this.
    x = keras.layers.Lambda(lambda a: tf.gather(a[0], tf.cast(a[1], tf.int32), batch_dims=1), mask=lambda *_: None)(
        [x, places]
    )
    x = keras.layers.Dense(size["hidden"], activation="gelu", kernel_initializer=bert.initializer)(x)
    x = LayerNormalization(epsilon=1e-12)(x)
    x = bert.layers["Embedding-Token"](x, mode="dense")
    logits = ScaleOffset(scale=False)(x)
    return keras.models.Model(bert.model.inputs + [places], logits)


def crossentropy(y_true, y_pred):
    """Mean over the places of -log p."""
    import tensorflow as tf

    from kexue_keras.backend import K

    labels = tf.cast(K.reshape(y_true, (-1,)), tf.int32)
    logits = K.reshape(y_pred, (-1, K.int_shape(y_pred)[-1]))
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def evaluate(model, stream, length, vocabulary, batch_tokens=4096):
    """`Score` over the stream cut into windows; the hidden characters are the same ones at every length.

    Raises:
        ValueError: the length is no multiple of 64: places are drawn for 64 characters each.
    """
    if length % 64:
        raise ValueError("evaluate: the length is %d; a multiple of 64 is needed" % length)
    rng = np.random.RandomState(12345)
    usable = len(stream) // 512 * 512
    places = hidden_places(rng, usable // 64, 64) + 64 * np.arange(usable // 64)[:, None]
    inputs, labels = corrupt(stream[None, :usable], places.reshape(1, -1), rng, vocabulary)
    rows = inputs.reshape(-1, length)
    at = (places.reshape(len(rows), -1)) % length
    labels = labels.reshape(len(rows), -1)
    masked = np.take_along_axis(rows, at, 1) == MASK
    right, loss, step = [], [], max(1, batch_tokens // length)
    for i in range(0, len(rows), step):
        part = slice(i, i + step)
        logits = np.asarray(model.predict_on_batch([rows[part], 0 * rows[part], at[part]]), np.float64)
        right.append(logits.argmax(-1) == labels[part])
        top = logits.max(-1)
        total = top + np.log(np.exp(logits - top[..., None]).sum(-1))
        loss.append(total - np.take_along_axis(logits, labels[part][..., None], -1)[..., 0])
    right, loss = np.concatenate(right), np.concatenate(loss)
    return Score(*(float(np.mean(x)) for x in (right, loss, right[masked], loss[masked])))


def without_context(vocabulary, held_out=65536, limit=None):
    """`Score` of the best that knows how often characters are, and what it sees at the place itself, and no more.

    A character v that is seen there is right with a probability in proportion to p(v) (1 + 1 / m), any other y to
    p(y) / m: all m characters are equally likely to be put in.
    """
    training, test = read_stream(vocabulary, held_out, limit)
    p = np.bincount(training, minlength=vocabulary) / len(training)
    usable, rng = len(test) // 512 * 512, np.random.RandomState(12345)
    places = hidden_places(rng, usable // 64, 64) + 64 * np.arange(usable // 64)[:, None]
    inputs, labels = corrupt(test[None, :usable], places.reshape(1, -1), rng, vocabulary)
    seen, labels, other = inputs[0, places.ravel()], labels[0], 1.0 / (vocabulary - SPECIAL)
    masked = seen == MASK
    likely = np.where(masked, p[labels], p[labels] * ((labels == seen) + other) / (p[seen] + other))
    best = np.where(masked | (p[seen] * (1 + other) < p.max() * other), p.argmax(), seen)
    right, loss = best == labels, -np.log(np.maximum(likely, 1e-12))
    return Score(*(float(np.mean(x)) for x in (right, loss, right[masked], loss[masked])))


def train(
    model_class,
    *,
    seed,
    steps,
    length,
    batch=32,
    size=SIZE,
    longest=None,
    rate=3e-3,
    held_out=65536,
    limit=None,
    threads=1,
):
    """Train one model; returns `(model, row, test)`, with loss, tokens a second and parameters in `row`.

    The schedule: 10% warm-up, then a cosine to 0. The first 5 steps do not count for the speed.
    """
    from kexue_keras.backend import K, set_seed, tf1
    from kexue_keras.optimizers import AdamW, WarmupCosine

    K.clear_session()
    config = tf1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    tf1.keras.backend.set_session(tf1.Session(config=config))
    if hasattr(K, "set_session"):
        K.set_session(tf1.Session(config=config))
    set_seed(seed)
    training, test = read_stream(size["vocabulary"], held_out, limit)
    model = build(model_class, size, longest or length)
    model.compile(WarmupCosine(AdamW(rate), warmup=max(1, steps // 10), total=steps), crossentropy)
    rng = np.random.RandomState(seed)
    losses, begin, processor = [], None, None
    for step in range(steps):
        starts = rng.randint(0, len(training) - length, batch)
        ids = training[starts[:, None] + np.arange(length)]
        places = hidden_places(rng, batch, length)
        inputs, labels = corrupt(ids, places, rng, size["vocabulary"])
        if step == min(5, steps - 1):
            begin, processor = time.perf_counter(), time.process_time()
        losses.append(float(np.asarray(model.train_on_batch([inputs, 0 * inputs, places], labels)).ravel()[0]))
        if step % 200 == 0:
            print("step %d of %d: loss %.3f" % (step, steps, np.mean(losses[-200:])), flush=True)
    counted = max(1, steps - min(5, steps - 1)) * batch * length
    row = {
        "seed": seed,
        "steps": steps,
        "batch": batch,
        "length": length,
        "size": size,
        "rate": rate,
        "threads": threads,
        "training_characters": len(training),
        "train_loss": round(float(np.mean(losses[-max(1, steps // 20) :])), 4),
        "tokens_per_second": round(counted / (time.perf_counter() - begin)),
        "tokens_per_processor_second": round(counted / (time.process_time() - processor)),
        "parameters": int(sum(np.prod(K.int_shape(w)) for w in model.trainable_weights)),
        "load": round(os.getloadavg()[0], 1),
    }
    return model, row, test
