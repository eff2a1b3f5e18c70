"""Optimizer wrappers that take an optimizer instance and are optimizers themselves."""

from kexue_keras.optimizers.accumulation import FlushAccumulation, GradientAccumulation
from kexue_keras.optimizers.adamw import AdamW
from kexue_keras.optimizers.averaging import ExponentialMovingAverage, SwapAveragedWeights
from kexue_keras.optimizers.base import Optimizer, Wrapper
from kexue_keras.optimizers.exponentiated_gradient import ExponentiatedGradient
from kexue_keras.optimizers.layerwise import LayerwiseLearningRate
from kexue_keras.optimizers.lookahead import Lookahead
from kexue_keras.optimizers.momentum_accumulation import (
    MomentumAccumulationAdamW,
    MomentumAccumulationSGD,
    accumulate_in_momentum,
    beta_tilde,
)
from kexue_keras.optimizers.multitask import MultiTask
from kexue_keras.optimizers.schedules import (
    PiecewiseLinear,
    WarmupCosine,
    WarmupInverseSquareRoot,
    linear_warmup,
    stretch_schedule,
)
from kexue_keras.optimizers.step_size import ExponentiatedStepSize, ExponentiatedStepSizeMomentum

__all__ = [
    "AdamW",
    "ExponentialMovingAverage",
    "ExponentiatedGradient",
    "ExponentiatedStepSize",
    "ExponentiatedStepSizeMomentum",
    "FlushAccumulation",
    "GradientAccumulation",
    "LayerwiseLearningRate",
    "Lookahead",
    "MomentumAccumulationAdamW",
    "MomentumAccumulationSGD",
    "MultiTask",
    "Optimizer",
    "PiecewiseLinear",
    "SwapAveragedWeights",
    "WarmupCosine",
    "WarmupInverseSquareRoot",
    "Wrapper",
    "accumulate_in_momentum",
    "beta_tilde",
    "linear_warmup",
    "stretch_schedule",
]
