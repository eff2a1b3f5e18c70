"""Faults of bert4keras 0.11.5 and Keras 2.3.1 that a script takes over, by the name that it uses.

Each was measured (docs/migration.md has the numbers); what only is slow or can be written shorter is none.
"""

from collections import namedtuple

# fault: what is wrong; instead: what to write, with this package imported as `kexue_keras`; page: below docs/
Fault = namedtuple("Fault", "fault instead page")

# Of every extension of an optimizer.
UNKNOWN = "a model with it does not load in another process: its class exists only after the same call"

ACCUMULATION = Fault(
    "updates one micro-batch late and with a race: results vary between runs, 24% off those of the large batch",
    "optimizers.GradientAccumulation(AdamW(1e-5), 4)",
    "optimizers/gradient-accumulation.md",
)
LOOKAHEAD = Fault(
    "its slow weights start at zero, so that the first synchronization multiplies all weights by alpha",
    "optimizers.Lookahead(AdamW(1e-5))",
    "optimizers/lookahead.md",
)
AVERAGING = Fault(
    "writes NaN if it is applied before the first step, and with Keras 2.3.1 does not save its averages",
    "optimizers.ExponentialMovingAverage(AdamW(1e-5)) with its callback SwapAveragedWeights",
    "optimizers/ema.md",
)
DECAY = Fault(
    UNKNOWN,
    "optimizers.AdamW(2e-5, weight_decay=0.01)",
    "optimizers/adamw.md",
)
NOT_EXTENDED = Fault(
    "does nothing: an optimizer of tf.keras itself does not assign by K.update, which the extension replaces",
    "optimizers.AdamW(2e-5, weight_decay=0.01)",
    "optimizers/adamw.md",
)
SCHEDULE = Fault(
    UNKNOWN,
    "optimizers.PiecewiseLinear(AdamW(5e-5), {1000: 1, 20000: 0})",
    "optimizers/schedules.md",
)
LAYERWISE = Fault(
    UNKNOWN,
    "optimizers.LayerwiseLearningRate(AdamW(2e-5), decay=0.9)",
    "optimizers/layerwise-learning-rate.md",
)
OTHER_EXTENSION = Fault(
    UNKNOWN,
    "call it in every script that loads the model, before load_model",
    "migration.md",
)
ADAFACTOR = Fault(
    "learning_rate is a new variable at every access, so callbacks that set the rate have no effect",
    "give the schedule to the constructor, or use optimizers.PiecewiseLinear(AdamW(...), ...)",
    "optimizers/schedules.md",
)
LION = Fault(
    "raises NameError with Keras 2.3.1, and is in no custom_objects",
    "optimizers.AdamW(...)",
    "optimizers/adamw.md",
)
ADAM = Fault(
    "reads its step counter while another operation increments it: with Keras 2.3.1 the bias correction differs from "
    "weight to weight and from run to run (the first step is 0.74 of the learning rate)",
    "optimizers.AdamW(2e-5)",
    "optimizers/adamw.md",
)
SPARSE_MULTILABEL = Fault(
    "pushes a positive class down past a logit of 16 (gradient +1), and counts duplicates of a class",
    "losses.sparse_multilabel_crossentropy",
    "losses/multilabel-crossentropy.md",
)
SOFTMAX_PLUS = Fault(
    "takes masked positions for real ones if the mask is a finite number, and gives NaN for a row that is all masked",
    "layers.EntropyInvariantAttention, or models.extend_with_entropy_invariance(BERT)",
    "layers/entropy-invariant-attention.md",
)
RESIZE = Fault(
    "changes what the model computes (logits by up to 1.0), and gives NaN for vectors of zeros",
    "models.enlarge(folder, out, k=2), which is lossless",
    "models/growth.md",
)
INFINITY = Fault(
    "was removed in bert4keras 0.11.5",
    "training.precision.enable_mixed_precision(), which finds what half precision cannot hold",
    "training/precision.md",
)
RECOMPUTE = Fault(
    "recomputes with a different dropout, drops the mask, counts repeated inputs twice, and does nothing with "
    "tf.keras",
    "models.extend_with_recompute(BERT)",
    "training/recompute.md",
)
MIXED_PRECISION = Fault(
    "bert4keras' 1e12 and 1e-12 overflow in half precision: the loss becomes NaN",
    "training.precision.enable_mixed_precision()",
    "training/precision.md",
)
TOO_LATE = Fault(
    "is set after bert4keras was imported, which reads it once at its import",
    "set it in the first lines, or in the shell",
    "migration.md",
)
EVAL = Fault(
    "executes whatever the file or the model says",
    "finetune.math_word_problems.safe_eval",
    "finetune/math-word-problems.md",
)
DISTRIBUTED = Fault(
    "a wrapper of an optimizer would count the steps of every device; those of this package refuse it",
    "one process per device, with Horovod",
    "migration.md",
)
T5_PARTS = Fault(
    "predicts with encoder and decoder of a T5 one after the other: the encoder's padding mask is lost on the way",
    "decoding.Generator, which passes it on and caches keys and values",
    "decoding.md",
)
LOAD = Fault(
    "does not know bert4keras' layers unless bert4keras.layers is imported (Unknown layer)",
    "import kexue_keras before it: everything is registered then",
    "checkpoints/load.md",
)

