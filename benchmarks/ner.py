"""Named entities on Resume NER: the three heads over several seeds, beside two cheap rivals; rows in results/ner.jsonl.

    python benchmarks/ner.py --data FOLDER [--stack tf2] [--seeds 1 2 3]

FOLDER holds train, dev and test as NAME.char.bmes (also .gz). What has a row is not run again, and a run that was
killed goes on from its last saved point. The rivals: the training entities as a dictionary, longest match first; and
logistic regression of scikit-learn on each token's frozen vector, for BIOES tags.
"""

import argparse
import os
import sys
import time

import numpy as np
from record import add_stack_option, enter_stack, record, rows

MODEL = "me5-zh-char-mlm"
RIVALS = ("dictionary", "frozen vectors")
SETTINGS = ("num_hidden_layers", "epochs", "batch_size", "learning_rate", "head_lr_multiplier", "max_length")
SHOWN = ("precision", "recall", "f1", "macro_f1")


def parse():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.char.bmes(.gz) and so on")
    parser.add_argument("--out", default=os.path.join("runs", "ner"))
    parser.add_argument("--heads", nargs="+", default=["crf", "global-pointer", "efficient-global-pointer"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--num-hidden-layers", type=int, default=3, help="of the 12 of %s (%%(default)s)" % MODEL)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--head-lr-multiplier", type=float, default=10.0)
    parser.add_argument("--max-length", type=int, default=192)
    parser.add_argument("--threads", type=int, default=1)
    add_stack_option(parser, default="tf2")
    return parser.parse_args()


def one_thread(threads):
    """Keras' session with so many threads."""
    from kexue_keras.backend import tf1

    config = tf1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    tf1.keras.backend.set_session(tf1.Session(config=config))


def files_of(folder):
    """Dict train, dev, test -> path."""
    found = {}
    for part in ("train", "dev", "test"):
        paths = [os.path.join(folder, "%s.char.bmes%s" % (part, suffix)) for suffix in ("", ".gz")]
        found[part] = next(path for path in paths if os.path.exists(path))
    return found


def with_head(options, files, head, seed):
    """Scores and time of a fine-tuned model."""
    from kexue_keras.backend import K
    from kexue_keras.finetune import finetune

    K.clear_session()
    one_thread(options.threads)
    metrics = finetune(
        MODEL,
        files["train"],
        os.path.join(options.out, "%s-seed%d" % (head, seed)),
        task="ner",
        head=head,
        valid=files["dev"],
        test=files["test"],
        seed=seed,
        save_every=100,
        resume=True,
        **{name: getattr(options, name) for name in SETTINGS},
    )
    return metrics["test"], {
        "seconds": metrics["seconds"],
        "best_epoch": metrics["best_epoch"],
        "valid_f1": metrics["valid"]["f1"],
    }


def dictionary(options, parts):
    """Each training entity with its commonest label, the longest match first."""
    from collections import Counter, defaultdict

    known = defaultdict(Counter)
    for text, spans in zip(parts["train"].texts, parts["train"].labels):
        for start, end, label in spans:
            known[text[start:end]][label] += 1
    labels = {word: counts.most_common(1)[0][0] for word, counts in known.items()}
    longest, found = max(map(len, labels)), []
    for text in parts["test"].texts:
        spans, start = set(), 0
        while start < len(text):
            lengths = range(min(longest, len(text) - start), 0, -1)
            end = next((start + n for n in lengths if text[start : start + n] in labels), None)
            if end is not None:
                spans.add((start, end, labels[text[start:end]]))
            start = end or start + 1
        found.append(spans)
    return found


def frozen_vectors(options, parts):
    """Logistic regression on the vectors of the tokens, then the tags that can follow each other."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from kexue_keras import models
    from kexue_keras.backend import K
    from kexue_keras.data import BucketedBatches
    from kexue_keras.data._tags import spans_of_tags
    from kexue_keras.finetune.named_entities._chain import Chain, viterbi
    from kexue_keras.finetune.named_entities._heads import CRFHead, places
    from kexue_keras.finetune.named_entities._recognizer import as_characters
    from kexue_keras.finetune.named_entities._tokens import TokenEntities, encode_with_spans

    K.clear_session()
    one_thread(options.threads)
    encoder = models.load(MODEL, num_hidden_layers=options.num_hidden_layers)
    head = CRFHead(sorted({span[2] for spans in parts["train"].labels for span in spans}))

    def vectors(part):
        encoded, _ = encode_with_spans(encoder.tokenizer, part.texts, options.max_length)
        batches = BucketedBatches([text.ids for text in encoded], batch_size=32, max_length=options.max_length)
        found = [None] * len(encoded)
        for indices in batches.in_length_order():
            for i, row in zip(indices, encoder.model.predict_on_batch(batches.inputs(indices))):
                found[i] = row[places(encoded[i])]
        return encoded, found

    encoded, x = vectors(parts["train"])
    targets = head.targets(TokenEntities(encoded, parts["train"].labels, flat=True).rows, encoded, options.max_length)
    y = np.concatenate([row[places(text), 0] for row, text in zip(targets, encoded)]).astype("int64")
    scaler = StandardScaler().fit(np.concatenate(x))
    regression = LogisticRegression(C=0.01, max_iter=60).fit(scaler.transform(np.concatenate(x)), y)
    encoded, x = vectors(parts["test"])
    found, zeros = [], np.zeros((len(head.tags), len(head.tags)))
    for text, characters, rows_of in zip(encoded, parts["test"].texts, x):
        scores = np.full((len(rows_of), len(head.tags)), -1e3)
        scores[:, regression.classes_] = regression.predict_log_proba(scaler.transform(rows_of))
        tags, where = viterbi(Chain(zeros[0], zeros[0], zeros, scores), head.allowed), places(text)
        spans = [(where[s], where[e - 1], label, 1.0) for s, e, label in spans_of_tags([head.tags[t] for t in tags])]
        found.append({entity[:3] for entity in as_characters(characters, text.spans, spans)})
    return found


def rival(options, files, name):
    """Scores and time of a rival."""
    from kexue_keras.data import read_entities
    from kexue_keras.finetune.named_entities._scores import entity_scores, seqeval_scores

    parts, began = {part: read_entities(path) for part, path in files.items()}, time.time()
    found = {"dictionary": dictionary, "frozen vectors": frozen_vectors}[name](options, parts)
    true = [set(spans) for spans in parts["test"].labels]
    labels = sorted({span[2] for spans in parts["train"].labels for span in spans})
    scores = entity_scores(true, found, labels)
    scores["seqeval"] = seqeval_scores(parts["test"].texts, true, found)
    return scores, {"seconds": round(time.time() - began, 1)}


def table(found):
    """Markdown: mean ± spread over the seeds, in percent."""
    lines = ["| | P | R | F1 | macro F1 | 95% interval, texts | seconds | seeds |", "|---|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row["method"] for row in found):
        of_name = [row for row in found if row["method"] == name]
        cells = []
        for key in SHOWN:
            values = [100 * row[key] for row in of_name]
            cells.append(
                "%.2f ± %.2f" % (np.mean(values), np.std(values, ddof=1)) if len(values) > 1 else "%.2f" % values[0]
            )
        low, high = (100 * np.mean([row["f1_interval"][i] for row in of_name]) for i in (0, 1))
        seconds = np.mean([row["seconds"] for row in of_name])
        lines.append(
            "| %s | %s | %.1f to %.1f | %.0f | %d |" % (name, " | ".join(cells), low, high, seconds, len(of_name))
        )
    return "\n".join(lines)


def main():
    """Run what has no row yet, then print the table."""
    options = parse()
    enter_stack(options)
    files, found = files_of(options.data), []
    settings = {name: getattr(options, name) for name in SETTINGS}
    # Seeds outside: if it is cut short, every head has the same number of them.
    wanted = [(name, 0) for name in RIVALS] + [(head, seed) for seed in options.seeds for head in options.heads]
    for method, seed in wanted:
        key = {"method": method, "seed": seed, "model": MODEL, "settings": settings, "threads": options.threads}
        known = [row for row in rows("ner") if all(row[name] == value for name, value in key.items())]
        if not known:
            run = rival(options, files, method) if method in RIVALS else with_head(options, files, method, seed)
            scores, more = run
            kept = {name: scores[name] for name in SHOWN + ("f1_interval", "entities", "found", "seqeval")}
            kept["classes"] = {label: round(of["f1"], 6) for label, of in scores["classes"].items()}
            known = [record("ner", dict(key, data="resume_ner", **dict(more, **kept)))]
        found.append(known[-1])
        print("%s seed %d: F1 %.4f, %.0f s" % (method, seed, found[-1]["f1"], found[-1]["seconds"]), flush=True)
    print(table(found))


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
