"""What recompute saves and costs: 12 layers x 384, batch 16 x 128 with padding, dropout 0.1, tied MLM head, AdamW.

    python benchmarks/recompute.py step|largest|budget [--stack NAME] [options]     # appends to results/recompute.jsonl
    python benchmarks/recompute.py step --quick                                     # a tiny model, nothing is written

step     gradients against no recompute (same masks), traced peak, time of training steps of each policy, in turn
largest  the largest batch whose traced peak stays within --budget bytes, with and without
budget   recompute_for_budget: predicted and measured peak for several budgets

The peak is that of the tensors that a step allocates (`training.recompute.trace_memory`); weights and Adam's state come
on top and are the same for all. The vocabulary is small (2000), so that the head does not hide what happens in the
blocks.
On a machine with other load trust `processor_ratio`. Each part runs in a process of its own.
"""

import argparse
import time

from record import add_stack_option, enter_stack
from side import Side

POLICIES = {
    "none": None,
    "selective": {"policy": "selective"},
    "selective 8": {"policy": "selective", "keep_cost": 8.0},
    "sums": {"policy": "selective", "keep_cost": 1e9},
    "blocks": {"policy": "blocks"},
    "blocks of 3": {"policy": "blocks", "segment": 3},
    "layers": {"policy": "layers"},
    "attention": {"policy": "attention"},
    "ffn": {"policy": "ffn"},
}


def config(args):
    """Arguments of `build_transformer_model`."""
    from kexue_keras.checkpoints._bundled import CONFIG

    settings = dict(CONFIG, num_hidden_layers=args.layers, vocab_size=args.vocabulary, with_mlm="linear")
    if args.quick:
        settings.update(hidden_size=24, intermediate_size=96, num_hidden_layers=3, vocab_size=50)
    return settings


def batch(args, rows):
    """Token ids with padding, and segment ids."""
    import numpy as np

    random = np.random.RandomState(args.seed)
    tokens = random.randint(5, config(args)["vocab_size"], (rows, args.length))
    for row, length in zip(tokens, random.randint(args.length // 2, args.length + 1, rows)):
        row[length:] = 0
    return [tokens, 0 * tokens]


class Policy(Side):
    """A model with a policy of recompute."""

    def __init__(self, args, policy, extend=None):
        from bert4keras.models import BERT, build_transformer_model

        from kexue_keras import losses, optimizers
        from kexue_keras.models import extend_with_recompute
        from kexue_keras.training._randomness import repeatable_dropout

        self.args = args
        super().__init__()
        with self.graph.as_default(), self.session.as_default():
            settings = POLICIES[policy] if extend is None else {"policy": extend}
            kind = BERT if settings is None else extend_with_recompute(BERT, **settings)
            with repeatable_dropout(args.seed) as self.step:
                self.model = build_transformer_model(model=kind, **config(args))
            self.model.compile(optimizers.AdamW(1e-5), losses.MaskedCrossentropy(from_logits=True))
            self.step.set(1)

    def gradients(self):
        """Loss and gradients on the batch, in float32."""
        import tensorflow as tf

        from kexue_keras.backend import K

        inputs = batch(self.args, self.args.rows)
        logits = self.model.output
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=inputs[0].astype("int32"), logits=logits)
        )
        wanted = [tf.convert_to_tensor(g) for g in tf.gradients(loss, self.model.trainable_weights) if g is not None]
        feed = dict(zip(self.model.inputs, inputs))
        flag = K.learning_phase()
        if not isinstance(flag, int):
            feed[flag] = 1
        return self.session.run([loss] + wanted, feed)

    def train(self, rows):
        """One training step."""
        inputs = batch(self.args, rows)
        return self.model.train_on_batch(inputs, inputs[0][..., None])

    def peak(self, rows, tries=2):
        """Traced peak of a training step, bytes: the larger of a few, since two workers are not in step."""
        from kexue_keras.training.recompute import training_memory

        inputs = batch(self.args, rows)
        self.train(rows)
        return max(training_memory(self.model, inputs, inputs[0][..., None])[1].peak for _ in range(tries))


def step(args):
    """Gradients, peak and time of the policies."""
    import numpy as np

    rows, sides, values, wanted = [], {}, None, None
    for name in args.policies:
        with Policy(args, name) as side:
            sides[name] = side
            if values is None:
                values = side.model.get_weights()
            side.model.set_weights(values)
            found = side.gradients()
            wanted = wanted or found
            floor = 1e-2 * np.median([np.linalg.norm(g) for g in wanted[1:]])
            error = max(np.linalg.norm(a - b) / max(np.linalg.norm(b), floor) for a, b in zip(found[1:], wanted[1:]))
            rows.append({"policy": name, "gradient_error": float(error), "peak_mb": side.peak(args.rows) / 1e6})
        print(rows[-1], flush=True)
    clock = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, side in sides.items():
            with side:
                wall, processor = time.time(), time.process_time()
                side.train(args.rows)
                clock[name].append((time.time() - wall, time.process_time() - processor))
        print(".", end="", flush=True)
    base = np.array(clock[args.policies[0]])
    for row in rows:
        taken = np.array(clock[row["policy"]])
        row.update(zip(("seconds", "processor_seconds"), np.median(taken, 0).round(3).tolist()))
        row.update(zip(("time_ratio", "processor_ratio"), np.median(taken / base, 0).round(3).tolist()))
        row["memory_ratio"] = round(rows[0]["peak_mb"] / row["peak_mb"], 2)
        yield row


def largest(args):
    """The largest batch within the budget."""
    for name in args.policies:
        with Policy(args, name) as side:
            few, more = args.rows // 2, args.rows
            low, high = side.peak(few), side.peak(more)
            rows = int(more + (args.budget - high) * (more - few) / (high - low))
            measured = side.peak(rows, 1)
            while measured > args.budget:
                rows = int(rows * min(0.98, args.budget / measured))
                measured = side.peak(rows, 1)
            yield {"policy": name, "budget_mb": args.budget / 1e6, "largest_batch": rows, "peak_mb": measured / 1e6}


def budget(args):
    """Predicted against measured peak."""
    from kexue_keras.training.recompute import recompute_for_budget

    for memory in args.budgets:
        chosen = recompute_for_budget(memory, batch_size=args.rows, max_length=args.length)
        with Policy(args, None, chosen) as side:
            measured = max(side.peak(args.rows), 1)
        yield {
            "policy": str(chosen.plan),
            "budget_mb": memory / 1e6,
            "predicted_mb": chosen.predicted / 1e6,
            "peak_mb": measured / 1e6,
            "predicted_to_measured": round(chosen.predicted / measured, 3),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["step", "largest", "budget"])
    add_stack_option(parser)
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=["none", "selective", "blocks"])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--budget", type=float, default=2e9, help="bytes (largest)")
    parser.add_argument("--budgets", type=float, nargs="+", default=[1e9, 5e8, 3e8], help="bytes (budget)")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    enter_stack(args)
    if args.quick:
        args.rows, args.length, args.rounds = 4, 12, 2
        args.budget, args.budgets = 2e6, [1e6]
    from record import record

    from kexue_keras.backend import quiet

    quiet()
    shape = {"layers": args.layers, "rows": args.rows, "length": args.length, "vocabulary": args.vocabulary}
    for row in {"step": step, "largest": largest, "budget": budget}[args.part](args):
        print(row, flush=True)
        if not args.quick:
            record("recompute", dict(row, part=args.part, seed=args.seed, **shape))


if __name__ == "__main__":
    main()
