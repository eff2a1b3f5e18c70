"""TeaForN (kexue.fm/archives/7818) on the equations of Ape210K: N = 1, 2, 3, beams 1 to 8, three seeds.

    python benchmarks/teaforn.py train [--seeds 0,1,2]     nine trainings of a small T5 from nothing
    python benchmarks/teaforn.py table
    python benchmarks/teaforn.py plot                      docs/models/teaforn.png

Trained on the validation part (the training part is not used), tested on problems of the test part, all with short
questions. The encoder of a T5 reads a question once, whatever N is; only its small decoder runs N times. A training
that was stopped goes on; rows that are in benchmarks/results/teaforn.jsonl are not computed again.
"""

import argparse
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
DATA = os.path.join(HERE, "..", "..", "shared", "data", "ape210k")
PLOT = os.path.join(HERE, "..", "docs", "models", "teaforn.png")
NAME = "teaforn"
BEAMS = (1, 2, 3, 4, 5, 6, 7, 8)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("train", "table", "plot"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--orders", default="1,2,3")
    parser.add_argument("--gamma", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--longest", type=int, default=80, help="tokens of a question (%(default)s)")
    parser.add_argument("--tested", type=int, default=1000, help="problems (%(default)s)")
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--runs", default=os.path.join("runs", "teaforn"))
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    parser.add_argument("--plot", default=PLOT)
    return parser.parse_args()


def problems_of(options, part, writing):
    """Problems with short questions."""
    from kexue_keras.finetune.math_word_problems import Ape210kReader

    reader = Ape210kReader(os.path.join(options.data, part + ".ape.json.gz"))
    return [p for p in reader if len(writing.source(p.question).replace(" ", "")) <= options.longest]


def write_vocabulary(path, pairs):
    """vocab.txt with the characters of the training texts that occur twice."""
    import collections

    counts = collections.Counter(c for pair in pairs for text in pair for c in text.lower() if not c.isspace())
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        handle.write(
            "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(c for c in counts if counts[c] > 1))
        )
    return path


def train(options):
    """All trainings; the seeds in the outer loop, so that what is there at any time can be compared."""
    for seed in options.seeds.split(","):
        for order in options.orders.split(","):
            train_one(options, int(order), int(seed))


def train_one(options, order, seed):
    """One training, and a row with the accuracies of all beams."""
    import numpy as np
    import record

    from kexue_keras.backend import K, set_seed
    from kexue_keras.finetune import load_seq2seq
    from kexue_keras.finetune.math_word_problems import MathSolver, ProblemWriting, answer_accuracy
    from kexue_keras.losses import TeaForN
    from kexue_keras.models import build_teaforn_model
    from kexue_keras.optimizers import AdamW, WarmupCosine
    from kexue_keras.trainer import train_model

    names = ("gamma", "steps", "batch", "rate", "hidden_size", "layers", "longest", "tested")
    key = dict({name: getattr(options, name) for name in names}, order=order, seed=seed)
    if record.recorded(NAME, options.results, **key):
        return
    writing = ProblemWriting(pi="π")
    problems, tested = (problems_of(options, part, writing) for part in ("valid", "test"))
    tested = tested[: options.tested]
    pairs = [(writing.source(p.question), writing.target(p.equation, p.question)) for p in problems]
    K.clear_session()
    set_seed(seed)
    seq2seq = load_seq2seq(
        "small-t5",
        max_source_length=options.longest + 2,
        max_target_length=40,
        vocabulary=write_vocabulary(os.path.join(options.runs, "vocab.txt"), pairs),
        hidden_size=options.hidden_size,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden_size // 32,
    )
    encoded = seq2seq.encode_pairs(pairs)
    model = build_teaforn_model(seq2seq.model, order)

    def make_batch(step):
        # Of four batches the rows of about equal length make one: little padding, all rows equally often.
        draw = np.random.RandomState([seed, step // 4])
        rows = sorted(draw.choice(len(encoded), 4 * options.batch, replace=False), key=lambda i: len(encoded[i][0]))
        start = step % 4 * options.batch
        inputs, targets = seq2seq.batch([encoded[i] for i in rows[start : start + options.batch]], rounding=8)
        return inputs, targets[:, :, None]

    processor = time.process_time()
    trainer = train_model(
        model,
        make_batch,
        loss=TeaForN(order, gamma=options.gamma),
        default=(AdamW(options.rate), lambda o, updates: WarmupCosine(o, warmup=updates // 10, total=updates)),
        steps=options.steps,
        seed=seed,
        folder=os.path.join(options.runs, "N%d-seed%d" % (order, seed)),
        facts=dict(key),
        save_every=50,
    )
    row = dict(key, problems=len(problems), train_processor_seconds=round(time.process_time() - processor, 1))
    row.update(
        accuracy={}, unreadable={}, same_equation={}, last_losses=[round(float(x), 4) for x in trainer.losses[-50:]]
    )
    solver = MathSolver(seq2seq, writing)
    for beams in BEAMS:
        equations = solver.equations([p.question for p in tested], beams=beams, batch_size=100)
        scores = answer_accuracy(equations, [p.answer for p in tested])
        row["accuracy"][str(beams)], row["unreadable"][str(beams)] = scores["accuracy"], scores["unreadable"]
        row["same_equation"][str(beams)] = sum(e == p.equation for e, p in zip(equations, tested))
    record.record(NAME, row, options.results)
    print({name: row[name] for name in ("order", "seed", "accuracy", "train_processor_seconds")}, flush=True)


def shares(options):
    """dict N -> array [seeds, beams] of accuracies in percent, dict N -> processor seconds of the trainings."""
    import numpy as np
    import record

    found, seconds = {}, {}
    for row in record.rows(NAME, options.results):
        if row["steps"] == options.steps and row["gamma"] == options.gamma:
            found.setdefault(row["order"], []).append([100 * row["accuracy"][str(b)] for b in BEAMS])
            seconds.setdefault(row["order"], []).append(row["train_processor_seconds"])
    return {order: np.array(rows) for order, rows in found.items()}, seconds


def table(options):
    """Mean and standard deviation over the seeds, in percent."""
    found, seconds = shares(options)
    print("| N | seeds | %s | processor seconds |" % " | ".join("beams %d" % b for b in BEAMS))
    print("|" + "---|" * (len(BEAMS) + 3))
    for order, values in sorted(found.items()):
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else 0 * values[0]
        cells = ["%.1f ± %.1f" % pair for pair in zip(values.mean(axis=0), spread)]
        print("| %d | %d | %s | %.0f |" % (order, len(values), " | ".join(cells), sum(seconds[order]) / len(values)))


def plot(options):
    """Accuracy by width of the beam."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(5, 3.2))
    for order, values in sorted(shares(options)[0].items()):
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else 0 * values[0]
        panel.errorbar(
            [b + 0.06 * (order - 2) for b in BEAMS], values.mean(axis=0), spread, label="N = %d" % order, capsize=2
        )
    panel.set_xlabel("beams")
    panel.set_ylabel("right answers, %")
    panel.set_ylim(0, None)
    panel.legend(frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(options.plot, dpi=100)


if __name__ == "__main__":
    chosen = arguments()
    globals()[chosen.what](chosen)
