"""What a training step costs with FGM, the gradient penalty and VAT, against a plain step: time and processor time.

    python benchmarks/adversarial.py [--layers 12 --hidden 384 --batch 16 --length 128 --rounds 15]

All sides train the same weights (a random BERT with a classifier, dropout 0.1, AdamW, rate 0) in one process,
one after the other in each round; the figure is the median over rounds of the ratio to the plain step of that round.
Rows go to results/adversarial.jsonl.
"""

import argparse
import os
import sys
import time

import numpy as np

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

VOCABULARY = 21128


def arguments():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sides", nargs="+", default=None, help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", default=None, help="folder to append to; benchmarks/results by default")
    return parser.parse_args()


def sides():
    """Name -> function that puts the technique on a compiled model."""
    from kexue_keras.training.adversarial import FGM, GradientPenalty, VirtualAdversarial

    return {
        "plain": lambda model: None,
        "FGM matrix": lambda model: FGM(model, epsilon=0.5),
        "FGM matrix, attack with dropout": lambda model: FGM(model, epsilon=0.5, attack_dropout=True),
        "FGM output": lambda model: FGM(model, epsilon=0.5, target="output"),
        "FGM matrix, clean weight 1": lambda model: FGM(model, epsilon=0.5, clean_weight=1.0, attack_dropout=True),
        "gradient penalty": lambda model: GradientPenalty(model, epsilon=1.0),
        "VAT": lambda model: VirtualAdversarial(model, epsilon=1.0),
    }


def build(options):
    """(encoder's inputs, logits) of a BERT classifier."""
    from bert4keras.models import build_transformer_model

    from kexue_keras.backend import keras

    bert = build_transformer_model(
        config_path=None,
        model="bert",
        vocab_size=VOCABULARY,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 32,
        intermediate_size=4 * options.hidden,
        hidden_act="gelu",
        max_position_embeddings=512,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    first = keras.layers.Lambda(lambda t: t[:, 0])(bert.output)
    return bert.inputs, keras.layers.Dense(15, activation="softmax", name="classes")(first)


def main():
    """Measure all sides; returns the rows."""
    options = arguments()
    from record import record

    from kexue_keras.backend import K, keras, quiet, set_seed
    from kexue_keras.optimizers import AdamW

    quiet()
    set_seed(options.seed)
    inputs, output = build(options)
    chosen = {k: v for k, v in sides().items() if options.sides is None or k in options.sides or k == "plain"}
    models = {}
    for name, put in chosen.items():
        models[name] = keras.models.Model(inputs, output)
        models[name].compile(AdamW(0.0), "sparse_categorical_crossentropy")
        put(models[name])
    random = np.random.RandomState(options.seed)
    # Characters are not evenly frequent; what counts here is how many different ones a batch has.
    tokens = np.minimum(random.zipf(1.3, (options.batch, options.length)) + 100, VOCABULARY - 1)
    data = [tokens, np.zeros_like(tokens)], random.randint(0, 15, options.batch)
    wall, cpu = {name: [] for name in models}, {name: [] for name in models}
    for name, model in models.items():
        began = time.perf_counter()
        losses = [np.ravel(model.train_on_batch(*data)) for _ in range(2)][-1]
        print("%-32s first steps %5.1f s   loss %s" % (name, time.perf_counter() - began, losses.round(3)), flush=True)
    for _ in range(options.rounds):
        for name, model in models.items():
            began = time.perf_counter(), time.process_time()
            model.train_on_batch(*data)
            wall[name].append(time.perf_counter() - began[0])
            cpu[name].append(time.process_time() - began[1])
    rows = []
    for name in models:
        ratios = [np.array(t[name]) / np.array(t["plain"]) for t in (wall, cpu)]
        row = {
            "benchmark": "cost of a training step",
            "side": name,
            "layers": options.layers,
            "hidden": options.hidden,
            "batch": options.batch,
            "length": options.length,
            "rounds": options.rounds,
            "seed": options.seed,
            "seconds_median": round(float(np.median(wall[name])), 4),
            "time_ratio_median": round(float(np.median(ratios[0])), 3),
            "time_ratio_quartiles": [round(float(q), 3) for q in np.percentile(ratios[0], [25, 75])],
            "processor_ratio_median": round(float(np.median(ratios[1])), 3),
            "load_average": round(os.getloadavg()[0], 1),
        }
        rows.append(record("adversarial", row, options.results) if options.results else record("adversarial", row))
        print(
            "%-32s %7.3f s   %5.2f x plain (quartiles %.2f to %.2f)   processor time %5.2f x"
            % (
                name,
                row["seconds_median"],
                row["time_ratio_median"],
                *row["time_ratio_quartiles"],
                row["processor_ratio_median"],
            )
        )
    K.clear_session()
    return rows


if __name__ == "__main__":
    main()
