"""Gradient accumulation inside the momentum of the optimizer: no extra memory.

Article: 隐藏在动量中的梯度累积：少更新几步，效果反而更好？ (kexue.fm/archives/8634); related: Combined Scaling for
Zero-shot Transfer Learning (arXiv 2111.10050).
"""

from typing import Callable, List, Optional, Sequence

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, keras, register
from kexue_keras.optimizers import _gradients as grads
from kexue_keras.optimizers._adamw import (
    AdamW,
    as_patterns,
    bias_corrections,
    complement,
    constrained,
    layer_ratio,
    matches,
)
from kexue_keras.optimizers._base import Optimizer
from kexue_keras.optimizers._inner import check_instance
from kexue_keras.optimizers._windows import WindowOwner
from kexue_keras.types import Config, Gradients, KerasOptimizer, LearningRate, Op, Tensor, Variable, Variables

_NESTEROV = (
    "Nesterov momentum steps along beta m + (1 - beta) g with g the mean gradient of this window alone, which cannot "
    "be separated from the past once both share the slot m; use GradientAccumulation(optimizer, steps)"
)
_LION = (
    "Lion steps along sign(beta_1 m + (1 - beta_1) g) but keeps beta_2 m + (1 - beta_2) g; with beta_1 != beta_2 the "
    "mean gradient g of this window is needed on its own, which one slot cannot hold; use "
    "GradientAccumulation(optimizer, steps)"
)
_CLIPPING = (
    "clipping acts on the mean gradient of the window, which never exists on its own when it is accumulated in the "
    "momentum; use GradientAccumulation(optimizer, steps), or no clipping"
)


MOMENTS = ("window", "micro_step")


def beta_tilde(beta: float, steps: float) -> float:
    """The article's variant without code: 1 - (1 - beta) / steps, whose `steps`-th power is about `beta`.

    With this beta at every micro step, and the step taken only at every `steps`-th (`moments="micro_step"`), a plain
    momentum optimizer accumulates approximately.

    >>> round(kexue_keras.optimizers.beta_tilde(0.9, 2), 6)
    0.95
    """
    beta = checks.number(beta, "beta", "beta_tilde", least=0, below=1)
    return 1.0 - (1.0 - beta) / checks.whole_number(steps, "steps", "beta_tilde", least=1)


