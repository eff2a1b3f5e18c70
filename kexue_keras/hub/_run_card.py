"""The model card of a run, from its config.json and metrics.json."""

import os

from kexue_keras.errors import UserError
from kexue_keras.hub._model_card import licence_of, model_card, write_card
from kexue_keras.schemas import read_json

# Key in metrics.json -> (what it is called, what the hub calls it, key of its interval).
SCORES = {
    "accuracy": ("accuracy", "accuracy", "accuracy_interval"),
    "macro_f1": ("macro F1", "f1", None),
    "micro_f1": ("micro F1", "f1", None),
    "f1": ("F1", "f1", "f1_interval"),
    "precision": ("precision", "precision", "precision_interval"),
    "recall": ("recall", "recall", "recall_interval"),
    "spearman": ("Spearman", "spearmanr", None),
    "pearson": ("Pearson", "pearsonr", None),
    "rouge-1": ("ROUGE-1", "rouge", None),
    "rouge-2": ("ROUGE-2", "rouge", None),
    "rouge-l": ("ROUGE-L", "rouge", None),
    "bleu": ("BLEU", "bleu", None),
}
# Task -> (task on the hub, what such a run does, how it is loaded).
_PREDICT = 'kexue-keras predict --run "PATH OF THIS FOLDER" --data FILE'
TASKS = {
    "classification": (
        "text-classification",
        "A classifier of %(texts)s",
        'from kexue_keras.finetune import Classifier\n\nclassifier = Classifier.load("PATH OF THIS FOLDER")\n'
        "classifier.predict([%(example)s])",
    ),
    "similarity": (
        "sentence-similarity",
        "Sentence vectors, trained on pairs of texts with scores",
        "from kexue_keras.similarity import SentenceEncoder\n\n"
        'encoder = SentenceEncoder.load("PATH OF THIS FOLDER/encoder")\n'
        'encoder.encode(["一个句子"])\n'
        '# A folder for sentence-transformers:\nencoder.save("hub", format="sentence-transformers")',
    ),
    "math-word-problems": ("text-generation", "Equations for questions of arithmetic", None),
    "ner": ("token-classification", "Named entities in texts", None),
    "seq2seq": (
        "text-generation",
        "One text from another",
        'from kexue_keras.finetune import load_seq2seq\n\nmodel = load_seq2seq("PATH OF THIS FOLDER/model")\n'
        'model.generate(["一段文字"])',
    ),
}


def write_run_card(folder):
    """Write README.md into the folder of a run that has its config.json and metrics.json; else nothing happens."""
    try:
        config, metrics = (
            read_json(os.path.join(folder, name), error=UserError) for name in ("config.json", "metrics.json")
        )
    except UserError:
        return
    if isinstance(config, dict) and isinstance(metrics, dict):
        write_card(folder, run_card(config, metrics))


def run_card(config, metrics):
    """The text of the card.

    Args:
        config: contents of config.json.
        metrics: contents of metrics.json.

    Returns:
        str.
    """
    options = config.get("options") or {}
    task = options.get("task", "classification") if options else "seq2seq"
    tag, about, usage = TASKS.get(task, (None, "A run of --task %s" % task, None))
    words = {"texts": "texts", "example": '"一条文本"'}
    if config.get("pairs"):
        words = {"texts": "pairs of texts", "example": '("一条文本", "另一条")'}
    base, files = options.get("model", config.get("model")), _files(config, options)
    labels = config.get("labels")
    sizes = config.get("texts") or {}
    stack = "%s, %s" % (
        config.get("stack"),
        ", ".join("%s %s" % item for item in sorted((config.get("versions") or {}).items())),
    )
    facts = {
        "from": _name(base),
        "task": task,
        "labels": None if not labels else ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else ""),
        "training data": files["train"],
        "texts": ", ".join("%s %s" % item for item in sizes.items()) or None,
        "learning rate": options.get("learning_rate", config.get("learning_rate")),
        "batch size": options.get("batch_size", config.get("batch_size")),
        "epochs": "%s, the best is %s" % (len(metrics.get("history") or ()), metrics.get("best_epoch")),
        "training diverged": metrics.get("diverged"),
        "seed": options.get("seed", config.get("seed")),
        "seconds of training": metrics.get("seconds"),
        "made with": stack if config.get("stack") else None,
    }
    title = "%s on %s" % (_name(base), files["train"])
    return model_card(
        title,
        about="%s, fine-tuned from %s with kexue_keras." % (about % words if "%(" in about else about, _name(base)),
        usage=_PREDICT if usage is None else usage % words if "%(" in usage else usage,
        language="sh" if usage is None else "python",
        facts=facts,
        metrics=list(_scores(metrics, files)),
        licence=licence_of(base),
        base_model=base,
        pipeline_tag=tag,
        tags=["keras", "bert4keras"],
    )


def _files(config, options):
    """Part -> what it is called: names of files, since their location is private."""
    if not options:
        paths = {part: (config.get(part) or {}).get("path") for part in ("train", "valid", "test")}
    else:
        paths = {"train": options.get("data"), "valid": options.get("valid"), "test": options.get("test")}
    train = _name(paths["train"]) or "texts of the caller"
    return {
        "train": train,
        "valid": _name(paths["valid"]) or "a part of %s" % train,
        "test": _name(paths["test"]) or "texts of the caller",
    }


def _name(path):
    return os.path.basename(os.path.normpath(path)) if path and (os.sep in path and os.path.isabs(path)) else path


def _scores(metrics, files):
    for part in ("valid", "test"):
        measured = metrics.get(part)
        for key, (name, kind, interval) in SCORES.items() if isinstance(measured, dict) else ():
            value = measured.get(key)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                yield {
                    "name": name,
                    "type": kind,
                    "value": value,
                    "data": files[part],
                    "part": {"valid": "validation"}.get(part, part),
                    "interval": measured.get(interval) if interval else None,
                }
