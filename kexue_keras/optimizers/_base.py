"""The two bases of all optimizers here, written once for Keras 2.3.1 and tf.keras.

A technique is a rule that turns gradients into one op. It never sees `get_updates` or `apply_gradients`; those
live in `keras_adapter.py` and `tf_keras_adapter.py`, one of which is picked on import.

An optimizer of its own subclasses `Optimizer`:

    @register
    class Sign(Optimizer):
        def __init__(self, learning_rate=0.01, *, name=None):
            super().__init__(learning_rate, name=name)

        def create_state(self, params):             # runs outside any tf.cond
            for p in params:
                self.add_state("m", p)              # zeros like p; part of `weights`, saved and loaded

        def update(self, gradients, params):        # builds the graph of one step, returns one op
            lr = self.read_learning_rate()
            ops = [p.assign_sub(lr * tf.sign(g)) for g, p in zip(self.densify(gradients, params), params)]
            return self.count(ops)                  # increments `iterations` after all of them

A technique around another optimizer subclasses `Wrapper` and calls `self.inner_update(gradients, params)`, which is one
step of whatever is inside, as an op:

    @register
    class Halved(Wrapper):                          # halves every gradient
        def update(self, gradients, params):
            return self.inner_update([map_values(lambda x: x / 2, g) for g in gradients], params)

To act after the step, e.g. average the weights, use `self.after_update(gradients, params, then)`: `then()` builds ops
that read the new weights, and runs only when a real update took place (inside a hidden accumulation most steps are
none). To transform the step p_new - p_old, use `self.transform_step(gradients, params, function)`. To compute gradients
in another way (multi-task), override `get_gradients(loss, params)`; wrappers further out call it.

Rules. A gradient may be `tf.IndexedSlices`: use `kexue_keras.optimizers._gradients`. Read a counter once, with
`tf.identity`, before anything is assigned. Assign with methods of the variable under explicit control dependencies.
All ops that `update` makes wait for all gradients by themselves, so a weight may be written at once.
`update` may be built a second time for the same parameters (`flush`): take state with `self.state(label, p)`, and
make none in `update`. `get_config` of a subclass adds its own arguments to `super().get_config()`.

Parameters may come later than the first update (unfrozen layers, the model of the next fold), and a slot of theirs is
zero then, whatever the counter says. A rule for which that makes a difference calls `self.admit(params, counter)` in
`create_state` and goes by `self.arrivals.ages(params, count)`, the updates that each parameter has seen.
"""

import numbers
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, is_tf_keras, keras
from kexue_keras.optimizers import _gradients as grads
from kexue_keras.optimizers._arrivals import Arrivals, same
from kexue_keras.optimizers._inner import adapter, check_instance, check_order, repaired, warn_of_one_counter
from kexue_keras.types import Array, Config, Gradients, KerasOptimizer, LearningRate, Op, Tensor, Variable, Variables


