"""DeepNorm against plain post-norm and pre-norm: the change of the logits in one step, and 1000 layers that train.

    python benchmarks/depth.py change [--seeds 0,1,2]                    two minutes
    python benchmarks/depth.py change --norm pre [--stream 1 --count 1]  the same for pre-norm
    python benchmarks/depth.py train [--seeds 0 --layers 1000]           five minutes a scheme and seed on one core
    python benchmarks/depth.py plot                                      docs/layers/deepnorm.png from the rows

The model: hidden 16, inner 32, one head, post-norm without biases and without trained norms, its weights stacked and
its layers in a `tf.while_loop`, so that the graph does not grow with the depth.

"change" takes one step of gradient descent (.1), of its sign (1e-3) or of its direction relative to the weights (1e-2)
of all kernels of the layers, and measures the root mean square change of the logits of 8 tokens, in float64. For
pre-norm --stream is the standard deviation of what enters the first layer, --count the one that the rule counts with.

"train" predicts the next character of ../shared/data/unlabelled, causally: the 255 most frequent ones and "other",
windows of 32, 200 steps of Adam with a warm-up of 20. The output bias starts as the logarithm of the characters'
frequencies, so that a model that learns nothing from its input stays at the entropy of single characters. Rows that
are there already (same setting and seed) are not computed again.
"""

import argparse
import collections
import glob
import gzip
import os
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
TEXT = os.path.join(HERE, "..", "..", "shared", "data", "unlabelled")
PLOT = os.path.join(HERE, "..", "docs", "layers", "deepnorm.png")
WIDTH, INNER, VOCABULARY = 16, 32, 256
SETTING = ("layers", "steps", "batch", "length", "rate")
SCHEMES = ("vanilla", "paper", "sgd", "adam", "lamb")
# Columns of the one matrix of a layer: query, key, value, output, both of the FFN (the last one transposed).
SIZES = (WIDTH, WIDTH, WIDTH, WIDTH, INNER, INNER)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("change", "train", "plot"))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--depths", default="4,16,64", help="for change")
    parser.add_argument("--norm", choices=("post", "pre"), default="post", help="for change")
    parser.add_argument("--stream", type=float, default=1.0, help="for change in pre-norm (%(default)s)")
    parser.add_argument("--count", type=float, default=1.0, help="`stream` of the rule (%(default)s)")
    parser.add_argument("--schemes", default="vanilla,paper,adam", help="for train")
    parser.add_argument("--layers", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--text", default=TEXT, help="folder of *.txt.gz")
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    parser.add_argument("--plot", default=PLOT)
    return parser.parse_args()


def constants(scheme, layers, norm="post", stream=1.0):
    from kexue_keras.layers import deepnorm_constants

    return (1.0, 1.0) if scheme == "vanilla" else deepnorm_constants(layers, rule=scheme, norm=norm, stream=stream)


def initial(layers, beta, rng):
    """Xavier for query and key, beta times Xavier for value, output and both of the FFN: [layers, 16, 128]."""
    blocks = []
    for size, gain in zip(SIZES, (1, 1, beta, beta, beta, beta)):
        blocks.append(gain * np.sqrt(2 / (WIDTH + size)) * rng.standard_normal((layers, WIDTH, size)))
    return np.concatenate(blocks, axis=-1)


def normalized(x):
    import tensorflow as tf

    x -= tf.reduce_mean(x, -1, keepdims=True)
    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-6)


def transformer(x, stacked, alpha, mask=None, norm="post"):
    """Layers on x [b, n, 16]; `stacked` [layers, 16, 128], `mask` [n, n] is added to the scores."""
    import tensorflow as tf

    layers, shape = tf.shape(stacked)[0], tf.shape(x)
    # Reading a TensorArray costs the gradient one write; slicing the stack would cost it a sum over all layers.
    weights = tf.TensorArray(stacked.dtype, layers).unstack(stacked)

    before, after = (lambda x: x, normalized) if norm == "post" else (normalized, lambda x: x)

    def layer(i, x):
        q, k, v, o, inner, outer = tf.split(weights.read(i), SIZES, axis=-1)
        flat = tf.reshape(x, [-1, WIDTH])
        q, k, v = [tf.reshape(tf.matmul(before(flat), w), shape) for w in (q, k, v)]
        scores = tf.matmul(q, k, transpose_b=True) / WIDTH**0.5
        attention = tf.matmul(tf.nn.softmax(scores if mask is None else scores + mask), v)
        flat = after(alpha * flat + tf.matmul(tf.reshape(attention, [-1, WIDTH]), o))
        hidden = tf.nn.relu(tf.matmul(before(flat), inner))
        return i + 1, tf.reshape(after(alpha * flat + tf.matmul(hidden, outer, transpose_b=True)), shape)

    return before(tf.while_loop(lambda i, x: i < layers, layer, [0, x], parallel_iterations=1)[1])


