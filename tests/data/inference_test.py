"""Pairs for inference: the published formats, and what is refused with file and line."""

import json

import pytest

from kexue_keras.data import inference_classes, read_inference_pairs
from kexue_keras.errors import UserError
from kexue_keras.finetune import PairSet

PAIRS = [("我喜欢北京", "我不喜欢北京"), ("他在看书", "他醒着"), ("今天下雨", "他在看书")]
NAMES = ["contradiction", "entailment", "neutral"]


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def snli(pair, label, annotators=("neutral",)):
    row = {"annotator_labels": list(annotators), "captionID": "1", "gold_label": label, "pairID": "2"}
    return json.dumps(dict(row, sentence1=pair[0], sentence2=pair[1]), ensure_ascii=False)


def test_the_published_formats(tmp_path):
    said = []
    rows = [snli(*row) for row in zip(PAIRS + PAIRS[:1], NAMES + ["-"])]
    files = [
        write(tmp_path / "snli.jsonl", rows),
        write(
            tmp_path / "cmnli.json",
            [json.dumps(dict(sentence1=a, sentence2=b, label=n)) for (a, b), n in zip(PAIRS, NAMES)],
        ),
        write(tmp_path / "names.tsv", ["%s\t%s\t%s" % (a, b, n) for (a, b), n in zip(PAIRS, ["矛盾", "蕴含", "中立"])]),
        write(
            tmp_path / "numbers.csv",
            ["sentence1,sentence2,label"] + ["%s,%s,%d" % (a, b, i) for i, (a, b) in enumerate(PAIRS)],
        ),
    ]
    for path in files:
        pairs = read_inference_pairs(path, note=said.append)
        assert pairs.texts == PAIRS and pairs.labels == [0, 1, 2], path
        assert PairSet.from_inference(pairs.texts, pairs.labels).group == 1
    assert said == ["%s: 1 of 4 pairs have no agreed label (-)" % files[0]]


def test_what_is_no_label_of_inference_is_refused_with_its_line(tmp_path):
    with pytest.raises(
        UserError, match=r"a.tsv:2: the label is 'maybe'; for inference it is contradiction, entailment"
    ):
        read_inference_pairs(write(tmp_path / "a.tsv", ["一\t二\tneutral", "三\t四\tmaybe"]))
    with pytest.raises(
        UserError, match="b.tsv:2: the label is 'neutral'; for inference it is 0, 1 or 2, as in the first"
    ):
        read_inference_pairs(write(tmp_path / "b.tsv", ["一\t二\t0", "三\t四\tneutral"]))
    with pytest.raises(UserError, match="no pair has an agreed label"):
        read_inference_pairs(write(tmp_path / "c.jsonl", [snli(PAIRS[0], "-")]))
    with pytest.raises(UserError, match="which column is the second text"):
        read_inference_pairs(write(tmp_path / "d.tsv", ["text\tlabel", "一\tneutral"]))
    for wrong in ([3], [-1], [1.0], ["entails"], [True], [None]):
        with pytest.raises(UserError, match="the label is"):
            inference_classes(wrong)
