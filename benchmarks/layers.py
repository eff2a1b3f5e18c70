"""Speed of the layers, as ratios within one run: forward and backward pass of one layer, both sides in every round.

    python benchmarks/layers.py             # rows into results/layers.jsonl
    python benchmarks/layers.py --quick     # small tensors, nothing written

Rows: entropy_invariant_attention over bert4keras' MultiHeadAttention (reach 1.03), with padding, causal, UniLM masks;
fnet over attention at 512 tokens (reach: below 1), both modes. The contestants of a round run in random order; a ratio
is the median over rounds of the ratio within a round, with quartiles; on a busy machine trust `processor_time_ratio`.
Smoothed activations have their own file, benchmarks/activations.py.
"""

import argparse
import os
import time

import numpy as np
from record import ratio, record


def compare(times, above, below):
    """The ratios, and the median seconds of both sides."""
    seconds = {name: round(float(np.median(times[name], axis=0)[0]), 4) for name in (above, below)}
    return dict(ratio(times, above, below), seconds=seconds)


def measure(contestants, width, batch, length, rounds, rng, mask_kind="padding"):
    """Seconds (wall, processor) of each contestant's forward and backward pass in each round."""
    from kexue_keras.backend import K, get_session

    # Variables: whatever is made of constants alone, TensorFlow would compute once and for all.
    x = K.variable(rng.randn(batch, length, width))
    lengths = K.variable(rng.randint(length // 2, length + 1, (batch, 1)))
    mask = K.constant(np.arange(length)[None]) < lengths
    allowed = None
    if mask_kind == "causal":
        allowed = K.variable(np.tril(np.ones((length, length)))) > 0
    if mask_kind == "unilm":
        c = np.cumsum(np.arange(length) >= length // 2)
        allowed = K.variable(np.tile(c[None, :] <= c[:, None], (batch, 1, 1))) > 0
    steps = {}
    for name, make in contestants.items():
        layer, attention = make()
        if attention:
            inputs = [x, x, x] + ([allowed] if allowed is not None else [])
            arguments = {"a_bias": True} if allowed is not None else {}
            y = layer(inputs, mask=[mask] * 3 + [None] * (len(inputs) - 3), **arguments)
        else:
            y = layer(x, mask=mask)
        gradients = K.gradients(K.sum(K.square(y)), layer.trainable_weights + [x])
        steps[name] = K.sum(sum(K.sum(g) for g in gradients))
    session = get_session()
    K.batch_get_value(list(steps.values()))
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name in rng.permutation(sorted(steps)):
            begin = time.perf_counter(), time.process_time()
            session.run(steps[name])
            times[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return times


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    from bert4keras.layers import MultiHeadAttention

    from kexue_keras.backend import K
    from kexue_keras.layers import EntropyInvariantAttention, mixing

    rng = np.random.RandomState(2021)
    heads, size, batch, rounds = (2, 8, 2, 2) if options.quick else (12, 32, 4, options.rounds)
    width = heads * size

    def emit(figure, case, reach, result, **setting):
        row = dict(result, figure=figure, case=case, reach=reach, load=round(os.getloadavg()[0], 1), **setting)
        print(row, flush=True)
        if not options.quick:
            record("layers", dict(row, seed=2021))

    contestants = {
        "ours": lambda: (EntropyInvariantAttention(heads, size), True),
        "bert4keras": lambda: (MultiHeadAttention(heads, size), True),
        "softmax_plus": lambda: (MultiHeadAttention(heads, size, normalization="softmax_plus"), True),
    }
    for length in (16,) if options.quick else (128, 512):
        for kind in ("padding", "causal", "unilm"):
            K.clear_session()
            times = measure(contestants, width, batch, length, rounds, rng, kind)
            setting = {"batch": batch, "length": length, "width": width, "heads": heads, "rounds": rounds}
            case = "%s mask, %d tokens" % (kind, length)
            emit("entropy_invariant_attention", case, 1.03, compare(times, "ours", "bert4keras"), **setting)
            emit(
                "entropy_invariant_attention",
                case + ", over softmax_plus",
                None,
                compare(times, "ours", "softmax_plus"),
            )
    length = 16 if options.quick else 512
    K.clear_session()
    contestants = {
        "attention": lambda: (MultiHeadAttention(heads, size), True),
        "padded matmul": lambda: (mixing.FNet(mode="padded", method="matmul"), False),
        "padded fft": lambda: (mixing.FNet(mode="padded", method="fft"), False),
        "masked_dft": lambda: (mixing.FNet(), False),
    }
    times = measure(contestants, width, batch, length, rounds, rng)
    for name in ("padded matmul", "padded fft", "masked_dft"):
        setting = {"batch": batch, "length": length, "width": width, "rounds": rounds}
        emit("fnet", "%s over attention, %d tokens" % (name, length), 1.0, compare(times, name, "attention"), **setting)


if __name__ == "__main__":
    main()
