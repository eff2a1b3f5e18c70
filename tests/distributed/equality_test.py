"""Two ranks make of their parts what one process makes of the whole batch (threads stand in for the processes).

`make test-distributed` runs the same cases in processes that talk by Horovod.
"""

import numpy as np
import pytest
from rank_cases import CASES, prepared
from rank_threads import in_threads


@pytest.mark.parametrize("name", list(CASES))
def test_two_ranks_train_as_one_process(name):
    alone, losses = prepared(name)()
    for weights, their_losses in in_threads(lambda: prepared(name), 2):
        assert len(weights) == len(alone)
        for ours, theirs in zip(alone, weights):
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6)
        np.testing.assert_allclose(their_losses, losses, rtol=1e-5, atol=1e-6)