class _MomentumAccumulation(Optimizer):
    """Shared walk through a window: decay the slots at its first micro step, add to them at each, step at its last.

    With `moments` "micro_step" the slots decay at each, and each gradient counts in full: a plain optimizer whose step
    is taken at the last micro step of a window only.
    """

    always_updates = False
    takes_gradients_early = True
    # label of the slot -> (name of its decay, power of the gradient in it)
    slots = {}

    def __init__(
        self,
        learning_rate: LearningRate,
        steps: int,
        weight_decay: float,
        exclude_from_weight_decay: Sequence[str],
        name: Optional[str],
        moments: str = "window",
    ) -> None:
        owner = type(self).__name__
        self.steps = checks.whole_number(steps, "steps", owner, least=1, remedy="1 means no accumulation")
        self.moments = checks.choice(moments, MOMENTS, "moments", owner)
        weight_decay = checks.number(weight_decay, "weight_decay", owner, least=0)
        super().__init__(learning_rate, name=name)
        self.weight_decay = weight_decay
        self.exclude_from_weight_decay = as_patterns(exclude_from_weight_decay, "exclude_from_weight_decay")
        self._window = WindowOwner(type(self).__name__)

    @property
    def micro_step(self) -> Variable:
        """int64 variable: micro batches in the current window, in [0, steps)."""
        return self.add_state("micro_step", dtype="int64")

    def create_state(self, params: Variables) -> None:
        self.add_state("micro_step", dtype="int64")
        for p in params:
            for label in self.slots:
                self.add_state(label, p)
        if self._window.begin(params, self.micro_step):
            K.set_value(self.micro_step, 0)

    def update(self, gradients: Gradients, params: Variables) -> Op:
        n = tf.identity(self.micro_step)
        begins, ends = tf.equal(n, 0), tf.equal(n, self.steps - 1)
        with tf.control_dependencies([self._window.claim(params, n)]):
            if self.moments == "micro_step":
                decayed = self._decay(params)
            else:
                decayed = tf.cond(begins, lambda: self._decay(params), tf.no_op)
        with tf.control_dependencies([decayed]):
            added = [op for g, p in zip(gradients, params) for op in self._add(g, p)]
        with tf.control_dependencies(added):
            step = tf.cond(ends, lambda: self.count(self.steps_of(params)), tf.no_op)
        with tf.control_dependencies([step]):
            n = tf.where(ends, tf.zeros_like(n), n + 1)
            return tf.group(self.micro_step.assign(n, read_value=False))

    def _decay(self, params):
        ops = []
        for p in params:
            for label, (beta, _) in self.slots.items():
                slot = self.state(label, p)
                ops.append(slot.assign(getattr(self, beta) * slot.read_value(), read_value=False))
        return tf.group(*ops)

    def _add(self, gradient, param):
        ops = []
        # The square of a sum is not the sum of squares: rows named twice become one first.
        if grads.is_sparse(gradient) and any(power == 2 for _, power in self.slots.values()):
            gradient = grads.unique(gradient)
        share = 1 if self.moments == "micro_step" else self.steps
        for label, (beta, power) in self.slots.items():
            value = gradient if power == 1 else grads.map_values(tf.square, gradient)
            ops.append(grads.add_to(self.state(label, param), value, complement(getattr(self, beta)) / share))
        return ops

    def decays_in(self, windows: Tensor) -> Tensor:
        """How often the slots decay in that many windows (a tensor)."""
        return windows * self.steps if self.moments == "micro_step" else windows

    def steps_of(self, params: Variables) -> List[Op]:
        """Ops of the real update (to be overridden)."""
        raise NotImplementedError

    def decays(self, param: Variable) -> bool:
        """Whether this variable decays."""
        return self.weight_decay > 0 and not matches(param, self.exclude_from_weight_decay)

    def move(
        self, param: Variable, direction: Tensor, lr: Tensor, ratio: Optional[Callable[[Tensor, Tensor], Tensor]] = None
    ) -> Op:
        """Op: param -= lr ratio (direction + weight_decay param), then its constraint; `ratio` may be a function."""
        old = param.read_value()
        if self.decays(param):
            direction = direction + self.weight_decay * old
        rate = lr if ratio is None else lr * ratio(old, direction)
        step = tf.cast(rate, param.dtype.base_dtype) * direction
        return constrained(param, param.assign_sub(step, read_value=False))

    def get_config(self) -> Config:
        return dict(
            super().get_config(),
            learning_rate=self.learning_rate_config(),
            steps=self.steps,
            moments=self.moments,
            weight_decay=self.weight_decay,
            exclude_from_weight_decay=list(self.exclude_from_weight_decay),
        )


@register
class MomentumAccumulationSGD(_MomentumAccumulation):
    r"""SGD with momentum that accumulates `steps` micro batches in the momentum itself; exact, without a buffer.

    m_t = [(beta - 1) chi((t-1)/k) + 1] m_{t-1} + (1 - beta)/k g_t,  p_t = p_{t-1} - chi(t/k) lr m_t, with chi(x) = 1
    for whole x, else 0: decay at the first micro step of a window, step at the last. The momentum is an average here:
    Keras' SGD(lr, momentum) is this one with lr / (1 - momentum) (`accumulate_in_momentum` converts).

    Args:
        learning_rate: float >= 0.
        steps: number of micro batches k >= 1.
        moments: "window", as above; or "micro_step": m_t = beta m_{t-1} + (1 - beta) g_t at every micro step, weights
            at every k-th. With momentum `beta_tilde(beta, k)` it is about the same, with beta it forgets faster.
        momentum: beta in [0, 1).
        weight_decay: decoupled, once a real update: lr * weight_decay of the weight.
        exclude_from_weight_decay: regular expressions searched in variable names.
        nesterov: refused with the reason.
        name: default "MomentumAccumulationSGD".

    Raises:
        ValueError: `steps` < 1, `nesterov`, a value outside its range.

    Reference:
        隐藏在动量中的梯度累积：少更新几步，效果反而更好？, kexue.fm/archives/8634

    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(kexue_keras.optimizers.MomentumAccumulationSGD(0.1, steps=4), 'mse')
    >>> _ = [model.train_on_batch(np.ones((2, 3)), np.ones((2, 1))) for _ in range(4)]
    >>> int(K.get_value(model.optimizer.iterations))
    1
    """

    slots = {"m": ("momentum", 1)}

    def __init__(
        self,
        learning_rate: LearningRate = 0.1,
        *,
        steps: int,
        moments: str = "window",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        exclude_from_weight_decay: Sequence[str] = ("bias", "[Nn]orm"),
        nesterov: bool = False,
        name: Optional[str] = None,
    ) -> None:
        if nesterov:
            raise ValueError("nesterov=True cannot be accumulated in the momentum: " + _NESTEROV)
        momentum = checks.number(momentum, "momentum", type(self).__name__, least=0, below=1)
        super().__init__(learning_rate, steps, weight_decay, exclude_from_weight_decay, name, moments)
        self.momentum = momentum

    def steps_of(self, params: Variables) -> List[Op]:
        lr = self.read_learning_rate()
        return [self.move(p, self.state("m", p).read_value(), lr) for p in params]

    def get_config(self) -> Config:
        return dict(super().get_config(), momentum=self.momentum)


