"""UniVAE on real questions: what it writes; how a Gaussian latent collapses and one on the sphere does not.

    python benchmarks/univae.py train              the bundled encoder's lowest layers on LCQMC; killed, it goes on
    python benchmarks/univae.py samples            what the trained model writes, into results/univae_samples.json
    python benchmarks/univae.py collapse [--seeds 0,1,2]    small models from scratch: vmf, gaussian, vq, none
    python benchmarks/univae.py plot               docs/models/univae.png

"train" predicts no [CLS] and no padding (`TextAutoencoderLoss`); the vocabulary is cut to what LCQMC needs. 500 questions
are held out. "collapse" measures on held-out questions the loss a token with the question's own code and with that
of another one: where the two are equal, the code says nothing.
"""

import argparse
import glob
import gzip
import json
import os
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]
LCQMC = os.path.join(HERE, "..", "..", "shared", "data", "senteval_cn", "LCQMC")
HELD_OUT = 500
# The article has 4 latents of 16 dimensions in 12 layers, kappa 32; here the lowest 4 layers of the bundled encoder have 3.
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


if __name__ == "__main__":
    options = arguments()
    globals()[options.what](options)
