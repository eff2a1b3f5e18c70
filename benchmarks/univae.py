"""UniVAE on real questions: what it writes; how a Gaussian latent collapses and one on the sphere does not.

    python benchmarks/univae.py train              the bundled encoder's lowest layers on LCQMC; killed, it goes on
    python benchmarks/univae.py samples            what the trained model writes, as a row
    python benchmarks/univae.py collapse [--seeds 0,1,2]    small models from scratch: vmf, gaussian, vq, none
    python benchmarks/univae.py plot               docs/models/univae.png

"train" predicts no [CLS] and no padding (see `TextAutoencoderLoss`); the vocabulary is cut to what LCQMC needs. 500
questions are held out. "collapse" measures on held-out questions the loss a token with the question's own code and with
that of another one: where the two are equal, the code says nothing.
"""

import argparse
import collections
import glob
import gzip
import os
import sys
import time

import numpy as np
from scipy.special import logsumexp

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]
LCQMC = os.path.join(HERE, "..", "..", "shared", "data", "senteval_cn", "LCQMC")
PLOT = os.path.join(HERE, "..", "docs", "models", "univae.png")
HELD_OUT = 500
# The article has 4 latents of 16 dimensions in 12 layers; here the lowest 4 layers of the bundled encoder have 3.
LATENTS = {"num_latent_layers": 3, "z_dim": 16, "kappa": 32.0}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("train", "samples", "collapse", "plot"))
    parser.add_argument("--folder", default=os.path.join("runs", "univae"), help="point of the run (%(default)s)")
    parser.add_argument("--layers", type=int, default=4, help="lowest layers of the bundled encoder (%(default)s)")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=14)
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--data", default=LCQMC)
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    return parser.parse_args()


def one_thread():
    from kexue_keras.backend import K, tf1

    config = tf1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    tf1.keras.backend.set_session(tf1.Session(config=config))
    if hasattr(K, "set_session"):
        K.set_session(tf1.Session(config=config))


def read_questions(folder, longest):
    """All different questions of at most `longest` characters, in an order that does not change."""
    texts = []
    for path in sorted(glob.glob(os.path.join(folder, "*.data*"))):
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as handle:
            for line in handle:
                texts.extend(line.rstrip("\n").split("\t")[:2])
    if not texts:
        raise SystemExit("no *.data in %s: this benchmark needs the shared data" % folder)
    texts = [text for text in dict.fromkeys(texts) if 3 <= len(text) <= longest]
    return [texts[i] for i in np.random.RandomState(2021).permutation(len(texts))]


def paired(token_ids, seed=None):
    """[text ; text] of each row, its segment ids, and the tokens to predict (what `next_target_tokens` says)."""
    from bert4keras.snippets import sequence_padding

    tokens = sequence_padding([ids + ids for ids in token_ids])
    segments = sequence_padding([[0] * len(ids) + [1] * len(ids) for ids in token_ids])
    labels = np.zeros_like(tokens)
    labels[:, :-1] = tokens[:, 1:] * segments[:, 1:] * segments[:, :-1]
    return [tokens, segments], labels[:, :, None]


