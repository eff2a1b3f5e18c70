"""Paired runs: what a variant changes, which texts a seed draws, and going on where a run was cut off."""

import gzip
import json

import paired
import pytest
from intervals import packed


def test_a_variant_changes_one_thing():
    plain = paired.budget_of("sentiment", "plain")
    assert plain["epochs"] == 3 and plain["max_length"] == 64
    for variant, changed in paired.VARIANTS.items():
        budget = paired.budget_of("sentiment", variant)
        if variant == paired.FROZEN:
            assert budget == {"max_length": 64, "model": "me5-zh-sp", "frozen": True}
            continue
        assert set(changed) == {name for name in budget if budget[name] != plain.get(name)} or variant.startswith(
            "head"
        )
    assert paired.budget_of("sentiment", "plain, twice the epochs")["epochs"] == 6
    candidate = paired.budget_of("sentiment", "me5-zh-sp, rate of the head x 10")
    assert candidate == dict(plain, model="me5-zh-sp", head_lr_multiplier=10.0)


def test_a_seed_draws_what_is_learnt_from(tmp_path):
    folder = tmp_path / "sentiment"
    folder.mkdir()
    lines = ["第%d条\t%d" % (i, i % 2) for i in range(3000)]
    with gzip.open(str(folder / "sentiment.train.data.gz"), "wt", encoding="utf-8") as handle:
        handle.write("\n".join(lines[:1500]))
    (folder / "sentiment.valid.data").write_text("\n".join(lines[1500:2000]), encoding="utf-8")
    (folder / "sentiment.test.data").write_text("\n".join(lines[2000:]), encoding="utf-8")
    first, again, other = (paired.read_parts(str(tmp_path), "sentiment", seed) for seed in (1, 1, 2))
    assert first == again and first[0] != other[0] and first[1] != other[1] and first[2] == other[2]
    assert [len(part) for part in first] == [1000, 300, 1000] and first[2][0] == ("第2000条", "0")
    assert len(set(first[0])) == 1000


def test_headlines_are_read_with_all_their_labels(tmp_path):
    folder = tmp_path / "fewclue" / "tnews"
    folder.mkdir(parents=True)
    rows = "".join(json.dumps({"sentence": "标题%d" % i, "label": 100 + i % 3}) + "\n" for i in range(400))
    for name in ("train_few_all.json", "dev_few_all.json"):
        (folder / name).write_text(rows, encoding="utf-8")
    with gzip.open(str(folder / "test_public.json.gz"), "wt", encoding="utf-8") as handle:
        handle.write(rows)
    train, valid, test = paired.read_parts(str(tmp_path), "tnews", 1)
    assert (len(train), len(valid), len(test)) == (400, 300, 400) and {label for _, label in train} == {
        "100",
        "101",
        "102",
    }


def test_it_goes_on_where_it_was_cut_off(tmp_path, monkeypatch, capsys):
    ran = []

    def measure(parts, budget, *, seed, folder):
        ran.append((seed, budget.get("ema", 0)))
        right = [True, seed > 1, bool(budget.get("ema")), False]
        return {"accuracy": sum(right) / 4, "seconds": 1.0, "texts": 4, "right": packed(right)}

    monkeypatch.setattr(paired, "measure", measure)
    arguments = ["--quick", "--out", str(tmp_path)]
    paired.main(arguments)
    assert ran == [(1, 0), (1, 0.98), (2, 0), (2, 0.98)]
    path = tmp_path / "paired.jsonl"
    path.write_text("".join(path.read_text().splitlines(True)[:3]))
    capsys.readouterr()
    rows = paired.main(arguments)
    assert len(ran) == 5 and len(rows) == 4
    said = capsys.readouterr().out
    assert "| sentiment | EMA 0.98 | 62.50 ± 17.68 | 2 | +25.00 (" in said
    with pytest.raises(SystemExit):
        paired.parse(["--experiments", "sentiment"])
