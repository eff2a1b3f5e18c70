"""Enlarging a trained model against training a large one from scratch; the bundled model enlarged and trained on.

    python benchmarks/enlargement.py progressive [--seeds 0,1,2]   small, then enlarged: against from scratch
    python benchmarks/enlargement.py bundled                         me5-zh-char-mlm twice as wide; killed, it goes on
    python benchmarks/enlargement.py plot                          docs/models/enlargement.png from the rows

"progressive" trains a masked language model of characters (small_mlm.py's text). Compute is counted in multiplications:
tokens times entries of all matrices, three times for a training step. After `--small` steps of the small model it is
enlarged twice and trained on: with noise, without, and with RoPE's standard frequencies; a large model from scratch
gets the multiplications of both. The models are RoFormers,
so that the frequencies can be compared in the same runs. Rows that are there already are not computed again.
"""

import argparse
import glob
import gzip
import os
import shutil
import sys
import tempfile
import time

import numpy as np
from scipy.special import logsumexp

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]
PLOT = os.path.join(HERE, "..", "docs", "models", "enlargement.png")
LENGTH, VOCABULARY = 32, 500
K = 2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("progressive", "bundled", "plot"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--bundled-rate", type=float, default=1e-4, help="(%(default)s)")
    parser.add_argument("--bundled-steps", type=int, default=40, help="(%(default)s)")
    parser.add_argument("--width", type=int, default=32, help="of the small model (%(default)s)")
    parser.add_argument("--small", type=int, default=1000, help="steps of the small model (%(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="steps of the large one (%(default)s)")
    parser.add_argument("--every", type=int, default=50, help="steps from one measurement to the next (%(default)s)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--folder", default=os.path.join("runs", "enlargement"), help="for bundled (%(default)s)")
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    parser.add_argument("--plot", default=PLOT)
    return parser.parse_args()


def one_thread():
    from kexue_keras.backend import K as backend
    from kexue_keras.backend import tf1

    backend.clear_session()
    session = tf1.Session(config=tf1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1))
    tf1.keras.backend.set_session(session)
    if hasattr(backend, "set_session"):
        backend.set_session(session)


def config_of(width):
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 4 * width,
        "hidden_act": "gelu",
        "max_position": LENGTH,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def fresh(kind, width, seed):
    """A masked language model with random weights, as `load` gives it."""
    from bert4keras.models import build_transformer_model

    from kexue_keras.backend import set_seed
    from kexue_keras.checkpoints import PretrainedModel

    one_thread()
    set_seed(seed)
    config = config_of(width)
    bert = build_transformer_model(model=kind, with_mlm="linear", return_keras_model=False, **config)
    return PretrainedModel("random", kind, bert, None, config)


def multiplications(pretrained):
    """Of a token, once forwards: entries of all matrices but the tables; those of the head for the places asked for."""
    sizes = [tuple(map(int, w.shape)) for w in pretrained.model.weights if len(w.shape) == 2]
    hidden, v = pretrained.config["hidden_size"], pretrained.config["vocab_size"]
    tables = [s for s in sizes if s[0] in (v, LENGTH, 2) and s[1] == hidden]
    head = 0.15 * (hidden * v + hidden * hidden)
    inner = sum(a * b for a, b in sizes) - sum(a * b for a, b in tables) - hidden * hidden
    return inner + head


def held_out_loss(model, stream):
    """Mean -log p of the hidden characters; they are the same ones each time."""
    import small_mlm

    rng = np.random.RandomState(12345)
    rows = stream[: len(stream) // LENGTH * LENGTH].reshape(-1, LENGTH)
    places = small_mlm.hidden_places(rng, len(rows), LENGTH)
    inputs, labels = small_mlm.corrupt(rows, places, rng, VOCABULARY)
    logits = np.asarray(model.predict_on_batch([inputs, 0 * inputs, places]), "float64")
    picked = np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    return float((logsumexp(logits, axis=-1) - picked).mean())


def train(pretrained, streams, options, *, steps, seed, rate=None):
    """Held-out losses: list of (step, loss), before the first step too; the rate warms up over 5% and stays."""
    import small_mlm

    from kexue_keras.models import predict_at
    from kexue_keras.optimizers import AdamW, PiecewiseLinear

    model = predict_at(pretrained.bert)
    model.compile(PiecewiseLinear(AdamW(rate or options.rate), {max(1, steps // 20): 1}), small_mlm.crossentropy)
    rng, curve = np.random.RandomState(seed), []
    for step in range(steps + 1):
        if step % options.every == 0:
            curve.append((step, round(held_out_loss(model, streams[1]), 4)))
        if step == steps:
            break
        starts = rng.randint(0, len(streams[0]) - LENGTH, options.batch)
        ids = streams[0][starts[:, None] + np.arange(LENGTH)]
        places = small_mlm.hidden_places(rng, options.batch, LENGTH)
        inputs, labels = small_mlm.corrupt(ids, places, rng, VOCABULARY)
        model.train_on_batch([inputs, 0 * inputs, places], labels)
    return curve


def enlarged(folder, options, **how):
    """The small model of a folder, twice as wide."""
    from kexue_keras.models import check_lossless, enlarge, load

    target = folder + "-large"
    report = enlarge(folder, target, k=K, overwrite=os.path.exists(target), **how)
    found = check_lossless(folder, target)
    one_thread()
    return load(target, with_mlm="linear"), report, found


WAYS = {
    "noise": {"noise_std": 0.1},
    "none": {"noise_std": 0.0},
    "standard": {"noise_std": 0.1, "rope": "standard"},
}


def progressive(options):
    from record import record, recorded
    from small_mlm import read_stream

    from kexue_keras.backend import quiet
    from kexue_keras.models import save

    quiet()
    streams = read_stream(VOCABULARY, 4096, 2000000)
    setting = {"width": options.width, "small": options.small, "large": options.steps, "batch": options.batch}
    setting.update(rate=options.rate, k=K, benchmark="progressive", threads=1)
    for seed in map(int, options.seeds.split(",")):
        if all(
            recorded("enlargement", options.results, seed=seed, way=way, **setting)
            for way in ("scratch", "scratch slow") + tuple(WAYS)
        ):
            continue
        began = time.process_time()
        folder = os.path.join(tempfile.mkdtemp(), "small")
        step = multiplications(fresh("roformer", K * options.width, seed)) * options.batch * LENGTH * 3
        small = fresh("roformer", options.width, seed)
        cost = multiplications(small) * options.batch * LENGTH * 3
        before = train(small, streams, options, steps=options.small, seed=seed)
        save(small, folder)

        def write(way, curve, **more):
            row = dict(setting, seed=seed, way=way, curve=curve, small_curve=before, small_step=round(cost), **more)
            row["processor_seconds_so_far"] = round(time.process_time() - began)
            record("enlargement", row, options.results)
            print(seed, way, before[-1], curve[0], curve[-1], flush=True)

        for way, how in WAYS.items():
            if recorded("enlargement", options.results, seed=seed, way=way, **setting):
                continue
            large, report, found = enlarged(folder, options, **how)
            curve = train(large, streams, options, steps=options.steps, seed=seed + 100)
            errors = {"exactness": report.exactness, "logits_error": found.logits_error}
            write(way, curve, large_step=round(step), **errors)
        # As many multiplications as the small and the enlarged model together.
        steps = options.steps + int(round(options.small * cost / step))
        for way, rate in (("scratch", options.rate), ("scratch slow", 0.3 * options.rate)):
            if recorded("enlargement", options.results, seed=seed, way=way, **setting):
                continue
            larger = fresh("roformer", K * options.width, seed)
            scratch = train(larger, streams, options, steps=steps, seed=seed + 200, rate=rate)
            write(way, scratch, large_step=round(step))
        shutil.rmtree(os.path.dirname(folder))


def bundled(options):
    """me5-zh-char-mlm (12 x 384) and the same twice as wide (12 x 768), both trained on for a few steps."""
    from record import record, recorded
    from small_mlm import SOURCES, TEXT

    from kexue_keras.backend import quiet
    from kexue_keras.finetune import MaskedLanguageModel
    from kexue_keras.models import check_lossless, enlarge

    quiet()
    texts = []
    for name in SOURCES:
        for path in sorted(glob.glob(os.path.join(TEXT, name + "*.txt.gz"))):
            with gzip.open(path, "rt", encoding="utf-8") as handle:
                texts.extend(line.strip()[:62] for line in handle.readlines(200000) if len(line) > 40)
    texts = [texts[i] for i in np.random.RandomState(0).permutation(len(texts))]
    large, steps = os.path.join(options.folder, "large"), options.bundled_steps
    if not os.path.exists(large):
        os.makedirs(options.folder, exist_ok=True)
        report = enlarge("me5-zh-char-mlm", large, k=K)
        found = check_lossless("me5-zh-char-mlm", large)
        row = {"benchmark": "bundled lossless", "exactness": report.exactness, "hidden_size": report.hidden_size}
        row.update(hidden_error=found.hidden_error, logits_error=found.logits_error, lossless=found.lossless)
        print(record("enlargement", row, options.results), flush=True)
    for width, source in ((384, "me5-zh-char-mlm"), (768, large)):
        setting = {"benchmark": "bundled trained on", "width": width, "steps": steps, "batch": 8, "threads": 1}
        if recorded("enlargement", options.results, learning_rate=options.bundled_rate, **setting):
            continue
        one_thread()
        began, curve = time.process_time(), []
        mlm = MaskedLanguageModel(source, max_length=64)
        # `train` goes on from its point in the folder, so that a stop costs no more than a stretch.
        folder, every = os.path.join(options.folder, "run-%d-%g" % (width, options.bundled_rate)), steps // 4

        def say(line):
            print(line, flush=True)

        before = mlm.evaluate(texts[:64])
        curve.append((0, round(before["loss"], 4), round(before["accuracy"], 4)))
        losses = mlm.train(
            texts[64:],
            steps=steps,
            batch_size=8,
            learning_rate=options.bundled_rate,
            head_lr_multiplier=1.0,
            folder=folder,
            save_every=every,
            warmup=0.1,
            say=say,
        )
        after = mlm.evaluate(texts[:64])
        curve.append((steps, round(after["loss"], 4), round(after["accuracy"], 4)))
        row = dict(
            setting,
            learning_rate=options.bundled_rate,
            held_out=curve,
            tokens=before["tokens"],
            training=[round(float(x), 3) for x in losses],
        )
        row["processor_seconds"] = round(time.process_time() - began)
        print(record("enlargement", row, options.results), flush=True)


def plot(options):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from record import rows

    found = [r for r in rows("enlargement", options.results) if r["benchmark"] == "progressive"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6))

    def mean(curves):
        return np.mean([[loss for _, loss in curve] for curve in curves], axis=0), [step for step, _ in curves[0]]

    def drawn(way, key, axes, offset, size, **style):
        some = [r for r in found if r["way"] == way]
        curve, steps = mean([r[key] for r in some])
        places = [(offset + step * some[0][size]) / 1e12 for step in steps]
        for r in some:
            axes.plot(places, [loss for _, loss in r[key]], alpha=0.25, **style)
        axes.plot(places, curve, label=style.pop("label", None) or way, **style)

    cost = found[0]["small_step"] * found[0]["small"]
    drawn("noise", "small_curve", left, 0, "small_step", color="C0")
    drawn("noise", "curve", left, cost, "large_step", color="C1")
    drawn("scratch", "curve", left, 0, "large_step", color="C2")
    drawn("scratch slow", "curve", left, 0, "large_step", color="C3")
    names = ["small", "enlarged, noise", "large from scratch", "the same, 0.3 of the rate"]
    left.legend(left.lines[3::4], names, fontsize=8)
    left.set_xlabel("multiplications, 10^12")
    left.set_ylabel("held-out loss of hidden characters")
    left.set_title("equal compute, 3 seeds and their mean")
    for way, label in (("noise", "repeated, noise"), ("none", "repeated, no noise"), ("standard", "standard, noise")):
        some = [r for r in found if r["way"] == way]
        gaps = np.array([[loss - r["small_curve"][-1][1] for _, loss in r["curve"]] for r in some])
        right.plot([step for step, _ in some[0]["curve"]], gaps.mean(0), label=label)
    right.legend(fontsize=8)
    right.set_xlabel("steps after enlarging")
    right.set_ylabel("loss less that of the small model")
    right.set_title("RoPE's frequencies, and the noise")
    figure.tight_layout()
    os.makedirs(os.path.dirname(options.plot), exist_ok=True)
    figure.savefig(options.plot, dpi=110)


if __name__ == "__main__":
    options = arguments()
    globals()[options.what](options)
