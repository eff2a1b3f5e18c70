"""Models and runs as ONNX or SavedModel, for predicting without Keras."""

from kexue_keras.export._export import Exported
from kexue_keras.export._export import export_model
