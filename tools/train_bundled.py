"""Train the weights of `me5-zh-char-mlm` and `roformer-sim-zh-small`, with PyTorch in bfloat16 on a card.

    .venv/bin/python tools/train_bundled.py prepare --work MLM --text FILE[=TIMES]...
    OTHER/bin/python tools/train_bundled.py mlm --work MLM --minutes 12        (pip install torch numpy safetensors)
    .venv/bin/python tools/pack_bundled.py me5-zh-char-mlm MLM/trained

    .venv/bin/python tools/train_bundled.py prepare --work SIM --start MLM/trained --text FILE... --pairs FILE
    OTHER/bin/python tools/train_bundled.py roformer-sim --work SIM --minutes 4 3
    .venv/bin/python tools/pack_bundled.py roformer-sim-zh-small SIM/trained --bits 3

Texts stand one a line, pairs that mean the same as two columns parted by a tab; TIMES says how often a text of the file
comes in an epoch. `prepare` runs in the project's environment and writes token ids and the models to begin with.
Training measures itself on texts and pairs that are held out; killed, it goes on from WORK/point.pt. Without a card it
runs too, for trying.
"""

import argparse
import contextlib
import json
import math
import os
import sys
import time

import numpy as np

BUCKETS = (16, 24, 32, 40, 48, 64, 80, 96, 112, 128)  # lengths that batches are padded to
LONGEST = 48  # tokens of a text of a pair


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("prepare", "mlm", "roformer-sim"))
    parser.add_argument("--work", required=True, help="folder of this job; its model goes to WORK/trained")
    parser.add_argument("--seed", type=int, default=1)
    of_texts = parser.add_argument_group("prepare")
    of_texts.add_argument("--text", nargs="+", default=[], metavar="FILE[=TIMES]")
    of_texts.add_argument("--pairs", metavar="FILE", help="for roformer-sim")
    of_texts.add_argument("--start", default="me5-zh-char", help="bundled name or folder (%(default)s)")
    of_texts.add_argument("--teacher", default="me5-zh-char", help="whose cosines count, with --pairs (%(default)s)")
    of_texts.add_argument("--held-out", type=int, default=1000, help="texts, and half as many pairs (%(default)s)")
    training = parser.add_argument_group("training")
    training.add_argument("--minutes", type=float, nargs="+", default=[12.0], help="of each phase, over all calls")
    training.add_argument("--steps", type=int, help="of each phase, in place of --minutes")
    training.add_argument("--tokens", type=int, default=65536, help="a batch, padding included (%(default)s)")
    training.add_argument("--learning-rate", type=float, nargs="+", help="of each phase (5e-4; 3e-4 1e-4)")
    training.add_argument("--head-steps", type=int, default=150, help="only a new head learns (%(default)s)")
    training.add_argument("--mask-rate", type=float, default=0.2, help="share of tokens to predict (%(default)s)")
    training.add_argument("--spans", type=float, default=0.5, help="share of rows in which spans are hidden")
    training.add_argument("--batch-pairs", type=int, default=384, help="each in both directions (%(default)s)")
    training.add_argument("--noise", type=float, default=0.5, help="share of sources that are damaged (%(default)s)")
    training.add_argument("--scale", type=float, default=20.0, help="of the contrast's cosines (%(default)s)")
    training.add_argument("--teacher-weight", type=float, default=30.0, help="of its cosines (%(default)s)")
    training.add_argument("--dropout", type=float, default=0.1, help="while pairs are trained (%(default)s)")
    training.add_argument("--every", type=float, default=30.0, help="seconds between lines (%(default)s)")
    return parser.parse_args(argv)


