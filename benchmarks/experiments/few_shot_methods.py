"""Few labelled texts, side by side: zero-shot, frozen vectors, PET, P-tuning, ordinary fine-tuning, continued MLM.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; "P-tuning：自动构建模版，释放语言模型潜能",
kexue.fm/archives/8295; FewCLUE, arXiv 2107.07498.
"""

import json
import math
import os
import time

import numpy as np
from few_shot_untrained import SENTENCES, accuracy, by_prompt, calibrated, frozen, prompt_scores

from kexue_keras.backend import K, preserved_random_state, set_seed
from kexue_keras.errors import UserError
from kexue_keras.files import atomic
from kexue_keras.finetune import MaskedLanguageModel
from kexue_keras.finetune._finetune import finetune
from kexue_keras.models import load
from kexue_keras.models._freezing import freeze_below
from kexue_keras.prompting import PromptClassifier, Verbalizer
from kexue_keras.prompting._folder import GPT_KINDS

METHODS = {}


def method(name):
    """Decorator: put a function of a `FewShot`, which returns a dict with the key accuracy, into `METHODS`."""

    def add(function):
        METHODS[name] = function
        return function

    return add


class FewShot(object):
    """A few-shot task, and the methods that are compared on it.

    All methods that train take about `steps` steps over the labelled texts in `epochs` parts, and keep the weights that
    are best on `valid`.

    Args:
        train, valid, test: lists of (text, label).
        unlabelled: list of texts.
        patterns: list of `Pattern` or templates; the first is the one for a single pattern.
        soft_pattern: the one with soft tokens.
        words: dict label -> word or words, or a `Verbalizer`.
        model: name or folder of an encoder with a trained head.
        folder: for files of single runs.
        max_length: tokens a row.
        epochs, steps, batch_size: int, see above.
        learning_rate: rate of everything but the soft tokens.
        soft_learning_rate: rate of P-tuning.
        seed: int.
        load: dict of further arguments of `models.load`; with application='lm' or 'unilm', or kind='gpt', 'gpt2' or
            'gpt2_ml', the patterns have to end with their masks. Fine-tuning takes no GPT.
        num_hidden_layers: number of lowest layers for fine-tuning, or None: all.
        train_layers: number of highest layers to train, in all methods but P-tuning; None: everything.
        allow_untrained_head: see `PromptClassifier`.
        prompts: list of (template, words or None for `words`), asked without training beside `patterns`.
        calibration: list of texts without labels over which the prior is measured.
        mlm: dict of texts (list of str), steps and learning_rate for continued masked language modelling.
        memory: dict, shared by splits of a task: what an encoder that is not trained says of a text.
        say: function that takes a line.

    >>> rows = [('好用', '正'), ('很坏', '负')] * 2
    >>> few = FewShot(rows, rows, rows, [], patterns=['{mask}满意。{text}'], soft_pattern='[unused1]{mask}{text}',
    ...               words={'正': '很', '负': '不'}, model='me5-zh-char', allow_untrained_head=True,
    ...               load={'num_hidden_layers': 1, 'missing': 'initialise'}, max_length=16)
    >>> sorted(few.run('zero-shot'))
    ['accuracy', 'method', 'patterns', 'seconds', 'texts']
    """

    def __init__(
        self,
        train,
        valid,
        test,
        unlabelled,
        *,
        patterns,
        soft_pattern,
        words,
        model,
        folder=".",
        max_length=64,
        epochs=10,
        steps=150,
        batch_size=16,
        learning_rate=1e-4,
        soft_learning_rate=5e-3,
        seed=1,
        load=None,
        num_hidden_layers=None,
        train_layers=None,
        allow_untrained_head=False,
        prompts=(),
        calibration=(),
        mlm=None,
        memory=None,
        say=None,
    ):
        self.train, self.valid, self.test, self.unlabelled = train, valid, test, list(unlabelled)
        self.patterns, self.soft_pattern, self.model, self.folder = list(patterns), soft_pattern, model, folder
        self.verbalizer = words if isinstance(words, Verbalizer) else Verbalizer(words)
        self.max_length, self.epochs, self.batch_size, self.seed = max_length, epochs, batch_size, seed
        self.learning_rate, self.soft_learning_rate = learning_rate, soft_learning_rate
        self.load_options, self.allow_untrained_head = dict(load or {}), allow_untrained_head
        self.num_hidden_layers, self.train_layers = num_hidden_layers, train_layers
        self.repeats = max(1, int(math.ceil(steps * batch_size / (epochs * max(1, len(train))))))
        own = self.verbalizer.words
        self.prompts = [(template, own) for template in self.patterns] + [(one, words or own) for one, words in prompts]
        self.calibration, self.mlm, self.memory = list(calibration), mlm, {} if memory is None else memory
        self.say = say or (lambda line: None)

    @preserved_random_state()
    def run(self, name):
        """Run a method.

        Args:
            name: a key of `METHODS`.

        Returns:
            dict: method, accuracy (on `test`), texts, seconds, and what else the method tells.

        Raises:
            UserError: what does not go together, or a loss that is not finite.
        """
        if name not in METHODS:
            raise UserError("no method %r; there are %s" % (name, ", ".join(METHODS)))
        K.clear_session()
        set_seed(self.seed)
        began = time.time()
        try:
            result = METHODS[name](self)
        except ValueError as error:  # what a pattern, a verbalizer or a model folder has to say
            raise UserError(error)
        K.clear_session()
        row = {"method": name, "texts": len(self.test), "seconds": round(time.time() - began, 1)}
        return dict(result, **row)

    def remembered(self, key, make):
        """What `make()` returned the first time for `key`."""
        if key not in self.memory:
            self.memory[key] = make()
        return self.memory[key]

    def prompt_scores(self, model=None):
        """What all prompts say by the model as it is, or by another one, as a function of texts."""
        options = {"max_length": self.max_length, "allow_untrained_head": self.allow_untrained_head}
        return prompt_scores(model or self.model, self.prompts, options, self.load_options)

    def classifier(self, patterns, *, model=None, **options):
        """`PromptClassifier` on the model freshly loaded, or on another one."""
        given = dict(self.load_options)
        if given.get("kind") not in GPT_KINDS:  # a GPT has its head, and refuses the argument
            given.setdefault("with_mlm", "linear")
        pretrained = load(model or self.model, **given)
        if self.train_layers is not None and options.get("trained") != "soft_tokens":
            freeze_below(pretrained.bert, pretrained.bert.num_hidden_layers - self.train_layers)
        options["allow_untrained_head"] = self.allow_untrained_head
        return PromptClassifier(pretrained, patterns, self.verbalizer, max_length=self.max_length, **options)

    def fit(self, classifier, *, unlabelled=(), learning_rate=None, **more):
        """Train a prompt classifier on the labelled texts, a row for each pattern.

        Args:
            **more: further arguments of `PromptClassifier.fit`.

        Returns:
            dict: valid (the best accuracy there), accuracy on `test`, and both with the prior taken off.
        """
        history = classifier.fit(
            self.train,
            unlabelled,
            epochs=self.epochs,
            repeats=max(1, self.repeats // len(classifier.patterns)),
            batch_size=self.batch_size,
            learning_rate=learning_rate or self.learning_rate,
            valid=self.valid,
            seed=self.seed,
            say=self.say,
            **more,
        )
        return dict({"valid": max(row["valid"] for row in history)}, **self.scores_of(classifier))

    def scores_of(self, classifier):
        """accuracy of a prompt classifier on `test`, and with the prior of `calibration` taken off on both parts.

        The texts are asked once for all of it.
        """
        parts = {"accuracy": self.test, "calibrated": self.test, "calibrated_valid": self.valid}
        known = [text for text, _ in self.test + self.valid]
        each = np.stack(classifier.probabilities_by_pattern(known + self.calibration), axis=1)
        scores = {"accuracy": each[: len(self.test)]}
        if self.calibration:
            taken_off = np.exp(calibrated(np.log(each[: len(known)]), np.log(each[len(known) :])))
            scores.update(calibrated=taken_off[: len(self.test)], calibrated_valid=taken_off[len(self.test) :])
        weights = classifier.weights
        return {
            name: accuracy(np.average(one, axis=1, weights=weights), parts[name], self) for name, one in scores.items()
        }

    def finetune(self, train, name, **more):
        """Ordinary fine-tuning on `train`, repeated as for the others; (accuracy, accuracy on `valid`)."""
        folder = os.path.join(self.folder, name)
        os.makedirs(folder, exist_ok=True)
        paths = [os.path.join(folder, part + ".jsonl") for part in ("train", "valid", "test")]
        repeats = self.repeats if train is self.train else 1
        for path, rows in zip(paths, (train * repeats, self.valid, self.test)):
            write_labelled(path, rows)
        options = {} if self.num_hidden_layers is None else {"num_hidden_layers": self.num_hidden_layers}
        metrics = finetune(
            model=self.model,
            data=paths[0],
            valid=paths[1],
            test=paths[2],
            out=os.path.join(folder, "run"),
            epochs=self.epochs if train is self.train else 3,
            batch_size=self.batch_size,
            max_length=self.max_length,
            learning_rate=self.learning_rate,
            train_layers=self.train_layers,
            seed=self.seed,
            quiet=True,
            overwrite=True,
            **dict(options, **more),
        )
        return metrics["test"]["accuracy"], metrics["valid"]["accuracy"]


@method("zero-shot")
def zero_shot(few):
    """No training; what each of the prompts gives is in `patterns`."""
    found = by_prompt(few, False)
    return {"accuracy": found["first"][0], "patterns": found["each"]}


def add_zero_shot(name, way, calibrate):
    """Put a way of `by_prompt` into `METHODS`."""

    @method(name)
    def asked(few):
        found = by_prompt(few, calibrate)
        on_test, valid, pattern = found[way]
        return {"accuracy": on_test, "valid": valid, "pattern": pattern, "patterns": found["each"]}

    asked.__doc__ = "No training: %s%s." % (way, ", calibrated" if calibrate else "")


add_zero_shot("zero-shot, pattern by dev", "chosen", False)
add_zero_shot("zero-shot, all patterns", "ensemble", False)
add_zero_shot("calibrated zero-shot", "first", True)
add_zero_shot("calibrated zero-shot, pattern by dev", "chosen", True)
add_zero_shot("calibrated zero-shot, all patterns", "ensemble", True)


@method("frozen")
def frozen_own(few):
    """A regression on the mean vectors of the model."""
    return frozen(few, few.model)


@method("frozen me5-zh-sp")
def frozen_sentences(few):
    """The same on those of the bundled sentence encoder."""
    return frozen(few, SENTENCES)


def continue_mlm(name, texts, folder, *, max_length, train_layers, load_options=None, **how):
    """Train an encoder on by masked language modelling, and save it; nothing is done where the folder is there.

    Args:
        name: name or folder of an encoder with a trained head.
        texts: list of str.
        folder: where it is saved.
        max_length: tokens a row.
        train_layers: number of highest layers to train; None: everything.
        load_options: dict of further arguments of `models.load`.
        **how: steps, batch_size, learning_rate and what else `MaskedLanguageModel.train` takes.

    Returns:
        The folder.
    """
    if not os.path.exists(folder):
        model = MaskedLanguageModel(name, max_length=max_length, **(load_options or {}))
        if train_layers is not None:
            freeze_below(model.pretrained.bert, model.pretrained.bert.num_hidden_layers - train_layers)
        model.train(texts, head_lr_multiplier=1.0, seed=1, **how)
        model.save(folder)
        K.clear_session()
    return folder


def continued_mlm(few):
    """Folder of the model after masked language modelling on the task's unlabelled texts, trained once for all splits.

    Its name holds the steps and the rate, since others make another model.
    """
    task = os.path.basename(few.folder).rsplit("-", 1)[0]
    steps, rate = few.mlm["steps"], few.mlm["learning_rate"]
    return continue_mlm(
        few.model,
        few.mlm["texts"],
        os.path.join(os.path.dirname(few.folder), "%s-mlm-%d-%g" % (task, steps, rate)),
        max_length=few.max_length,
        train_layers=few.train_layers,
        load_options=few.load_options,
        steps=steps,
        batch_size=few.batch_size,
        learning_rate=rate,
        say=few.say,
    )


def continued_prompt_scores(few):
    """What all prompts say after `continued_mlm`; as `FewShot.prompt_scores`."""
    folder = continued_mlm(few)
    return few.remembered(("prompts", folder), lambda: few.prompt_scores(folder))


@method("continued MLM, then zero-shot")
def continued_mlm_zero_shot(few):
    """The prompts as in zero-shot, after masked language modelling.

    `accuracy` is that of the calibrated pattern chosen by `valid`.
    """
    scores = continued_prompt_scores(few)
    result = {"texts for MLM": len(few.mlm["texts"])}
    for calibrate, front in ((False, ""), (True, "calibrated ")):
        found = by_prompt(few, calibrate, scores=scores)
        result.update({front + way: found[way][0] for way in ("first", "chosen", "ensemble")})
        result[front + "patterns"] = found["each"]
    return dict(result, accuracy=result["calibrated chosen"])


@method("fine-tuning")
def fine_tuning(few):
    """A new classifier on the encoder, as `kexue-keras finetune` makes it."""
    on_test, valid = few.finetune(few.train, "fine-tuning")
    return {"valid": valid, "accuracy": on_test}


@method("probe, then fine-tuning")
def probe_then_fine_tuning(few):
    """The same, its head at first a regression on the encoder's vectors."""
    on_test, valid = few.finetune(few.train, "probe", head_init="probe")
    return {"valid": valid, "accuracy": on_test}


def write_labelled(path, rows):
    """Write (text, label) or ((text, text), label) as JSON lines, which hold any text and any label."""
    with atomic(path, "w") as handle:
        for text, label in rows:
            texts = {"text_a": text[0], "text_b": text[1]} if isinstance(text, tuple) else {"text": text}
            handle.write(json.dumps(dict(texts, label=label), ensure_ascii=False) + "\n")
