"""All tasks that the trainer trains, each in one small run on a tiny model, for tests and processes of theirs."""

import json
import os
import signal
import warnings

from helpers import CHARACTERS, plain_session, tiny_bert_folder
from prompts import PATTERN, WORDS, tiny_mlm
from reviews import reviews, write_rows

from kexue_keras.backend import K, set_seed, tf1
from kexue_keras.finetune import MaskedLanguageModel, PairSet, SimBERT, finetune, finetune_seq2seq, train_sentence_bert
from kexue_keras.models import load
from kexue_keras.prompting import PromptClassifier
from kexue_keras.similarity import SentenceEncoder
from kexue_keras.trainer import Techniques, Trainer, accelerated

TEXTS = ["今天电影很好", "书店服务好", "我们看电影", "我喜欢书店", "今天我们看书"] * 4
GROUPS = [["我喜欢电影", "电影很好看"], ["书店服务差", "书店的服务很差"], ["上国人来", "国人来上"], ["我讨厌书", "书很坏"]]
PAIRS = [("今天电影很好", "电影"), ("书店服务好", "书店"), ("我们看电影", "电影"), ("我喜欢书店", "书店"), ("我们", "书")]
SMALL = dict(
    epochs=2, batch_size=8, max_length=16, learning_rate=3e-3, quiet=True, seed=3, num_hidden_layers=1, save_every=2
)


def make_files(place):
    """Write the tiny model and the files that tasks read into a folder."""
    tiny_bert_folder(os.path.join(place, "tiny"), num_hidden_layers=1)
    write_rows(os.path.join(place, "train.tsv"), reviews(36))
    write_rows(os.path.join(place, "valid.tsv"), reviews(8, 5))
    for name, count in (("pairs", 36), ("valid_pairs", 8)):
        rows = [
            (CHARACTERS[i % 9 : i % 9 + 5], CHARACTERS[i % 7 : i % 7 + 4 + i % 3], str(i % 3)) for i in range(count)
        ]
        write_rows(os.path.join(place, name + ".tsv"), rows)
    write_entities(os.path.join(place, "entities.bmes"), 30)
    write_maths_model(os.path.join(place, "maths"))
    write_problems(os.path.join(place, "problems.json"), 30)


def write_entities(path, count):
    """A CoNLL file of texts whose people and places stand behind words of their own."""
    with open(path, "w", encoding="utf-8") as handle:
        for i in range(count):
            name, place = CHARACTERS[i % 5 : i % 5 + 2], CHARACTERS[20 + i % 4 : 23 + i % 4]
            rows = [("他", "O"), (name[0], "B-PER"), (name[1], "E-PER"), ("在", "O")]
            rows += list(zip(place, ("B-LOC", "M-LOC", "E-LOC"))) + [("好", "O")] * (1 + i % 3)
            handle.write("".join("%s %s\n" % row for row in rows) + "\n")


def write_maths_model(path):
    """A tiny BERT whose vocabulary has digits and signs in place of characters that `write_problems` does not use."""
    tiny_bert_folder(path, num_hidden_layers=1)
    new = list("0123456789+-*/()①②③④⑤⑥⑦⑧⑨π")
    with open(os.path.join(path, "vocab.txt"), encoding="utf-8") as handle:
        tokens = handle.read().split()
    tokens = [new.pop() if new and len(token) == 1 and token not in "店有书买电影中国,." else token for token in tokens]
    assert not new
    with open(os.path.join(path, "vocab.txt"), "w", encoding="utf-8") as handle:
        handle.write("\n".join(tokens) + "\n")


def write_problems(path, count):
    """A file like those of Ape210K: sums, with and without a constant, in words that the tiny vocabulary has."""
    with open(path, "w", encoding="utf-8") as handle:
        for i in range(count):
            a, b = 2 + i % 7, 10 + 3 * i
            question, equation, answer = [
                ("店有%d书，买%d书" % (a, b), "x=%d+%d" % (a, b), "%d" % (a + b)),
                ("书店%d电影%d中国" % (b, a), "x=(%d*%d)-1" % (b, a), "%d" % (a * b - 1)),
            ][i % 2]
            row = {"id": "%d" % i, "original_text": question, "equation": equation, "ans": answer}
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def fresh_graph(plain):
    """An empty graph with the same start of all random weights, and a `plain` session, without graph rewriting."""
    K.clear_session()
    if plain:
        tf1.keras.backend.set_session(tf1.Session(config=plain_session()))
    set_seed(7)