_OPTIMIZERS, _BACKEND = "bert4keras.optimizers.", "bert4keras.backend."
EXTENSIONS = {
    "gradient_accumulation": ACCUMULATION,
    "lookahead": LOOKAHEAD,
    "exponential_moving_average": AVERAGING,
    "weight_decay": DECAY,
    "piecewise_linear_lr": SCHEDULE,
    "parameter_wise_lr": LAYERWISE,
    "layer_adaptation": OTHER_EXTENSION,
    "lazy_optimization": OTHER_EXTENSION,
}
# Dotted name -> Fault, wherever the name is read.
NAMES = {_OPTIMIZERS + "extend_with_" + name: fault for name, fault in EXTENSIONS.items()}
NAMES.update({_OPTIMIZERS + "extend_with_%s_v2" % name: fault for name, fault in EXTENSIONS.items()})
NAMES.update({_OPTIMIZERS + name: ADAFACTOR for name in ("AdaFactor", "AdaFactorV1", "AdaFactorV2")})
NAMES.update({_OPTIMIZERS + name: LION for name in ("Lion", "LionV2")})
NAMES.update(
    {
        _BACKEND + "sparse_multilabel_categorical_crossentropy": SPARSE_MULTILABEL,
        _BACKEND + "softmax_plus": SOFTMAX_PLUS,
        _BACKEND + "recompute_grad": RECOMPUTE,
        "bert4keras.snippets.orthogonally_resize": RESIZE,
        "keras.backend.set_infinity": INFINITY,
        "tensorflow.distribute.MirroredStrategy": DISTRIBUTED,
        "tensorflow.distribute.experimental.MultiWorkerMirroredStrategy": DISTRIBUTED,
        "tensorflow.train.experimental.enable_mixed_precision_graph_rewrite": MIXED_PRECISION,
        "keras.models.load_model": LOAD,
        "keras.engine.saving.load_model": LOAD,
    }
)
# Of Keras 2.3.1 alone; `bert4keras.optimizers.Adam` is that one there.
RACING = ("keras.optimizers.Adam", "keras.optimizers.Adamax", "keras.optimizers.Nadam", "bert4keras.optimizers.Adam")
RACING_STRINGS = ("adam", "adamax", "nadam")
# A variable that turns something on, or one that is read once at the import of bert4keras.
VARIABLES = {"RECOMPUTE": RECOMPUTE, "TF_ENABLE_AUTO_MIXED_PRECISION": MIXED_PRECISION}
READ_ONCE = ("TF_KERAS", "RECOMPUTE")
