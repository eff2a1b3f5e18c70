"""bert4keras' tokenizers in a process without TensorFlow.

They are plain Python, but the module beside them from which they take a few functions on strings imports the Keras
backend, of which these functions use nothing.
"""

import importlib
import sys
import types


def import_tokenizers():
    """Make `import bert4keras.tokenizers` work without TensorFlow; where it was imported before, nothing happens."""
    if "bert4keras.tokenizers" in sys.modules:
        return
    backend = types.ModuleType("bert4keras.backend")
    backend.K = backend.keras = backend.tf = None
    sys.modules[backend.__name__] = backend
    try:
        importlib.import_module("bert4keras.tokenizers")
    finally:
        # Whoever imports them later gets the real ones.
        for name in ("bert4keras.backend", "bert4keras.snippets"):
            sys.modules.pop(name, None)