@register
class MomentumAccumulationAdamW(_MomentumAccumulation):
    r"""AdamW that accumulates `steps` micro batches in its two moments; no buffer, the second moment approximate.

    m as in `MomentumAccumulationSGD`; v_t = [(beta_2 - 1) chi((t-1)/k) + 1] v_{t-1} + (1 - beta_2)/k g_t^2; at the
    end of a window p -= lr (m^ / (sqrt(v^) + epsilon) + weight_decay p), m^ and v^ corrected for t/k real updates
    (with `moments="micro_step"` for t decays).
    v takes the mean of the squares where real accumulation takes the square of the mean, so v is never smaller and,
    from the same gradients, a step never larger: for pure noise 1/sqrt(k) of it. No larger rate is applied for that.

    Args:
        learning_rate: float >= 0.
        steps: number of micro batches k >= 1.
        moments: "window", as above; or "micro_step": both moments are those of plain AdamW, new at every micro step,
            and the weights move at every k-th. With `beta_tilde(beta, k)` for both betas that accumulates, about; with
            the betas as they are there are fewer steps and nothing else, which the article finds to help already.
        beta_1, beta_2: in [0, 1).
        epsilon: float >= 0.
        epsilon_inside: True puts epsilon inside the root, sqrt(v^ + epsilon), as the article writes it.
        weight_decay: decoupled, once a real update.
        exclude_from_weight_decay: regular expressions searched in variable names.
        bias_correction: False leaves out both corrections.
        layer_adaptation: LAMB's trust ratio, once a real update.
        exclude_from_layer_adaptation: regular expressions.
        clipnorm, global_clipnorm, clipvalue: refused with the reason.
        name: default "MomentumAccumulationAdamW".

    Raises:
        ValueError: `steps` < 1, clipping, a value outside its range.

    Reference:
        隐藏在动量中的梯度累积：少更新几步，效果反而更好？, kexue.fm/archives/8634

    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(kexue_keras.optimizers.MomentumAccumulationAdamW(1e-3, steps=4), 'mse')
    >>> _ = [model.train_on_batch(np.ones((2, 3)), np.ones((2, 1))) for _ in range(4)]
    >>> [w.shape for w in model.optimizer.get_weights()]  # counters, then m and v of kernel and bias
    [(), (), (3, 1), (3, 1), (1,), (1,)]
    """

    slots = {"m": ("beta_1", 1), "v": ("beta_2", 2)}

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        *,
        steps: int,
        moments: str = "window",
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        epsilon_inside: bool = False,
        weight_decay: float = 0.01,
        exclude_from_weight_decay: Sequence[str] = ("bias", "[Nn]orm"),
        bias_correction: bool = True,
        layer_adaptation: bool = False,
        exclude_from_layer_adaptation: Sequence[str] = ("bias", "[Nn]orm"),
        clipnorm: Optional[float] = None,
        global_clipnorm: Optional[float] = None,
        clipvalue: Optional[float] = None,
        name: Optional[str] = None,
    ) -> None:
        for label, limit in (("clipnorm", clipnorm), ("global_clipnorm", global_clipnorm), ("clipvalue", clipvalue)):
            if limit is not None:
                raise ValueError("%s=%r: %s" % (label, limit, _CLIPPING))
        owner = type(self).__name__
        beta_1 = checks.number(beta_1, "beta_1", owner, least=0, below=1)
        beta_2 = checks.number(beta_2, "beta_2", owner, least=0, below=1)
        epsilon = checks.number(epsilon, "epsilon", owner, least=0)
        super().__init__(learning_rate, steps, weight_decay, exclude_from_weight_decay, name, moments)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.epsilon_inside = bool(epsilon_inside)
        self.bias_correction = bool(bias_correction)
        self.layer_adaptation = bool(layer_adaptation)
        self.exclude_from_layer_adaptation = as_patterns(exclude_from_layer_adaptation, "exclude_from_layer_adaptation")

    def create_state(self, params: Variables) -> None:
        super().create_state(params)
        self.admit(params, self.iterations, keep_age=True)

    def steps_of(self, params: Variables) -> List[Op]:
        lr = self.read_learning_rate()
        ages = self.arrivals.ages(params, tf.identity(self.iterations) + 1)
        first, second = bias_corrections(self.decays_in(ages), self.beta_1, self.beta_2)
        if not self.bias_correction:
            first = second = tf.ones_like(first)
        ops = []
        for p, first, second in zip(params, *(tf.unstack(x, num=len(params)) for x in (first, second))):
            dtype = p.dtype.base_dtype
            m = self.state("m", p).read_value() / tf.cast(first, dtype)
            v = self.state("v", p).read_value() / tf.cast(second, dtype)
            root = tf.sqrt(v + self.epsilon) if self.epsilon_inside else tf.sqrt(v) + self.epsilon
            adapts = self.layer_adaptation and not matches(p, self.exclude_from_layer_adaptation)
            # With epsilon 0 a weight that never had a gradient has 0 / 0: it does not move.
            ops.append(self.move(p, tf.math.divide_no_nan(m, root), lr, layer_ratio if adapts else None))
        return ops

    def get_config(self) -> Config:
        return dict(
            super().get_config(),
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            epsilon_inside=self.epsilon_inside,
            bias_correction=self.bias_correction,
            layer_adaptation=self.layer_adaptation,
            exclude_from_layer_adaptation=list(self.exclude_from_layer_adaptation),
        )


