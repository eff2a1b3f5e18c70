"""What may be inside a wrapper, in which order, and what has to be known about Keras' optimizers."""

import warnings

from kexue_keras.backend import K, is_tf_keras, tf1

if is_tf_keras:
    from kexue_keras.optimizers import _tf_keras_adapter as adapter
else:
    from kexue_keras.optimizers import _keras_adapter as adapter


def chain(optimizer):
    """The optimizer and all that it wraps, from the outside in."""
    while optimizer is not None:
        yield optimizer
        optimizer = optimizer.__dict__.get("optimizer", optimizer.__dict__.get("_optimizer"))


def check_instance(optimizer, owner):
    """Raise TypeError, with what to do, unless `optimizer` is an optimizer instance of this Keras."""
    if isinstance(optimizer, type):
        raise TypeError(
            "%s takes an optimizer instance, not the class %s; write %s(%s(...), ...)"
            % (owner, optimizer.__name__, owner, optimizer.__name__)
        )
    native = isinstance(optimizer, tf1.train.Optimizer) or type(optimizer).__name__ == "TFOptimizer"
    if native or not isinstance(optimizer, adapter.KerasOptimizer):
        this = "tf.keras (TF_KERAS=1)" if is_tf_keras else "Keras 2.3.1 (TF_KERAS=0)"
        raise TypeError(
            "%s takes an optimizer of %s, not %r of %s; use kexue_keras.optimizers.AdamW or one of keras.optimizers"
            % (owner, this, type(optimizer).__name__, type(optimizer).__module__)
        )


def check_order(wrapper, optimizer):
    """Raise ValueError where wrapping `optimizer` in `wrapper` makes no sense."""
    owner = type(wrapper).__name__
    for inner in chain(optimizer):
        name = type(inner).__name__
        accumulates = not getattr(inner, "always_updates", True)
        if getattr(inner, "grad_accum_steps", None) is not None:
            raise ValueError(
                "%s is bert4keras' gradient accumulation, which drops micro batches and is not saved; wrap the plain "
                "optimizer in kexue_keras.optimizers.GradientAccumulation instead" % name
            )
        if name == "LossScale":
            raise ValueError(
                "LossScale has to be the outermost wrapper, but is inside %s, which would then see scaled "
                "gradients; write LossScale(%s(...))" % (owner, owner)
            )
        if getattr(wrapper, "outermost", False) and (accumulates or getattr(inner, "outermost", False)):
            raise ValueError(
                "accumulation inside accumulation: %s around %s; use one of them with the product of both `steps`"
                % (owner, name)
            )
        if name == "Distributed" and not getattr(wrapper, "sees_own_rank", False):
            raise ValueError(
                "Distributed stands inside %s, which would then see the gradients of this rank alone, or communicate "
                "for nothing; only GradientAccumulation, MultiTask and LossScale go round it: write "
                "Distributed(%s(...))" % (owner, owner)
            )
        if getattr(inner, "outermost", False):
            raise ValueError(
                "%s has to be the outermost wrapper, but is inside %s, which would then act on every micro batch; "
                "write %s(%s(...), ...)" % (name, owner, name, owner)
            )


def distributed_in(optimizer):
    """The `Distributed` of a chain of optimizers, or None."""
    return next((one for one in chain(optimizer) if hasattr(one, "all_agree")), None)


def repaired(optimizer):
    """bert4keras' AdaFactor makes a new rate variable at each access, so that no callback reaches it; keep one."""
    if any(c.__name__ == "AdaFactorBase" for c in type(optimizer).__mro__):
        if optimizer._learning_rate is not None and not hasattr(optimizer, "__learning_rate"):
            setattr(optimizer, "__learning_rate", optimizer.learning_rate)
    return optimizer


def warn_of_one_counter(optimizer):
    """Warn where a trained optimizer of Keras gets other parameters, and corrects a bias by its one counter."""
    if "beta_1" in optimizer.get_config() and K.get_value(optimizer.iterations) > 0:
        warnings.warn(
            "%s has made %d updates and now gets other weights; it corrects the bias of new moments as if they were "
            "that old, so that their first steps are up to 3 times too large. Use kexue_keras.optimizers.AdamW, which "
            "counts for each weight, or compile with a new optimizer"
            % (type(optimizer).__name__, K.get_value(optimizer.iterations)),
            stacklevel=4,
        )
