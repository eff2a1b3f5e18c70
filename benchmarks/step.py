"""One training step: plain bert4keras, the fused model, PyTorch; 12 x 384, 16 x 64 tokens, dropout 0.1, AdamW.

    python benchmarks/step.py [--stack NAME] [--threads 1]        # appends to results/step.jsonl
    python benchmarks/step.py --base                              # ops and memory of BERT-base at 64 x 128, no times
    python benchmarks/step.py --quick                             # a tiny model, nothing is written
    KEXUE_TORCH=/path/of/python python benchmarks/step.py         # PyTorch's step in turn with ours

Counted and measured for plain and fused: ops of the training step, seconds from building to the end of the first step,
processor and wall time of a step, bytes that one step allocates (what is written in place is not counted) and its peak,
both from a trace. The sides take turns step by step; a ratio is the median over rounds of that within a round. On a
machine with other load trust the processor time.
"""

import argparse
import json
import os
import subprocess
import time

import numpy as np
from record import add_stack_option, enter_stack, ratio, record
from side import Side

TORCH = """
import json, sys, time, torch
from transformers import BertConfig, BertForSequenceClassification
given = json.loads(sys.stdin.readline())
torch.set_num_threads(given["threads"])
torch.manual_seed(0)
sizes = {k: given[k] for k in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                               "intermediate_size")}
model = BertForSequenceClassification(BertConfig(num_labels=2, **sizes)).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
tokens, labels = torch.tensor(given["tokens"]), torch.tensor(given["labels"])
mask = (tokens != 0).long()
print(json.dumps({"torch": torch.__version__}), flush=True)
for line in sys.stdin:
    began = time.perf_counter(), time.process_time()
    loss = model(input_ids=tokens, attention_mask=mask, labels=labels).loss
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    print(json.dumps([time.perf_counter() - began[0], time.process_time() - began[1]]), flush=True)
"""

SMALL = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, vocab_size=2000)
BASE = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, vocab_size=21128)
QUICK = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96, vocab_size=50)


def batch(args):
    """Token ids with padding and labels."""
    random = np.random.RandomState(args.seed)
    tokens = random.randint(5, args.sizes["vocab_size"], (args.rows, args.length))
    for row, length in zip(tokens, random.randint(args.length // 2, args.length + 1, args.rows)):
        row[length:] = 0
    return tokens, random.randint(0, 2, args.rows)


class Ours(Side):
    """Plain bert4keras, or the fused model, with two classes on [CLS]."""

    def __init__(self, args, fused):
        from bert4keras.models import BERT, build_transformer_model

        from kexue_keras import optimizers
        from kexue_keras.backend import K, keras
        from kexue_keras.models import extend_with_fused

        self.inputs, self.targets = [batch(args)[0], 0 * batch(args)[0]], batch(args)[1]
        super().__init__(threads=args.threads)
        with self:
            began = time.perf_counter(), time.process_time()
            encoder = build_transformer_model(
                model=extend_with_fused(BERT) if fused else BERT,
                dropout_rate=0.1,
                attention_dropout_rate=0.1,
                hidden_act="gelu",
                max_position=args.length,
                **args.sizes,
            )
            first = keras.layers.Lambda(lambda x: x[:, 0])(encoder.output)
            self.model = keras.models.Model(encoder.inputs, keras.layers.Dense(2)(first))
            self.model.compile(optimizers.AdamW(1e-5), lambda t, p: K.sparse_categorical_crossentropy(t, p, True))
            self.model.train_on_batch(self.inputs, self.targets)
            self.first = time.perf_counter() - began[0], time.process_time() - began[1]

    def step(self):
        """Seconds, wall and processor."""
        with self:
            began = time.perf_counter(), time.process_time()
            self.model.train_on_batch(self.inputs, self.targets)
            return time.perf_counter() - began[0], time.process_time() - began[1]

    def needed(self):
        """The ops of one training step."""
        from kexue_keras.backend.graph import depth_first
        from kexue_keras.backend.training_step import train_step_nodes

        with self:
            ops = [self.graph.get_operation_by_name(name) for name in train_step_nodes(self.model)]
            return depth_first(ops, lambda op: [t.op for t in op.inputs] + list(op.control_inputs))

    def counts(self):
        """Ops in the graph, those that a step runs, and what a traced step allocates."""
        from kexue_keras.training.recompute import training_memory

        found = {"step_ops": len(self.needed()), "graph_ops": len(self.graph.get_operations())}
        with self:
            _, trace = training_memory(self.model, self.inputs, self.targets)
        return dict(found, allocated_bytes=trace.total, peak_bytes=trace.peak)


class Torch(object):
    """PyTorch in a process of its own, which makes one step for each line that it is sent."""

    def __init__(self, python, args):
        tokens, labels = batch(args)
        environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads), HF_HUB_OFFLINE="1")
        environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [python, "-c", TORCH],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
            env=environment,
        )
        given = dict(args.sizes, threads=args.threads, tokens=tokens.tolist(), labels=labels.tolist())
        self.versions = self.ask(json.dumps(given))

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("PyTorch's process ended; run its source (TORCH in this file) by hand to see why")
        return json.loads(answer)

    def step(self):
        return tuple(self.ask("step"))


