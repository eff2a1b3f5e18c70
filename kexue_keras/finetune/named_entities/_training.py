"""The task 'ner' of `finetune`: from files of texts with entities to a finished run."""

from collections import Counter

from tqdm import tqdm

from kexue_keras import models
from kexue_keras.backend import set_seed
from kexue_keras.data import BucketedBatches, read_entities
from kexue_keras.data._batches import rows_by_step
from kexue_keras.data._cells import label_cell, one_line
from kexue_keras.data._entities import ENTITIES, TEXT, check_flat, is_flat
from kexue_keras.data._examples import stratified_split
from kexue_keras.errors import UserError, shorten
from kexue_keras.files import atomic, write_json
from kexue_keras.finetune import _report as report
from kexue_keras.finetune._corpus import warn_of_overlap
from kexue_keras.finetune._encoder import freeze, load_encoder
from kexue_keras.finetune._run import metrics_of, report_divergence
from kexue_keras.finetune.named_entities._heads import HEADS
from kexue_keras.finetune.named_entities._recognizer import HEAD, TASK, EntityRecognizer, build_recognizer, save_head
from kexue_keras.finetune.named_entities._scores import entity_scores, micro_scores, seqeval_scores
from kexue_keras.finetune.named_entities._tokens import TokenEntities, encode_with_spans
from kexue_keras.tokenizing.saved import save_tokenizer
from kexue_keras.trainer import accelerated
from kexue_keras.training._randomness import repeatable_dropout

# [CLS], a character, [SEP].
SHORTEST = 3
# Texts that have the same labels, from which on these are shared out evenly.
COMMON = 20


def check_ner(run):
    """Refuse options that do not go with the task, before any file is read.

    Args:
        run: `Run`.

    Raises:
        UserError: with what to do.
    """
    options = run.options
    run.techniques.refuse("--task " + TASK, rdrop="its labels are of tokens, and R-Drop compares rows")
    if options.head == "crf":
        reason = "it takes gradients of gradients, which TensorFlow does not have for the loop of a CRF; take --fgm"
        run.techniques.refuse("--head crf", gradient_penalty=reason)
    for name in ("text_b_column", "label_separator"):
        if getattr(options, name) is not None:
            raise UserError("--%s does not go with --task %s" % (name.replace("_", "-"), TASK))
    if options.class_weights != "none":
        raise UserError("--class-weights does not go with --task %s" % TASK)
    if options.max_length < SHORTEST:
        raise UserError("--max-length is %d; with its special tokens a text has at least 3" % options.max_length)


def finetune_ner(run):
    """Train, score and save.

    Args:
        run: `Run`, whose folder is free.

    Returns:
        dict, the contents of metrics.json.

    Raises:
        UserError: see `finetune`.
    """
    options = run.options
    parts, labels, facts = _read_parts(options, run.say)
    head = HEADS[options.head](labels, head_size=options.head_size, flat=facts["flat"])
    with accelerated(run.techniques, run.say):
        set_seed(options.seed)
        pretrained, model, random_step = _build(run, head)
        recognizer = EntityRecognizer(model, pretrained.tokenizer, head, options)
        data = {
            name: Part(recognizer, examples, name, options, run.say) for name, examples in parts.items() if examples
        }
        make_batch, epoch_steps = _batches(data["train"], head, options, run.techniques.rounding)

        def evaluate():
            found, loss = data["valid"].measured(recognizer)
            scores = micro_scores(data["valid"].true, _bare(found))
            return dict(scores, loss=loss, score=scores["f1"])

        trainer = run.train(
            model,
            make_batch,
            head=head,
            epoch_steps=epoch_steps,
            num_hidden_layers=pretrained.bert.num_hidden_layers,
            random_step=random_step,
            evaluate=evaluate,
            facts=dict(facts, labels=labels, head=head.name),
            multipliers=head.multipliers(options),
        )
        return _finish(run, trainer, pretrained, recognizer, data)


