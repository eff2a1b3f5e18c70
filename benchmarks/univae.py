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
# As in the article: 4 latents of 16 dimensions, kappa 32.
LATENTS = {"num_latent_layers": 4, "z_dim": 16, "kappa": 32.0}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("train", "samples", "collapse", "plot"))
    parser.add_argument("--folder", default=os.path.join("runs", "univae"), help="point of the run (%(default)s)")
    parser.add_argument("--layers", type=int, default=5, help="lowest layers of the bundled encoder (%(default)s)")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=18)
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
    from record import record

    from kexue_keras.backend import quiet, set_seed
    from kexue_keras.losses import MaskedCrossentropy
    from kexue_keras.optimizers import AdamW, WarmupCosine
    from kexue_keras.trainer import train_model

    quiet()
    one_thread()
    set_seed(0)
    questions = read_questions(options.data, options.max_length - 2)
    encoder = pretrained(options, questions)
    ids = [encoder.tokenizer.encode(text)[0] for text in questions[HELD_OUT:]]
    steps, rate = options.steps or 2500, options.rate or 5e-4

    def make_batch(step):
        rng = np.random.RandomState([7, step // 20])
        # Rows of about one length: of 20 batches' rows sorted by length, one batch.
        pool = rng.choice(len(ids), 20 * options.batch, replace=False)
        pool = pool[np.argsort([len(ids[i]) for i in pool], kind="stable")]
        number = rng.permutation(20)[step % 20]
        return paired([ids[i] for i in pool[number * options.batch :][: options.batch]])

    began, used = time.perf_counter(), time.process_time()
    trainer = train_model(
        encoder.bert.model,
        make_batch,
        loss=MaskedCrossentropy(),
        default=(AdamW(rate), lambda optimizer, total: WarmupCosine(optimizer, warmup=total // 20, total=total)),
        multipliers={"Latent-": 3.0},
        num_hidden_layers=options.layers,
        steps=steps,
        folder=options.folder,
        save_every=100,
        facts={"batch": options.batch, "rate": rate, "steps": steps, "layers": options.layers},
        say=lambda line: print(line, flush=True),
    )
    row = {
        "benchmark": "UniVAE on LCQMC",
        "questions": len(ids),
        "layers": options.layers,
        "steps": steps,
        "batch": options.batch,
        "rate": rate,
        "latents": LATENTS,
        "steps_done_here": len(trainer.losses),
        "train_loss_of_the_last_50": round(float(np.mean(trainer.losses[-50:])), 4),
        "seconds": round(time.perf_counter() - began),
        "processor_seconds": round(time.process_time() - used),
        "load": round(os.getloadavg()[0], 1),
    }
    record("univae", row, options.results)
    encoder.bert.model.save_weights(os.path.join(options.folder, "weights.h5"))
    with open(os.path.join(options.folder, "losses.json"), "w") as handle:
        json.dump([round(float(x), 4) for x in trainer.losses], handle)


if __name__ == "__main__":
    options = arguments()
    globals()[options.what](options)
