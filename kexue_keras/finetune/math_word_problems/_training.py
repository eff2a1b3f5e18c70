"""The task 'math-word-problems' of `finetune`: from a file of Ape210K to a model that writes equations.

BERT可以上几年级了？Seq2Seq“硬刚”小学数学应用题, kexue.fm/archives/7809: a UniLM
reads the question and writes the equation; what counts is whether the equation's value is the answer.
"""

import os
import random

import numpy as np

from kexue_keras import losses, models
from kexue_keras.backend import set_seed
from kexue_keras.data import BucketedBatches
from kexue_keras.data._batches import rows_by_step
from kexue_keras.errors import UserError
from kexue_keras.files import atomic, write_json
from kexue_keras.finetune import _report as report
from kexue_keras.finetune._encoder import checked_layers
from kexue_keras.finetune._run import metrics_of, report_divergence
from kexue_keras.finetune._run_folder import RunFolder
from kexue_keras.finetune._seq2seq import SMALL_T5, load_seq2seq
from kexue_keras.finetune.math_word_problems._answers import answer_text, counts_whole_things
from kexue_keras.finetune.math_word_problems._reader import Ape210kReader
from kexue_keras.finetune.math_word_problems._solver import MathSolver, answer_accuracy, value_of
from kexue_keras.finetune.math_word_problems._vocabulary import fit_to_vocabulary, tokenizer_before_loading, used_tokens
from kexue_keras.finetune.math_word_problems._writing import ProblemWriting
from kexue_keras.trainer import accelerated
from kexue_keras.trainer._techniques import NOT_FOR_TOKENS
from kexue_keras.training._randomness import repeatable_dropout

TASK = "math-word-problems"
MODEL = "encoder"
# Questions beyond this are rare, and the article's models cut them.
LONG_QUESTION = 150


def finetune_math_word_problems(run):
    """Train, score and save.

    Args:
        run: `Run`, whose folder is free.

    Returns:
        dict, the contents of metrics.json.

    Raises:
        UserError: see `finetune`.
    """
    options, folder = run.options, run.folder
    parts = _read_parts(options, run.say)
    measured = {name: parts[name] for name in ("valid", "test") if parts[name] is not None}
    with accelerated(run.techniques, run.say):
        set_seed(options.seed)
        with repeatable_dropout(options.seed) as random_step:
            solver = _build(options, parts["train"], run.techniques)
            model = _trained_model(solver.seq2seq, options)
        make_batch, epoch_steps = _batches(solver, parts["train"], options, run)

        def scores(name, beams):
            problems = measured[name]
            how = dict(beams=beams, batch_size=options.batch_size)
            equations = solver.equations([problem.question for problem in problems], **how)
            return equations, answer_accuracy(equations, [problem.answer for problem in problems])

        def evaluate():
            _, found = scores("valid", 1)
            pairs = _pairs(solver.writing, parts["valid"])
            loss = solver.seq2seq.token_loss(pairs, batch_size=options.batch_size)
            share = found["unreadable"] / found["total"]
            return {"loss": loss, "accuracy": found["accuracy"], "unreadable": share, "score": found["accuracy"]}

        trainer = run.train(
            model,
            make_batch,
            head=_Head(options),
            epoch_steps=epoch_steps,
            num_hidden_layers=None,
            random_step=random_step,
            evaluate=evaluate,
            facts=_facts(solver, parts),
        )
        metrics = metrics_of(trainer, main_metric=run.main_metric("accuracy"), beams=options.beams)
        for name in measured:
            equations, metrics[name] = scores(name, options.beams)
        _write_predictions(folder.file("predictions.tsv"), measured[name], equations)
        models.save(solver.seq2seq.pretrained, folder.cleared(MODEL))
    p = trainer.progress
    if report.can_draw(run.say):
        report.draw_curves(folder.file("curves.png"), p.losses, p.history, run.main_metric("accuracy"))
    write_json(folder.file("metrics.json"), metrics)
    trainer.forget()
    shown = metrics[name]
    run.say(
        "%s: %d of %d answers right, %.4f (95%% interval %.4f to %.4f), %d equations without value; best epoch %d of %d"
        % (
            ({"test": "test", "valid": "validation"}[name], shown["right"], shown["total"], shown["accuracy"])
            + tuple(shown["accuracy_interval"])
            + (shown["unreadable"], metrics["best_epoch"], len(p.history))
        )
    )
    report_divergence(metrics, folder)
    folder.finish()
    run.say("results in %s" % folder.home)
    return metrics


