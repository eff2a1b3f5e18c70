"""Training on several devices with Horovod, one process each, exact also where the loss couples the batch."""

from kexue_keras.distributed._callbacks import AverageMetrics
from kexue_keras.distributed._callbacks import BroadcastWeights
from kexue_keras.distributed._collectives import all_gather
from kexue_keras.distributed._collectives import all_reduce
from kexue_keras.distributed._collectives import share_of
from kexue_keras.distributed._exchange import average
from kexue_keras.distributed._exchange import broadcast
from kexue_keras.distributed._exchange import broadcast_weights
from kexue_keras.distributed._horovod import init
from kexue_keras.distributed._ranks import is_first
from kexue_keras.distributed._ranks import local_rank
from kexue_keras.distributed._ranks import rank
from kexue_keras.distributed._ranks import set_seed
from kexue_keras.distributed._ranks import size
from kexue_keras.distributed._shards import ShardedBatches
from kexue_keras.distributed._shards import part_of
from kexue_keras.distributed._shards import rows_of_rank
