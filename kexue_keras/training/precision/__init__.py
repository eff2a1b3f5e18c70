"""Mixed precision and XLA (在bert4keras中使用混合精度和XLA加速训练, kexue.fm/archives/9059)."""

from kexue_keras.training.precision._fp16_lint import fp16_lint
from kexue_keras.training.precision._loss_scale import LossScale
from kexue_keras.training.precision._loss_scale import ScaledLoss
from kexue_keras.training.precision._loss_scale import scale_loss
from kexue_keras.training.precision._mixed_precision import enable_mixed_precision
from kexue_keras.training.precision._mixed_precision import layer_norm_epsilon
from kexue_keras.training.precision._mixed_precision import mask_value
from kexue_keras.training.precision._report import precision_report
from kexue_keras.training.precision._xla import enable_xla
