"""Two ranks make of their parts what one process makes of the whole batch (threads stand in for the processes).

`make test-distributed` runs all cases in processes that talk by Horovod; here are those in which most comes together.
"""

import numpy as np
import pytest
from rank_cases import prepared
from rank_threads import in_threads

SOME = (
    "adamw",
    "sparse as dense",
    "accumulation, sum",
    "all together",
    "loss scale skips on all ranks",
    "multitask, mgda",
    "multitask, representation",
    "InfoNCE, hard negatives",
    "FlatNCE of two views",
    "CoSENT",
    "gradient cache, InfoNCE",
    "FGM of the matrix",
)


@pytest.mark.dear
@pytest.mark.parametrize("name", SOME)
def test_two_ranks_train_as_one_process(name):
    alone, losses = prepared(name)()
    for weights, their_losses in in_threads(lambda: prepared(name), 2):
        assert len(weights) == len(alone)
        for ours, theirs in zip(alone, weights):
            np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(their_losses, losses, rtol=1e-5, atol=1e-6)


def test_every_wrapper_and_coupled_loss_has_a_case():
    """What is added to the optimizers later is not forgotten here."""
    from kexue_keras import optimizers
    from kexue_keras.backend import registered
    from kexue_keras.optimizers import Optimizer, Wrapper

    with open(__import__("rank_cases").__file__, encoding="utf-8") as handle:
        source = handle.read()
    for name in registered(Optimizer):
        public = hasattr(optimizers, name) or name == "LossScale"
        if public and name not in ("Optimizer", "Wrapper", "Schedule"):
            assert name in source, "tests/rank_cases.py has no case of %s" % name
    assert issubclass(optimizers.Distributed, Wrapper)
