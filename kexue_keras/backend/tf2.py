"""Everything that TensorFlow 2.16+ with tf-keras needs before bert4keras and this package run there, as one list.

Graph mode, since recompute, the gradient cache and the attacks copy graphs, and since bert4keras was written for it:

1. `choose_keras`: `TF_KERAS=1` and `TF_USE_LEGACY_KERAS=1`: bert4keras takes tf.keras, and tf.keras is tf-keras.
2. `use_graphs`: `tf.compat.v1.disable_v2_behavior()`: graphs, sessions, the control flow of TensorFlow 1.
3. `use_legacy_optimizers`: tf-keras trains a graph with its old optimizers only; they get the public names.
4. `give_bert4keras_version_1`: in bert4keras' modules `tf` is `tf.compat.v1`, whose names it uses.
5. `draw_each_time`: an initializer without a seed gives new values at each call, as in both older Kerases.

Nothing else of TensorFlow, tf-keras or bert4keras is changed anywhere in the package (tests/backend/tf2_test.py).
"""

import os
import sys

from kexue_keras import versions


def choose_keras():
    """Set the two variables by which bert4keras and TensorFlow choose their Keras, where the user has not.

    Raises:
        UnusableEnvironment: it is too late, since Keras 3 was taken before.
    """
    os.environ.setdefault("TF_KERAS", "1")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    import tensorflow as tf

    try:
        chosen = tf.keras.Model.__module__.split(".")[0]
    except (ImportError, AttributeError, RecursionError):  # TensorFlow's loader, after it has failed to load Keras 3
        chosen = None
    if chosen != "tf_keras":
        raise versions.UnusableEnvironment(
            "kexue_keras came too late: tf.keras is Keras 3 already, and bert4keras needs tf-keras; set "
            "TF_USE_LEGACY_KERAS=1, or `import kexue_keras` before bert4keras and before anything uses tf.keras"
        )
    backend = sys.modules.get("bert4keras.backend")
    if backend is not None and not backend.is_tf_keras:
        raise versions.UnusableEnvironment(
            "kexue_keras came too late: bert4keras was imported without TF_KERAS=1; set it, or import kexue_keras first"
        )


def use_graphs():
    """Graphs, sessions, and control flow made of single ops, all of which this package reads and copies."""
    import tensorflow as tf

    logging = tf.compat.v1.logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # two lines about what this turns off
    tf.compat.v1.disable_v2_behavior()
    logging.set_verbosity(before)


def use_legacy_optimizers():
    """The old optimizers under the public names, also for what bert4keras made of the new ones if it came first."""
    import tensorflow as tf

    new = tf.keras.optimizers.Optimizer
    for name, optimizer in vars(tf.keras.optimizers.legacy).items():
        if isinstance(optimizer, type):
            setattr(tf.keras.optimizers, name, optimizer)
    for optimizer in vars(sys.modules.get("bert4keras.optimizers", object)).values():
        if isinstance(optimizer, type) and new in optimizer.__bases__:
            optimizer.__bases__ = (tf.keras.optimizers.Optimizer,)


def give_bert4keras_version_1():
    """`tf.Session`, `tf.placeholder`, `tf.get_default_graph`, and `tf.where` with one condition per row."""
    import bert4keras.backend
    import bert4keras.layers
    import bert4keras.models
    import bert4keras.optimizers
    import bert4keras.snippets
    import tensorflow as tf

    # This one replaces itself by an object that passes on what the module has.
    snippets = getattr(bert4keras.snippets, "module", bert4keras.snippets)
    for module in (bert4keras.backend, bert4keras.layers, bert4keras.models, bert4keras.optimizers, snippets):
        module.tf = tf.compat.v1


def draw_each_time():
    """An initializer without a seed takes a new one from numpy at each call, as those of Keras 2.3.1 do.

    tf-keras' keep theirs: query, key, value and output of a new attention layer, which share an initializer in
    bert4keras, would start as one matrix, and so would the matrices of layers of one's own.
    """
    import numpy as np
    import tensorflow as tf

    def draw(initializer):
        # What every random initializer calls first; there it warns that the values are the same again.
        if getattr(initializer, "seed", None) is None:
            generator = initializer._random_generator
            initializer._random_generator = type(generator)(np.random.randint(10**7), rng_type=generator._rng_type)

    tf.keras.initializers.Initializer._warn_reuse = draw
