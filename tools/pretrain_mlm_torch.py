"""Train the weights of `me5-zh-char-mlm` with PyTorch in bfloat16.

On a CPU with AMX a token costs a fifth of what it costs in TensorFlow 1.15, which knows no such instructions. The
training is that of benchmarks/experiments/pretrain_mlm.py, which is there for everybody else.

    .venv/bin/python tools/pretrain_mlm_torch.py prepare --text FILE [FILE ...] --work WORK
    OTHER/bin/python tools/pretrain_mlm_torch.py train --work WORK [--steps N]      (pip install torch transformers)
    .venv/bin/python tools/pretrain_mlm_torch.py measure --work WORK [--model me5-zh-char-mlm]
    .venv/bin/python tools/pack_mlm.py WORK/trained

The first and the third run in the project's environment: WORK/start and WORK/trained are ordinary model folders in
Hugging Face's format, WORK/rows.npz holds token ids. Training goes on from WORK/point.pt if it was killed.
"""

import argparse
import json
import os
import random
import sys
import time

import numpy as np

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("prepare", "train", "measure"))
    parser.add_argument("--work", required=True, help="folder of this job")
    parser.add_argument(
        "--text", nargs="+", default=[], help="prepare: files as for benchmarks/experiments/pretrain_mlm.py"
    )
    parser.add_argument("--base", default="me5-zh-char", help="prepare: the encoder to begin with (%(default)s)")
    parser.add_argument("--model", help="measure: bundled name or folder (WORK/trained)")
    parser.add_argument("--held-out", type=int, default=1000, help="texts to measure on (%(default)s)")
    parser.add_argument("--max-length", type=int, default=64, help="longest text in tokens (%(default)s)")
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--frozen", type=int, default=4, help="lowest layers that stay as they are (%(default)s)")
    parser.add_argument("--mask-rate", type=float, default=0.2, help="share of the tokens to predict (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument(
        "--head-lr-multiplier", type=float, default=3.0, help="the head's rate over the others' (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


def read_texts(options):
    """(held out, to train on), as benchmarks/experiments/pretrain_mlm.py splits them."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path.insert(0, os.path.join(root, "benchmarks", "experiments"))
    from pretrain_mlm import read

    texts = read(options.text)
    random.Random(0).shuffle(texts)
    return texts[: options.held_out], texts[options.held_out :]


def prepare(options):
    """Write the model to begin with, the rows, and the texts that are held out."""
    from kexue_keras.checkpoints._convert import save
    from kexue_keras.data import encode
    from kexue_keras.finetune._masked_lm import MaskedLanguageModel

    held_out, texts = read_texts(options)
    mlm = MaskedLanguageModel(options.base, max_length=options.max_length)
    save(mlm.pretrained, os.path.join(options.work, "start"), format="hf")
    encoded, cut = encode(mlm.tokenizer, texts, options.max_length)
    rows = [np.asarray(tokens, "int32") for tokens, _ in encoded]
    np.savez(os.path.join(options.work, "rows.npz"), tokens=np.concatenate(rows), lengths=[len(row) for row in rows])
    with open(os.path.join(options.work, "held_out.json"), "w", encoding="utf-8") as handle:
        json.dump(held_out, handle, ensure_ascii=False)
    print("%d texts, %d tokens, %d cut to %d" % (len(rows), sum(map(len, rows)), cut, options.max_length))


def measure(options):
    """Masked accuracy on the texts that were held out, 15% of their tokens hidden."""
    from kexue_keras.finetune._masked_lm import MaskedLanguageModel

    with open(os.path.join(options.work, "held_out.json"), encoding="utf-8") as handle:
        texts = json.load(handle)
    mlm = MaskedLanguageModel(options.model or os.path.join(options.work, "trained"), max_length=options.max_length)
    print(json.dumps(mlm.evaluate(texts)))


def batches_of_like_length(lengths, size, generator):
    """One epoch: lists of rows, those of a batch about equally long, in random order."""
    order = generator.permutation(len(lengths))
    pools = [order[i : i + 50 * size] for i in range(0, len(order), 50 * size)]
    batches = []
    for pool in pools:
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches.extend(pool[i : i + size] for i in range(0, len(pool), size))
    generator.shuffle(batches)
    return batches


def hide(tokens, lengths, generator, special, mask, mask_rate):
    """BERT's random masking: (what the model sees, which places it has to predict)."""
    inside = np.arange(tokens.shape[1]) < lengths[:, None]
    chosen = (generator.random_sample(tokens.shape) < mask_rate) & inside & ~np.isin(tokens, special)
    dice = generator.random_sample(tokens.shape)
    seen = np.where(chosen & (dice < 0.8), mask, tokens)
    others = generator.randint(max(special) + 1, tokens.max() + 1, tokens.shape)
    return np.where(chosen & (dice >= 0.8) & (dice < 0.9), others, seen), chosen


def train(options):
    """The training itself; needs torch and transformers."""
    import torch
    from transformers import BertForMaskedLM

    start, point = os.path.join(options.work, "start"), os.path.join(options.work, "point.pt")
    with open(os.path.join(start, "vocab.txt"), encoding="utf-8") as handle:
        ids = {line.rstrip("\n"): i for i, line in enumerate(handle)}
    special, mask = [ids[token] for token in SPECIAL if token in ids], ids["[MASK]"]
    # The fused attention is slow in bfloat16 on a CPU: its backward pass alone takes as long as all the rest.
    settings = {"attn_implementation": "eager", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = BertForMaskedLM.from_pretrained(start, **settings)
    for part in [model.bert.embeddings] + list(model.bert.encoder.layer[: options.frozen]):
        part.requires_grad_(False)
    model.cls.predictions.bias.requires_grad_(True)
    head = [p for n, p in model.named_parameters() if p.requires_grad and n.startswith("cls")]
    body = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("cls")]
    groups = [{"params": body, "factor": 1.0}, {"params": head, "factor": options.head_lr_multiplier}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
    with np.load(os.path.join(options.work, "rows.npz")) as rows:
        tokens, lengths = rows["tokens"], rows["lengths"]
    offsets = np.cumsum(lengths) - lengths
    facts = {k: v for k, v in vars(options).items() if k not in ("command", "work", "text", "model", "held_out")}
    step, orders, losses, began = 0, {}, [], time.time()
    if os.path.exists(point):
        saved = torch.load(point)
        if saved["facts"] != facts:
            sys.exit("%s is of another run: %s" % (point, saved["facts"]))
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    print("%d rows, from step %d; %d weights are trained" % (len(lengths), step, sum(p.numel() for p in head + body)))
    per_epoch = len(batches_of_like_length(lengths, options.batch_size, np.random.RandomState(0)))
    model.train()
    while step < options.steps:
        epoch = step // per_epoch
        if epoch not in orders:
            seed = np.random.RandomState([options.seed, epoch])
            orders = {epoch: batches_of_like_length(lengths, options.batch_size, seed)}
        rows = orders[epoch][step % per_epoch]
        batch = np.zeros((len(rows), lengths[rows].max()), "int64")
        for place, row in enumerate(rows):
            batch[place, : lengths[row]] = tokens[offsets[row] : offsets[row] + lengths[row]]
        generator = np.random.RandomState([options.seed, 7, step])
        seen, chosen = hide(batch, lengths[rows], generator, special, mask, options.mask_rate)
        inside = torch.from_numpy((np.arange(batch.shape[1]) < lengths[rows][:, None]).astype("int64"))
        progress, warm = step / options.steps, 0.05
        rate = min(1.0, progress / warm + 1e-3) * (0.5 + 0.5 * np.cos(np.pi * max(0.0, progress - warm) / (1 - warm)))
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * group["factor"] * rate
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.bert(torch.from_numpy(seen), attention_mask=inside)[0]
            scores = model.cls(hidden[torch.from_numpy(chosen)])
        loss = torch.nn.functional.cross_entropy(scores.float(), torch.from_numpy(batch[chosen]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(body + head, 1.0)
        optimizer.step()
        losses.append(loss.item())
        step += 1
        if not np.isfinite(losses[-1]):
            sys.exit("the loss became %s at step %d" % (losses[-1], step))
        if step % 50 == 0:
            speed = (time.time() - began) / len(losses)
            print("step %d of %d: loss %.3f, %.2f s a step" % (step, options.steps, np.mean(losses[-50:]), speed))
            sys.stdout.flush()
        if step % 200 == 0 or step == options.steps:
            state = {"facts": facts, "step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, point + ".tmp")
            os.replace(point + ".tmp", point)
    write(model, start, os.path.join(options.work, "trained"))


def write(model, start, folder):
    """The model folder `start` with the trained weights."""
    import shutil

    from safetensors.torch import load_file, save_file

    names = load_file(os.path.join(start, "model.safetensors"))
    state = model.state_dict()
    absent = [name for name in names if name not in state]
    if absent:
        sys.exit("the trained model has no %s" % ", ".join(absent))
    shutil.copytree(start, folder, dirs_exist_ok=True)
    arrays = {name: state[name].float().contiguous().clone() for name in names}
    save_file(arrays, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    print("wrote", folder)


def main(argv=None):
    """Run one of the three commands."""
    options = parse(argv)
    os.makedirs(options.work, exist_ok=True)
    {"prepare": prepare, "train": train, "measure": measure}[options.command](options)


if __name__ == "__main__":
    main()
