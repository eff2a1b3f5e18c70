"""Tables of the means and spreads of runs."""

import math


def mean_and_spread(values):
    """Mean and sample standard deviation (0 for a single value).

    >>> mean_and_spread([1.0, 2.0, 3.0])
    (2.0, 1.0)
    """
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, 0.0
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def side_by_side(rows, *, row, column, value):
    """Markdown table with a line for each `row` and a cell for each `column`: mean ± spread in percent (how many).

    Args:
        rows: list of dict.
        row, column, value: keys of them; lines and columns come in the order in which they occur.

    >>> runs = [{'method': 'PET', 'task': 'tnews', 'accuracy': a} for a in (.5, .6)]
    >>> print(side_by_side(runs, row='method', column='task', value='accuracy'))
    | | tnews |
    |---|---|
    | PET | 55.00 ± 7.07 (2) |
    """
    columns = list(dict.fromkeys(one[column] for one in rows))
    lines = ["| | %s |" % " | ".join(columns), "|---|" + "---|" * len(columns)]
    for name in dict.fromkeys(one[row] for one in rows):
        cells = []
        for other in columns:
            values = [100 * one[value] for one in rows if (one[row], one[column]) == (name, other)]
            cells.append("%.2f ± %.2f (%d)" % (mean_and_spread(values) + (len(values),)) if values else "")
        lines.append("| %s | %s |" % (name, " | ".join(cells)))
    return "\n".join(lines)
