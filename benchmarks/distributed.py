"""Several processes with Horovod: scaling on this machine, bytes a step, and what 8 to 64 cards would make of it.

    python benchmarks/distributed.py scaling|bytes|plan [--stack NAME] [options]  # appends to results/distributed.jsonl

scaling  the bundled encoder, 16 x 64 tokens a process: one process with one thread, two that know nothing of each other
         (what the machine allows), and two with Horovod, in turn; medians of the time of a step.
         Efficiency is the time of one over the time of two. Also with --accumulate 4.
bytes    what goes over the loopback device in a step, with rows or matrices for embeddings, with accumulation or not
plan     the cost model: checked against NVIDIA's table, then sentences a second on 8 to 64 cards

On a machine with other load trust the processor time: with a core for each process it is what a step takes.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np
from record import ROOT, add_stack_option, enter_stack, record, rows

# NVIDIA, DeepLearningExamples, TensorFlow 1 BERT, fine-tuning BERT-large on SQuAD on a DGX A100: sentences a second.
PUBLISHED = {1: 102.0, 8: 767.0}
LARGE = dict(parameters=335e6, batch=32)


def build(args):
    """The bundled encoder with a head, compiled; one thread."""
    from kexue_keras import distributed, models
    from kexue_keras.backend import K, is_tf_keras, keras, set_seed, tf1
    from kexue_keras.optimizers import AdamW, Distributed, GradientAccumulation

    config = tf1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    (tf1.keras.backend if is_tf_keras else K).set_session(tf1.Session(config=config))
    set_seed(args.seed)
    size = {} if args.layers is None else {"num_hidden_layers": args.layers}
    encoder = models.load("me5-zh-sp", dropout_rate=0.1, **size).model
    pooled = keras.layers.GlobalAveragePooling1D()(encoder.output)
    model = keras.models.Model(encoder.inputs, keras.layers.Dense(2, activation="softmax")(pooled))
    optimizer = AdamW(1e-5)
    if distributed.size() > 1:
        optimizer = Distributed(optimizer, sparse_as_dense=args.dense)
    if args.accumulate > 1:
        optimizer = GradientAccumulation(optimizer, args.accumulate)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def work(args):
    """One process: prints a row of figures."""
    from kexue_keras import distributed

    distributed.init()
    model = build(args)
    random = np.random.RandomState(args.seed + distributed.rank())
    tokens = random.randint(5, 20000, (args.rows, args.length))
    batch, labels = [tokens, 0 * tokens], random.randint(0, 2, (args.rows, 1))
    for _ in range(max(2, args.accumulate)):
        model.train_on_batch(batch, labels)
    distributed.average({"ready": 1.0})
    before, wall, processor = sent(), [], []
    for _ in range(args.steps):
        began = time.time(), time.process_time()
        model.train_on_batch(batch, labels)
        wall.append(time.time() - began[0])
        processor.append(time.process_time() - began[1])
    distributed.average({"ready": 1.0})
    # Of several batches an update only the last one talks: the mean counts it for what it is.
    middle = np.median if args.accumulate == 1 else np.mean
    row = {"wall": float(middle(wall)), "processor": float(middle(processor))}
    row["bytes"] = (sent() - before) / args.steps / distributed.size()
    row["parameters"] = int(sum(np.prod(w.shape) for w in model.get_weights()))
    if distributed.is_first():
        with open(args.result, "w") as handle:
            json.dump(row, handle)


def sent():
    """Bytes that have gone over the loopback device so far."""
    with open("/proc/net/dev") as handle:
        line = next(line for line in handle if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[8])


def run(args, processes, apart=1, **changed):
    """The row of rank 0 of so many processes with Horovod, or the slower one's of some that do not talk."""
    results = [os.path.join(ROOT, ".cache", "distributed-%d-%d.json" % (os.getpid(), i)) for i in range(apart)]
    os.makedirs(os.path.dirname(results[0]), exist_ok=True)
    given = dict(rows=args.rows, length=args.length, steps=args.steps, seed=args.seed, layers=args.layers)
    given.update(dict(accumulate=args.accumulate, dense=args.dense), **changed)
    command = [sys.executable, os.path.abspath(__file__), "worker", "--inside", "--stack", args.stack]
    for name, value in given.items():
        if value is True:
            command.append("--" + name)
        elif value not in (None, False):
            command += ["--" + name, str(value)]
    start = [os.path.join(os.path.dirname(sys.executable), "horovodrun"), "-np", str(processes)]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    begun = [
        subprocess.Popen(start + command + ["--result", result], env=environment, stdout=subprocess.DEVNULL)
        for result in results
    ]
    found = []
    for process, result in zip(begun, results):
        if process.wait():
            raise SystemExit("a process ended with %d; its messages stand above" % process.returncode)
        with open(result) as handle:
            found.append(json.load(handle))
        os.remove(result)
    return max(found, key=lambda row: row["wall"])


