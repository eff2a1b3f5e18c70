"""Gradient accumulation that equals the large batch, around any optimizer.

Article: 用时间换取效果：Keras梯度累积优化器 (kexue.fm/archives/6794).
"""

from typing import Any, Callable, Dict, Optional, Union

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, get_session, keras, register
from kexue_keras.optimizers import _gradients as grads
from kexue_keras.optimizers._averaging import own_weights_in
from kexue_keras.optimizers._base import Wrapper
from kexue_keras.optimizers._inner import chain, distributed_in
from kexue_keras.optimizers._windows import WindowOwner
from kexue_keras.types import Config, Gradients, KerasOptimizer, Logs, Op, Tensor, Variable, Variables


@register
class GradientAccumulation(Wrapper):
    r"""One step of any optimizer for every `steps` micro batches, equal to the step of the large batch.

    G = (1/k) sum_i g_i ('mean'), sum_i g_i ('sum') or sum_i n_i g_i / sum_i n_i ('weighted'), all g_i at the same
    weights; then one step of the inner optimizer with G. In between the inner optimizer does not run at all:
    weights, its slots and `iterations` (which counts real updates) stay as they are. Sparse gradients of embeddings
    are scatter-added into the buffer. Clipping acts on G. It has to be the outermost wrapper. A window belongs to the
    weights that it started with: compiled with others, a new one starts, with a warning if micro batches are lost.

    Args:
        optimizer: instance, of this package, of Keras or of bert4keras.
        steps: number of micro batches k >= 1.
        mode: 'mean', 'sum' or 'weighted'.
        micro_weight: for 'weighted': n_i of the current micro batch, e.g. its number of tokens; scalar tensor, or a
            function without arguments that returns one. Not saved: set it again on a loaded model.
        skip_nonfinite: True discards a window whose gradient contains NaN or infinity, and counts it in `skipped`.
        name: default "GradientAccumulation".

    Raises:
        TypeError: `optimizer` is a class, a tf.train optimizer, a TFOptimizer.
        ValueError: `steps` < 1, unknown mode, 'weighted' without `micro_weight` or the other way round,
            accumulation inside accumulation.

    Reference:
        用时间换取效果：Keras梯度累积优化器, kexue.fm/archives/6794

    >>> from kexue_keras.optimizers import AdamW, GradientAccumulation
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(GradientAccumulation(AdamW(1e-3), 4), 'mse')
    >>> _ = [model.train_on_batch(np.ones((2, 3)), np.ones((2, 1))) for _ in range(6)]
    >>> int(K.get_value(model.optimizer.iterations)), int(K.get_value(model.optimizer.micro_step))
    (1, 2)
    >>> model.optimizer.flush()  # applies the two left over, as the mean of two
    2
    """

    always_updates = False
    outermost = True
    # So that the ranks talk to each other once a window.
    sees_own_rank = True
    # Each gradient goes into its buffer as soon as it is there, so that they need not all be kept.
    takes_gradients_early = True

    def __init__(
        self,
        optimizer: KerasOptimizer,
        steps: int,
        *,
        mode: str = "mean",
        micro_weight: Optional[Union[Tensor, Callable[[], Tensor]]] = None,
        skip_nonfinite: bool = False,
        name: Optional[str] = None,
    ) -> None:
        owner = type(self).__name__
        self.steps = checks.whole_number(steps, "steps", owner, least=1, remedy="1 means no accumulation")
        checks.choice(mode, ("mean", "sum", "weighted"), "mode", owner)
        if micro_weight is not None and mode != "weighted":
            raise ValueError("micro_weight is given, but mode is %r; use mode='weighted'" % (mode,))
        super().__init__(optimizer, name=name)
        self.mode = mode
        self.micro_weight = micro_weight
        self.skip_nonfinite = bool(skip_nonfinite)
        self._window = WindowOwner(type(self).__name__)
        self._flush_ops = {}

    @property
    def micro_step(self) -> Variable:
        """int64 variable: micro batches in the current window, in [0, steps)."""
        return self.add_state("micro_step", dtype="int64")

    @property
    def skipped(self) -> Variable:
        """int64 variable: windows discarded for NaN or infinity (only with `skip_nonfinite`)."""
        return self.state("skipped")

    def create_state(self, params: Variables) -> None:
        self.add_state("micro_step", dtype="int64")
        if self.mode == "weighted":
            self.add_state("total_weight")
        if self.skip_nonfinite:
            self.add_state("skipped", dtype="int64")
        for p in params:
            self.add_state("buffer", p, dtype="float32" if K.dtype(p) == "float16" else None)
        if self._window.begin(params, self.micro_step):
            self.reset()

    def update(self, gradients: Gradients, params: Variables) -> Op:
        self._flush_ops.pop(tuple(map(id, params)), None)
        n = tf.identity(self.micro_step) + 1
        buffers = [self.state("buffer", p) for p in params]
        with tf.control_dependencies([self._window.claim(params, n - 1)]):
            added = self._add(gradients, buffers)
        with tf.control_dependencies(added):
            full = tf.greater_equal(n, self.steps)
            step = tf.cond(full, lambda: self._apply(buffers, params, n), tf.no_op)
        with tf.control_dependencies([step]):
            n = tf.where(full, tf.zeros_like(n), n)
            return tf.group(self.micro_step.assign(n, read_value=False))

    def _add(self, gradients, buffers):
        if self.mode != "weighted":
            return [grads.add_to(b, g) for b, g in zip(buffers, gradients)]
        weight = self.micro_weight() if callable(self.micro_weight) else self.micro_weight
        if weight is None:
            raise ValueError(
                "mode is 'weighted', but micro_weight is None; give GradientAccumulation(..., micro_weight=tensor), or "
                "after load_model(..., compile=False) set it on the optimizer before compile"
            )
        weight = tf.reshape(tf.cast(weight, tf.float32), ())
        # A micro batch without any token has the loss 0/0; with weight 0 its NaN must not count.
        weighed = [
            grads.map_values(lambda x: tf.math.multiply_no_nan(x, tf.cast(weight, x.dtype)), g) for g in gradients
        ]
        added = [grads.add_to(b, g) for b, g in zip(buffers, weighed)]
        return added + [self.state("total_weight").assign_add(weight, read_value=False)]

    def _apply(self, buffers, params, count):
        """One inner step with the content of the buffers, which holds `count` micro batches; then empty them."""
        if self.skip_nonfinite:
            good = grads.all_finite(buffers)
            ranks = distributed_in(self.optimizer)
            good = good if ranks is None else ranks.all_agree(good)
            step = tf.cond(good, lambda: self._inner_step(buffers, params, count), tf.no_op)
            with tf.control_dependencies([step]):
                skip = tf.cast(tf.logical_not(good), tf.int64)
                step = tf.group(step, self.skipped.assign_add(skip, read_value=False))
        else:
            step = self._inner_step(buffers, params, count)
        with tf.control_dependencies([step]):
            return self._clear(buffers)

    def _inner_step(self, buffers, params, count):
        if self.mode == "sum":
            whole = [b.read_value() for b in buffers]
        else:
            by = count if self.mode == "mean" else self.state("total_weight").read_value()
            whole = [tf.math.divide_no_nan(b.read_value(), tf.cast(by, b.dtype.base_dtype)) for b in buffers]
        whole = [tf.cast(g, p.dtype.base_dtype) for g, p in zip(whole, params)]
        return self.inner_update(whole, params)

    def _clear(self, buffers):
        emptied = [b.assign(tf.zeros(b.shape, b.dtype.base_dtype), read_value=False) for b in buffers]
        if self.mode == "weighted":
            emptied.append(self.state("total_weight").assign(0.0, read_value=False))
        return tf.group(*emptied)

    def flush(self) -> int:
        """Apply what the unfinished window holds, with its true number of micro batches.

        Returns:
            int: how many micro batches were applied, 0 if the window was empty.
        """
        left = int(K.get_value(self.micro_step)) if self._built else 0
        if not left:
            return 0
        params = self._window.params
        key = tuple(map(id, params))
        if key not in self._flush_ops:
            buffers = [self.state("buffer", p) for p in params]
            with params[0].graph.as_default():
                count = tf.identity(self.micro_step)
                with tf.control_dependencies([count]):
                    step = self._apply(buffers, list(params), count)
                with tf.control_dependencies([step]):
                    self._flush_ops[key] = tf.group(self.micro_step.assign(0, read_value=False))
        get_session().run(self._flush_ops[key])
        return left

    def reset(self) -> None:
        """Discard what the unfinished window holds."""
        window = [v for (label, _), (v, _) in self._state.items() if label != "skipped"]
        K.batch_set_value([(v, np.zeros(K.int_shape(v))) for v in window])

    def get_config(self) -> Config:
        return dict(super().get_config(), steps=self.steps, mode=self.mode, skip_nonfinite=self.skip_nonfinite)