class Optimizer(adapter.StackOptimizer):
    """Base of optimizers of our own: named state, a rate, a counter that is read once and incremented last.

    Args:
        learning_rate: float, or on tf.keras a `LearningRateSchedule`; None for wrappers, which have none.
        name: name of the optimizer, default its class.
    """

    # Whether every step is a real update (False where some steps only accumulate).
    always_updates = True
    # Whether no other wrapper may be around it.
    outermost = False
    # Whether it may be around `Distributed`: gradients of this rank alone are what it expects.
    sees_own_rank = False
    # Whether the update may start before the last gradient is there.
    takes_gradients_early = False

    def __init__(self, learning_rate: Optional[LearningRate] = None, *, name: Optional[str] = None) -> None:
        super().__init__(name=name)
        self._state = {}
        # Keys of the state of the parameters that are trained now, and while `create_state` runs those it asks for.
        self._state_keys, self._asked_keys = [], None
        self.arrivals = None
        self._built = False
        if learning_rate is not None:
            if isinstance(learning_rate, numbers.Real):
                checks.number(learning_rate, "learning_rate", type(self).__name__, least=0)
            self.make_learning_rate(learning_rate)

    # State

    def add_state(
        self,
        label: str,
        param: Optional[Variable] = None,
        *,
        dtype: Optional[str] = None,
        value: Optional[float] = None,
    ) -> Variable:
        """A variable that is saved with the optimizer; asking twice for the same gives the same.

        Args:
            label: its name.
            param: variable whose shape (and dtype) it takes; None for a scalar.
            dtype: default that of `param`, "float32" for a scalar.
            value: number for a scalar, default 0; a variable starts as zeros.
        """
        key = (label, None if param is None else id(param))
        if self._asked_keys is not None:
            self._asked_keys.append(key)
        if key not in self._state:
            name = "%s/%s" % (type(self).__name__, label)
            with tf.init_scope():
                if param is None:
                    variable = K.variable(value or 0, dtype=dtype or "float32", name=name)
                else:
                    variable = K.zeros(
                        K.int_shape(param), dtype=dtype or K.dtype(param), name="%s_%d" % (name, len(self._state))
                    )
            # The parameter is kept beside it, since an id may come back for another object.
            self._state[key] = (variable, param)
        return self._state[key][0]

    def state(self, label: str, param: Optional[Variable] = None) -> Variable:
        """The variable made by `add_state` under this label."""
        key = (label, None if param is None else id(param))
        if key not in self._state:
            raise RuntimeError(
                "%s has no state %r yet; compile and train the model first" % (type(self).__name__, label)
            )
        return self._state[key][0]

    def states(self, label: str) -> List[Tuple[Variable, Variable]]:
        """List of (parameter, variable) of the state `label` of all parameters that are trained now."""
        found = [self._state[key] for key in self._state_keys if key[0] == label]
        return [(param, variable) for variable, param in found]

    def admit(self, params: Variables, counter: Variable, *, keep_age: bool = False) -> None:
        """Keep the counter at which each parameter joined; for `create_state`. See `Arrivals`."""
        if self.arrivals is None:
            self.arrivals = Arrivals("%s/arrivals" % type(self).__name__, keep_age=keep_age)
        self.arrivals.admit(params, counter)

    @property
    def own_weights(self) -> List[Variable]:
        """State of this optimizer alone for the parameters trained now, in the order in which `create_state` asks."""
        return [variable for variable, arrivals in self._own_slots() if arrivals is None or arrivals.late]

    def _own_slots(self):
        """List of (variable, None); for one that is saved only where it is needed, its `Arrivals` instead of None."""
        others = [key for key in self._state if key[1] is None and key not in self._state_keys]
        slots = [(self._state[key][0], None) for key in others + self._state_keys]
        if self.arrivals is not None and self.arrivals.variable is not None:
            slots.append((self.arrivals.variable, self.arrivals))
        return slots

    def weight_slots(self) -> List[Tuple[Variable, Optional[Arrivals]]]:
        """`_own_slots` of the whole chain of optimizers, the counter of updates included."""
        return [(self.iterations, None)] + self._own_slots()

    @property
    def weights(self) -> List[Variable]:
        """Counter and state, empty before the first training graph is built.

        The state is that of the parameters trained now, in the order in which a fresh process would make it: slots of
        layers that have been frozen since, or of the model of another fold, are not among them.
        """
        slots = self.weight_slots() if self._built else []
        return [variable for variable, arrivals in slots if arrivals is None or arrivals.late]

    @weights.setter
    def weights(self, value: Any) -> None:
        # Keras 2.3.1 sets an empty list in its constructor.
        pass

    def variables(self) -> List[Variable]:
        return self.weights

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Set what `get_weights` gave, of this optimizer or of one like it in another process.

        Args:
            weights: list of arrays.

        Raises:
            ValueError: another number of arrays, or other shapes; nothing is set then.
        """
        values, pairs, late = list(weights), [], []
        for variable, arrivals in self.weight_slots() if self._built else ():
            shape = K.int_shape(variable)
            if arrivals is not None:
                late.append((arrivals, bool(values) and arrivals.fits(values[0])))
                if not late[-1][1]:
                    pairs.append((variable, np.zeros(shape, "int64")))
                    continue
            if not values or np.shape(values[0]) != shape:
                break
            pairs.append((variable, values.pop(0)))
        else:
            if not values:
                K.batch_set_value(pairs)
                for arrivals, is_late in late:
                    arrivals.late = is_late
                return
        raise ValueError(
            "these %d arrays are not the weights of %s, which has %d: %s; they belong to other optimizers, or to a "
            "model with other trainable weights"
            % (
                len(weights),
                type(self).__name__,
                len(self.weights),
                ", ".join(str(K.int_shape(w)) for w in self.weights[:8]) or "none before the first training graph",
            )
        )

    # One step

    def create_state(self, params: Variables) -> None:
        """Make all state for these parameters (to be overridden)."""

    def build(self, params: Variables) -> None:
        """Make the state, outside of any tf.cond; safe to repeat."""
        with tf.init_scope():
            self.iterations
            self._asked_keys = []
            self.create_state(params)
        self._state_keys, self._asked_keys = list(dict.fromkeys(self._asked_keys)), None
        self._built = True

    def update(self, gradients: Gradients, params: Variables) -> Op:
        """One op that makes one step (to be overridden)."""
        raise NotImplementedError("%s does not define update(gradients, params)" % type(self).__name__)

    def train(self, gradients: Gradients, params: Variables) -> Op:
        """What the adapters call with raw gradients: build state, wait for all gradients, update."""
        self.build(params)
        if self.takes_gradients_early:
            return self.update(gradients, params)
        with grads.after_all(gradients):
            return self.update(gradients, params)

    def count(self, ops: Sequence[Union[Op, Tensor]]) -> Op:
        """Op that runs `ops` and then adds one to `iterations`."""
        with tf.control_dependencies([tf.group(*ops)]):
            return tf.group(self.iterations.assign_add(1, read_value=False))

    def densify(self, gradients: Gradients, params: Variables) -> List[Tensor]:
        """All gradients as dense tensors."""
        return [grads.dense(g, p) for g, p in zip(gradients, params)]

    def get_config(self) -> Config:
        config = super().get_config()
        return dict(config, name=self._name if is_tf_keras else self.name)


class Wrapper(Optimizer):
    """Base of optimizers around another one, ours, Keras' or bert4keras'.

    `lr`, `learning_rate` and `iterations` are those of the inner optimizer; `weights` is own state, then the inner's.

    Args:
        optimizer: an optimizer instance of the same Keras.
        name: name of the wrapper, default its class.

    Raises:
        TypeError: a class, a tf.train optimizer or anything else than an optimizer of this Keras.
        ValueError: an order of wrappers that makes no sense.
    """

    def __init__(self, optimizer: KerasOptimizer, *, name: Optional[str] = None) -> None:
        check_instance(optimizer, type(self).__name__)
        check_order(self, optimizer)
        super().__init__(name=name)
        self.optimizer = repaired(optimizer)
        if is_tf_keras:
            self._track_trackable(optimizer, "optimizer")

    # What the inner optimizer was last built for, if it is Keras' or bert4keras'.
    _foreign_params = None

    @property
    def always_updates(self) -> bool:
        return getattr(self.optimizer, "always_updates", True)

    @property
    def learning_rate(self) -> Union[Variable, LearningRate]:
        # Not `lr`: bert4keras' AdaFactor does not know it on tf.keras.
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        if isinstance(self.learning_rate, tf.Variable):
            K.set_value(self.learning_rate, value)
        else:
            self.optimizer.learning_rate = value

    @property
    def iterations(self) -> Variable:
        return self.optimizer.iterations

    def weight_slots(self) -> List[Tuple[Variable, Optional[Arrivals]]]:
        inner = self.optimizer
        slots = inner.weight_slots() if isinstance(inner, Optimizer) else [(w, None) for w in inner.weights]
        return self._own_slots() + slots

    def build(self, params: Variables) -> None:
        super().build(params)
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.build(params)
            return
        if self._foreign_params is not None and not same(params, self._foreign_params):
            warn_of_one_counter(self.optimizer)
        self._foreign_params = tuple(params)
        adapter.prepare(self.optimizer, params)

    def inner_update(self, gradients: Gradients, params: Variables) -> Op:
        """One step of the inner optimizer with these gradients, as an op."""
        if isinstance(self.optimizer, Optimizer):
            return self.optimizer.update(gradients, params)
        return adapter.apply(self.optimizer, gradients, params)

    def update(self, gradients: Gradients, params: Variables) -> Op:
        return self.inner_update(gradients, params)

    def after_update(self, gradients: Gradients, params: Variables, then: Callable[[], List[Op]]) -> Op:
        """The inner step, and after each real update the ops that `then()` returns.

        Args:
            gradients, params: of this step.
            then: function without arguments that returns a list of ops; reads the new weights.
        """
        if self.always_updates:
            with tf.control_dependencies([self.inner_update(gradients, params)]):
                return tf.group(*then())
        before = tf.identity(self.iterations)
        with tf.control_dependencies([before]):
            step = self.inner_update(gradients, params)
        with tf.control_dependencies([step]):
            moved = tf.not_equal(self.iterations.read_value(), before)
            return tf.group(tf.cond(moved, lambda: tf.group(*then()), tf.no_op))

    def transform_step(
        self, gradients: Gradients, params: Variables, function: Callable[[Variable, Tensor], Optional[Tensor]]
    ) -> Op:
        """The inner step with p_old + function(p, p_new - p_old) in place of p_new.

        Args:
            gradients, params: of this step.
            function: (param, step tensor) -> step tensor, or None to leave this parameter alone.
        """
        before = [tf.identity(p) for p in params]

        def then():
            ops = []
            for p, old in zip(params, before):
                step = function(p, p.read_value() - old)
                if step is None:
                    continue
                new = old + step
                if getattr(p, "constraint", None) is not None:
                    new = p.constraint(new)
                ops.append(p.assign(new, read_value=False))
            return ops

        # The inner step must not touch a weight before it is read: decoupled decay looks at no gradient.
        with tf.control_dependencies([tf.group(*before)]):
            return self.after_update(gradients, params, then)

    def get_gradients(self, loss: Tensor, params: Variables) -> Gradients:
        if isinstance(self.optimizer, Optimizer):
            return self.optimizer.get_gradients(loss, params)
        return super().get_gradients(loss, params)

    def get_config(self) -> Config:
        inner = {"class_name": type(self.optimizer).__name__, "config": self.optimizer.get_config()}
        return dict(super().get_config(), optimizer=inner)

    @classmethod
    def from_config(cls, config: Config, custom_objects: Optional[Dict[str, Any]] = None) -> "Wrapper":
        config = dict(config)
        optimizer = keras.optimizers.deserialize(dict(config.pop("optimizer")), custom_objects=custom_objects)
        # By name, since Horovod's subclass takes keyword arguments alone.
        return cls(optimizer=optimizer, **config)