SIDES = {"one": dict(processes=1), "apart": dict(processes=1, apart=2), "two": dict(processes=2)}


def scaling(args):
    """One process, two that do not talk, and two that do, in turn."""
    found = {name: [] for name in SIDES}
    for number in range(args.rounds):
        for name, side in SIDES.items():
            row = run(args, **side)
            found[name].append(row)
            print(number, name, {k: round(v, 4) for k, v in row.items()}, flush=True)
    row = {"measured": "scaling", "rows": args.rows, "length": args.length, "steps": args.steps, "rounds": args.rounds}
    row.update(load=os.getloadavg()[0], layers=args.layers, seed=args.seed, accumulate=args.accumulate)
    for what in ("wall", "processor"):
        times = {name: np.array([r[what] for r in found[name]]) for name in SIDES}
        row[what] = {name: round(float(np.median(t)), 4) for name, t in times.items()}
        row[what]["efficiency"] = round(float(np.median(times["one"] / times["two"])), 4)
        row[what]["rounds"] = [round(float(x), 4) for x in times["one"] / times["two"]]
        row[what]["apart_efficiency"] = round(float(np.median(times["one"] / times["apart"])), 4)
    row["parameters"] = found["two"][-1]["parameters"]
    print(json.dumps(record("distributed", row), indent=1))


def measure_bytes(args):
    """Bytes that a rank sends in a step."""
    for accumulate, dense in ((1, False), (1, True), (4, False)):
        found = run(args, 2, accumulate=accumulate, dense=dense)
        row = {"measured": "bytes", "accumulate": accumulate, "sparse_as_dense": dense, "rows": args.rows}
        row.update(length=args.length, bytes_a_step=int(found["bytes"]), parameters=found["parameters"])
        row.update(layers=args.layers, steps=args.steps)
        print(record("distributed", row))


def step_seconds(seconds, size, *, ranks, bandwidth, accumulate=1, latency=2e-4):
    """Seconds a batch on several ranks: what one takes, and a ring of all-reduce that nothing hides.

    Args:
        seconds: of a batch on one rank.
        size: bytes of the gradients.
        ranks: how many.
        bandwidth: bytes a second that a rank sends, at the narrowest place of the ring.
        accumulate: batches an update.
        latency: seconds for a rank's turn.

    Returns:
        float.
    """
    ring = 2.0 * (ranks - 1) / ranks * size / bandwidth + 2.0 * (ranks - 1) * latency
    return seconds + (ring if ranks > 1 else 0.0) / accumulate


def plan(args):
    """The model against what is known, then what it says."""
    second = LARGE["batch"] / PUBLISHED[1]
    size = 4.0 * LARGE["parameters"]
    # The one number that is fitted: what a DGX A100's NVLink carries in a ring, by NVIDIA's nccl-tests.
    nvlink = 2.3e11
    predicted = 8 * LARGE["batch"] / step_seconds(second, size, ranks=8, bandwidth=nvlink, latency=2e-5)
    checked = {
        "published": PUBLISHED[8],
        "predicted": round(predicted, 1),
        "error": round(predicted / PUBLISHED[8] - 1, 4),
    }
    print("BERT-large, 8 A100:", checked)
    mine = [r for r in rows("distributed") if r.get("measured") == "scaling" and r["accumulate"] == 1]
    if mine:
        last = mine[-1]
        said = step_seconds(last["processor"]["one"], 4.0 * last["parameters"], ranks=2, bandwidth=args.loopback)
        checked["here"] = {
            "predicted": round(last["processor"]["one"] / said, 4),
            "measured": last["processor"]["efficiency"],
        }
        print("here, 2 processes:", checked["here"])
    table = []
    for name, network in (("NVLink within 8, InfiniBand 200 Gb/s x 8 between", 1.9e11), ("Ethernet 25 Gb/s", 3.0e9)):
        for accumulate in (1, 4):
            for ranks in (8, 16, 32, 64):
                bandwidth = nvlink if ranks <= 8 else network
                taken = step_seconds(
                    second, size, ranks=ranks, bandwidth=bandwidth, accumulate=accumulate, latency=3e-5
                )
                row = {"network": name, "ranks": ranks, "accumulate": accumulate}
                row.update(sentences=round(ranks * LARGE["batch"] / taken), efficiency=round(second / taken, 3))
                table.append(row)
                print(row)
    record("distributed", {"measured": "plan", "checked": checked, "table": table})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("scaling", "bytes", "plan", "worker"))
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--loopback", type=float, default=1e9, help="bytes a second between processes here")
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--result")
    add_stack_option(parser)
    arguments = parser.parse_args()
    enter_stack(arguments)
    {"scaling": scaling, "bytes": measure_bytes, "plan": plan, "worker": work}[arguments.what](arguments)
