"""Train the masked language model head of an encoder on plain text, in the background, with resume.

    python experiments/pretrain_mlm.py --text FILE [FILE ...] --out RUN       one text a line; .gz as well
    python experiments/pretrain_mlm.py --quick                                (made-up text, seconds)

Killed and started again with the same options it goes on from its last saved point. RUN/model is a folder that
`kexue_keras.models.load(..., with_mlm='linear')` reads.
"""

import argparse
import gzip
import json
import os
import random
import sys

from kexue_keras.backend import quiet, set_seed
from kexue_keras.errors import UserError
from kexue_keras.finetune._masked_lm import MaskedLanguageModel


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="me5-zh-char", help="bundled name or folder (%(default)s)")
    parser.add_argument("--text", nargs="+", default=[], help="files, one text a line, or FewCLUE's json lines")
    parser.add_argument("--out", default=os.path.join("runs", "pretrain_mlm"))
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=96, help="longest text in tokens (%(default)s)")
    parser.add_argument("--frozen", type=int, default=6, help="lowest layers that stay as they are (%(default)s)")
    parser.add_argument("--mask-rate", type=float, default=0.15, help="share of the tokens to predict (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument(
        "--head-lr-multiplier", type=float, default=5.0, help="the head's rate over the others' (%(default)s)"
    )
    parser.add_argument("--held-out", type=int, default=1000, help="texts to measure on (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=200, help="steps (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.steps, options.max_length, options.held_out, options.frozen = 2, 16, 8, 0
    elif not options.text:
        parser.error("give --text FILE, one text a line")
    return options


def read(paths):
    """All texts of at least 6 characters, each once, in the order of the files."""
    texts = []
    for path in paths:
        try:
            with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as handle:
                for line in handle:
                    if path.endswith((".json", ".json.gz")):
                        row = json.loads(line)
                        texts.extend(str(row[key]) for key in ("sentence", "sentence1", "sentence2") if key in row)
                    else:
                        texts.append(line.strip())
        except FileNotFoundError:
            raise UserError("no such file; see --text", path=path)
    return list(dict.fromkeys(text for text in texts if len(text) >= 6))


def main(argv=None):
    """Train and measure; returns the list with the scores."""
    quiet()
    options = parse(argv)
    if options.quick:
        texts = ["今天天气不错，我们去公园走走%s" % ("吧" * i) for i in range(40)]
    else:
        texts = read(options.text)
    random.Random(0).shuffle(texts)
    valid, train = texts[: options.held_out], texts[options.held_out :]
    set_seed(options.seed)
    layers = {"num_hidden_layers": 1} if options.quick else {}
    mlm = MaskedLanguageModel(
        options.model, max_length=options.max_length, frozen=options.frozen, mask_rate=options.mask_rate, **layers
    )
    say = lambda line: print(line, flush=True)  # noqa: E731
    say("before: %s" % mlm.evaluate(valid))
    mlm.train(
        train,
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        head_lr_multiplier=options.head_lr_multiplier,
        seed=options.seed,
        folder=options.out,
        save_every=options.save_every,
        valid=valid,
        say=say,
    )
    scores = mlm.evaluate(valid)
    say("after: %s" % scores)
    mlm.save(os.path.join(options.out, "model"), overwrite=True)
    with open(os.path.join(options.out, "scores.json"), "w") as handle:
        json.dump(scores, handle)
    return [scores]


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("pretrain_mlm: %s" % error)