def check_math_word_problems(run):
    """Refuse options that do not go with the task, before any file is read.

    Args:
        run: `Run`.

    Raises:
        UserError: with what to do.
    """
    options = run.options
    run.techniques.refuse("--task " + TASK, **NOT_FOR_TOKENS)
    if options.teaforn > 1:
        run.techniques.refuse("--teaforn %d" % options.teaforn, rdrop="its loss has an answer for each order")
    for name, what in (
        ("text_column", "--text-column"),
        ("text_b_column", "--text-b-column"),
        ("label_column", "--label-column"),
        ("label_separator", "--label-separator"),
        ("train_layers", "--train-layers"),
        ("head_lr_multiplier", "--head-lr-multiplier"),
    ):
        if getattr(options, name) is not None:
            raise UserError("%s does not go with --task %s" % (what, TASK))
    if options.class_weights != "none":
        raise UserError("--class-weights does not go with --task %s: there are no classes" % TASK)
    if options.num_hidden_layers is not None and options.model != SMALL_T5:
        checked_layers(options)


class _Head(object):
    """Loss and metrics of the training."""

    def __init__(self, options):
        self.order, self.gamma = options.teaforn, options.teaforn_gamma

    @staticmethod
    def count(made):
        """The tokens that the loss of a batch is a mean over (see `trainer._ranks.Ranks`)."""
        return int(np.count_nonzero(made[1]))

    def loss(self):
        """Cross-entropy over the tokens of the equation, of all orders."""
        return losses.TeaForN(self.order, gamma=self.gamma) if self.order > 1 else losses.MaskedCrossentropy()

    def metrics(self):
        """None."""


def _trained_model(seq2seq, options):
    """The model that is trained: the language model, or its N orders, whose first the solver decodes with."""
    if options.teaforn == 1:
        return seq2seq.training_model
    return models.build_teaforn_model(seq2seq.model, options.teaforn)


def _read_parts(options, say):
    """dict train, valid, test -> list of `WordProblem` or None."""
    parts = {}
    for part in ("data", "valid", "test"):
        path = getattr(options, part)
        if path is None:
            parts[part] = None
            continue
        reader = Ape210kReader(path, brackets=options.brackets)
        if reader.dropped:
            say("%s: %d problems left out, their equations do not give the answers" % (part, len(reader.dropped)))
        long = len(reader.longer_than(LONG_QUESTION))
        if long:
            say("%s: %d questions have more than %d characters" % (part, long, LONG_QUESTION))
        odd = sum(counts_whole_things(p.question) and float(p.answer) != int(p.answer) for p in reader)
        if odd:
            say("%s: %d questions ask how many, and the answer is no whole number" % (part, odd))
        parts[part] = reader.problems
    train = parts.pop("data")
    if parts["valid"] is None:
        train = list(train)
        random.Random(options.seed).shuffle(train)
        count = max(1, int(round(len(train) * options.valid_share)))
        if count >= len(train):
            raise UserError(
                "--valid-share %g of %d problems leaves none to train on" % (options.valid_share, len(train))
            )
        parts["valid"], train = train[:count], train[count:]
        say(
            "no --valid: %d of %d problems split off for validation, seed %d"
            % (count, len(train) + count, options.seed)
        )
    parts["train"] = train
    return parts


