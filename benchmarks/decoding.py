"""Generating with remembered keys and values against bert4keras' AutoRegressiveDecoder, the same model in one run.

    python benchmarks/decoding.py [--stack NAME] [options]     # appends to results/decoding.jsonl
    python benchmarks/decoding.py --quick                     # a tiny model, nothing is written
    python benchmarks/decoding.py --hugging-face PYTHON       # also transformers' generate, in that interpreter

One row a model and search: 16 inputs of --length tokens, 32 new tokens, 12 layers x 384, random weights, no end token,
so that every sequence has its full length. Rounds go in turn; medians of processor and wall-clock time, and of the
ratios within a round. bert4keras' decoder takes its inputs one by one, as it must; K.function is used for its steps,
which is faster than the predict() of its examples. `same` is the share of inputs with the same ids.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from record import STACKS, stack_process

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SIZES = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=12, intermediate_size=1536)
QUICK = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)

# Runs in another interpreter, which has PyTorch: a T5 of the same sizes, the same searches.
HUGGING_FACE = """
import json, sys, time, torch, transformers
given = json.load(open(sys.argv[1]))
torch.manual_seed(0)
torch.set_num_threads(given["threads"])
config = transformers.T5Config(
    vocab_size=given["vocab_size"], d_model=given["hidden_size"], d_kv=given["hidden_size"] // given["heads"],
    d_ff=given["intermediate_size"], num_layers=given["layers"], num_heads=given["heads"],
    feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0, pad_token_id=0,
)
config.eos_token_id = None
model = transformers.T5ForConditionalGeneration(config).eval()
ids = torch.tensor(given["ids"])
options = dict(max_new_tokens=given["new"], num_beams=given["beams"], do_sample=False, length_penalty=0.0)
times = []
with torch.no_grad():
    for round in range(given["rounds"] + 1):
        wall, processor = time.time(), time.process_time()
        found = model.generate(ids, attention_mask=torch.ones_like(ids), eos_token_id=None, **options)
        times.append((time.time() - wall, time.process_time() - processor))
