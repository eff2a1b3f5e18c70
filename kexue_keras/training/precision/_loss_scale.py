"""Loss scaling: gradients are computed from the loss times a constant, so that small ones survive half precision.

Article: 在bert4keras中使用混合精度和XLA加速训练 (kexue.fm/archives/9059). Paper: Mixed Precision Training
(arXiv 1710.03740). Turning half precision on is `_mixed_precision.py`.
"""

from typing import Optional, Union

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, is_tf_keras, keras, reduction_of, register, tf1
from kexue_keras.optimizers import _gradients as grads
from kexue_keras.optimizers._base import Optimizer, Wrapper
from kexue_keras.optimizers._inner import chain, check_instance, distributed_in, repaired
from kexue_keras.types import Config, Gradients, KerasOptimizer, Loss, Op, Tensor, Variable, Variables

# Powers of two change no digit of a gradient.
FIRST_SCALE = 2.0**15
LARGEST_SCALE = 2.0**40
FACTOR = 2.0


def check_loss_scale(scale):
    """`scale` as a float or 'dynamic'.

    Raises:
        ValueError: neither 'dynamic' nor a finite number > 0.

    >>> check_loss_scale(1000), check_loss_scale('dynamic')
    (1000.0, 'dynamic')
    """
    if scale == "dynamic":
        return scale
    return checks.number(scale, "scale", "LossScale", above=0, remedy="the article's is 1000; 'dynamic' adapts itself")


