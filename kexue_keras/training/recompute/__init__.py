"""Recompute: less memory for more time, the same result (节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367)."""

from kexue_keras.training.recompute._budget import RecomputeBudget
from kexue_keras.training.recompute._budget import recompute_for_budget
from kexue_keras.training.recompute._memory import trace_memory
from kexue_keras.training.recompute._memory import training_memory
from kexue_keras.training.recompute._recompute import RecomputeBoundary
from kexue_keras.training.recompute._recompute import recompute
