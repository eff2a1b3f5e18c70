"""Sparse against dense ZLPR (and bert4keras' two) at 10,000 classes: time and memory of a value with its gradient.

    python benchmarks/losses.py [--classes 10000 --positives 5 --batch 64 --rounds 60]

All sides run in one process on the same logits, one after the other in each round, and the ratio is the median over
rounds. Memory is what TensorFlow allocates in a step (FULL_TRACE allocation records), and the bytes fed.
"""

import argparse
import os
import sys
import time

import numpy as np

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, default=10000)
    parser.add_argument("--positives", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", default=None, help="folder to append to; benchmarks/results by default")
    return parser.parse_args()


def allocations(metadata):
    """Bytes allocated in a step, and the most that were held at once."""
    records = []
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            for memory in node.memory:
                records += [(r.alloc_micros, r.alloc_bytes) for r in memory.allocation_records]
    held = peak = 0
    for _, size in sorted(records):
        held += size
        peak = max(peak, held)
    return sum(size for _, size in records if size > 0), peak


def main():
    options = arguments()
    import tensorflow as tf
    from bert4keras.backend import multilabel_categorical_crossentropy, sparse_multilabel_categorical_crossentropy
    from record import record

    from kexue_keras import losses
    from kexue_keras.backend import K, get_session, tf1

    rng = np.random.RandomState(options.seed)
    logits = rng.randn(options.batch, options.classes).astype("float32")
    labels = np.stack(
        [rng.choice(options.classes, options.positives, replace=False) for _ in range(options.batch)]
    ).astype("float32")
    hot = np.zeros_like(logits)
    np.put_along_axis(hot, labels.astype(int), 1, 1)
    variable = K.variable(logits)
    sides = {
        "sparse": (losses.sparse_multilabel_crossentropy, labels),
        "dense": (losses.multilabel_crossentropy, hot),
        "bert4keras_dense": (multilabel_categorical_crossentropy, hot),
        "bert4keras_sparse": (
            lambda t, s: sparse_multilabel_categorical_crossentropy(tf.cast(t, tf.int32), s),
            labels,
        ),
    }
    session, steps, values = get_session(), {}, {}
    for name, (loss, targets) in sides.items():
        target = tf1.placeholder(tf.float32, [None, None])
        predicted = tf.identity(variable)
        value = loss(target, predicted)
        gradient = tf.convert_to_tensor(tf.gradients(tf.reduce_mean(value), predicted)[0])
        steps[name] = ([value, gradient.op], {target: targets})
        values[name] = session.run([value, gradient], {target: targets})
    for name in sides:
        wrong = [float(abs(a - b).max()) for a, b in zip(values[name], values["dense"])]
        print("%-18s largest difference from dense: value %.1e, gradient %.1e" % (name, *wrong))
    seconds = {name: [] for name in sides}
    for _ in range(options.rounds + 5):
        for name, (fetches, feed) in steps.items():
            start = time.perf_counter()
            session.run(fetches, feed)
            seconds[name].append(time.perf_counter() - start)
    seconds = {name: np.array(s[5:]) for name, s in seconds.items()}
    memory = {}
    for name, (fetches, feed) in steps.items():
        metadata = tf1.RunMetadata()
        trace = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE)
        session.run(fetches, feed, options=trace, run_metadata=metadata)
        memory[name] = allocations(metadata) + (sides[name][1].nbytes,)
    rows = []
    for name in sides:
        ratio = np.median(seconds[name] / seconds["sparse"])
        total, peak, fed = memory[name]
        row = {
            "benchmark": "multilabel loss and gradient",
            "side": name,
            "classes": options.classes,
            "positives": options.positives,
            "batch": options.batch,
            "rounds": options.rounds,
            "seed": options.seed,
            "milliseconds_median": round(1e3 * float(np.median(seconds[name])), 3),
            "milliseconds_quartiles": [round(1e3 * float(q), 3) for q in np.percentile(seconds[name], [25, 75])],
            "time_relative_to_sparse_median": round(float(ratio), 2),
            "allocated_bytes": int(total),
            "peak_bytes": int(peak),
            "fed_bytes": int(fed),
        }
        rows.append(record("losses", row, options.results) if options.results else record("losses", row))
        print(
            "%-18s %7.2f ms  %5.2f x sparse   allocated %6.2f MB  peak %6.2f MB  fed %6.3f MB"
            % (name, row["milliseconds_median"], ratio, total / 1e6, peak / 1e6, fed / 1e6)
        )
    return rows


if __name__ == "__main__":
    main()
