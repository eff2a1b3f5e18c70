"""Runs logged elsewhere: Weights & Biases, MLflow; neither is a dependency."""

from kexue_keras.tracking._callbacks import MLflowLogger
from kexue_keras.tracking._callbacks import WandbLogger
from kexue_keras.tracking._callbacks import tracker