def _build(options, train, techniques):
    """`MathSolver` with the pretrained model, not yet trained."""
    build, writing, tokenizer = {}, ProblemWriting(), tokenizer_before_loading(options.model)
    signs = {"copy": options.copy, "pi": options.pi}
    if tokenizer is not None:
        fit_to_vocabulary(writing, tokenizer, **signs)
        build["keep_tokens"] = used_tokens(tokenizer, _pairs(writing, train), writing)
    if options.num_hidden_layers is not None:
        build["num_hidden_layers"] = options.num_hidden_layers
    seq2seq = load_seq2seq(
        options.model,
        max_source_length=options.max_length,
        max_target_length=options.max_equation_length,
        dropout_rate=options.dropout_rate,
        techniques=techniques,
        **build,
    )
    if tokenizer is None:
        fit_to_vocabulary(writing, seq2seq.tokenizer, **signs)
    return MathSolver(seq2seq, writing)


def _pairs(writing, problems):
    return [(writing.source(p.question), writing.target(p.equation, p.question)) for p in problems]


def _batches(solver, problems, options, run):
    """(make_batch for `Trainer`, batches per epoch)."""
    seq2seq, pairs = solver.seq2seq, _pairs(solver.writing, problems)
    encoded = seq2seq.encode_pairs(pairs)
    cut = sum(
        len(seq2seq.tokenizer.tokenize(source)) > seq2seq.max_source_length
        or len(seq2seq.tokenizer.tokenize(target)) - 1 > seq2seq.max_target_length
        for source, target in pairs
    )
    if cut:
        run.say(
            "%d of %d training problems are longer than %d and %d tokens and were cut (--max-length, "
            "--max-equation-length)" % (cut, len(pairs), seq2seq.max_source_length, seq2seq.max_target_length)
        )
    batches = BucketedBatches(
        [(source + target, None) for source, target in encoded],
        batch_size=options.batch_size,
        max_length=seq2seq.max_source_length + seq2seq.max_target_length,
        seed=options.seed,
        bucketing=options.bucketing,
    )
    rows_of, rounding = rows_by_step(batches), run.techniques.rounding

    def make_batch(step):
        rows = [encoded[i] for i in rows_of(step)]
        if options.teaforn == 1:
            return seq2seq.training_batch(rows, rounding=rounding)
        inputs, targets = seq2seq.batch(rows, rounding=rounding)
        return inputs, targets[:, :, None]

    return make_batch, len(batches)


def _facts(solver, parts):
    """What config.json says beside the options."""
    return {
        "columns": {"text": "original_text", "text_b": None, "label": "equation"},
        "pairs": False,
        "labels": None,
        "head": TASK,
        "texts": {name: len(part) for name, part in parts.items() if part is not None},
        "writing": solver.writing.get_config(),
    }


def _write_predictions(path, problems, equations):
    with atomic(path, "w") as handle:
        handle.write("id\tright\tequation\tvalue\tanswer\ttrue_equation\tquestion\n")
        for problem, equation in zip(problems, equations):
            value = value_of(equation)
            right = answer_accuracy([equation], [problem.answer])["right"]
            answer = "" if value is None else answer_text(value, question=problem.question, equation=equation)
            cells = [problem.id, "%d" % right, equation, "" if value is None else "%s" % value, answer]
            handle.write("\t".join(map(report.one_line, cells + [problem.equation, problem.question])) + "\n")


def solver_of_run(run):
    """See `MathSolver.load`."""
    folder = RunFolder(run)
    config = folder.config()
    if config["options"].get("task") != TASK:
        raise UserError("the run is one of --task %s" % config["options"].get("task", "classification"), path=run)
    path = folder.file(MODEL)
    if not os.path.isdir(path) or not folder.is_finished:
        raise UserError("the run is not finished (no model); continue it with finetune --resume", path=run)
    lengths = {name: config["options"].get(name, default) for name, default in _LENGTHS}
    seq2seq = load_seq2seq(
        path, max_source_length=lengths["max_length"], max_target_length=lengths["max_equation_length"]
    )
    return MathSolver(seq2seq, ProblemWriting(**config["writing"]))


_LENGTHS = (("max_length", 128), ("max_equation_length", 64))