assert found.shape[1] == given["new"] + 1
print(json.dumps({"times": times[1:], "versions": [torch.__version__, transformers.__version__]}))
"""


def build(kind, application, args):
    """The model with random weights."""
    from bert4keras.models import build_transformer_model

    sizes = QUICK if args.quick else SIZES
    options = dict(sizes, vocab_size=args.vocabulary, max_position=512, hidden_act="gelu")
    if kind.startswith("t5"):
        options["hidden_act"] = ["gelu", "linear"]
    if application:
        options["application"] = application
    transformer = build_transformer_model(None, model=kind, return_keras_model=False, **options)
    random, model = np.random.RandomState(args.seed), transformer.model
    # At their initial values all logits are nearly equal, and rounding would decide.
    model.set_weights(
        [
            w if w.ndim < 2 else random.randn(*w.shape).astype("float32") * w.shape[0] ** -0.5
            for w in model.get_weights()
        ]
    )
    return transformer


def uncached(transformer, args):
    """bert4keras' decoder with the function of the whole model."""
    from bert4keras.snippets import AutoRegressiveDecoder

    from kexue_keras.backend import K

    t5 = hasattr(transformer, "encoder")
    model = transformer.decoder if t5 else transformer.model
    function = K.function(model.inputs, [model.outputs[0][:, -1]])
    encode = K.function(transformer.encoder.inputs, transformer.encoder.outputs) if t5 else None

    class Decoder(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(default_rtype="probas")
        def predict(self, inputs, output_ids, states):
            if t5:
                return function([inputs[0], output_ids])[0]
            token_ids = np.concatenate([inputs[0], output_ids], 1)
            segment_ids = np.concatenate([np.zeros_like(inputs[0]), np.ones_like(output_ids)], 1)
            return function([token_ids, segment_ids])[0]

    decoder = Decoder(start_id=0 if t5 else None, end_id=-1, maxlen=args.new)

    def generate(ids, beams):
        rows = []
        for row in ids:
            inputs = [encode([row[None]])[0][0]] if t5 else [row]
            rows.append(decoder.beam_search(inputs, topk=beams)[-args.new :].tolist())
        return rows

    return generate


def cached(transformer, args):
    """`Generator`, all inputs at once."""
    from kexue_keras.decoding import Generator

    t5 = hasattr(transformer, "encoder")
    generator = Generator(transformer, end_id=None, start_id=0 if t5 else None)

    def generate(ids, beams):
        if beams == 1:
            found = generator.greedy([ids], max_length=args.new)
        else:
            found = generator.beam_search([ids], max_length=args.new, beams=beams)
        return found.ids[:, 0].tolist()

    return generate


def hugging_face(ids, beams, args):
    """Times of transformers' generate for a T5 of the same sizes, or None without an interpreter that has it."""
    if not args.hugging_face:
        return None
    sizes = QUICK if args.quick else SIZES
    given = dict(
        vocab_size=args.vocabulary,
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        layers=sizes["num_hidden_layers"],
        heads=sizes["num_attention_heads"],
        ids=ids.tolist(),
        new=args.new,
        beams=beams,
        rounds=args.rounds,
        threads=os.cpu_count(),
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("generate.py", "given.json")]
        for path, text in zip(paths, (HUGGING_FACE, json.dumps(given))):
            with open(path, "w") as handle:
                handle.write(text)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        output = subprocess.check_output([args.hugging_face] + paths, env=environment, universal_newlines=True)
    return json.loads(output.splitlines()[-1])


def measure(kind, application, beams, args):
    """One row."""
    transformer = build(kind, application, args)
    ids = np.random.RandomState(args.seed).randint(5, args.vocabulary, (args.inputs, args.length))
    ways = {"cached": cached(transformer, args)}
    if not args.only_cached:
        ways["bert4keras"] = uncached(transformer, args)
    times, found = {way: [] for way in ways}, {}
    for number in range(args.rounds + 1):
        for way in sorted(ways, reverse=number % 2):
            wall, processor = time.time(), time.process_time()
            found[way] = ways[way](ids, beams)
            times[way].append((time.time() - wall, time.process_time() - processor))
            print("%s %s beams=%d %-10s %7.2f s, processor %7.2f s" % ((kind, number, beams, way) + times[way][-1]))
            sys.stdout.flush()
    row = {"model": kind, "application": application, "beams": beams}
    row["first_cached_seconds"] = times["cached"][0][0]  # it also builds the graph
    times = {way: np.array(values[1:]) for way, values in times.items()}
    for way, values in times.items():
        row["seconds_" + way], row["processor_seconds_" + way] = np.median(values, axis=0).tolist()
    row["tokens_per_second_cached"] = args.inputs * args.new / row["seconds_cached"]
    if "bert4keras" in times:
        ratios = np.median(times["bert4keras"] / times["cached"], axis=0)
        row["throughput_ratio"], row["processor_ratio"] = ratios.tolist()
        row["same"] = float(np.mean([a == b for a, b in zip(found["cached"], found["bert4keras"])]))
    theirs = hugging_face(ids, beams, args) if kind == "t5.1.1" else None
    if theirs:
        seconds, processor = np.median(theirs["times"], axis=0)
        row["seconds_hugging_face"], row["hugging_face_versions"] = float(seconds), theirs["versions"]
        row["time_over_hugging_face"] = row["seconds_cached"] / float(seconds)
        row["processor_time_over_hugging_face"] = row["processor_seconds_cached"] / float(processor)
    return row


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", choices=list(STACKS), default="keras")
    parser.add_argument("--models", nargs="+", default=["bert", "roformer", "t5.1.1"])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--inputs", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=13584, help="rows of the embedding (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hugging-face", metavar="PYTHON", help="interpreter with torch and transformers")
    parser.add_argument("--only-cached", action="store_true", help="leave bert4keras' decoder out")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.inside:
        python, environment = stack_process(args.stack)
        raise SystemExit(subprocess.call([python] + sys.argv + ["--inside"], env=environment))
    if args.quick:
        args.inputs, args.length, args.new, args.vocabulary, args.rounds = 2, 6, 4, 50, 1
    from record import record

    from kexue_keras.backend import K, quiet

    quiet()
    for kind in args.models:
        for beams in args.beams:
            row = measure(kind, None if kind.startswith("t5") else "unilm", beams, args)
            setting = {
                name: getattr(args, name) for name in ("inputs", "length", "new", "vocabulary", "rounds", "seed")
            }
            row = dict(row, **setting)
            print(row if args.quick else record("decoding", row))
            K.clear_session()


if __name__ == "__main__":
    main()
