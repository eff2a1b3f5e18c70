"""Little made-up reviews in the characters of the tiny vocabulary, for the tests of fine-tuning."""

import numpy as np

GOOD, BAD, PLAIN = "好快喜欢推荐", "坏差慢讨厌", "的一是不了人我在有他书店房"


def reviews(count, seed=0, longest=14):
    """List of (text, label) with labels '好评' and '差评'; two characters of each text give the label away."""
    random = np.random.RandomState(seed)
    rows = []
    for i in range(count):
        text = list(random.choice(list(PLAIN), random.randint(3, longest)))
        for character in random.choice(list(GOOD if i % 2 else BAD), 2):
            text.insert(random.randint(len(text) + 1), character)
        rows.append(("".join(text), "好评" if i % 2 else "差评"))
    return rows


def write_rows(path, rows, separator="\t"):
    """Write rows without header; returns the path as str."""
    with open(str(path), "w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(separator.join(row) + "\n")
    return str(path)
