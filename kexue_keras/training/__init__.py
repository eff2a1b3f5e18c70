"""How a training step is run: what is done to the batch, the passes and the gradients."""

from kexue_keras.training.fastest import find_fastest  # noqa: F401
from kexue_keras.training.fgm import FGM  # noqa: F401
from kexue_keras.training.grad_cache import GradientCache  # noqa: F401
from kexue_keras.training.grad_cache import Towers  # noqa: F401
from kexue_keras.training.grad_cache import gradient_cache  # noqa: F401
from kexue_keras.training.gradient_penalty import GradientPenalty  # noqa: F401
from kexue_keras.training.half_lint import fp16_lint  # noqa: F401
from kexue_keras.training.loss_scale import LossScale  # noqa: F401
from kexue_keras.training.loss_scale import ScaledLoss  # noqa: F401
from kexue_keras.training.loss_scale import scale_loss  # noqa: F401
from kexue_keras.training.memory import trace_memory  # noqa: F401
from kexue_keras.training.memory import training_memory  # noqa: F401
from kexue_keras.training.precision import enable_mixed_precision  # noqa: F401
from kexue_keras.training.precision import layer_norm_epsilon  # noqa: F401
from kexue_keras.training.precision import mask_value  # noqa: F401
from kexue_keras.training.precision_report import precision_report  # noqa: F401
from kexue_keras.training.rdrop import RDropPair  # noqa: F401
from kexue_keras.training.rdrop import RDropRepeat  # noqa: F401
from kexue_keras.training.rdrop import rdrop  # noqa: F401
from kexue_keras.training.recompute import RecomputeBoundary  # noqa: F401
from kexue_keras.training.recompute import recompute  # noqa: F401
from kexue_keras.training.recompute_budget import RecomputeBudget  # noqa: F401
from kexue_keras.training.recompute_budget import recompute_for_budget  # noqa: F401
from kexue_keras.training.two_views import TwoViewLoss  # noqa: F401
from kexue_keras.training.virtual_adversarial import VirtualAdversarial  # noqa: F401
from kexue_keras.training.xla import enable_xla  # noqa: F401