@register
class FlushAccumulation(keras.callbacks.Callback):
    """Applies the incomplete last window of a `GradientAccumulation`.

    Where there is validation data, an epoch's window is applied before it, so that what is measured is what callbacks
    such as `ModelCheckpoint` keep. A window that is left over when another callback stops training at the end of an
    epoch is discarded: `EarlyStopping` may have restored weights that its gradients do not belong to.

    Args:
        when: 'epoch' (at the end of each epoch, so that each epoch's data is used in full) or 'train' (once).

    Raises:
        ValueError: another value of `when`.
        TypeError: at the beginning of training, if the model's optimizer does not accumulate in buffers.

    Reference:
        用时间换取效果：Keras梯度累积优化器, kexue.fm/archives/6794

    >>> from kexue_keras.optimizers import AdamW, FlushAccumulation, GradientAccumulation
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(GradientAccumulation(AdamW(1e-3), 2), 'mse')
    >>> _ = model.fit(np.ones((5, 3)), np.ones((5, 1)), batch_size=1, verbose=0, callbacks=[FlushAccumulation()])
    >>> int(K.get_value(model.optimizer.iterations))
    3
    """

    def __init__(self, when: str = "epoch") -> None:
        super().__init__()
        self.when = checks.choice(when, ("epoch", "train"), "when", type(self).__name__)
        self.flushed = 0
        self._training = self._stopped_in_batch = False

    def _accumulation(self):
        for optimizer in chain(self.model.optimizer):
            if isinstance(optimizer, GradientAccumulation):
                return optimizer
        raise TypeError(
            "FlushAccumulation needs a model compiled with GradientAccumulation, not with %s; accumulation hidden in "
            "momentum cannot be flushed, its window is carried on" % type(self.model.optimizer).__name__
        )

    def _flush(self):
        # SwapAveragedWeights may have put the averages into the model already.
        with own_weights_in(self.model):
            self.flushed += self._accumulation().flush()

    def _flush_or_forget(self):
        if getattr(self.model, "stop_training", False) and not self._stopped_in_batch:
            self._accumulation().reset()
        else:
            self._flush()

    def set_params(self, params: Dict[str, Any]) -> None:
        # Keras calls it once for each fit and each evaluate, not for the validation within a fit.
        super().set_params(params)
        self._training = False

    def on_train_begin(self, logs: Optional[Logs] = None) -> None:
        self._accumulation()
        self._training, self._stopped_in_batch = True, False

    def on_batch_end(self, batch: int, logs: Optional[Logs] = None) -> None:
        self._stopped_in_batch = bool(getattr(self.model, "stop_training", False))

    def on_test_begin(self, logs: Optional[Logs] = None) -> None:
        if self._training and self.when == "epoch":
            self._flush()

    def on_epoch_end(self, epoch: int, logs: Optional[Logs] = None) -> None:
        if self.when == "epoch":
            self._flush_or_forget()

    def on_train_end(self, logs: Optional[Logs] = None) -> None:
        self._training = False
        self._flush_or_forget()