@register
class LossScale(Wrapper):
    r"""Takes the gradients of scale * loss, divides them by the scale, and skips steps that are not finite.

    g = (1 / c) d(c L)/d(theta) is the gradient of L, but inside the backward pass all that would be below the range of
    half precision (6e-8) is c times larger. The loss shown, the metrics, clipping and weight decay do not see c.
    A step whose gradient contains NaN or infinity changes nothing at all: no weight, no slot, no counter of the inner
    optimizer, no micro batch of an accumulation; `skipped` counts it.

    With scale 'dynamic' c starts at 32768, is halved after each skipped step (not below 1) and doubled after
    `growth_steps` good ones in a row. The author found a fixed factor better: the largest that gives no NaN.

    It has to be the outermost wrapper: LossScale(GradientAccumulation(...)). Then a micro batch that is not finite
    makes its window one longer; the other way round, one such batch would spoil a window, and the buffers
    would hold gradients of different scales.

    Args:
        optimizer: instance, of this package, of Keras or of bert4keras.
        scale: number > 0, or 'dynamic'.
        growth_steps: for 'dynamic', see above.
        patience: this many skipped steps in a row are an error (with 'dynamic': at scale 1).
        name: default "LossScale".

    Raises:
        TypeError: `optimizer` is a class or no optimizer of this Keras.
        ValueError: a scale that is no number above 0; LossScale in LossScale or around `MultiTask`, whose tasks
            compute their gradients themselves; LossScale inside another wrapper.

    Reference:
        在bert4keras中使用混合精度和XLA加速训练, kexue.fm/archives/9059; arXiv 1710.03740

    >>> from kexue_keras.optimizers import AdamW
    >>> from kexue_keras.training.precision import LossScale
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(LossScale(AdamW(1e-3), 1000), 'mse')
    >>> before = model.get_weights()
    >>> _ = model.train_on_batch(np.full((2, 3), np.nan), np.ones((2, 1)))
    >>> int(K.get_value(model.optimizer.skipped)), bool((before[0] == model.get_weights()[0]).all())
    (1, True)
    """

    outermost = True
    sees_own_rank = True
    # Whether a step is an update is known only when it runs.
    always_updates = False

    def __init__(
        self,
        optimizer: KerasOptimizer,
        scale: Union[float, str] = 1000.0,
        *,
        growth_steps: int = 2000,
        patience: int = 100,
        name: Optional[str] = None,
    ) -> None:
        self.scale = check_loss_scale(scale)
        self.growth_steps = checks.whole_number(growth_steps, "growth_steps", type(self).__name__, least=1)
        self.patience = checks.whole_number(patience, "patience", type(self).__name__, least=1)
        check_instance(optimizer, type(self).__name__)
        _check_inside(optimizer)
        # Not the constructor of Wrapper: it allows nothing around an accumulation, except this.
        Optimizer.__init__(self, name=name)
        self.optimizer = repaired(optimizer)
        if is_tf_keras:
            self._track_trackable(optimizer, "optimizer")
        self._scaled = False

    @property
    def is_dynamic(self) -> bool:
        """Whether the scale adapts itself."""
        return self.scale == "dynamic"

    @property
    def skipped(self) -> Variable:
        """int64 variable: steps that were not finite."""
        return self._own("skipped")

    @property
    def loss_scale(self) -> Union[Variable, Tensor]:
        """The scale as it is now: float32 variable for 'dynamic', else a constant tensor."""
        return self._own("loss_scale") if self.is_dynamic else tf.constant(self.scale)

    def create_state(self, params: Variables) -> None:
        # All at once, whoever asks first, since the order is that of the saved weights.
        self.add_state("skipped", dtype="int64")
        self.add_state("skipped_in_a_row", dtype="int64")
        if self.is_dynamic:
            self.add_state("loss_scale", value=FIRST_SCALE)
            self.add_state("good_in_a_row", dtype="int64")

    def _own(self, label):
        self.create_state(())
        return self.state(label)

    def get_gradients(self, loss: Tensor, params: Variables) -> Gradients:
        # A single variable is somebody looking at its gradient (TensorBoard), which trains nothing.
        self._scaled = self._scaled or isinstance(params, (list, tuple))
        scale = tf.identity(self.loss_scale)
        scaled = super().get_gradients(loss * tf.cast(scale, loss.dtype), params)
        # One factor for all, rounded alike, so that directions stay what they were. No plain product: TensorFlow 2
        # would turn that half, since it lets IsFinite be half, and what the scale has saved would be lost again. This
        # op is in none of its lists, and so is everything behind it.
        factor = 1.0 / scale
        return [grads.map_values(lambda x: tf.math.multiply_no_nan(x, tf.cast(factor, x.dtype)), g) for g in scaled]

    def update(self, gradients: Gradients, params: Variables) -> Op:
        if not self._scaled:
            raise RuntimeError(
                "LossScale got gradients of an unscaled loss, which somebody else has computed. It has to be the "
                "outermost wrapper of the optimizer that the model is compiled with, and trains in graph mode only "
                "(tf.compat.v1.disable_eager_execution() on TensorFlow 2)"
            )
        good = grads.all_finite([g.values if grads.is_sparse(g) else g for g in gradients])
        ranks = distributed_in(self.optimizer)
        # A step is skipped by all ranks or by none.
        good = good if ranks is None else ranks.all_agree(good)
        step = tf.cond(good, lambda: self.inner_update(gradients, params), tf.no_op)
        with tf.control_dependencies([step]):
            return self._count(good)

    def _count(self, good):
        bad = tf.cast(tf.logical_not(good), tf.int64)
        in_a_row = self.state("skipped_in_a_row")
        now = (tf.identity(in_a_row) + 1) * bad
        hopeless = tf.greater_equal(now, self.patience)
        ops = [self.skipped.assign_add(bad, read_value=False), in_a_row.assign(now, read_value=False)]
        if self.is_dynamic:
            scale, good_steps = self.loss_scale, self.state("good_in_a_row")
            old, steps = tf.identity(scale), (tf.identity(good_steps) + 1) * (1 - bad)
            grow = tf.greater_equal(steps, self.growth_steps)
            larger = tf.minimum(tf.where(grow, old * FACTOR, old), LARGEST_SCALE)
            new = tf.where(good, larger, tf.maximum(old / FACTOR, 1.0))
            hopeless = tf.logical_and(hopeless, tf.less_equal(new, 1.0))
            with tf.control_dependencies([new, steps]):
                ops.append(scale.assign(new, read_value=False))
                ops.append(good_steps.assign(tf.where(grow, tf.zeros_like(steps), steps), read_value=False))
        with tf.control_dependencies(ops):
            return tf.group(
                tf1.assert_equal(
                    hopeless,
                    False,
                    message="LossScale: the gradients were NaN or infinite in %d steps in a row, and all were "
                    "skipped; look for NaN in the data and constants that half precision cannot hold "
                    "(kexue_keras.training.precision.fp16_lint(model)), take a smaller loss scale (now %s) or "
                    "'dynamic', or a lower learning rate" % (self.patience, self.scale),
                )
            )

    def flush(self) -> int:
        """Apply the unfinished window of the accumulation inside, if there is one.

        Returns:
            int: how many micro batches were applied.
        """
        accumulation = self._accumulation()
        return accumulation.flush() if accumulation is not None else 0

    def reset(self) -> None:
        """Discard the unfinished window of the accumulation inside, if there is one."""
        accumulation = self._accumulation()
        if accumulation is not None:
            accumulation.reset()

    @property
    def micro_step(self) -> Variable:
        """Micro batches in the current window of the accumulation inside."""
        accumulation = self._accumulation()
        if accumulation is None:
            raise AttributeError("there is no accumulation inside this LossScale")
        return accumulation.micro_step

    def _accumulation(self):
        return next((o for o in chain(self.optimizer) if hasattr(o, "flush")), None)

    def get_config(self) -> Config:
        return dict(super().get_config(), scale=self.scale, growth_steps=self.growth_steps, patience=self.patience)