def measure_changes(options):
    import tensorflow as tf
    from record import record

    from kexue_keras.backend import tf1

    stacked, x = tf1.placeholder(tf.float64, [None, WIDTH, sum(SIZES)]), tf1.placeholder(tf.float64, [1, 8, WIDTH])
    head, alpha = tf1.placeholder(tf.float64, [WIDTH, WIDTH]), tf1.placeholder(tf.float64, [])
    labels = tf1.placeholder(tf.int32, [8])
    hidden = transformer(x, stacked, alpha, norm=options.norm)
    logits = tf.matmul(tf.reshape(hidden, [-1, WIDTH]), head)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    gradient = tf.gradients(loss, stacked)[0]
    ends = np.cumsum(SIZES)[:-1]

    def relative(w, g):
        lengths = [np.sqrt(np.sum(np.square(a), axis=(-2, -1), keepdims=True)) for a in (w, g)]
        return 1e-2 * lengths[0] / np.maximum(lengths[1], 1e-300) * g

    steps = {"sgd": lambda w, g: 0.1 * g, "sign": lambda w, g: 1e-3 * np.sign(g), "relative": relative}
    seeds, session = [int(s) for s in options.seeds.split(",")], tf1.Session()
    for scheme in [s for s in SCHEMES if options.norm == "post" or s != "paper"]:
        for n in [int(d) for d in options.depths.split(",")]:
            changes = {name: [] for name in steps}
            for seed in seeds:
                rng = np.random.RandomState(seed)
                a, beta = constants(scheme, n, options.norm, options.count)
                feed = {
                    x: rng.standard_normal((1, 8, WIDTH)) * options.stream,
                    labels: rng.randint(0, WIDTH, 8),
                    head: rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5,
                    stacked: initial(n, beta, rng),
                    alpha: a,
                }
                before, slopes = session.run([logits, gradient], feed)
                kernels, slopes = np.split(feed[stacked], ends, axis=-1), np.split(slopes, ends, axis=-1)
                for name, step in steps.items():
                    moved = np.concatenate([w - step(w, g) for w, g in zip(kernels, slopes)], axis=-1)
                    after = session.run(logits, {**feed, stacked: moved})
                    changes[name].append(float(np.sqrt(np.mean((after - before) ** 2))))
            for name, values in changes.items():
                row = {
                    "benchmark": "change of the logits in one step",
                    "scheme": scheme,
                    "layers": n,
                    "step": name,
                    "seeds": seeds,
                    "changes": [float("%.4g" % v) for v in values],
                    "median": float("%.4g" % np.median(values)),
                }
                if options.norm == "pre":
                    row.update(norm="pre", stream=options.stream, counted_stream=options.count)
                record("depth", row, options.results)
            print(scheme, n, {name: "%.3g" % np.median(v) for name, v in changes.items()}, flush=True)


def characters(folder):
    """Ids of all characters of the texts in one array (0 is "other"), and the logarithms of their frequencies."""
    paths = sorted(glob.glob(os.path.join(folder, "*.txt.gz")))
    if not paths:
        sys.exit("no *.txt.gz in %s; give --text" % folder)
    text = ""
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            text += handle.read(1000000)
    frequent = [c for c, _ in collections.Counter(text).most_common(VOCABULARY - 1)]
    table = {c: i + 1 for i, c in enumerate(frequent)}
    ids = np.array([table.get(c, 0) for c in text], "int32")
    counts = np.bincount(ids, minlength=VOCABULARY)
    return ids, np.log(counts / counts.sum())


