"""A training step of a UniLM, with its head over source and target, and over the target tokens alone.

    python benchmarks/seq2seq_step.py [--stack NAME] [--threads 1]      # appends to results/seq2seq_step.jsonl
    python benchmarks/seq2seq_step.py --quick                           # one layer and few tokens, nothing is written

`me5-zh-char-mlm` (12 layers x 384, 14,001 words), 8 rows, targets of 24 tokens, AdamW. The sides take turns step by
step; a ratio is the median over rounds of that within a round. The peak is that of the tensors of one step, from a
trace.
"""

import argparse
import time

import numpy as np
from record import add_stack_option, enter_stack, ratio, record
from side import Side

SIDES = ("target", "everywhere")


class Trained(Side):
    """The model with its head at all tokens, or at those that are to be predicted."""

    def __init__(self, args, side, source):
        from kexue_keras.finetune import load_seq2seq
        from kexue_keras.losses import MaskedCrossentropy
        from kexue_keras.optimizers import AdamW

        super().__init__(threads=args.threads)
        with self:
            build = {"num_hidden_layers": 1} if args.quick else {}
            seq2seq = load_seq2seq(
                "me5-zh-char-mlm", max_source_length=source, max_target_length=args.target, dropout_rate=0.1, **build
            )
            random = np.random.RandomState(args.seed)
            rows = [[list(random.randint(200, 9000, n)) for n in (source, args.target)] for _ in range(args.rows)]
            if side == "target":
                self.model, self.batch = seq2seq.training_model, seq2seq.training_batch(rows)
            else:
                inputs, targets = seq2seq.batch(rows)
                self.model, self.batch = seq2seq.model, (inputs, targets[..., None])
            self.model.compile(AdamW(1e-5), MaskedCrossentropy())
            self.model.train_on_batch(*self.batch)

    def step(self):
        """Seconds, wall and processor."""
        with self:
            began = time.perf_counter(), time.process_time()
            self.model.train_on_batch(*self.batch)
            return time.perf_counter() - began[0], time.process_time() - began[1]

    def peak(self):
        """Bytes."""
        from kexue_keras.training.recompute import training_memory

        with self:
            return training_memory(self.model, *self.batch)[1].peak


def measured(args, source):
    """A row: the target tokens alone over everywhere, in time and in peak memory."""
    sides = {name: Trained(args, name, source) for name in SIDES}
    times = {name: [] for name in SIDES}
    for _ in range(args.rounds):
        for name, side in sides.items():
            times[name].append(side.step())
    row = {"source": source, "target": args.target, "rows": args.rows, "threads": args.threads, "seed": args.seed}
    row.update(
        ratio(times, *SIDES), seconds={name: round(float(np.median(t, axis=0)[0]), 3) for name, t in times.items()}
    )
    peaks = {name: side.peak() for name, side in sides.items()}
    return dict(
        row,
        peak_mb={name: round(p / 1e6, 1) for name, p in peaks.items()},
        peak_ratio=round(peaks[SIDES[0]] / peaks[SIDES[1]], 4),
    )


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_option(parser)
    parser.add_argument("--sources", type=int, nargs="+", default=[48, 96, 256], help="tokens of a source")
    parser.add_argument("--target", type=int, default=24, help="tokens of a target (%(default)s)")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    enter_stack(args)
    if args.quick:
        args.sources, args.target, args.rows, args.rounds = [8], 4, 2, 2
    from kexue_keras.backend import quiet

    quiet()
    for source in args.sources:
        row = measured(args, source)
        print(row, flush=True)
        if not args.quick:
            record("seq2seq_step", row)


if __name__ == "__main__":
    main()