class Part(object):
    """A part of the data as a model takes it.

    Args:
        recognizer: `EntityRecognizer`.
        examples: `Examples` with entities.
        name: 'train', 'valid' or 'test', for messages.
        options: namespace.
        say: function that takes a line.

    Attributes:
        examples: as given.
        encoded: list of `EncodedText`.
        entities: `TokenEntities`.
        true: list of sets of (start, end, label), in characters.
    """

    def __init__(self, recognizer, examples, name, options, say):
        def bar(texts):
            return tqdm(texts, desc="tokens", unit="text", leave=False, disable=options.quiet or len(texts) < 2000)

        self.examples = examples
        self.encoded, cut = encode_with_spans(recognizer.tokenizer, examples.texts, options.max_length, bar)
        self.entities = TokenEntities(self.encoded, examples.labels, flat=recognizer.head.flat)
        self.true = [set(spans) for spans in examples.labels]
        if cut:
            say(
                "%d of %d %s texts are longer than %d tokens and were truncated (--max-length)"
                % (cut, len(examples), name, options.max_length)
            )
        total = sum(map(len, self.true))
        if self.entities.lost:
            say(
                "%d of %d %s entities were cut off, or share their only token with another, and cannot be found"
                % (self.entities.lost, total, name)
            )
        if self.entities.moved:
            say(
                "%d of %d %s entities do not begin and end with a token of this vocabulary, so not just they can be "
                "found" % (self.entities.moved, total, name)
            )

    def measured(self, recognizer):
        """(list of lists of `Entity`, mean loss)."""
        losses, head = 0.0, recognizer.head

        def decode(indices, outputs, length):
            nonlocal losses
            encoded = [self.encoded[i] for i in indices]
            targets = head.targets([self.entities.rows[i] for i in indices], encoded, length)
            losses += float(head.loss_of(outputs, targets, encoded).sum())

        found = recognizer.decoded(self.examples.texts, self.encoded, seen=decode)
        return found, losses / len(self.examples)


def _bare(found):
    return [{entity[:3] for entity in entities} for entities in found]


def _read_parts(options, say):
    """(dict train, valid, test -> `Examples` or None, list of labels, dict of facts for config.json)."""
    how = dict(
        format=options.format,
        text=options.text_column,
        entities=options.label_column,
        max_line=options.max_line,
        say=say,
    )
    parts = {"train": read_entities(options.data, **how)}
    for name in ("valid", "test"):
        path = getattr(options, name)
        parts[name] = read_entities(path, **how) if path else None
    labels = sorted({span[2] for spans in parts["train"].labels for span in spans})
    if not labels:
        raise UserError("there is no entity in it", path=options.data)
    flat = is_flat(parts["train"])
    for examples in parts.values():
        if examples is not None:
            _check_known(examples, labels, options.data)
            if options.head == "crf":
                remedy = "--head global-pointer takes entities within each other"
                check_flat(examples, "a CRF gives each character one tag", remedy)
    if parts["valid"] is None:
        whole = parts["train"]
        keys = whole.take(range(len(whole)))
        keys.labels, keys.lines = _strata(whole), list(range(len(whole)))
        kept, held = stratified_split(keys, options.valid_share, options.seed)
        parts["train"], parts["valid"] = whole.take(kept.lines), whole.take(held.lines)
        say("no --valid: %d of %d texts split off for validation, seed %d" % (len(held), len(whole), options.seed))
    warn_of_overlap(parts, say)
    sizes = {name: len(part) for name, part in parts.items() if part is not None}
    counts = {name: sum(map(len, part.labels)) for name, part in parts.items() if part is not None}
    say("texts: %s" % ", ".join("%s %d (%d entities)" % (name, sizes[name], counts[name]) for name in sizes))
    say("%d labels: %s%s" % (len(labels), shorten(", ".join(labels), 80), "" if flat else "; some entities overlap"))
    columns = {"text": options.text_column or TEXT, "text_b": None, "label": options.label_column or ENTITIES}
    return parts, labels, {"columns": columns, "pairs": False, "texts": sizes, "flat": flat}


def _strata(examples):
    """By what the part for validation is shared out: the labels that a text has, where that is common enough."""
    labels = ["|".join(sorted({span[2] for span in spans})) for spans in examples.labels]
    counts = Counter(labels)
    return [label if counts[label] >= COMMON else "" for label in labels]


def _check_known(examples, labels, source):
    for spans, line in zip(examples.labels, examples.lines):
        for _, _, label in spans:
            if label not in labels:
                raise UserError(
                    "unknown label %r; %s has %s" % (label, source, shorten(", ".join(labels), 120)),
                    path=examples.path,
                    line=line,
                )