# ---------------------------------------------------------------------------------------------------------- prepare
def prepare(options):
    """Write WORK/start, WORK/teacher, WORK/texts.npz, WORK/pairs.npz and WORK/tokens.json."""
    import warnings

    from kexue_keras import models
    from kexue_keras.data import encode

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a head that is missing starts from random weights
        start = models.load(options.start, with_mlm="linear", missing="initialise")
    tokenizer, longest = start.tokenizer, min(BUCKETS[-1], start.config["max_position_embeddings"])
    models.save(start, os.path.join(options.work, "start"), format="hf", overwrite=True)
    random = np.random.RandomState(options.seed)

    def lines(path):
        with open(path, encoding="utf-8") as handle:
            return [line.rstrip("\n") for line in handle if line.strip()]

    def written(name, texts, **more):
        rows = [np.asarray(ids[1:-1], "int32") for ids, _ in encode(tokenizer, texts, longest)[0]]
        lengths = np.array([len(row) for row in rows])
        np.savez(os.path.join(options.work, name), tokens=np.concatenate(rows), lengths=lengths, **more)
        print("%s: %d texts, %d tokens" % (name, len(rows), lengths.sum()))

    texts, times = [], []
    for part in options.text:
        path, _, often = part.partition("=")
        found = lines(path)
        texts += found
        times += [float(often or 1)] * len(found)
    order = random.permutation(len(texts))
    held, rest = order[: options.held_out], order[options.held_out :]
    written("held_out.npz", [texts[i] for i in held])
    written("texts.npz", [texts[i] for i in rest], times=np.array(times)[rest])
    if options.pairs:
        models.save(models.load(options.teacher), os.path.join(options.work, "teacher"), format="hf", overwrite=True)
        pairs = [line.split("\t")[:2] for line in lines(options.pairs) if "\t" in line]
        pairs = [pairs[i] for i in random.permutation(len(pairs))]
        written("pairs.npz", [text for pair in pairs for text in pair], held_out=options.held_out // 2)
    ids = {name: tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]", "[MASK]")}
    with open(os.path.join(options.work, "tokens.json"), "w") as handle:
        json.dump(dict(ids, new_head="cls/predictions/output_bias" in " ".join(start.fresh_variables)), handle)


# ------------------------------------------------------------------------------------------------------------ texts
def epoch(lengths, times, tokens_a_batch, random, *, longest=BUCKETS[-1]):
    """Batches (numbers of rows, padded length of `longest` at most) of an epoch in random order.

    A row comes `times` times, fractions by chance.
    """
    buckets = [length for length in BUCKETS if length < longest] + [min(longest, BUCKETS[-1])]
    rows = np.repeat(np.arange(len(lengths)), np.floor(times + random.random_sample(len(times))).astype(int))
    random.shuffle(rows)
    bucket = np.searchsorted(buckets, np.minimum(lengths[rows] + 2, buckets[-1]))
    batches = []
    for i, length in enumerate(buckets):
        own, size = rows[bucket == i], max(1, tokens_a_batch // length)
        batches += [(own[j : j + size], length) for j in range(0, len(own), size)]
    random.shuffle(batches)
    return batches


class Texts(object):
    """Token ids on the device; batches of row numbers as `[CLS] text [SEP]`."""

    def __init__(self, path, special, device):
        import torch

        with np.load(path) as stored:
            self.lengths = stored["lengths"]
            self.times = stored["times"] if "times" in stored.files else np.ones(len(self.lengths))
            self.held_out = int(stored["held_out"]) if "held_out" in stored.files else 0
            self.flat = torch.from_numpy(stored["tokens"].astype("int64")).to(device)
        self.on_device = torch.from_numpy(self.lengths).to(device)
        self.offsets = torch.cumsum(self.on_device, 0) - self.on_device
        self.special, self.device = special, device

    def batch(self, numbers, length):
        """(tokens, which are inside), both `[B, length]`."""
        import torch

        rows = torch.as_tensor(numbers, device=self.device)
        n, place = self.on_device[rows].clamp(max=length - 2)[:, None], torch.arange(length, device=self.device)[None]
        at = (self.offsets[rows][:, None] + place - 1).clamp(0, len(self.flat) - 1)
        tokens = torch.where((place > 0) & (place <= n), self.flat[at], 0)
        tokens = torch.where(place == 0, self.special["[CLS]"], tokens)
        return torch.where(place == n + 1, self.special["[SEP]"], tokens), place <= n + 1


def hide(tokens, inside, special, vocab_size, *, rate, spans=0.0, generator=None):
    """BERT's masking: (what is seen, numbers of the places to predict in the flat batch).

    In a share `spans` of the rows runs of 1 to 3 tokens are hidden, as words are; about as many tokens in all.
    """
    import torch
    from torch.nn import functional as F

    def draw(*shape):
        return torch.rand(*shape, device=tokens.device, generator=generator)

    (rows, n), lowest = tokens.shape, max(special.values()) + 1
    free = inside & (tokens >= lowest)
    chosen = draw(rows, n) < rate
    if spans:
        # A start goes on for another token with probability .65 and for a third with .15: 1.8 tokens on average.
        start, more = draw(rows, n) < rate / 1.75, draw(rows, n)
        second = F.pad(start & (more > 0.35), (1, 0))[:, :n]
        third = F.pad(start & (more > 0.85), (2, 0))[:, :n]
        chosen = torch.where(draw(rows, 1) < spans, start | second | third, chosen)
    chosen &= free
    dice = draw(rows, n)
    others = torch.randint(lowest, vocab_size, (rows, n), device=tokens.device, generator=generator)
    seen = torch.where(chosen & (dice < 0.8), special["[MASK]"], tokens)
    seen = torch.where(chosen & (dice >= 0.8) & (dice < 0.9), others, seen)
    return seen, chosen.flatten().nonzero()[:, 0]


# ------------------------------------------------------------------------------------------------------------ tasks
class MaskedTokens(object):
    """Loss of a batch of hidden tokens, and the accuracy on texts that are held out, always the same places."""

    def __init__(self, model, options, special, device, autocast):
        self.model, self.options, self.special, self.autocast = model, options, special, autocast
        self.texts = Texts(os.path.join(options.work, "texts.npz"), special, device)
        self.held = Texts(os.path.join(options.work, "held_out.npz"), special, device)
        self.longest = model.config["max_position_embeddings"]
        self.first, self.number, self.batches = 0, -1, []

    def scores(self, texts, numbers, length, **how):
        """(logits, right tokens) of the hidden places."""
        tokens, inside = texts.batch(numbers, length)
        seen, places = hide(tokens, inside, self.special, self.model.config["vocab_size"], **how)
        with self.autocast():
            hidden = self.model(seen, None, inside[:, None, None])
            logits = self.model.logits(hidden.reshape(-1, hidden.shape[-1])[places])
        return logits.float(), tokens.flatten()[places]

    def losses(self, step):
        """List of one loss; the batches of an epoch follow from the number of the step alone."""
        from torch.nn import functional as F

        while step >= self.first + len(self.batches):
            self.first, self.number = self.first + len(self.batches), self.number + 1
            random = np.random.RandomState([self.options.seed, self.number])
            self.batches = epoch(
                self.texts.lengths, self.texts.times, self.options.tokens, random, longest=self.longest
            )
        batch = self.batches[step - self.first]
        return [
            F.cross_entropy(*self.scores(self.texts, *batch, rate=self.options.mask_rate, spans=self.options.spans))
        ]

    def measure(self):
        """Dict of the held-out accuracy."""
        import torch

        generator, right, count = torch.Generator(device=self.held.device).manual_seed(12345), 0, 0
        held, order = self.held, np.random.RandomState(0)
        for numbers, length in epoch(held.lengths, held.times, 8192, order, longest=self.longest):
            with torch.no_grad():
                logits, tokens = self.scores(self.held, numbers, length, rate=0.15, generator=generator)
            right, count = right + (logits.argmax(1) == tokens).sum().item(), count + len(tokens)
        return {"masked accuracy": right / max(count, 1)}


class SimilarTexts(object):
    """SimBERT's losses on pairs: writing the other text, the contrast within the batch, a teacher's cosines."""

    def __init__(self, model, options, special, device, autocast):
        import torch
        from torch_encoder import Encoder, read_config

        self.model, self.options, self.special, self.autocast = model, options, special, autocast
        self.texts = Texts(os.path.join(options.work, "pairs.npz"), special, device)
        folder = os.path.join(options.work, "teacher")
        self.teacher = Encoder(read_config(folder, "bert"))
        self.teacher.fill(folder)
        self.teacher.to(device).eval()
        pairs = np.arange(len(self.texts.lengths)).reshape(-1, 2)
        self.held, self.pairs = pairs[: self.texts.held_out], pairs[self.texts.held_out :]
        positions = self.teacher.config["max_position_embeddings"]
        known = np.random.RandomState(options.seed).permutation(len(self.texts.lengths))[:20000]
        length = min(64, positions)
        parts = [self.vectors(*self.texts.batch(known[i : i + 512], length)) for i in range(0, len(known), 512)]
        self.centre = torch.cat(parts).mean(0)
        # A row holds a text and, without its [CLS], another one; the teacher sees the first alone.
        self.longest = min(LONGEST, (model.config["max_position_embeddings"] + 1) // 2, positions)

    def vectors(self, tokens, inside):
        """The teacher's mean vectors."""
        import torch

        with torch.no_grad(), self.autocast():
            hidden = self.teacher(tokens, None, inside[:, None, None])
        return (hidden.float() * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)

    def rows(self, first, second, noise):
        """`[CLS] a [SEP] b [SEP]` as a UniLM sees it: tokens, segments, mask, labels; and a, undamaged, by itself."""
        import torch
        from torch.nn import functional as F

        device = self.texts.device
        most = self.longest
        a, in_a = self.texts.batch(first, most)
        b, in_b = self.texts.batch(second, most)
        clean, (na, nb) = a, (in_a.sum(1, keepdim=True), in_b.sum(1, keepdim=True) - 1)
        if noise:
            seen, _ = hide(a, in_a, self.special, self.model.config["vocab_size"], rate=0.15)
            a = torch.where(torch.rand(len(a), 1, device=device) < noise, seen, a)
        width = min(-(-int((na + nb).max()) // 16) * 16, self.model.config["max_position_embeddings"])
        place = torch.arange(width, device=device)[None]
        of_a, of_b = place.clamp(max=most - 1).expand(len(a), -1), (place - na + 1).clamp(0, most - 1)
        inside, segments = place < na + nb, ((place >= na) & (place < na + nb)).long()
        tokens = torch.where(place < na, a.gather(1, of_a), torch.where(inside, b.gather(1, of_b), 0))
        turn = torch.cumsum(segments, 1)
        mask = (turn[:, None, :] <= turn[:, :, None]) & inside[:, None, :]
        labels = F.pad(tokens[:, 1:] * segments[:, 1:], (0, 1))
        return tokens, segments, mask[:, None], labels, clean, in_a

    def forward(self, first, second, noise):
        """(loss of writing, unit vectors, the first texts, which of their tokens are inside)."""
        from torch.nn import functional as F

        tokens, segments, mask, labels, clean, inside = self.rows(first, second, noise)
        places = labels.flatten().nonzero()[:, 0]
        with self.autocast():
            hidden = self.model(tokens, segments, mask)
            logits = self.model.logits(hidden.reshape(-1, hidden.shape[-1])[places])
            vectors = self.model.pooler(hidden[:, 0])
        writing = F.cross_entropy(logits.float(), labels.flatten()[places])
        return writing, F.normalize(vectors.float(), dim=1), clean, inside

    def losses(self, step):
        """List of three losses."""
        import torch
        from torch.nn import functional as F

        random = np.random.RandomState([self.options.seed, 9, step])
        several = min(self.options.batch_pairs, len(self.pairs))
        chosen = self.pairs[random.choice(len(self.pairs), several, replace=False)]
        # Rows 2i and 2i + 1 are a pair in both directions.
        writing, unit, clean, inside = self.forward(chosen.flatten(), chosen[:, ::-1].flatten(), self.options.noise)
        cosines, me = unit @ unit.T, torch.arange(len(unit), device=unit.device)
        contrast = F.cross_entropy((self.options.scale * cosines).masked_fill(me[:, None] == me, -1e4), me ^ 1)
        wanted = F.normalize(self.vectors(clean, inside) - self.centre, dim=1)
        return [writing, contrast, self.options.teacher_weight * ((wanted @ wanted.T - cosines) ** 2).mean()]

    def measure(self):
        """Dict of the loss of writing, and how often the nearest text is the right one, of pairs held out."""
        import torch

        with torch.no_grad():
            one, u, _, _ = self.forward(self.held[:, 0], self.held[:, 1], 0)
            two, v, _, _ = self.forward(self.held[:, 1], self.held[:, 0], 0)
        right = ((u @ v.T).argmax(1) == torch.arange(len(u), device=u.device)).float().mean().item()
        return {"writing": (one + two).item() / 2, "nearest is right": right}


# --------------------------------------------------------------------------------------------------------- training
def rate_at(progress, warmup=0.05, floor=0.01):
    """Share of the highest learning rate: up linearly, down as a cosine.

    >>> [round(rate_at(x), 4) for x in (0.025, 0.05, 0.525, 1.0)]
    [0.5, 1.0, 0.505, 0.01]
    """
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    x = min(1.0, (progress - warmup) / (1 - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * x))


def train(options):
    """The phases of a command one after the other; needs torch."""
    import torch
    from torch_encoder import Encoder, read_config

    sim, start = options.command == "roformer-sim", os.path.join(options.work, "start")
    tasks = [MaskedTokens, SimilarTexts] if sim else [MaskedTokens]
    rates = options.learning_rate or ([3e-4, 1e-4] if sim else [5e-4])
    if len(rates) != len(tasks) or (not options.steps and len(options.minutes) != len(tasks)):
        sys.exit("%s has %d phases; give --minutes and --learning-rate for each" % (options.command, len(tasks)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    autocast = contextlib.nullcontext
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        autocast = lambda: torch.autocast("cuda", dtype=torch.bfloat16)  # noqa: E731
    with open(os.path.join(options.work, "tokens.json")) as handle:
        special = json.load(handle)
    new_head = special.pop("new_head")
    torch.manual_seed(options.seed)
    model = Encoder(read_config(start, "roformer" if sim else "bert"))
    absent = [name for name in model.fill(start) if not name.startswith("pooler")]
    if absent:
        sys.exit("%s lacks %s" % (start, ", ".join(absent)))
    model.to(device)
    facts = {
        key: value for key, value in sorted(vars(options).items()) if key not in ("work", "text", "pairs", "every")
    }
    state = Point(os.path.join(options.work, "point.pt"), facts)
    for phase, (task, rate) in enumerate(zip(tasks, rates)):
        if phase < state.phase:
            continue
        model.set_dropout(options.dropout if task is SimilarTexts else 0.0)
        optimizer = make_optimizer(model)
        state.restore(model, optimizer)
        job = task(model, options, special, device, autocast)
        budget = options.minutes[phase] * 60 if not options.steps else None
        head_steps = options.head_steps if new_head and task is MaskedTokens else 0
        run(job, model, optimizer, state, rate=rate, budget=budget, head_steps=head_steps)
        state.next_phase(model)
    model.save(os.path.join(options.work, "trained"), start)
    print("written to %s" % os.path.join(options.work, "trained"))


def make_optimizer(model):
    """AdamW with groups for matrices, which decay, and the rest; the head's apart."""
    import torch

    head, groups = {id(p) for p in model.head()}, {}
    for p in model.parameters():
        groups.setdefault((id(p) in head, p.ndim > 1), []).append(p)
    groups = [{"params": ps, "weight_decay": 0.01 * matrix, "head": own} for (own, matrix), ps in groups.items()]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), eps=1e-6)


class Point(object):
    """Where a run is: phase, step, seconds spent in the phase; written so that a kill leaves the last one whole."""

    def __init__(self, path, facts):
        import torch

        self.path, self.facts = path, facts
        self.phase, self.step, self.spent, self._saved = 0, 0, 0.0, None
        if os.path.exists(path):
            self._saved = torch.load(path, map_location="cpu", weights_only=False)
            if self._saved["facts"] != facts:
                sys.exit("%s is of another run: %s" % (path, self._saved["facts"]))
            self.phase, self.step, self.spent = (self._saved[key] for key in ("phase", "step", "spent"))

    def restore(self, model, optimizer):
        """Weights, the optimizer's state and the random numbers of the step."""
        import torch

        torch.manual_seed(self.facts["seed"] + self.step)
        if self._saved is not None:
            model.load_state_dict(self._saved["model"])
            if self._saved["optimizer"] is not None:
                optimizer.load_state_dict(self._saved["optimizer"])
            self._saved = None

    def save(self, model, optimizer=None):
        """Write the point."""
        import torch

        state = {"phase": self.phase, "step": self.step, "spent": self.spent, "facts": self.facts}
        state.update(model=model.state_dict(), optimizer=optimizer and optimizer.state_dict())
        torch.save(state, self.path + ".tmp")
        os.replace(self.path + ".tmp", self.path)

    def next_phase(self, model):
        """Begin the next one with these weights."""
        self.phase, self.step, self.spent = self.phase + 1, 0, 0.0
        self.save(model)


def run(job, model, optimizer, state, *, rate, budget, head_steps):
    """Train a phase to the end of its budget of seconds, or of --steps where that is None."""
    import torch

    steps, every = state.facts["steps"], job.options.every
    print("phase %d from step %d: %s" % (state.phase, state.step, measured(job, model)), flush=True)
    clock = last = saved = time.time()
    losses, done = [], False
    while not done:
        progress = state.spent / budget if budget else state.step / steps
        for group in optimizer.param_groups:
            group["lr"] = rate * rate_at(progress)
            if state.step < head_steps:
                group["lr"] = 1e-3 if group["head"] else 0.0
        parts = job.losses(state.step)
        sum(parts).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(torch.stack([part.detach().float() for part in parts]))
        state.step += 1
        if state.step % 8 == 0 and torch.cuda.is_available():
            torch.cuda.synchronize()  # so that the clock is that of the card
        now = time.time()
        state.spent, clock = state.spent + now - clock, now
        done = state.spent >= budget if budget else state.step >= steps
        if done or now - last > every:
            mean = torch.stack(losses).mean(0).tolist()
            if not np.isfinite(mean).all():
                sys.exit("the loss is no number at step %d; start again with a lower --learning-rate" % state.step)
            said = "step %d, %.0f s, losses %s" % (state.step, state.spent, " ".join("%.4f" % one for one in mean))
            print("%s, %s" % (said, measured(job, model)), flush=True)
            losses, last = [], time.time()
            clock = last
        if done or now - saved > 120:
            state.save(model, optimizer)
            clock = saved = time.time()


def measured(job, model):
    """What `job.measure` finds with dropout off, as a line."""
    model.eval()
    found = ", ".join("%s %.4f" % entry for entry in job.measure().items())
    model.train()
    return found


def main(argv=None):
    """Command line."""
    options = parse(argv)
    os.makedirs(options.work, exist_ok=True)
    (prepare if options.command == "prepare" else train)(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
