"""Which weight is no number, with few fetches."""

import numpy as np
import pytest

from kexue_keras.backend import K, finite, nonfinite_weight


@pytest.mark.parametrize("limit, fetches", [(2**26, [5]), (16, [1, 2, 1, 1])])
def test_the_first_that_is_no_number_is_named(monkeypatch, limit, fetches):
    shapes = [(2, 3), (1,), (3,), (4,), ()]
    weights = [K.variable(np.ones(shape), name="w%d" % i) for i, shape in enumerate(shapes)]
    whole = K.variable(np.array([2**31 - 1]), dtype="int32", name="steps")
    seen, fetch = [], K.batch_get_value
    monkeypatch.setattr(finite, "BYTES", limit)
    monkeypatch.setattr(K, "batch_get_value", lambda batch: seen.append(len(batch)) or fetch(batch))
    assert nonfinite_weight([whole] + weights) is None and seen == fetches
    assert nonfinite_weight([]) is None
    K.set_value(weights[3], [0, 1, np.inf, 0])
    K.set_value(weights[4], np.nan)
    assert nonfinite_weight([whole] + weights).startswith("w3")