def pretrained(options, questions):
    """The bundled encoder as UniVAE, with the tokens that the questions need."""
    from bert4keras.models import BERT

    from kexue_keras.models import UniVAE, load

    plain = load("me5-zh-char-mlm", num_hidden_layers=1).tokenizer
    needed = {i for text in questions for i in plain.encode(text)[0]}
    needed |= {plain._token_dict[t] for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
    cls = UniVAE(BERT, max_length=options.max_length, length_leak="restart", **LATENTS)
    return load(
        "me5-zh-char-mlm",
        model=cls,
        num_hidden_layers=options.layers,
        keep_tokens=sorted(needed),
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
    )


def train(options):
    from kexue_keras.backend import quiet, set_seed
    from kexue_keras.losses import MaskedCrossentropy
    from kexue_keras.optimizers import AdamW, PiecewiseLinear
    from kexue_keras.trainer import train_model

    quiet()
    one_thread()
    set_seed(0)
    questions = read_questions(options.data, options.max_length - 2)
    encoder = pretrained(options, questions)
    ids = [encoder.tokenizer.encode(text)[0] for text in questions[HELD_OUT:]]
    # The rate stays the same after the warm-up, so that the run may be stopped wherever the time is over.
    steps, rate = options.steps or 20000, options.rate or 5e-4

    def make_batch(step):
        rng = np.random.RandomState([7, step // 20])
        # Rows of about one length: of 20 batches' rows sorted by length, one batch.
        pool = rng.choice(len(ids), 20 * options.batch, replace=False)
        pool = pool[np.argsort([len(ids[i]) for i in pool], kind="stable")]
        number = rng.permutation(20)[step % 20]
        return paired([ids[i] for i in pool[number * options.batch :][: options.batch]])

    train_model(
        encoder.bert.model,
        make_batch,
        loss=MaskedCrossentropy(),
        default=(AdamW(rate), lambda optimizer, total: PiecewiseLinear(optimizer, {50: 1})),
        multipliers={"Latent-": 3.0},
        num_hidden_layers=options.layers,
        steps=steps,
        folder=options.folder,
        save_every=50,
        callbacks=[recorder(encoder.bert.model, options, len(ids), rate)],
        facts={"batch": options.batch, "rate": rate, "steps": steps, "layers": options.layers},
        say=lambda line: print(line, flush=True),
    )


def recorder(model, options, questions, rate):
    """Callback that writes a row and the weights every 50 steps."""
    from record import record

    from kexue_keras.backend import keras

    class Recorder(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.losses, self.wall, self.processor = [], time.perf_counter(), time.process_time()

        def on_batch_end(self, batch, logs=None):
            self.losses.append(float(logs["loss"]))
            if len(self.losses) < 50:
                return
            row = {
                "benchmark": "UniVAE on LCQMC",
                "step": int(batch) + 1,
                "loss": round(float(np.mean(self.losses)), 4),
                "seconds_of_50_steps": round(time.perf_counter() - self.wall, 1),
                "processor_seconds_of_50_steps": round(time.process_time() - self.processor, 1),
                "questions": questions,
                "layers": options.layers,
                "batch": options.batch,
                "rate": rate,
                "latents": LATENTS,
                "threads": 1,
                "load": round(os.getloadavg()[0], 1),
            }
            record("univae", row, options.results)
            model.save_weights(os.path.join(options.folder, "weights.h5"))
            self.on_train_begin()

    return Recorder()


def samples(options):
    """Reconstructions, samples, interpolations and replacements of held-out questions: the first ones, not chosen."""
    from record import record, rows

    from kexue_keras.backend import quiet
    from kexue_keras.decoding import LatentTexts

    quiet()
    one_thread()
    questions = read_questions(options.data, options.max_length - 2)
    held_out = questions[:HELD_OUT]
    encoder = pretrained(options, questions)
    encoder.bert.model.load_weights(os.path.join(options.folder, "weights.h5"))
    latent = LatentTexts(encoder.bert, encoder.tokenizer)
    codes = latent.encode(held_out)
    written = latent.decode(codes)
    same = [len(os.path.commonprefix([a, b])) / len(a) for a, b in zip(held_out, written)]
    kept = [len(set(a) & set(b)) / len(set(a)) for a, b in zip(held_out, written)]
    others = [len(set(a) & set(b)) / len(set(a)) for a, b in zip(held_out, written[1:] + written[:1])]
    first, last = held_out[:8], slice(8, 12)
    row = {
        "benchmark": "UniVAE writes",
        "step": max(r["step"] for r in rows("univae", options.results) if r["benchmark"] == "UniVAE on LCQMC"),
        "exact": round(float(np.mean([a == b for a, b in zip(held_out, written)])), 4),
        "characters_kept": round(float(np.mean(kept)), 4),
        "characters_kept_by_another": round(float(np.mean(others)), 4),
        "prefix_kept": round(float(np.mean(same)), 4),
        "reconstructions": list(zip(first, written[:8])),
        "samples": latent.sample(10, seed=1),
        "interpolations": [latent.interpolate(held_out[i], held_out[i + 1], steps=5) for i in (0, 2)],
        # Of the same question, with parts of the codes of four others.
        "others": held_out[last],
        "replaced": [
            {
                "question": text,
                "first 32": latent.replace([text] * 4, stop=32, other=codes[last]),
                "last 16": latent.replace([text] * 4, start=-16, other=codes[last]),
            }
            for text in held_out[:2]
        ],
    }
    for key, value in record("univae", row, options.results).items():
        print(key, value)


def collapse(options):
    """Small models from scratch, one latent of 16 dimensions."""
    from bert4keras.models import RoFormer, build_transformer_model
    from record import record, recorded

    from kexue_keras.backend import K, quiet, set_seed
    from kexue_keras.models import UniVAE
    from kexue_keras.optimizers import AdamW, PiecewiseLinear

    quiet()
    questions = read_questions(options.data, options.max_length - 2)
    counts = collections.Counter("".join(questions))
    numbers = {c: i + 4 for i, (c, _) in enumerate(counts.most_common(796))}
    ids = [[2] + [numbers.get(c, 1) for c in text] + [3] for text in questions]
    steps, rate = options.steps or 500, options.rate or 3e-3
    setting = {"benchmark": "collapse", "steps": steps, "rate": rate, "batch": options.batch, "threads": 1}
    for seed in map(int, options.seeds.split(",")):
        for latent in ("vmf", "gaussian", "vq", "none"):
            if recorded("univae", options.results, latent=latent, seed=seed, **setting):
                continue
            K.clear_session()
            one_thread()
            set_seed(seed)
            began = time.process_time()
            cls = UniVAE(RoFormer, latent=latent, num_latent_layers=1, max_length=14, length_leak="restart")
            size = dict(vocab_size=800, hidden_size=64, num_hidden_layers=2, num_attention_heads=2)
            vae = build_transformer_model(
                model=cls, return_keras_model=False, intermediate_size=256, hidden_act="gelu", max_position=32, **size
            )
            vae.training_model.compile(PiecewiseLinear(AdamW(rate), {50: 1, steps: 0.1}))
            rng = np.random.RandomState(seed)
            for _ in range(steps):
                batch = rng.randint(HELD_OUT, len(ids), options.batch)
                vae.training_model.train_on_batch(paired([ids[i] for i in batch])[0], None)
            row = dict(setting, latent=latent, seed=seed, **measured(vae, ids[:HELD_OUT]))
            row["processor_seconds"] = round(time.process_time() - began)
            record("univae", row, options.results)
            print({k: row[k] for k in ("latent", "seed", "own", "other", "kl", "processor_seconds")}, flush=True)


def measured(vae, held_out):
    """Loss a token with each text's own code and with its neighbour's, and nats of the code (Gaussian: KL)."""
    from kexue_keras.layers import vmf_kl

    inputs, labels = paired(held_out)
    codes = np.asarray(vae.encoder.predict(inputs))

    def loss(given):
        logits = np.asarray(vae.decoder.predict(inputs + [given]), "float64")
        picked = np.take_along_axis(logits, labels, -1)[..., 0]
        return float((logsumexp(logits, axis=-1) - picked)[labels[..., 0] > 0].mean())

    kl = vmf_kl(16, 32.0) if vae.latent == "vmf" else None
    if vae.latent == "gaussian":
        from kexue_keras.backend import K

        of_code = K.function(vae.inputs, vae.training_model.layers[-1].input[3:])
        kl = float(np.mean(of_code(inputs)[0]))
    return {"own": round(loss(codes), 4), "other": round(loss(np.roll(codes, 1, axis=0)), 4), "kl": kl and round(kl, 4)}


def plot(options):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from record import rows

    all_rows = rows("univae", options.results)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    curve = [(r["step"], r["loss"]) for r in all_rows if r["benchmark"] == "UniVAE on LCQMC"]
    left.plot(*zip(*curve))
    left.set_xlabel("step (32 questions)")
    left.set_ylabel("training loss a token, nats")
    left.set_title("bundled encoder on LCQMC, vmf")
    kinds = ("none", "vmf", "vq", "gaussian")
    found = [r for r in all_rows if r["benchmark"] == "collapse"]
    for shift, which in ((-0.15, "own"), (0.15, "other")):
        values = [[r[which] for r in found if r["latent"] == kind] for kind in kinds]
        places = np.arange(len(kinds)) + shift
        right.bar(
            places,
            [np.mean(v) for v in values],
            0.3,
            label="code of " + ("the question" if which == "own" else "another"),
        )
        for place, some in zip(places, values):
            right.plot([place] * len(some), some, "k.", markersize=4)
    right.set_xticks(range(len(kinds)))
    right.set_xticklabels(kinds)
    right.set_ylim(bottom=min(r["own"] for r in found) * 0.8)
    right.set_ylabel("held-out loss a token, nats")
    right.set_title("small models from scratch, 3 seeds")
    right.legend(fontsize=8)
    figure.tight_layout()
    os.makedirs(os.path.dirname(PLOT), exist_ok=True)
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    options = arguments()
    globals()[options.what](options)