def measure(args):
    """One row: all sides in turn."""
    # TensorFlow's and Keras' own first times are nobody's.
    Ours(argparse.Namespace(**dict(vars(args), sizes=QUICK)), False)
    sides = {name: Ours(args, fused) for name, fused in (("plain", False), ("fused", True))}
    row = {"what": "step", "sizes": args.sizes, "rows": args.rows, "length": args.length, "threads": args.threads}
    for name, side in sides.items():
        row[name] = dict(side.counts(), first_step_seconds=[round(s, 2) for s in side.first])
    python = os.environ.get("KEXUE_TORCH")
    if python:
        sides["torch"] = Torch(python, args)
        row["torch"] = dict(sides["torch"].versions)
    times = {name: [] for name in sides}
    random = np.random.RandomState(args.seed)
    for i in range(args.rounds + 2):
        for name in random.permutation(sorted(sides)):
            seconds = sides[name].step()
            if i >= 2:
                times[name].append(seconds)
    for name in sides:
        wall, processor = np.median(times[name], axis=0)
        row[name].update(step_seconds=round(float(wall), 4), step_processor_seconds=round(float(processor), 4))
    row["fused / plain"] = ratio(times, "fused", "plain")
    for name in ("plain", "fused") if python else ():
        row["%s / torch" % name] = ratio(times, name, "torch")
    for what in ("step_ops", "graph_ops", "allocated_bytes", "peak_bytes"):
        row["fused / plain"][what] = round(row["fused"][what] / row["plain"][what], 3)
    seconds = [row[name]["first_step_seconds"] for name in ("fused", "plain")]
    row["fused / plain"]["first_step_seconds"] = [round(a / b, 3) for a, b in zip(*seconds)]
    return row


def measure_memory(args):
    """One row without times: ops of a step, bytes that it allocates, its peak; one side after the other."""
    Ours(argparse.Namespace(**dict(vars(args), sizes=QUICK)), False)
    row = {"what": "memory", "sizes": args.sizes, "rows": args.rows, "length": args.length}
    for name, fused in (("plain", False), ("fused", True)):
        row[name] = Ours(args, fused).counts()
    row["fused / plain"] = {what: round(row["fused"][what] / row["plain"][what], 3) for what in row["plain"]}
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--base", action="store_true")
    parser.add_argument("--quick", action="store_true")
    add_stack_option(parser)
    args = parser.parse_args()
    enter_stack(args)
    args.sizes = QUICK if args.quick else SMALL
    if args.quick:
        args.rounds, args.rows, args.length = 3, 2, 8
    if args.base:
        args.sizes, args.rows, args.length = BASE, 64, 128
    row = measure_memory(args) if args.base else measure(args)
    print(json.dumps(row, indent=1, sort_keys=True))
    if not args.quick:
        record("step", row)


if __name__ == "__main__":
    main()
