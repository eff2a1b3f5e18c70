"""What mixed precision would turn half, what the loss scale costs, and what XLA gains and costs on this machine.

    python benchmarks/precision.py            # all stacks, one process each; appends to results/precision.jsonl
    python benchmarks/precision.py --quick    # a tiny model, nothing is written

Rows: half_nodes (nodes and matrix products that turn half in a training step, constants that half cannot hold),
loss_scale_cost (a step with LossScale round AdamW over one without), xla (a step with XLA over one without, seconds of
compilation, largest difference of the losses). Contestants take turns within a round; a ratio is the median over
rounds, with quartiles; on a busy machine trust `processor_time_ratio`. Half precision itself runs on a GPU only.
"""

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import time

from record import STACKS, stack_process

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = dict(num_hidden_layers=4, hidden_size=256, intermediate_size=1024, num_attention_heads=4, vocab_size=14001)
BASE = dict(num_hidden_layers=12, hidden_size=768, intermediate_size=3072, num_attention_heads=12, vocab_size=21128)
TINY = dict(num_hidden_layers=1, hidden_size=16, intermediate_size=32, num_attention_heads=2, vocab_size=50)


def build(config, optimizer):
    """Compiled BERT with a two-class head on [CLS]; no dropout, so that runs are comparable."""
    from bert4keras.models import build_transformer_model

    from kexue_keras.backend import keras, set_seed

    set_seed(2021)
    bert = build_transformer_model(
        config_path=None,
        model="bert",
        hidden_act="gelu",
        max_position_embeddings=128,
        type_vocab_size=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **config,
    )
    first = keras.layers.Lambda(lambda x: x[:, 0])(bert.output)
    model = keras.models.Model(bert.inputs, keras.layers.Dense(2, activation="softmax")(first))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def batch(config, size, length):
    import numpy as np

    rng = np.random.RandomState(7)
    tokens = rng.randint(1, config["vocab_size"], (size, length))
    return [tokens, np.zeros((size, length))], rng.randint(0, 2, size)


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(model, data):
    """(loss, seconds, processor seconds) of one step."""
    began, processor = time.perf_counter(), processor_seconds()
    loss = float(model.train_on_batch(*data))
    return loss, time.perf_counter() - began, processor_seconds() - processor


def ratios(rows):
    """Median and quartiles of the second over the first; rows of (first, second)."""
    import numpy as np

    low, middle, high = np.percentile([second / first for first, second in rows], [25, 50, 75])
    return [round(float(x), 3) for x in (middle, low, high)]


def measure_half(configs):
    from kexue_keras.backend import K
    from kexue_keras.optimizers import AdamW
    from kexue_keras.training.precision import LossScale, fp16_lint, precision_report

    for name, config in configs.items():
        K.clear_session()
        model = build(config, LossScale(AdamW(1e-4)))
        own, report = precision_report(model, as_built=True), precision_report(model)
        found = fp16_lint(model)
        yield {
            "figure": "half_nodes",
            "case": name,
            "nodes": report.nodes,
            "half_nodes": report.half_nodes,
            "half_nodes_of_this_build": own.half_nodes,
            "casts": report.casts,
            "half_products": report.half_products,
            "half": dict(report.half),
            "lint_findings": len(found),
            "lint_findings_that_turn_half": sum(bool(f.half) for f in found),
        }


def measure_loss_scale(config, size, length, rounds):
    from kexue_keras.backend import K
    from kexue_keras.optimizers import AdamW
    from kexue_keras.training.precision import LossScale

    K.clear_session()
    data = batch(config, size, length)
    models = [build(config, AdamW(1e-4)), build(config, LossScale(AdamW(1e-4), 1000)), None]
    models[2] = build(config, LossScale(AdamW(1e-4), "dynamic"))
    rows = []
    for i in range(rounds + 2):
        rows.append([timed(model, data) for model in models])
    for case, column in (("fixed", 1), ("dynamic", 2)):
        kept = rows[2:]
        yield {
            "figure": "loss_scale_cost",
            "case": case,
            "shape": [size, length],
            "rounds": rounds,
            "time_ratio": ratios([(row[0][1], row[column][1]) for row in kept]),
            "processor_time_ratio": ratios([(row[0][2], row[column][2]) for row in kept]),
            "largest_loss_difference": max(abs(row[0][0] - row[column][0]) for row in rows),
        }


def worker(pipe, mode, config, size, length):
    """A process that makes one step whenever it is asked to."""
    from kexue_keras.optimizers import AdamW
    from kexue_keras.training.precision import enable_xla

    if mode != "off":
        enable_xla(mode)
    model, data = build(config, AdamW(1e-4)), batch(config, size, length)
    while pipe.recv():
        pipe.send(timed(model, data))


def measure_xla(config, size, length, rounds):
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for mode in ("off", "auto"):
        here, there = context.Pipe()
        processes.append(context.Process(target=worker, args=(there, mode, config, size, length)))
        processes[-1].start()
        pipes.append(here)

    def step(pipe):
        pipe.send(True)
        return pipe.recv()

    warm = [[step(pipe) for _ in range(3)] for pipe in pipes]
    rows = [[step(pipe) for pipe in pipes] for _ in range(rounds)]
    for pipe, process in zip(pipes, processes):
        pipe.send(False)
        process.join()
    losses = [[loss for loss, _, _ in first] + [row[i][0] for row in rows] for i, first in enumerate(warm)]
    yield {
        "figure": "xla",
        "case": "auto",
        "shape": [size, length],
        "layers": config["num_hidden_layers"],
        "rounds": rounds,
        "ms_off": round(1000 * sorted(row[0][1] for row in rows)[rounds // 2], 2),
        "ms_xla": round(1000 * sorted(row[1][1] for row in rows)[rounds // 2], 2),
        "time_ratio": ratios([(row[0][1], row[1][1]) for row in rows]),
        "processor_time_ratio": ratios([(row[0][2], row[1][2]) for row in rows]),
        "first_steps_off": round(sum(seconds for _, seconds, _ in warm[0]), 2),
        "first_steps_xla": round(sum(seconds for _, seconds, _ in warm[1]), 2),
        "largest_loss_difference": max(abs(a - b) for a, b in zip(*losses)),
    }


def run(quick, only=None):
    """All figures on this process' stack."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from record import record

    config, size, length, rounds = (TINY, 4, 8, 3) if quick else (SMALL, 16, 64, 15)
    figures = {
        "half": lambda: measure_half({"tiny": TINY} if quick else {"BERT 4 x 256": SMALL, "BERT base": BASE}),
        "loss_scale": lambda: measure_loss_scale(config, size, length, rounds),
        "xla": lambda: measure_xla(config, size, length, rounds),
    }
    for name in [only] if only else figures:
        for row in figures[name]():
            print(row, flush=True)
            if not quick:
                record("precision", dict(row, seed=2021))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny model, few rounds, nothing written")
    parser.add_argument("--stack", choices=list(STACKS), help="only this stack")
    parser.add_argument("--only", choices=["half", "loss_scale", "xla"], help="only these figures")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run(arguments.quick, arguments.only)
        return
    for stack in [arguments.stack] if arguments.stack else list(STACKS):
        print("== %s" % stack, flush=True)
        python, environment = stack_process(stack)
        command = [python, os.path.abspath(__file__), "--child"] + ["--quick"] * arguments.quick
        command += ["--only", arguments.only] if arguments.only else []
        subprocess.check_call(command, env=environment)


if __name__ == "__main__":
    main()
