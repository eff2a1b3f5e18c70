"""Math word problems (kexue.fm/archives/7809): Ape210K's 5,000 validation problems learned, its test problems solved.

    python benchmarks/math_word_problems.py train [--seeds 1,2,3]     a model a seed; beams 1, 2, 3 on the test part
    python benchmarks/math_word_problems.py train --no-copy           the same without copied numbers
    python benchmarks/math_word_problems.py nearest               no model: the equation of the most similar question
    python benchmarks/math_word_problems.py table

The training part of Ape210K (200,488 problems) is not used: the article's figures are those of 40 times as many. A run
that was stopped goes on; rows that are in benchmarks/results/math_word_problems.jsonl are not computed again.
"""

import argparse
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]
NAME = "math_word_problems"
SETTINGS = ("model", "num_hidden_layers", "epochs", "batch_size", "learning_rate", "copy", "teaforn")
DATA = os.path.join(HERE, "..", "..", "shared", "data", "ape210k")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("train", "nearest", "table"))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--no-copy", dest="copy", action="store_false")
    parser.add_argument("--teaforn", type=int, default=1, metavar="N")
    parser.add_argument("--model", default="me5-zh-char-mlm")
    parser.add_argument("--num-hidden-layers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--runs", default=os.path.join("runs", "math_word_problems"))
    parser.add_argument("--results", default=os.path.join(HERE, "results"))
    return parser.parse_args()


def train(options, seed):
    """Train with one seed unless its rows are there; a row for each width of the beam."""
    import record

    from kexue_keras.backend import K
    from kexue_keras.finetune import finetune
    from kexue_keras.finetune.math_word_problems import Ape210kReader, MathSolver, answer_accuracy

    key = {name: getattr(options, name) for name in SETTINGS}
    key.update(seed=seed)
    if record.recorded(NAME, options.results, beams=3, **key):
        return
    folder = os.path.join(options.runs, "-".join("%s" % key[name] for name in sorted(key)))
    how = {name: key[name] for name in SETTINGS if name != "teaforn"}
    if options.teaforn > 1:
        how["teaforn"] = options.teaforn
    part = os.path.join(options.data, "%s.ape.json.gz")
    K.clear_session()
    metrics = finetune(
        data=part % "valid",
        out=folder,
        task="math-word-problems",
        valid_share=0.05,
        seed=seed,
        save_every=25,
        resume=os.path.isdir(folder),
        **how,
    )
    problems = Ape210kReader(part % "test").problems
    K.clear_session()
    solver = MathSolver.load(folder)
    for beams in (1, 2, 3):
        begin = time.time()
        equations = solver.equations([problem.question for problem in problems], beams=beams)
        scores = answer_accuracy(equations, [problem.answer for problem in problems])
        same = sum(equation == problem.equation for equation, problem in zip(equations, problems))
        row = dict(key, beams=beams, same_equation=same, best_epoch=metrics["best_epoch"], **scores)
        row.update(train_seconds=metrics["seconds"], test_seconds=round(time.time() - begin, 1))
        row.update(history=[round(one["valid_accuracy"], 4) for one in metrics["history"]])
        print(record.record(NAME, row, options.results), flush=True)


def nearest(options):
    """The cheap rival: TF-IDF of characters, and the equation of the nearest question with its own numbers put in."""
    import numpy as np
    import record
    from sklearn.feature_extraction.text import TfidfVectorizer

    from kexue_keras.finetune.math_word_problems import Ape210kReader, ProblemWriting, answer_accuracy

    writing, part = ProblemWriting(), os.path.join(options.data, "%s.ape.json.gz")
    known, asked = (Ape210kReader(part % name).problems for name in ("valid", "test"))
    begin = time.time()
    # Without the digits: what is asked is told by the words.
    texts = [["".join(c for c in writing.source(p.question) if not c.isdigit()) for p in ps] for ps in (known, asked)]
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True).fit(texts[0])
    similarity = vectors.transform(texts[1]).dot(vectors.transform(texts[0]).T).toarray()
    signs = [{c for c in writing.target(p.equation, p.question) if c in writing.signs} for p in known]
    equations = []
    for problem, row in zip(asked, similarity):
        there = set(writing.source(problem.question)) & set(writing.signs)
        fits = np.array([needed <= there for needed in signs])
        best = known[int(np.where(fits, row, -1).argmax())]
        equations.append(writing.equation(writing.target(best.equation, best.question), problem.question))
    row = dict(answer_accuracy(equations, [problem.answer for problem in asked]), model="nearest question, TF-IDF")
    row["seconds"] = round(time.time() - begin, 1)
    print(record.record(NAME + "_nearest", row, options.results))


def table(options):
    """Mean and standard deviation over the seeds, in percent."""
    import numpy as np
    import record

    names = ("num_hidden_layers", "epochs", "copy", "teaforn", "beams")
    groups = {}
    for row in record.rows(NAME, options.results):
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    print("| %s | seeds | accuracy, %% | without value, %% | seconds, training |" % " | ".join(names))
    print("|" + "---|" * (len(names) + 4))
    for key, found in sorted(groups.items(), key=str):
        shares = [100 * row["accuracy"] for row in found]
        spread = np.std(shares, ddof=1) if len(shares) > 1 else 0.0
        unreadable = np.mean([100 * row["unreadable"] / row["total"] for row in found])
        cells = ["%s" % value for value in key] + ["%d" % len(found), "%.2f ± %.2f" % (np.mean(shares), spread)]
        print(
            "| %s | %.2f | %.0f |" % (" | ".join(cells), unreadable, np.mean([row["train_seconds"] for row in found]))
        )


def main():
    """What the command line asks for."""
    options = arguments()
    if options.what != "train":
        return {"table": table, "nearest": nearest}[options.what](options)
    for seed in map(int, options.seeds.split(",")):
        train(options, seed)


if __name__ == "__main__":
    main()