def run_task(task, place, out, techniques=None, resume=False, plain=True):
    """Train once, in a graph of its own.

    Args:
        task: a key of `TASKS`.
        place: folder of `make_files`.
        out: folder of the run.
        techniques: dict of settings, or None.
        resume: whether to go on with the run that is there.
        plain: False leaves it to Keras to open a session.

    Returns:
        the `Trainer` at its end; the model that was trained is its `model`.
    """
    seen, train = [], Trainer._train  # a test may go on with a run before its end

    def kept(trainer):
        seen.append(trainer)
        train(trainer)

    fresh_graph(plain)
    Trainer._train = kept
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TASKS[task](lambda name: os.path.join(place, name), out, dict(techniques or {}), resume)
    finally:
        Trainer._train = train
    return seen[0]


def killed_at(number):
    """From now on the process kills itself before the step of this number."""
    train_on_batch = Trainer._train_on_batch

    def killed(trainer, step, made):
        if step == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_on_batch(trainer, step, made)

    Trainer._train_on_batch = killed


def _classification(path, out, techniques, resume):
    options = dict(SMALL, valid=path("valid.tsv"), class_weights="balanced", resume=resume, **techniques)
    finetune(path("tiny"), path("train.tsv"), out, **options)


def _similarity(loss):
    def train(path, out, techniques, resume):
        options = dict(SMALL, task="similarity", similarity_loss=loss, resume=resume, **techniques)
        finetune(path("tiny"), path("pairs.tsv"), out, valid=path("valid_pairs.tsv"), **options)

    return train


def _seq2seq(kind):
    def train(path, out, techniques, resume):
        options = dict(valid=PAIRS[:2], learning_rate=1e-2, batch_size=2, epochs=2, quiet=True, resume=resume)
        options.update(max_source_length=12, max_target_length=5, dropout_rate=0.1, save_every=2, say=lambda line: None)
        model = path("tiny")
        if kind == "t5":
            model = "small-t5"
            options.update(
                vocabulary=path("tiny/vocab.txt"), hidden_size=16, num_hidden_layers=1, num_attention_heads=2
            )
        finetune_seq2seq(model, PAIRS, out, techniques=Techniques(**techniques), **options)

    return train


def _simbert(path, out, techniques, resume):
    techniques = Techniques(**techniques)
    with accelerated(techniques):
        sim = SimBERT(path("tiny"), max_length=10, techniques=techniques)
        sim.train(GROUPS, steps=7, batch_size=3, learning_rate=1e-3, folder=out, save_every=2)


def _sentence_bert(path, out, techniques, resume):
    techniques = Techniques(**techniques)
    sets = [PairSet([tuple(group) for group in GROUPS], [1, 1, 0, 0])]
    options = dict(steps=7, batch_size=3, learning_rate=1e-3, folder=out, save_every=2)
    with accelerated(techniques):
        train_sentence_bert(SentenceEncoder(load(path("tiny")), max_length=10), sets, techniques=techniques, **options)


def _prompts(path, out, techniques, resume):
    techniques = Techniques(**techniques)
    options = dict(epochs=2, batch_size=4, learning_rate=1e-3, valid=reviews(4, 3), folder=out, save_every=2)
    with accelerated(techniques):
        classifier = PromptClassifier(tiny_mlm(), PATTERN, WORDS, max_length=32, allow_untrained_head=True)
        classifier.fit(reviews(14), TEXTS[:4], techniques=techniques, **options)


def _masked_lm(path, out, techniques, resume):
    techniques = Techniques(**techniques)
    options = dict(steps=7, batch_size=6, learning_rate=1e-3, folder=out, save_every=2)
    with accelerated(techniques):
        mlm = MaskedLanguageModel(path("tiny"), max_length=10, dropout_rate=0.1, techniques=techniques)
        mlm.train(TEXTS, valid=TEXTS, valid_every=4, **options)


def _math_word_problems(path, out, techniques, resume):
    options = dict(SMALL, task="math-word-problems", dropout_rate=0.1, **techniques)
    options.update(max_length=24, max_equation_length=10, learning_rate=1e-3)
    finetune(path("maths"), path("problems.json"), out, valid_share=0.2, resume=resume, **options)


def _ner(head):
    def train(path, out, techniques, resume):
        options = dict(SMALL, task="ner", head=head, head_size=8, valid_share=0.2, resume=resume, **techniques)
        finetune(path("tiny"), path("entities.bmes"), out, **options)

    return train


TASKS = {
    "classification": _classification,
    "cosent": _similarity("cosent"),
    "sbert": _similarity("sbert"),
    "unilm": _seq2seq("unilm"),
    "t5": _seq2seq("t5"),
    "simbert": _simbert,
    "sentence_bert": _sentence_bert,
    "prompts": _prompts,
    "masked_lm": _masked_lm,
    "math_word_problems": _math_word_problems,
    "ner": _ner("efficient-global-pointer"),
    "ner_crf": _ner("crf"),
}
