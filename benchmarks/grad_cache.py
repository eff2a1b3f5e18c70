"""What gradient caching costs and saves on the bundled encoder (12 layers): exactness, time, memory.

    python benchmarks/grad_cache.py equal|time|large [--stack NAME] [options]    # appends to results/grad_cache.jsonl
    python benchmarks/grad_cache.py equal --quick                               # a tiny model, nothing is written

equal   gradients of InfoNCE against one pass with the same dropout masks: all chunks side by side in one graph
time    training steps (AdamW) of a batch in one pass and in chunks, in turn; median of the ratios within a round
large   one step of 1024 x 64 tokens: seconds and peak memory (resident set) of the process

On a machine with other load trust `processor_time_ratio`. Each part runs in a process of its own.
"""

import argparse
import os
import resource
import subprocess
import sys
import time

from record import STACKS, stack_process

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def build(args):
    """The bundled encoder with masked mean pooling, dropout 0.1."""
    from kexue_keras import models
    from kexue_keras.backend import keras, set_seed

    set_seed(args.seed)
    size = dict(num_hidden_layers=2) if args.quick else {}
    model = models.load("me5-zh-sp", dropout_rate=0.1, attention_dropout_rate=0.1, **size).model
    return keras.models.Model(model.inputs, keras.layers.GlobalAveragePooling1D()(model.output))


def batch(args, rows):
    """Random tokens; every other row is padded in its second half."""
    import numpy as np

    tokens = np.random.RandomState(args.seed).randint(5, 20000, (rows, args.length))
    tokens[::2, args.length // 2 :] = 0
    return [tokens, 0 * tokens]


def compiled(model):
    """The model with AdamW and InfoNCE on the pairs of rows 2i and 2i+1."""
    from kexue_keras import losses, optimizers

    model.compile(optimizers.AdamW(1e-5), losses.InfoNCE(0.05, layout="two_view"))
    return model


def peak():
    """Largest resident set of this process so far, GB (2^30 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def equal(args):
    """Relative distance of all gradients from those of one pass, dropout on."""
    import numpy as np
    import tensorflow as tf

    from kexue_keras import losses
    from kexue_keras.backend import K, call_again, get_session
    from kexue_keras.training._randomness import fold_in, repeatable_dropout, replayed_dropout
    from kexue_keras.training.gradient_cache import gradient_cache

    encoder, loss = build(args), losses.InfoNCE(0.05, layout="two_view")
    weights = encoder.trainable_weights

    def gradients(embeddings):
        found = tf.gradients(tf.reduce_mean(loss.call(None, embeddings)), weights)
        return [tf.convert_to_tensor(g) for g in found]

    with repeatable_dropout(args.seed) as step:
        model = gradient_cache(encoder, chunk_size=args.chunk)
        cached = gradients(model.output)
    key, parts = fold_in(step.key, 0), []
    for number, start in enumerate(range(0, args.rows, args.chunk)):
        with replayed_dropout(fold_in(key, number)):
            parts.append(call_again(encoder, [x[start : start + args.chunk] for x in model.inputs]))
    whole = tf.concat(parts, axis=0)
    step.set(7)
    feed = dict(zip(model.inputs, batch(args, args.rows)))
    feed[K.learning_phase()] = 1
    found, wanted, h, one = get_session().run([cached, gradients(whole), model.output, whole], feed)
    calm = encoder.predict(batch(args, args.rows))

    def distance(a, b):
        return float(np.sqrt(sum(np.sum((x - y) ** 2) for x, y in zip(a, b)) / sum(np.sum(y**2) for y in b)))

    return {
        "relative_difference_of_gradients": distance(found, wanted),
        "largest_relative_difference_of_a_weight": max(distance([a], [b]) for a, b in zip(found, wanted)),
        "norm_of_gradients": float(np.sqrt(sum(np.sum(g**2) for g in wanted))),
        "relative_difference_of_embeddings": distance([h], [one]),
        "relative_effect_of_dropout_on_embeddings": distance([one], [calm]),
    }


def compare_time(args):
    """Steps in one pass and in chunks, in turn."""
    import numpy as np

    from kexue_keras.backend import keras
    from kexue_keras.training.gradient_cache import gradient_cache

    encoder = build(args)
    ways = {
        "one pass": compiled(keras.models.Model(encoder.inputs, encoder.outputs)),
        "cached": compiled(gradient_cache(encoder, chunk_size=args.chunk)),
    }
    x, y, times = batch(args, args.rows), np.zeros((args.rows, 1)), {way: [] for way in ways}
    for number in range(args.rounds + 1):
        for way in sorted(ways, reverse=number % 2):
            wall, processor = time.time(), time.process_time()
            ways[way].train_on_batch(x, y)
            times[way].append((time.time() - wall, time.process_time() - processor))
            print("%d %-8s %6.1f s, processor %6.1f s" % ((number, way) + times[way][-1]), flush=True)
    # The first step of each also prepares the graph.
    plain, cached = (np.array(times[way][1:]) for way in ("one pass", "cached"))
    return {
        "ratio": float(np.median(cached[:, 0] / plain[:, 0])),
        "processor_time_ratio": float(np.median(cached[:, 1] / plain[:, 1])),
        "seconds_one_pass": float(np.median(plain[:, 0])),
        "seconds_cached": float(np.median(cached[:, 0])),
        "processor_seconds_one_pass": float(np.median(plain[:, 1])),
        "processor_seconds_cached": float(np.median(cached[:, 1])),
        "seconds_first_step": {way: times[way][0][0] for way in ways},
    }


def large(args):
    """One step of a large batch."""
    import numpy as np

    from kexue_keras.training.gradient_cache import gradient_cache

    model = compiled(gradient_cache(build(args), chunk_size=args.chunk))
    before = peak()
    wall, processor = time.time(), time.process_time()
    loss = float(np.ravel(model.train_on_batch(batch(args, args.rows), np.zeros((args.rows, 1))))[0])
    return {
        "seconds": time.time() - wall,
        "processor_seconds": time.process_time() - processor,
        "loss": loss,
        "peak_gb": peak(),
        "peak_gb_before_the_step": before,
    }


PARTS = {"equal": (equal, 16, 6), "time": (compare_time, 128, 32), "large": (large, 1024, 16)}


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--stack", choices=list(STACKS), default="keras")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--chunk", type=int)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    function, rows, chunk = PARTS[args.part]
    args.rows, args.chunk = args.rows or rows, args.chunk or chunk
    if not args.inside:
        python, environment = stack_process(args.stack)
        code = subprocess.call([python] + sys.argv + ["--inside"], env=environment)
        raise SystemExit(code)
    from record import record

    from kexue_keras.backend import quiet

    quiet()
    setting = {name: getattr(args, name) for name in ("rows", "chunk", "length", "rounds", "seed")}
    row = dict(function(args), part=args.part, model="me5-zh-sp", **setting)
    print(row if args.quick else record("grad_cache", row))


if __name__ == "__main__":
    main()
