"""One of the processes that `horovodrun` starts for the tests of tests/distributed: python rank_worker.py TASK FOLDER.

    finetune FOLDER fine-tunes with the options of FOLDER/options.json; rank 1 is killed after so many batches of this
                    process as FOLDER/kill says, if it is there
    cases FOLDER    trains every case of rank_cases.py, and rank 0 writes what came out into FOLDER
    fails FOLDER    rank 1 ends with an error in the middle of training
    killed FOLDER   rank 1 is killed in the middle of training
    late FOLDER     rank 1 does not come; the others wait for 5 seconds
"""

import os
import signal
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def cases(folder):
    from kexue_keras import distributed
    from kexue_keras.backend import K, set_seed

    distributed.init()
    from rank_cases import CASES, prepared

    for number, name in enumerate(CASES):
        print(number, name, flush=True)
        K.clear_session()
        set_seed(2021)
        weights, losses = prepared(name)()
        # That all ranks end with the same weights, bit by bit.
        first = distributed.broadcast(weights)
        equal = all(np.array_equal(a, b) for a, b in zip(weights, first))
        everywhere = distributed.average({"equal": float(equal)})["equal"] == 1
        if distributed.is_first():
            arrays = {"w%03d" % i: w for i, w in enumerate(weights)}
            np.savez(os.path.join(folder, "%03d.npz" % number), losses=losses, everywhere=everywhere, **arrays)


def finetune(folder):
    import json

    from kexue_keras import distributed
    from kexue_keras.backend import keras
    from kexue_keras.finetune import finetune

    path = os.path.join(folder, "kill")
    kill = int(open(path).read()) if os.path.exists(path) else None

    class Kill(keras.callbacks.Callback):
        batches = 0

        def on_batch_end(self, batch, logs=None):
            self.batches += 1
            if self.batches == kill and distributed.rank() == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    with open(os.path.join(folder, "options.json"), encoding="utf-8") as handle:
        finetune(callbacks=[Kill()], **json.load(handle))


def trained(on_step):
    """A small training with the trainer, in which `on_step(step)` runs on all ranks."""
    from kexue_keras import distributed
    from kexue_keras.backend import keras
    from kexue_keras.optimizers import AdamW
    from kexue_keras.trainer import Techniques, Trainer, wrapped
    from kexue_keras.trainer._ranks import Ranks

    model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])

    def make_batch(step):
        on_step(step)
        return np.ones((4, 3)), np.ones((4, 1))

    how = dict(loss="mse", optimizer=AdamW(1e-3), techniques=Techniques(), steps=6, ranks=Ranks())
    with wrapped(model, make_batch, **how) as ready:
        Trainer(ready.model, ready.make_batch, steps=6, ranks=ready.ranks).run()
    print("rank %d is done" % distributed.rank())


def ends_badly(what):
    from kexue_keras import distributed
    from kexue_keras.errors import UserError

    distributed.init(timeout=5)

    def on_step(step):
        if distributed.rank() == 1 and step == 3:
            if what == "fails":
                raise UserError("rank 1 has bad data")
            if what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(120)

    try:
        trained(on_step)
    except UserError as error:
        sys.exit("error: %s" % error)


if __name__ == "__main__":
    if sys.argv[1] in ("cases", "finetune"):
        {"cases": cases, "finetune": finetune}[sys.argv[1]](sys.argv[2])
    else:
        ends_badly(sys.argv[1])