def _build(run, head):
    """(`PretrainedModel`, Keras model with the head, `Step` by which it draws its random numbers)."""
    options = run.options
    with repeatable_dropout(options.seed) as random_step:
        pretrained = load_encoder(options, run.techniques, special=SHORTEST)
        dropout_rate = 0.1 if options.dropout_rate is None else options.dropout_rate
        model = build_recognizer(pretrained.model, head, dropout_rate=dropout_rate, seed=options.seed)
    freeze(pretrained, model, options, run.say)
    return pretrained, model, random_step


def _batches(part, head, options, rounding):
    """(make_batch for `Trainer`, batches per epoch)."""
    batches = BucketedBatches(
        [text.ids for text in part.encoded],
        batch_size=options.batch_size,
        max_length=options.max_length,
        seed=options.seed,
        bucketing=options.bucketing,
        rounding=rounding,
    )
    rows_of = rows_by_step(batches)

    def make_batch(step):
        rows = rows_of(step)
        inputs = batches.inputs(rows)
        entities, encoded = [part.entities.rows[i] for i in rows], [part.encoded[i] for i in rows]
        return inputs, head.targets(entities, encoded, inputs[0].shape[1])

    return make_batch, len(batches)


def _finish(run, trainer, pretrained, recognizer, data):
    """Save the model and everything about it; the checkpoints are removed last."""
    folder, p = run.folder, trainer.progress
    save_tokenizer(pretrained.tokenizer, folder.path)
    models.save(pretrained, folder.cleared("encoder"))
    save_head(folder.file(HEAD), recognizer.model)
    metrics = metrics_of(trainer, main_metric=run.main_metric("f1"))
    for name in ("valid", "test"):
        if name in data:
            part, last = data[name], name
            found, loss = part.measured(recognizer)
            scores = entity_scores(part.true, _bare(found), recognizer.labels)
            metrics[name] = dict(scores, loss=loss)
            beside = seqeval_scores(part.examples.texts, part.true, _bare(found))
            metrics[name]["seqeval"] = beside if isinstance(beside, dict) else None
    if metrics[last]["seqeval"] is None:
        run.say("no scores of seqeval: %s" % beside)
    write_predictions(folder.file("predictions.tsv"), part.examples, found)
    if report.can_draw(run.say):
        report.draw_curves(folder.file("curves.png"), p.losses, p.history, "f1")
    write_json(folder.file("metrics.json"), metrics)
    trainer.forget()
    shown = metrics[last]
    for label, scores in sorted(shown["classes"].items()):
        run.say(
            "  %-12s precision %.4f, recall %.4f, F1 %.4f (%.4f to %.4f) of %d entities"
            % ((label, scores["precision"], scores["recall"], scores["f1"]) + _interval(scores) + (scores["entities"],))
        )
    run.say(
        "%s: precision %.4f, recall %.4f, F1 %.4f (95%% interval %.4f to %.4f) of %d entities in %d texts; best epoch "
        "%d of %d"
        % (
            ({"test": "test", "valid": "validation"}[last], shown["precision"], shown["recall"], shown["f1"])
            + _interval(shown)
            + (shown["entities"], shown["texts"], metrics["best_epoch"], len(p.history))
        )
    )
    report_divergence(metrics, folder)
    folder.finish()
    run.say("results in %s" % folder.home)
    return metrics


def _interval(scores):
    return tuple(scores["f1_interval"])


def write_predictions(path, examples, found):
    """TSV of all entities, the true ones and those found: line, start, end, label, verdict, score, entity."""
    with atomic(path, "w") as handle:
        handle.write("line\tstart\tend\tlabel\tverdict\tscore\tentity\n")
        for text, true, line, entities in zip(examples.texts, examples.labels, examples.lines, found):
            scores = {entity[:3]: entity.score for entity in entities}
            for span in sorted(set(true) | set(scores)):
                verdict = "missed" if span not in scores else "right" if span in true else "wrong"
                score = "%.4f" % scores[span] if span in scores else ""
                cells = ["%d" % line, "%d" % span[0], "%d" % span[1], label_cell(span[2]), verdict, score]
                handle.write("\t".join(cells + [one_line(text[span[0] : span[1]])]) + "\n")
