"""What accumulation costs: time, memory and exactness on a 12-layer BERT, as ratios within one run, on each stack.

    python benchmarks/optimizers.py            # all stacks, one process each; appends to results/optimizers.jsonl
    python benchmarks/optimizers.py --quick    # a tiny model, nothing is written

Rows: micro_step_time (a micro step without boundary over a plain AdamW step of the same batch), adamw_time (our AdamW
over stock Adam, whole training steps), optimizer_memory, big_batch_difference (after 20 updates), embedding_250k.
The time of a round is measured for all contestants in random order; a ratio is the median over rounds of the ratio
within a round, with quartiles, so that other load on the machine falls on both sides; on a busy machine trust
`processor_time_ratio`.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time

from record import STACKS, stack_process

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = dict(num_hidden_layers=12, hidden_size=384, intermediate_size=1536, num_attention_heads=12, vocab_size=14001)
TINY = dict(num_hidden_layers=2, hidden_size=16, intermediate_size=32, num_attention_heads=2, vocab_size=50)
NEVER = 10**9


def build(config):
    """BERT with a two-class head on [CLS]; no dropout, so that runs are comparable."""
    from bert4keras.models import build_transformer_model

    from kexue_keras.backend import keras

    bert = build_transformer_model(
        config_path=None,
        model="bert",
        return_keras_model=False,
        hidden_act="gelu",
        max_position=512,
        segment_vocab_size=2,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        max_position_embeddings=512,
        type_vocab_size=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **config,
    )
    first = keras.layers.Lambda(lambda x: x[:, 0])(bert.model.output)
    return keras.models.Model(bert.model.inputs, keras.layers.Dense(2, activation="softmax")(first))


def twin(model, optimizer):
    """The same weights under another optimizer."""
    from kexue_keras.backend import keras

    other = keras.models.Model(model.inputs, model.outputs)
    other.compile(optimizer, "sparse_categorical_crossentropy")
    return other


def batch(rng, config, size, length):
    tokens = rng.randint(5, config["vocab_size"], (size, length))
    return [tokens, 0 * tokens], rng.randint(0, 2, (size, 1))


def slot_bytes(optimizer):
    """Bytes of the variables with a shape (float32); scalars, which are counters, are reported apart."""
    import numpy as np

    return sum(4 * int(np.prod(w.shape.as_list())) for w in optimizer.weights if w.shape.as_list())


def distance(xs, ys):
    """Euclidean distance of two lists of arrays, in float64."""
    import numpy as np

    return float(np.sqrt(sum(np.sum((x.astype("float64") - y) ** 2) for x, y in zip(xs, ys))))


def measure_times(model, config, rng, size, length, rounds):
    """Whole training steps; every contestant in every round."""
    import numpy as np
    from record import ratio

    from kexue_keras.backend import keras
    from kexue_keras.optimizers import AdamW, GradientAccumulation, MomentumAccumulationAdamW

    contestants = {
        "adamw": twin(model, AdamW(1e-5)),
        "our_adam": twin(model, AdamW(1e-5, weight_decay=0.0)),
        "stock_adam": twin(model, keras.optimizers.Adam(1e-5)),
        "accumulation": twin(model, GradientAccumulation(AdamW(1e-5), NEVER)),
        "hidden": twin(model, MomentumAccumulationAdamW(1e-5, steps=NEVER)),
    }
    x, y = batch(rng, config, size, length)
    times = {name: [] for name in contestants}
    for name in contestants:
        for _ in range(2):
            contestants[name].train_on_batch(x, y)
    for _ in range(rounds):
        for name in rng.permutation(sorted(contestants)):
            begin = time.perf_counter(), time.process_time()
            contestants[name].train_on_batch(x, y)
            times[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    setting = {"batch": size, "length": length, "rounds": rounds, "load": round(os.getloadavg()[0], 1)}
    seconds = {name: round(float(np.median(t, axis=0)[0]), 4) for name, t in times.items()}
    rows = [
        ("micro_step_time", "explicit", 1.00, ratio(times, "accumulation", "adamw")),
        ("micro_step_time", "hidden", 1.02, ratio(times, "hidden", "adamw")),
        ("adamw_time", "AdamW with decay over stock Adam", 1.05, ratio(times, "adamw", "stock_adam")),
        ("adamw_time", "AdamW without decay over stock Adam", 1.05, ratio(times, "our_adam", "stock_adam")),
    ]
    for figure, case, reach, result in rows:
        yield dict(result, figure=figure, case=case, reach=reach, seconds=seconds, **setting)

    params = sum(4 * int(np.prod(w.shape.as_list())) for w in model.trainable_weights)
    plain = slot_bytes(contestants["adamw"].optimizer)
    for case, reach in (("accumulation", 1.0), ("hidden", 0.0)):
        optimizer = contestants[case].optimizer
        extra = slot_bytes(optimizer) - plain
        scalars = sum(not w.shape.as_list() for w in optimizer.weights)
        yield {
            "figure": "optimizer_memory",
            "case": case,
            "reach": reach,
            "extra_bytes": extra,
            "extra_over_parameters": round(extra / params, 4),
            "parameters_bytes": params,
            "scalar_counters": scalars,
        }


def measure_difference(model, config, rng, size, length, updates, k=4):
    """Weights after the same data as big batches and as micro batches."""
    import numpy as np

    from kexue_keras.optimizers import AdamW, GradientAccumulation

    start = model.get_weights()
    data = [batch(rng, config, size * k, length) for _ in range(updates)]
    final = {}
    for name, optimizer, parts in (("big", AdamW(2e-5), 1), ("micro", GradientAccumulation(AdamW(2e-5), k), k)):
        model.set_weights(start)
        learner = twin(model, optimizer)
        for x, y in data:
            for i in range(parts):
                part = slice(i * size * k // parts, (i + 1) * size * k // parts)
                learner.train_on_batch([a[part] for a in x], y[part])
        final[name] = model.get_weights()
    model.set_weights(start)
    names = [w.name for w in model.weights]
    # The bias of the keys shifts all scores of a row alike, so its gradient is 0 but for rounding: Adam makes steps of
    # that noise, in either run. It is given apart.
    key_biases = {layer.k_dense.bias.name for layer in model.layers if hasattr(layer, "k_dense")}
    relative = [
        (float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)), n)
        for a, b, n in zip(final["big"], final["micro"], names)
    ]
    worst = max(r for r in relative if r[1] not in key_biases)
    keys = max(r for r in relative if r[1] in key_biases)
    largest = max(float(np.abs(a - b).max()) for a, b in zip(final["big"], final["micro"]))
    weights = max(float(np.abs(a).max()) for a in final["big"])
    yield {
        "figure": "big_batch_difference",
        "reach": 1e-5,
        "updates": updates,
        "steps": k,
        "largest_over_largest_weight": largest / weights,
        "norm_over_norm": distance(final["big"], final["micro"]) / distance(final["big"], [0 * a for a in start]),
        "norm_over_distance_travelled": distance(final["big"], final["micro"]) / distance(final["big"], start),
        "worst_tensor_relative_to_its_largest": worst[0],
        "worst_tensor": worst[1],
        "key_biases_relative_to_their_largest": keys[0],
        "largest_absolute": largest,
    }


def measure_table(rng, rows, width, tokens=512):
    """Bytes that one micro step allocates for an embedding table, scatter-added and (for comparison) made dense."""
    import numpy as np
    import tensorflow as tf

    from kexue_keras.backend import K, get_session, keras, tf1
    from kexue_keras.optimizers import GradientAccumulation

    K.clear_session()
    table = K.variable(np.zeros((1, 1)), name="x")  # wakes the session
    table = K.zeros((rows, width), name="table")
    ids = K.constant(rng.randint(0, rows, tokens), dtype="int32")
    loss = tf.reduce_sum(tf.square(K.gather(table, ids) - 1.0))
    optimizer = GradientAccumulation(keras.optimizers.SGD(0.1), NEVER)
    ours = tf.group(*optimizer.get_updates(loss=loss, params=[table]))
    buffer = K.zeros((rows, width), name="buffer")
    dense = buffer.assign_add(tf.convert_to_tensor(K.gradients(loss, [table])[0]), read_value=False)
    K.batch_get_value([optimizer.micro_step])
    for case, op in (("scatter-added", ours), ("made dense", dense)):
        session, options, seconds = get_session(), tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE), []
        for _ in range(6):
            begin = time.perf_counter()
            session.run(op)
            seconds.append(time.perf_counter() - begin)
        metadata = tf1.RunMetadata()
        session.run(op, options=options, run_metadata=metadata)
        allocated = [
            record.alloc_bytes
            for device in metadata.step_stats.dev_stats
            for node in device.node_stats
            for memory in node.memory
            for record in memory.allocation_records
            if record.alloc_bytes > 0
        ]
        yield {
            "figure": "embedding_250k",
            "case": case,
            "rows": rows,
            "width": width,
            "tokens": tokens,
            "table_bytes": 4 * rows * width,
            "allocated_in_a_micro_step_bytes": int(sum(allocated)),
            "largest_allocation_bytes": int(max(allocated or [0])),
            "seconds": round(float(np.median(seconds[1:])), 5),
        }


def run(quick, only=None):
    """All figures on this process' stack."""
    import numpy as np

    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from record import record

    rng = np.random.RandomState(2021)
    config = TINY if quick else SMALL
    model = build(config)
    length, table = (8, (2000, 8)) if quick else (32, (250000, 384))
    figures = {
        "times": lambda: measure_times(model, config, rng, 8, length, 3 if quick else 11),
        "difference": lambda: measure_difference(model, config, rng, 4, length, 2 if quick else 20),
        "table": lambda: measure_table(rng, *table),
    }
    for row in itertools.chain(*(figures[name]() for name in ([only] if only else figures))):
        print(row, flush=True)
        if not quick:
            record("optimizers", dict(row, seed=2021))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny model, few rounds, nothing written")
    parser.add_argument("--stack", choices=list(STACKS), help="only this stack")
    parser.add_argument("--only", choices=["times", "difference", "table"], help="only these figures")
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
