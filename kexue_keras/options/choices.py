"""Words and numbers by which options are checked, and which the code that carries them out takes from here."""

# Tables of texts: `data.read_table`.
TABLE_FORMATS = ("tsv", "csv", "jsonl")
MAX_LINE = 20000
# Folders of models: `checkpoints.convert`.
MODEL_FORMATS = ("tensorflow", "hf")
# `SentenceEncoder.save`.
ENCODER_FORMATS = ("tensorflow", "sentence-transformers")
# `similarity.sentence_vector`: name -> argument `with_pool` of build_transformer_model.
POOLINGS = {"cls": False, "pooler": True, "linear-pooler": "linear", "mean": False, "first-last": False, "max": False}
# Loss of `finetune --task similarity` -> factor of the learning rate for weights of its own. The classifier of sbert
# starts from noise; at the encoder's rate a few hundred steps made the vectors worse than untrained ones
# (docs/similarity.md, "Measured").
HEAD_LR_MULTIPLIERS = {"cosent": 1.0, "sbert": 20.0}
# Task of `finetune` -> validation metrics by which the best epoch can be chosen; of a loss the lowest is the best.
METRICS = {
    "classification": ("accuracy", "macro-f1", "micro-f1", "loss"),
    "similarity": ("spearman", "pearson", "loss"),
    "math-word-problems": ("accuracy", "loss"),
    "ner": ("f1", "precision", "recall", "loss"),
}
# Callbacks that log a run elsewhere.
TRACKERS = ("wandb", "mlflow")
# Factor for the head of `finetune --task ner`. At the rate of the encoder a pointer finds nothing for a hundred steps.
ENTITY_HEAD_LR_MULTIPLIER = 10.0
# Heads of `finetune --task ner`.
ENTITY_HEADS = ("global-pointer", "efficient-global-pointer", "crf")
# `models.extend_with_recompute`; the last three are layers that are recomputed one by one.
RECOMPUTE_POLICIES = ("selective", "blocks", "attention", "ffn", "layers")
# `training.FGM` and `training.GradientPenalty`.
ATTACK_TARGETS = ("matrix", "output")
PENALTY_REDUCTIONS = ("author", "per_sample")
# `training.enable_xla`: mode -> what `TF_XLA_FLAGS` has to be.
XLA_FLAGS = {
    "auto": "--tf_xla_auto_jit=1",
    "full": "--tf_xla_auto_jit=1 --tf_xla_enable_lazy_compilation=false",
    "lite": "--tf_xla_auto_jit=fusible",
}
# `export.export_model`: with TensorFlow's ops, ONNX, ONNX with matrices of whole numbers; the command also writes the
# folder of an encoder.
EXPORT_FORMATS = ("savedmodel", "onnx", "onnx-int8")
# What stands in the place of a token where its part in a decision is measured, and how vectors come into the plane.
BASELINES = ("pad", "mask", "zero")
PLANES = ("pca", "umap")
SENTENCE_TRANSFORMERS = ENCODER_FORMATS[1]
