"""One step of any optimizer with the gradients of all ranks, each of which has a part of the batch.

Paper: Horovod: fast and easy distributed deep learning in TensorFlow (arXiv 1802.05799). No article of its own.
"""

from typing import Callable, Optional, Union

import tensorflow as tf

from kexue_keras.backend import register
from kexue_keras.distributed import _collectives as ranks
from kexue_keras.distributed._ranks import check_begun
from kexue_keras.optimizers import _gradients as grads
from kexue_keras.optimizers._base import Wrapper
from kexue_keras.optimizers._inner import chain
from kexue_keras.types import Config, Gradients, KerasOptimizer, Op, Tensor, Variables


@register
class Distributed(Wrapper):
    r"""Takes the mean of the gradients over all ranks, then one step of any optimizer, the same on every rank.

    g = (1/R) sum_r share_r g_r. With `distributed.init()` under `horovodrun -np R`; with one process it changes
    nothing. What stands inside sees the gradient of the whole batch: clipping, moments, EMA, Lookahead, learned step
    sizes. Outside stand `GradientAccumulation`, which then communicates once a window, `MultiTask`, whose tasks'
    gradients are averaged each by itself, and `LossScale`, which skips a step on all ranks or on none:

        LossScale(GradientAccumulation(Distributed(ExponentialMovingAverage(AdamW(2e-5))), 4))

    The gradient of an embedding travels as the rows of the batch, not as the matrix.

    Args:
        optimizer: instance, of this package, of Keras or of bert4keras.
        share: what the loss of this rank counts, mean 1 over the ranks: scalar tensor, or a function without arguments
            that returns one. None: all ranks have equally many rows. Otherwise
            `lambda: distributed.share_of(tf.shape(model.inputs[0])[0])`. Not saved: set it again on a loaded model.
        sparse_as_dense: True sends the gradient of an embedding as a matrix: less where the batches of all ranks
            together have more tokens than half the vocabulary.
        name: default "Distributed".

    Raises:
        ValueError: accumulation or `MultiTask` inside, `Distributed` inside `Distributed`.
        RuntimeError: in training, if `horovodrun` has started several processes and `distributed.init` was not called.

    Reference: arXiv 1802.05799.

    >>> from kexue_keras.optimizers import AdamW, Distributed, GradientAccumulation
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(GradientAccumulation(Distributed(AdamW(1e-3)), 4), 'mse')
    >>> loss = model.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    """

    # Ranks talk while the backward pass goes on; `update` waits before it writes.
    takes_gradients_early = True

    def __init__(
        self,
        optimizer: KerasOptimizer,
        *,
        share: Optional[Union[Tensor, Callable[[], Tensor]]] = None,
        sparse_as_dense: bool = False,
        name: Optional[str] = None,
    ) -> None:
        super().__init__(optimizer, name=name)
        for inner in chain(optimizer):
            if type(inner).__name__ == "MultiTask":
                raise ValueError(
                    "Distributed round MultiTask would average combinations of this rank's gradients; write "
                    "MultiTask(Distributed(...))"
                )
        self.share = share
        self.sparse_as_dense = bool(sparse_as_dense)

    def get_gradients(self, loss: Tensor, params: Variables) -> Gradients:
        # A single variable is somebody looking at its gradient (TensorBoard), perhaps on one rank alone.
        if isinstance(params, (list, tuple)):
            share = self.own_share()
            loss = loss if share is None else loss * tf.cast(share, loss.dtype)
        return super().get_gradients(loss, params)

    def own_share(self) -> Optional[Tensor]:
        """What the loss of this rank counts in a step, a scalar; None: as much as that of any other."""
        # TensorFlow makes one of equal ops, so that none may wait for what waits for another.
        with tf.control_dependencies(None):
            share = self.share() if callable(self.share) else self.share
            return None if share is None else tf.reshape(share, ())

    def averaged(self, gradients: Gradients, params: Variables) -> Gradients:
        """The means of the gradients over all ranks."""
        if self.sparse_as_dense:
            gradients = [grads.dense(g, p) for g, p in zip(gradients, params)]
        return [ranks.averaged(g) for g in gradients]

    def all_agree(self, good: Tensor) -> Tensor:
        """Whether a scalar bool is true on all ranks."""
        return ranks.all_agree(good)

    def update(self, gradients: Gradients, params: Variables) -> Op:
        check_begun("Distributed")
        found = self.averaged(gradients, params)
        # A weight must not be written while a gradient still reads it.
        with grads.after_all(found):
            return self.inner_update(found, params)

    def get_config(self) -> Config:
        return dict(super().get_config(), sparse_as_dense=self.sparse_as_dense)
