"""Titles of abstracts with mT5 (kexue.fm/archives/7867), or with a UniLM: fine-tuning, beam search, ROUGE and BLEU.

    python experiments/title_generation.py --model mt5-small --data FOLDER      mt5-small: a folder with the weights
    python experiments/title_generation.py --model me5-zh-char --data FOLDER    UniLM on the bundled encoder
    python experiments/title_generation.py --model small-t5 --data FOLDER       an untrained T5, to see that all works
    python experiments/title_generation.py --quick                              made-up texts, a minute

FOLDER has train, valid and (if any) test files of CSL (https://github.com/ydli-ai/CSL): TSV with the abstract and
the title in its last two columns, or JSON lines with "abst" or "content" and "title". docs/finetune/seq2seq.md
says where the weights are to be had. Stopped, the script goes on where it was when it is started with --resume.
"""

import argparse
import collections
import glob
import os
import random
import sys

from kexue_keras.backend import quiet
from kexue_keras.errors import UserError
from kexue_keras.finetune import finetune_seq2seq, read_pairs

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.path.join(HERE, "..", "..", "..", "shared", "data", "csl")


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small-t5", help="mT5 or BERT folder, me5-zh-char, small-t5 (%(default)s)")
    parser.add_argument("--data", default=SHARED, help="folder with train*, valid* or dev*, test* (%(default)s)")
    parser.add_argument("--out", default=os.path.join("runs", "title_generation"))
    parser.add_argument("--rows", type=int, help="use only so many training pairs")
    parser.add_argument("--valid-rows", type=int, help="use only so many validation pairs")
    parser.add_argument("--num-hidden-layers", type=int, help="lowest layers of a BERT to use; layers of small-t5")
    parser.add_argument("--hidden-size", type=int, default=192, help="of small-t5 (%(default)s)")
    parser.add_argument("--epochs", type=int, default=40, help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="(%(default)s)")
    parser.add_argument("--max-source-length", type=int, default=256, help="tokens (%(default)s)")
    parser.add_argument("--max-target-length", type=int, default=32, help="tokens (%(default)s)")
    parser.add_argument("--learning-rate", type=float, help="default: 2e-4 for T5, 2e-5 for a UniLM")
    parser.add_argument("--beams", type=int, default=1, help="1 is greedy, as in the article (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    return parser.parse_args(argv)


def csl_parts(folder, rows, valid_rows):
    """Training, validation and test pairs; where CSL's training file is not there, the validation set is trained on."""

    def part(*names):
        found = sorted(path for name in names for path in glob.glob(os.path.join(folder, "*" + name + "*")))
        # CSL's benchmark has several tasks in one folder; ts is the one with titles.
        found = [path for path in found if os.path.basename(path).startswith("ts_")] or found
        return read_pairs(found[0]) if found else None

    train, valid, test = part("train"), part("valid", "val", "dev"), part("test")
    if train is None or "ts_dev.tsv.gz" in os.listdir(folder):
        # The part of CSL that is at hand has no training file for titles.
        train, valid, test = valid, test, None
    if not train or not valid:
        raise UserError("no train* and valid* (or dev*, test*) files in it", path=folder)
    return train[:rows], valid[:valid_rows], test


def write_vocabulary(path, pairs):
    """vocab.txt with the characters that occur twice in the training texts: small enough for a T5 without weights."""
    counts = collections.Counter(character for pair in pairs for text in pair for character in text.lower())
    characters = sorted(c for c, n in counts.items() if n > 1 and not c.isspace())
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + characters) + "\n")
    return path


def made_up(seed):
    """Texts whose title is their first word twice."""
    draw = random.Random(seed)
    words = ["天气", "电影", "书店", "服务", "酒店", "手机"]
    return [(draw.choice(words) + "很好，我们很喜欢。", "") for _ in range(12)]


def main(argv=None):
    """Fine-tune and score; returns the list with the metrics."""
    args = parse(argv)
    quiet()
    build = {}
    if args.quick:
        train = [(text, text[:2] * 2) for text, _ in made_up(args.seed)]
        valid, test = train[:4], None
        args.model, args.epochs, args.max_source_length, args.max_target_length = "small-t5", 1, 16, 6
        build = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    else:
        train, valid, test = csl_parts(args.data, args.rows, args.valid_rows)
        if args.num_hidden_layers:
            build = {"num_hidden_layers": args.num_hidden_layers}
        if args.model == "small-t5":
            build.update(hidden_size=args.hidden_size, num_attention_heads=args.hidden_size // 64)
    if args.model == "small-t5":
        build["vocabulary"] = write_vocabulary(args.out + ".vocab.txt", train)
    metrics = finetune_seq2seq(
        args.model,
        train,
        args.out,
        valid=valid,
        test=test,
        epochs=args.epochs,
        batch_size=args.batch_size,
        max_source_length=args.max_source_length,
        max_target_length=args.max_target_length,
        learning_rate=args.learning_rate,
        beams=args.beams,
        seed=args.seed,
        resume=args.resume,
        overwrite=args.overwrite or args.quick,
        save_every=50,
        quiet=args.quick,
        **build,
    )
    print("results in %s" % args.out)
    return [metrics]


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("title_generation: %s" % error)
