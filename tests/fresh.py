"""Fresh processes without the price of importing TensorFlow each time.

This script imports TensorFlow, Keras, what they need and the package, and forks for each request: a JSON line on its
standard input with the source, the arguments and the files that stand for the three standard streams. It answers with
the exit code, negative for a signal.
No session, thread pool or graph exists before the fork, so each child begins as after its own imports; its sessions do
not rewrite their graphs, as in the tests themselves. With the argument "bare" nothing of kexue_keras and bert4keras is
imported, and sessions are as users have them.
"""

import gc
import json
import os
import sys
import traceback
import types


def child(request):
    for number, (path, flags) in enumerate(zip(request["streams"], (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY))):
        os.dup2(os.open(path, flags), number)
    # Graphs are a hundred thousand objects, which are searched for garbage all the time otherwise.
    gc.set_threshold(100000, 20, 20)
    sys.argv = ["-c"] + request["args"]
    sys.path[0] = ""
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    code = 0
    try:
        exec(compile(request["source"], "<string>", "exec"), module.__dict__)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)  # Keras says which backend it has
    import h5py  # noqa: F401
    import jsonschema  # noqa: F401
    import numpy  # noqa: F401
    import scipy.integrate  # noqa: F401
    import scipy.special  # noqa: F401
    import tensorflow  # noqa: F401
    import tqdm  # noqa: F401

    if os.environ.get("TF_KERAS", "0") == "0":
        import keras  # noqa: F401
    if "bare" not in sys.argv[1:]:
        import kexue_keras  # noqa: F401

        tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    gc.collect()
    gc.freeze()  # what is there need not be searched by each child
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            child(request)
        status = os.waitpid(pid, 0)[1]
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        answers.write("%d\n" % code)
        answers.flush()


if __name__ == "__main__":
    serve()
