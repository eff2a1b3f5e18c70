"""How one training step is run, one room per technique.

`recompute` trades time for memory, `precision` is mixed precision and XLA, `adversarial` holds attacks and penalties on
the embeddings, `gradient_cache` contrastive training with a large batch. R-Drop needs no room of its own.
"""

from kexue_keras.training import adversarial
from kexue_keras.training import gradient_cache
from kexue_keras.training import precision
from kexue_keras.training import recompute
from kexue_keras.training._rdrop import RDropPair
from kexue_keras.training._rdrop import RDropRepeat
from kexue_keras.training._rdrop import rdrop
from kexue_keras.training._two_views import TwoViewLoss
