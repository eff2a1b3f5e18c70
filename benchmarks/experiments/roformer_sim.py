"""RoFormer-Sim (kexue.fm/archives/8454, 8541): train on synonyms, fine-tune on labelled pairs, distil back, generate.

    python experiments/roformer_sim.py --model FOLDER --synonyms FILE --pairs FILE [--above 2.5] [--inference FILE]
    python experiments/roformer_sim.py --quick                               (made-up synonym groups, seconds)

FILE of synonyms: one group a line, parted by tabs. FILE of pairs: text, text, score. FILE for inference (SNLI, CNSD,
CMNLI, OCNLI): text, text, contradiction or entailment or neutral; both share a head. Each stage goes on from its last
saved point. OUT/model is a folder for `similarity.SimilarQuestions` and `kexue-keras similar --generate --model
OUT/model`.
"""

import argparse
import os
import sys

from kexue_keras.backend import quiet, set_seed
from kexue_keras.data import read_inference_pairs, read_scored_pairs, word_cutter
from kexue_keras.errors import UserError
from kexue_keras.finetune import PairSet, SimBERT, train_sentence_bert
from kexue_keras.similarity import SentenceEncoder, SimilarQuestions
from kexue_keras.trainer import Techniques


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="me5-zh-char", help="BERT, RoFormer or RoFormer-Sim (%(default)s)")
    parser.add_argument("--synonyms", help="groups of texts that mean the same, one a line, parted by tabs")
    parser.add_argument("--pairs", help="scored pairs for the fine-tuning between; without it that stage is left out")
    parser.add_argument("--above", type=float, default=0.5, help="a pair is similar above this score (%(default)s)")
    parser.add_argument("--inference", help="pairs with contradiction, entailment or neutral, for the same stage")
    parser.add_argument("--out", default=os.path.join("runs", "roformer_sim"))
    parser.add_argument("--steps", type=int, nargs=3, default=[10000, 2000, 5000], help="of the stages (%(default)s)")
    parser.add_argument("--accumulate", type=int, default=1, help="batches that make one update (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=48, help="groups, or pairs (%(default)s)")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--dropout-rate", type=float, default=0.2, help="the author's value (%(default)s)")
    parser.add_argument("--words", action="store_true", help="noise hides whole words, by jieba (else characters)")
    parser.add_argument("--ask", default="今天天气怎么样", help="text to say in other words at the end")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.steps, options.batch_size, options.max_length, options.learning_rate = [2, 1, 1], 2, 12, 1e-4
    elif not options.synonyms:
        parser.error("give --synonyms FILE, or --quick")
    return options


def read(options):
    """(synonym groups, list of `PairSet`, classes of their groups)."""
    if options.quick:
        groups = [["今天天气怎么样", "今天的天气好吗"], ["怎么去公园", "公园怎么走"], ["这本书多少钱", "这书卖多少"]]
        binary = PairSet([tuple(groups[0]), (groups[0][0], groups[1][0])], [1, 0])
        return groups, [binary, PairSet.from_inference([tuple(groups[2])], ["entailment"])], (2, 3)
    # Groups have different sizes, so this is no table.
    try:
        with open(options.synonyms, encoding="utf-8") as handle:
            groups = [[text.strip() for text in line.split("\t") if text.strip()] for line in handle if line.strip()]
    except FileNotFoundError:
        raise UserError("no such file", path=options.synonyms)
    sets, classes = [], []
    if options.pairs:
        pairs, _ = read_scored_pairs(options.pairs)
        sets.append(PairSet.from_scores(pairs.texts, pairs.labels, options.above))
        classes.append(2)
    if options.inference:
        pairs = read_inference_pairs(options.inference, note=print)
        sets.append(PairSet.from_inference(pairs.texts, pairs.labels, group=len(classes)))
        classes.append(3)
    return groups, sets, classes


def main(argv=None):
    """Run the stages; returns the texts generated."""
    options = parse(argv)
    quiet()
    set_seed(1)
    groups, sets, classes = read(options)
    tiny = {"num_hidden_layers": 1} if options.quick else {}
    common = dict(batch_size=options.batch_size, learning_rate=options.learning_rate, say=print)
    techniques = Techniques(accumulate=options.accumulate)
    sim = SimBERT(
        options.model,
        max_length=options.max_length,
        words=word_cutter() if options.words else list,
        dropout_rate=options.dropout_rate,
        techniques=techniques,
        **tiny,
    )
    first, second, third = (os.path.join(options.out, stage) for stage in ("synonyms", "pairs", "distilled"))
    losses = sim.train(groups, steps=options.steps[0], folder=None if options.quick else first, **common)
    print("synonyms: loss %s" % losses[-1:])
    target = os.path.join(options.out, "model")
    sim.save(target, overwrite=True)
    if sets:
        # The teacher of the last stage: the same encoder, fine-tuned with labels; it forgets how to generate.
        teacher = SentenceEncoder(target, pooling="linear-pooler", max_length=options.max_length, **tiny)
        folder = None if options.quick else second
        steps = options.steps[1]
        how = dict(common, techniques=techniques)
        losses, _ = train_sentence_bert(teacher, sets, groups=classes, steps=steps, folder=folder, **how)
        print("pairs: loss %s" % losses[-1:])
        folder = None if options.quick else third
        losses = sim.train(groups, steps=options.steps[2], teacher=teacher, folder=folder, **common)
        print("distilled: loss %s" % losses[-1:])
        sim.save(target, overwrite=True)
    questions = SimilarQuestions(sim.pretrained, max_length=options.max_length)
    found = questions.generate(options.ask, n=8 if options.quick else 100, k=10)
    for question in found:
        print("%.4f\t%s" % (question.score, question.text))
    return found


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("roformer_sim: %s" % error)