def accumulate_in_momentum(optimizer: KerasOptimizer, steps: int, *, moments: str = "window") -> Optimizer:
    """The same optimizer with `steps` micro batches accumulated in its momentum, or an error that says why not.

    Args:
        optimizer: `AdamW` of this package, or Keras' `SGD` with momentum.
        steps: number of micro batches k >= 1.
        moments: "window", or "micro_step" (the same betas at every micro step, the weights at every k-th).

    Returns:
        `MomentumAccumulationAdamW` or `MomentumAccumulationSGD`, untrained.

    Raises:
        ValueError: Nesterov momentum, Lion, clipping, SGD without momentum, any other optimizer.

    >>> from kexue_keras.optimizers import AdamW, accumulate_in_momentum
    >>> type(accumulate_in_momentum(AdamW(2e-5), 4)).__name__
    'MomentumAccumulationAdamW'
    """
    check_instance(optimizer, "accumulate_in_momentum")
    config, name = optimizer.get_config(), type(optimizer).__name__
    config.pop("name", None)
    if "Lion" in name:
        raise ValueError("%s cannot be accumulated in its momentum: %s" % (name, _LION))
    if config.get("nesterov") or name == "Nadam":
        raise ValueError("%s with Nesterov momentum cannot be accumulated in it: %s" % (name, _NESTEROV))
    if any(config.get(key) for key in ("clipnorm", "clipvalue", "global_clipnorm")):
        raise ValueError("%s clips: %s" % (name, _CLIPPING))
    if type(optimizer) is AdamW:
        return MomentumAccumulationAdamW(steps=steps, moments=moments, **config)
    if isinstance(optimizer, keras.optimizers.SGD) and config["momentum"] > 0 and not config.get("decay"):
        momentum = float(config["momentum"])
        rate = float(K.get_value(optimizer.learning_rate))
        return MomentumAccumulationSGD(rate / (1 - momentum), steps=steps, moments=moments, momentum=momentum)
    raise ValueError(
        "%s cannot be accumulated in its momentum; give kexue_keras.optimizers.AdamW or SGD with momentum > 0 and "
        "without `decay`, or use GradientAccumulation(optimizer, steps)" % name
    )