def _check_inside(optimizer):
    for inner in chain(optimizer):
        name = type(inner).__name__
        if name in ("LossScale", "LossScaleOptimizer"):
            raise ValueError("LossScale around %s; one loss scale is enough, use the optimizer inside it" % name)
        if name == "MultiTask":
            raise ValueError(
                "LossScale around MultiTask: it takes the loss apart and computes the gradient of each task itself, so "
                "the scale would not reach them; scale each task's loss with scale_loss, or leave LossScale out"
            )
        if getattr(inner, "grad_accum_steps", None) is not None:
            raise ValueError(
                "%s is bert4keras' gradient accumulation, which drops micro batches and is not saved; use "
                "LossScale(kexue_keras.optimizers.GradientAccumulation(optimizer, steps))" % name
            )


def _scaled_gradient(x, scale):
    """x, whose gradient is `scale` times as large."""

    @tf.custom_gradient
    def scaled(x):
        return tf.identity(x), lambda dy: dy * tf.cast(scale, dy.dtype)

    return scaled(x)


@register
class ScaledLoss(FunctionLoss):
    """A loss with its own value and `scale` times its gradient; made by `scale_loss`.

    Args:
        loss: name of a Keras loss, loss function, loss object, or the config of one.
        scale: number > 0.
        name: default that of the loss.
    """

    def __init__(
        self, loss: Union[Loss, Config], scale: float, *, name: Optional[str] = None, reduction: Optional[str] = None
    ) -> None:
        scale = check_loss_scale(scale)
        if scale == "dynamic":
            raise ValueError("scale_loss takes a number; 'dynamic' needs to see the gradients, use LossScale")
        loss = keras.losses.get(loss)
        is_object = hasattr(loss, "get_config")
        function = loss.call if is_object else loss
        super().__init__(
            lambda y_true, y_pred: _scaled_gradient(function(y_true, y_pred), scale),
            name=name or getattr(loss, "name", None) or loss.__name__,
            reduction=reduction or reduction_of(loss),
        )
        self.loss, self.scale = loss, scale

    def get_config(self) -> Config:
        if hasattr(self.loss, "get_config"):
            loss = {"class_name": type(self.loss).__name__, "config": self.loss.get_config()}
        else:
            loss = self.loss.__name__
        return {"loss": loss, "scale": self.scale, "name": self.name, "reduction": reduction_of(self)}


def scale_loss(loss: Union[Tensor, Loss], scale: float) -> Union[Tensor, ScaledLoss]:
    """The same loss with `scale` times its gradient, as the author trains; what is shown stays as it is.

    Nothing is divided by the scale afterwards. Adam, AdamW and LAMB make the same step for any scale as long as the
    gradients are far above their epsilon; where they are not (a poorly initialised or very deep model) the factor
    takes them out of the reach of epsilon, so that it helps in float32 too. Anything else, SGD, clipping,
    regularisers, needs `LossScale`.

    Args:
        loss: scalar or per-sample loss tensor, Keras loss object, loss function or its name.
        scale: number > 0, e.g. 1000.

    Returns:
        tensor for a tensor; otherwise a `ScaledLoss`, which `compile` takes and `load_model` knows.

    Raises:
        ValueError: `scale` is no number above 0.

    Reference:
        在bert4keras中使用混合精度和XLA加速训练, kexue.fm/archives/9059

    >>> from kexue_keras.training.precision import scale_loss
    >>> x = K.constant([3.0])
    >>> loss = scale_loss(K.sum(K.square(x)), 1000)
    >>> [float(np.sum(K.get_value(t))) for t in (loss, K.gradients(loss, [x])[0])]
    [9.0, 6000.0]
    """
    if isinstance(loss, (tf.Tensor, tf.Variable)):
        if check_loss_scale(scale) == "dynamic":
            raise ValueError("scale_loss takes a number; 'dynamic' needs to see the gradients, use LossScale")
        return _scaled_gradient(loss, float(scale))
    return ScaledLoss(loss, scale)
