"""CoSENT (kexue.fm/archives/8847) on scored pairs: zero-shot, after CoSENT, after Sentence-BERT's head, several seeds.

    python experiments/similarity_cosent.py --data FOLDER [--sets STS-B LCQMC] [--out runs/similarity]
    python experiments/similarity_cosent.py --quick                          (made-up sentences, seconds)

FOLDER holds SET/SET.train.data, SET.valid.data, SET.test.data (text, text, score; also .gz). Where the training file is
missing the validation file is trained on and a tenth of it split off. Each result is a line of OUT/rows.jsonl; what has
a line is not run again, and a run that was killed goes on from its last saved point.
"""

import argparse
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from comparison import side_by_side  # noqa: E402
from record import last_row, record  # noqa: E402

from kexue_keras.backend import K, quiet  # noqa: E402
from kexue_keras.data import read_scored_pairs  # noqa: E402
from kexue_keras.errors import UserError  # noqa: E402
from kexue_keras.finetune import finetune  # noqa: E402
from kexue_keras.finetune._similarity_heads import measure_similarity  # noqa: E402
from kexue_keras.options.choices import HEAD_LR_MULTIPLIERS  # noqa: E402
from kexue_keras.similarity import SentenceEncoder  # noqa: E402

METHODS = ("zero-shot", "cosent", "sbert")
# Settings that a row depends on; one with others is no reason not to run.
ENCODING = ("pooling", "max_length")
TRAINING = ("epochs", "batch_size", "learning_rate", "train_layers")


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with the sets")
    parser.add_argument("--sets", nargs="+", default=["STS-B", "LCQMC"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--out", default=os.path.join("runs", "similarity_cosent"))
    parser.add_argument("--model", default="me5-zh-sp", help="bundled name or folder (%(default)s)")
    parser.add_argument("--pooling", default="mean", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32, help="pairs (%(default)s)")
    parser.add_argument("--max-length", type=int, default=40, help="tokens a text (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument(
        "--head-lr-multiplier",
        type=float,
        default=HEAD_LR_MULTIPLIERS["sbert"],
        help="factor of sbert's head's rate (%(default)s)",
    )
    parser.add_argument("--train-layers", type=int, default=6, help="highest layers to train (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.data, options.sets = os.path.join(options.out, "data"), ["made-up"]
        options.seeds, options.epochs, options.batch_size, options.max_length = [1], 1, 8, 16
        options.methods, options.train_layers = ["zero-shot", "cosent"], None
        make_up(os.path.join(options.data, "made-up"))
    elif not options.data:
        parser.error("give --data FOLDER, or --quick")
    return options


def make_up(folder):
    """Pairs that share both, one or none of two parts, with scores 2, 1, 0."""
    who, what = ["我", "他", "老师", "妈妈"], ["去公园", "看电影", "买书", "做饭"]
    pairs = [(a, b, c, d) for a in who for b in what for c in who for d in what]
    random.Random(0).shuffle(pairs)
    os.makedirs(folder, exist_ok=True)
    for part, rows in (("train", pairs[:16]), ("valid", pairs[16:32]), ("test", pairs[32:48])):
        with open(os.path.join(folder, "made-up.%s.data" % part), "w", encoding="utf-8") as handle:
            for a, b, c, d in rows:
                handle.write("%s今天%s\t%s想%s\t%d\n" % (a, b, c, d, (a == c) + (b == d)))


def files_of(folder, name):
    """Dict part -> file of a set, those that are there."""
    found = {}
    for part in ("train", "valid", "test"):
        for suffix in (".data", ".data.gz"):
            path = os.path.join(folder, name, "%s.%s%s" % (name, part, suffix))
            if os.path.exists(path):
                found[part] = path
    if "test" not in found or not ({"train", "valid"} & set(found)):
        raise UserError("no %s.test.data with %s.train.data or %s.valid.data" % (name, name, name), path=folder)
    return found


def zero_shot(options, files):
    """Spearman on the test file without any training."""
    pairs, _ = read_scored_pairs(files["test"])
    layers = {"num_hidden_layers": 1} if options.quick else {}
    encoder = SentenceEncoder(options.model, pooling=options.pooling, max_length=options.max_length, **layers)
    return {"test": measure_similarity(encoder.similarity(*zip(*pairs.texts)), pairs.labels)}


def trained(options, files, method, seed, out):
    """metrics.json of a run; goes on with what there is of it."""
    train = files.get("train", files.get("valid"))
    valid = files.get("valid") if "train" in files else None
    return finetune(
        options.model,
        train,
        out,
        task="similarity",
        similarity_loss=method,
        valid=valid,
        test=files["test"],
        pooling=options.pooling,
        seed=seed,
        epochs=options.epochs,
        batch_size=options.batch_size,
        max_length=options.max_length,
        learning_rate=options.learning_rate,
        train_layers=options.train_layers,
        head_lr_multiplier=options.head_lr_multiplier if method == "sbert" else None,
        num_hidden_layers=1 if options.quick else None,
        save_every=50,
        resume=True,
        quiet=options.quick,
    )


def settings_of(options, method):
    """What a row depends on besides set, model, method and seed; without training it is less."""
    names = {
        "zero-shot": ENCODING,
        "cosent": ENCODING + TRAINING,
        "sbert": ENCODING + TRAINING + ("head_lr_multiplier",),
    }[method]
    return {name: getattr(options, name) for name in names}


def run(options, files, method, seed, out):
    """What one run adds to its key: the metrics on the test file and how the training went."""
    K.clear_session()
    if method == "zero-shot":
        metrics, more = zero_shot(options, files), {}
    else:
        train = files.get("train", files.get("valid"))
        metrics = trained(options, files, method, seed, out)
        more = {key: metrics[key] for key in ("best_epoch", "seconds")}
        more.update(trained_on=os.path.basename(train), valid_spearman=metrics["valid"]["spearman"])
    return dict(more, **{key: metrics["test"][key] for key in ("pairs", "spearman", "pearson")})


def main(argv=None):
    """Run what has no row yet; returns the rows."""
    options = parse(argv)
    quiet()
    rows = []
    # Seeds outside: if it is cut short, every method has the same number of them.
    for seed in options.seeds:
        for name in options.sets:
            files = files_of(options.data, name)
            for method in options.methods:
                if method == "zero-shot" and seed != options.seeds[0]:
                    continue  # nothing in it is drawn
                key = {"set": name, "method": method, "seed": 0 if method == "zero-shot" else seed}
                key.update(model=options.model, settings=settings_of(options, method))
                row = last_row("rows", options.out, **key)
                if row is None:
                    out = os.path.join(options.out, "%s-%s-seed%d" % (name, method, seed))
                    row = record("rows", dict(key, **run(options, files, method, seed, out)), options.out)
                rows.append(row)
                print("%s %s seed %d: Spearman %.4f" % (name, method, key["seed"], row["spearman"]), flush=True)
    print(side_by_side(rows, row="method", column="set", value="spearman"))
    return rows


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("similarity_cosent: %s" % error)
