"""Time of smooth activations, value with gradient, relative to bert4keras' GELU (by erf).

    python benchmarks/activations.py [--rows 1024 --columns 1024 --rounds 60]

All sides run in one process on the same array, one after the other in each round; a ratio is the median over rounds.
"""

import argparse
import os
import sys
import time

import numpy as np

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", default=None, help="folder to append to; benchmarks/results by default")
    return parser.parse_args()


def main():
    options = arguments()
    import tensorflow as tf
    from bert4keras.backend import gelu_erf, gelu_tanh
    from record import record

    from kexue_keras.backend import tf1
    from kexue_keras.layers import SAU, gelu_s, smooth_values, squareplus

    # The error function takes longer for larger arguments: a fair ratio has the width of GELU, and the narrow ones have
    # a narrow GELU beside them.
    sides = {
        "bert4keras gelu": gelu_erf,
        "bert4keras gelu_tanh": gelu_tanh,
        "gelu_s": gelu_s,
        "relu gauss": lambda x: smooth_values(x, "relu", kernel="gauss"),
        "relu logistic": lambda x: smooth_values(x, "relu", kernel="logistic"),
        "relu square": lambda x: smooth_values(x, "relu", kernel="square"),
        "leaky_relu gauss (SAU)": SAU(0.25, 1.0),
        "squareplus": squareplus,
        "softplus": tf.nn.softplus,
        "(x + sqrt(x^2 + b)) / 2": lambda x: (x + tf.sqrt(tf.square(x) + 1.5238)) / 2,
        "bert4keras gelu(2 x)": lambda x: gelu_erf(2.0 * x),
        "relu gauss, width 1/2": lambda x: smooth_values(x, "relu", kernel="gauss", width=0.5),
        "leaky_relu gauss (SAU), width 1/2": SAU(0.25, 0.5),
    }
    config = tf1.ConfigProto(intra_op_parallelism_threads=options.threads, inter_op_parallelism_threads=options.threads)
    session = tf1.Session(config=config)
    x = tf1.get_variable("x", initializer=np.random.RandomState(0).randn(options.rows, options.columns).astype("f"))
    above = tf1.get_variable("above", initializer=np.random.RandomState(1).randn(*x.shape.as_list()).astype("f"))
    steps = {}
    for name, function in sides.items():
        inputs = tf.identity(x)
        outputs = function(inputs)
        # The ops alone: what is fetched would be copied, and a group of them would be optimized away.
        steps[name] = [outputs.op, tf.gradients(outputs, inputs, above)[0].op]
    session.run(tf1.global_variables_initializer())
    seconds = {name: [] for name in sides}
    for _ in range(options.rounds + 5):
        for name, step in steps.items():
            start = time.perf_counter()
            session.run(step)
            seconds[name].append(time.perf_counter() - start)
    seconds = {name: np.array(s[5:]) for name, s in seconds.items()}
    for name, times in seconds.items():
        ratio = float(np.median(times / seconds["bert4keras gelu"]))
        row = {
            "benchmark": "activation, value and gradient",
            "side": name,
            "rows": options.rows,
            "columns": options.columns,
            "rounds": options.rounds,
            "threads": options.threads,
            "milliseconds_median": round(1e3 * float(np.median(times)), 3),
            "milliseconds_quartiles": [round(1e3 * float(q), 3) for q in np.percentile(times, [25, 75])],
            "time_relative_to_gelu_median": round(ratio, 3),
            "time_relative_to_softplus_median": round(float(np.median(times / seconds["softplus"])), 3),
        }
        record("activations", row, options.results) if options.results else record("activations", row)
        print(
            "%-34s %7.2f ms  %5.2f x gelu, %5.2f x softplus"
            % (name, row["milliseconds_median"], ratio, row["time_relative_to_softplus_median"])
        )


if __name__ == "__main__":
    main()
