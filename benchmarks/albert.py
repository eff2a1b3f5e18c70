"""ALBERT beside BERT of the same size: parameters, FLOPs, prediction, training step, memory (kexue.fm/archives/7846).

    python benchmarks/albert.py [--stack NAME] [--sizes base tiny]     # appends to results/albert.jsonl
    python benchmarks/albert.py --quick                                # a very small size, nothing is written

base: 12 layers x 768, 4 rows of 128; tiny: 4 layers x 312, 16 rows of 128. ALBERT's embeddings have 128 numbers, the
vocabulary 21,128. A classifier of two classes over [CLS] is trained, with AdamW and dropout. (With an MLM head ALBERT
would also save in the output matrix, which is that of its small embeddings.) Both sides take turns in one process;
ratios are medians over rounds. Memory of a step: the traced peak of what it allocates; kept: weights and the two
moments of AdamW.
"""

import argparse
import time

import numpy as np
from record import add_stack_option, enter_stack, ratio, record
from side import Side

SIZES = {
    "base": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, rows=4),
    "tiny": dict(hidden_size=312, num_hidden_layers=4, num_attention_heads=12, intermediate_size=1248, rows=16),
    "quick": dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, rows=2),
}
LENGTH, VOCABULARY = 128, 21128


class Classifier(Side):
    """A BERT or an ALBERT with a classifier."""

    def __init__(self, kind, size):
        from bert4keras.models import build_transformer_model

        from kexue_keras.analysis.costs import model_report
        from kexue_keras.backend import keras
        from kexue_keras.optimizers import AdamW

        super().__init__()
        sizes = {name: number for name, number in SIZES[size].items() if name != "rows"}
        with self:
            encoder = build_transformer_model(
                model=kind,
                vocab_size=VOCABULARY if size != "quick" else 50,
                embedding_size=None if kind == "bert" else min(128, sizes["hidden_size"] // 2),
                hidden_act="gelu",
                max_position=512,
                dropout_rate=0.1,
                attention_dropout_rate=0.1,
                **sizes,
            )
            first = keras.layers.Lambda(lambda x: x[:, 0], mask=lambda *_: None)(encoder.output)
            answer = keras.layers.Dense(2, activation="softmax")(first)
            self.model = keras.models.Model(encoder.inputs, answer)
            self.model.compile(AdamW(1e-5), "sparse_categorical_crossentropy")
            report = model_report(self.model, LENGTH, batch_size=SIZES[size]["rows"])
            self.parameters, self.gflops = report.parameters, report.flops / 1e9
        tokens = np.random.RandomState(1).randint(5, 50, [SIZES[size]["rows"], LENGTH])
        self.inputs, self.labels = [tokens, 0 * tokens], tokens[:, 0] % 2

    def predict(self):
        with self:
            self.model.predict_on_batch(self.inputs)

    def train(self):
        with self:
            self.model.train_on_batch(self.inputs, self.labels)

    def peak(self):
        """Traced peak of a training step, bytes."""
        from kexue_keras.training.recompute import training_memory

        with self:
            return max(training_memory(self.model, self.inputs, self.labels)[1].peak for _ in range(2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_option(parser, "tf.keras")
    parser.add_argument("--sizes", nargs="+", choices=["base", "tiny"], default=["base", "tiny"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    enter_stack(options)
    for size in ["quick"] if options.quick else options.sizes:
        sides = {kind: Classifier(kind, size) for kind in ("bert", "albert")}
        times = {work: {kind: [] for kind in sides} for work in ("predict", "train")}
        for round_ in range(2 if options.quick else options.rounds + 1):
            for work in times:
                for kind, side in sides.items():
                    begin, processor = time.perf_counter(), time.process_time()
                    getattr(side, work)()
                    if round_:  # the first one builds
                        taken = time.perf_counter() - begin, time.process_time() - processor
                        times[work][kind].append(taken)
        row = {"size": size, "rows": SIZES[size]["rows"], "length": LENGTH, "rounds": options.rounds}
        for kind, side in sides.items():
            row[kind] = {
                "parameters": side.parameters,
                "gflops": round(side.gflops, 2),
                "predict_ms": round(1000 * float(np.median([wall for wall, _ in times["predict"][kind]])), 1),
                "train_ms": round(1000 * float(np.median([wall for wall, _ in times["train"][kind]])), 1),
                "peak_mb": round(side.peak() / 1e6, 1),
                "kept_mb": round(3 * 4 * side.parameters / 1e6, 1),
            }
        row.update(("%s_ratio" % work, ratio(times[work], "albert", "bert")) for work in times)
        print(row if options.quick else record("albert", row), flush=True)


if __name__ == "__main__":
    main()