def train(scheme, seed, options, ids, log_frequencies):
    """Of each step: loss, loss minus that of the frequencies alone, gradient ratio; and the seconds of a step."""
    import tensorflow as tf

    from kexue_keras.backend import tf1

    tf1.reset_default_graph()
    rng = np.random.RandomState(seed)
    alpha, beta = constants(scheme, options.layers)
    windows = tf1.placeholder(tf.int32, [None, options.length + 1])
    rate = tf1.placeholder(tf.float32, [])

    def variable(name, value):
        return tf1.get_variable(name, initializer=np.asarray(value, "float32"))

    embedding = variable("embedding", rng.standard_normal((VOCABULARY, WIDTH)))
    position = variable("position", rng.standard_normal((options.length, WIDTH)))
    stacked = variable("layers", initial(options.layers, beta, rng))
    head = variable("head", 0.02 * rng.standard_normal((WIDTH, VOCABULARY)))
    bias = variable("bias", log_frequencies)
    mask = np.triu(np.full((options.length, options.length), -1e9, "float32"), 1)
    hidden = transformer(normalized(tf.gather(embedding, windows[:, :-1]) + position), stacked, alpha, mask)
    logits = tf.matmul(tf.reshape(hidden, [-1, WIDTH]), head) + bias
    labels = tf.reshape(windows[:, 1:], [-1])
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    variables = tf1.trainable_variables()
    gradients = tf.gradients(loss, variables)
    step = tf1.train.AdamOptimizer(rate).apply_gradients(zip(gradients, variables))
    # How much of the signal reaches the first layers.
    first = tf.sqrt(tf.reduce_sum(tf.square(tf.convert_to_tensor(gradients[0]))))
    last = tf.sqrt(tf.reduce_sum(tf.square(tf.convert_to_tensor(gradients[3]))))
    threads = options.threads
    config = tf1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    losses, ratios, excess = [], [], []
    # Batches of their own generator: the same for all schemes of a seed.
    batches = np.random.RandomState(10**6 + seed)
    with tf1.Session(config=config) as session:
        session.run(tf1.global_variables_initializer())
        for i in range(options.steps):
            if i == 1:
                start = time.perf_counter()
            places = batches.randint(0, len(ids) - options.length - 1, options.batch)
            feed = {windows: np.stack([ids[p : p + options.length + 1] for p in places])}
            feed[rate] = options.rate * min(1, (i + 1) / 20)
            value, to_first, to_last, _ = session.run([loss, first, last, step], feed)
            losses.append(round(float(value), 4))
            excess.append(round(float(value + log_frequencies[feed[windows][:, 1:]].mean()), 4))
            ratios.append(float("%.3g" % (to_first / max(to_last, 1e-30))))
            if i % 20 == 0 or i == options.steps - 1:
                print(
                    scheme,
                    seed,
                    "step",
                    i,
                    "loss %.3f" % value,
                    "gradient, embedding / head %.2g" % ratios[-1],
                    flush=True,
                )
    return losses, excess, ratios, (time.perf_counter() - start) / max(options.steps - 1, 1)


def run_training(options):
    from record import record, recorded

    ids, log_frequencies = characters(options.text)
    entropy = float(-np.sum(np.exp(log_frequencies) * log_frequencies))
    print("%d characters, entropy of single characters %.3f nats" % (len(ids), entropy), flush=True)
    for seed in [int(s) for s in options.seeds.split(",")]:
        for scheme in options.schemes.split(","):
            key = {"benchmark": "next character", "scheme": scheme, "seed": seed}
            key.update({name: getattr(options, name) for name in SETTING})
            if recorded("depth", options.results, **key):
                print("there already:", key, flush=True)
                continue
            losses, excess, ratios, seconds = train(scheme, seed, options, ids, log_frequencies)
            row = dict(
                key,
                losses=losses,
                losses_minus_frequencies=excess,
                gradient_embedding_to_head=ratios[:: max(1, options.steps // 20)],
            )
            row.update(
                single_character_entropy=round(entropy, 4),
                last_tenth_minus_frequencies=round(float(np.mean(excess[-max(1, options.steps // 10) :])), 4),
                seconds_a_step=round(seconds, 3),
                threads=options.threads,
            )
            record("depth", row, options.results)
            print(scheme, seed, "last tenth, minus frequencies: %.4f" % row["last_tenth_minus_frequencies"], flush=True)


def plot(options):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from record import rows

    wanted = {k: getattr(options, k) for k in SETTING if k != "rate"}
    found = [r for r in rows("depth", options.results) if r["benchmark"] == "next character"]
    found = [row for row in found if all(row.get(k) == v for k, v in wanted.items())]
    if not found:
        sys.exit("no rows of this setting in %s/depth.jsonl; run train first" % options.results)
    rates = sorted({row["rate"] for row in found})
    figure = Figure(figsize=(4.2 * len(rates), 3.6))
    FigureCanvasAgg(figure)
    labels = {"vanilla": "plain post-norm", "paper": "DeepNorm, rule 'paper'", "adam": "DeepNorm, rule 'adam'"}
    for i, rate in enumerate(rates):
        axes = figure.add_subplot(1, len(rates), i + 1)
        for color, scheme in zip(("tab:red", "tab:blue", "tab:green"), labels):
            curves = [r["losses_minus_frequencies"] for r in found if r["scheme"] == scheme and r["rate"] == rate]
            for n, curve in enumerate(curves):
                means = np.convolve(curve, np.ones(10) / 10, "valid")
                axes.plot(np.arange(9, len(curve)), means, color=color, lw=1.2, label=None if n else labels[scheme])
        axes.axhline(0, color="gray", lw=0.8, ls="--", label="knows the frequencies only")
        axes.set(xlabel="step", title="%d layers, Adam %g" % (options.layers, rate))
        if i == 0:
            axes.set_ylabel("loss minus that of the frequencies\n(nats a character, mean of 10 steps)")
            axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(options.plot, dpi=110)
    print("wrote", os.path.relpath(options.plot))


if __name__ == "__main__":
    options = arguments()
    {"change": measure_changes, "train": run_training, "plot": plot}[options.what](options)
