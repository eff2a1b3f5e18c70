r"""One step for several tasks: the gradients are combined, not the losses.

Articles: 多任务学习漫谈（二）：行梯度之事 (kexue.fm/archives/8896), 多任务学习漫谈（三）：分主次之序
(kexue.fm/archives/8907). Papers: MGDA (arXiv 1810.04650), PCGrad (arXiv 2001.06782). Combining the losses instead
(kexue.fm/archives/8870) is `kexue_keras.losses.combine_losses`.
"""

import tensorflow as tf

from kexue_keras.backend import register, tf1
from kexue_keras.optimizers import conflict
from kexue_keras.optimizers import gradients as grads
from kexue_keras.optimizers.adamw import as_patterns, matches
from kexue_keras.optimizers.base import Wrapper, chain
from kexue_keras.optimizers.loss_terms import depends_on_data, describe, loss_terms, named_term

METHODS = ("normalize", "mgda", "pcgrad", "main_auxiliary")


@register
class MultiTask(Wrapper):
    r"""Combines the gradients g_1 .. g_n of n task losses into one direction u, then one step of any optimizer.

    | method | u |
    |---|---|
    | 'normalize' | sum g_i / \|g_i\|: does not change when a loss is scaled or shifted |
    | 'mgda' | the shortest vector in the convex hull of the g_i: <u, g_i> >= \|u\|^2, so no task gets worse |
    | 'pcgrad' | sum of the g_i, each without its components against another |
    | 'main_auxiliary' | the vector closest to g_main with <u, g_i> >= 0 for all others |

    The tasks are the terms of the model's loss: one for each output of a compiled multi-output model, times its loss
    weight, and one for each `add_loss`. Terms without data (regularisers) are no tasks; their gradient is added to
    u as it is, like that of terms that `losses` leaves out. One backward pass is made for each task. A variable that
    a single task reaches (its head) keeps that task's own gradient. A task whose gradient is 0, for instance because
    the batch has no label for it, is left out of this step. The optimizer's momentum mixes steps, so that what holds
    for u holds for the step of plain SGD only. Runs in graph mode, memory n times the parameters.

    Args:
        optimizer: instance, of this package, of Keras or of bert4keras.
        losses: None for all terms; or a list of positions among the terms with data, of names of outputs or of
            layers that call `add_loss`, or of the scalar tensors themselves, which have to be terms of the
            loss. Tensors are saved as their positions.
        method: see above.
        main: for 'main_auxiliary': which of the tasks is the main one, position in `losses` or name; a list of
            several looks for the shortest mixture of the main gradients instead of g_main.
        variables: which variables are combined: 'shared', those reached by two tasks or more; 'all'; or regular
            expressions for their names. The others get the sum of their gradients.
        inner_product: 'global', over all these variables, as in the articles; 'variable', for each by itself.
        seed: of the random order of 'pcgrad'; None takes the order of the tasks.
        name: default "MultiTask".

    Raises:
        ValueError: unknown method or option; fewer than two tasks; a task whose loss reaches no variable; a name,
            position or tensor that is no term of the loss; MultiTask inside MultiTask.

    Reference:
        多任务学习漫谈（二）：行梯度之事, kexue.fm/archives/8896; 多任务学习漫谈（三）：分主次之序, kexue.fm/archives/8907;
        arXiv 1810.04650; arXiv 2001.06782

    >>> from kexue_keras.optimizers import AdamW, MultiTask
    >>> x = keras.layers.Input((3,))
    >>> h = keras.layers.Dense(4, activation='tanh')(x)
    >>> outputs = [keras.layers.Dense(2, activation='softmax', name='topic')(h), keras.layers.Dense(1, name='score')(h)]
    >>> model = keras.models.Model(x, outputs)
    >>> model.compile(MultiTask(AdamW(1e-3), method='mgda'), ['sparse_categorical_crossentropy', 'mse'])
    >>> losses = model.train_on_batch(np.ones((2, 3)), [np.ones((2, 1)), np.ones((2, 1))])
    >>> int(K.get_value(model.optimizer.iterations))
    1
    """

    def __init__(
        self,
        optimizer,
        losses=None,
        *,
        method="normalize",
        main=0,
        variables="shared",
        inner_product="global",
        seed=0,
        name=None,
    ):
        if method not in METHODS:
            raise ValueError("method is %r; choose one of %s" % (method, ", ".join(METHODS)))
        if inner_product not in ("global", "variable"):
            raise ValueError("inner_product is %r; choose 'global' or 'variable'" % (inner_product,))
        if losses is not None and (not isinstance(losses, (list, tuple)) or len(losses) < 2):
            raise ValueError(
                "losses is %r; give a list of two or more positions, names or scalar tensors, or None for all terms "
                "of the model's loss" % (losses,)
            )
        super().__init__(optimizer, name=name)
        if any(isinstance(inner, MultiTask) for inner in chain(optimizer)):
            raise ValueError("MultiTask inside MultiTask; use one of them with all losses")
        self.losses = None if losses is None else list(losses)
        self.method = method
        self.main = list(main) if isinstance(main, (list, tuple)) else [main]
        self.variables_combined = variables if variables in ("shared", "all") else as_patterns(variables, "variables")
        self.inner_product = inner_product
        self.seed = seed
        # float64 [n] or [variables, n]: the weights of the present batch, for those who want to look.
        self.combination = None
        self._positions = None
        # The loss that is trained, and the gradient of each of its variables.
        self._trained = None, {}

    # Which terms are tasks

    def _split(self, loss):
        """(task losses, names for messages, terms that are only added)."""
        if loss.shape.rank != 0:
            raise ValueError("the model's loss has shape %s; MultiTask needs a scalar, take its mean" % (loss.shape,))
        whole = [entry for entry in self.losses or () if isinstance(entry, tf.Tensor)]
        terms = loss_terms(loss, whole)
        data = [t for t in terms if any(t is w for w in whole) or depends_on_data(t)]
        self._positions = list(range(len(data))) if self.losses is None else [self._find(e, data) for e in self.losses]
        if len(set(self._positions)) < max(2, len(self._positions)):
            raise ValueError(
                "MultiTask needs two or more different tasks, but found %s among the terms of the loss: %s; compile a "
                "model with several outputs and losses, or add_loss each task's mean loss by itself"
                % (self._positions, ", ".join(describe(t) for t in data) or "none that depends on data")
            )
        tasks = [data[i] for i in self._positions]
        return tasks, [describe(t) for t in tasks], [t for t in terms if not any(t is task for task in tasks)]

    def _find(self, entry, terms):
        if isinstance(entry, str):
            return named_term(terms, entry)
        if isinstance(entry, tf.Tensor):
            for i, term in enumerate(terms):
                if term is entry:
                    return i
            raise ValueError(
                "%s is no term of the model's loss; call model.add_loss(loss) for each loss of the list (a weight "
                "belongs into the loss), then give the same tensors to MultiTask" % entry.name
            )
        if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < len(terms):
            return entry
        raise ValueError(
            "losses holds %r; the model's loss has %d terms with data: %s"
            % (entry, len(terms), ", ".join("%d: %s" % (i, describe(t)) for i, t in enumerate(terms)))
        )

    def _main_tasks(self, tasks):
        if self.method == "mgda":
            return list(range(len(tasks)))
        main = [named_term(tasks, m) if isinstance(m, str) else m for m in self.main]
        for m in main:
            if isinstance(m, bool) or not isinstance(m, int) or not 0 <= m < len(tasks):
                raise ValueError("main is %r; it has to be a task's name or in 0 .. %d" % (m, len(tasks) - 1))
        return main

    # Their gradients

    def get_gradients(self, loss, params):
        if isinstance(params, (list, tuple)):
            found = self._gradients(loss, params, train=True)
            self._trained = loss, {id(p): g for p, g in zip(params, found)}
            return found
        # One variable, for looking at its gradient (TensorBoard): that of the training step, where there is such.
        trained, found = self._trained
        if trained is loss and id(params) in found:
            return [found[id(params)]]
        return self._gradients(loss, [params], train=False)

    def _gradients(self, loss, params, train):
        params = list(params)
        with loss.graph.as_default(), tf.name_scope("MultiTask"):
            tasks, names, rest = self._split(loss)
            by_task = [tf1.gradients(task, params) for task in tasks]
            for name, own in zip(names, by_task):
                if train and all(g is None for g in own):
                    raise ValueError(
                        "the loss %s reaches no trainable variable (all its gradients are None); look for an operation "
                        "without a gradient (argmax, round), stop_gradient or frozen layers below it" % name
                    )
            added = tf1.gradients(rest, params) if rest else [None] * len(params)
            return self._combined(params, by_task, added, self._main_tasks(tasks), train)

    def _is_combined(self, param, reached):
        if self.variables_combined == "shared":
            return reached >= 2
        return reached >= 1 and (self.variables_combined == "all" or matches(param, self.variables_combined))

    def _combined(self, params, by_task, added, main, train):
        blocks, own, lost = {}, {}, []
        for i, param in enumerate(params):
            gradients = [of_task[i] for of_task in by_task]
            reached = [g for g in gradients if g is not None]
            if self._is_combined(param, len(reached)):
                blocks[i] = aligned(gradients, param)
                reached = []
            own[i] = reached + [g for g in (added[i],) if g is not None]
            if i not in blocks and not own[i]:
                lost.append(param.name)
        if lost:
            raise ValueError(
                "no loss depends on %s (their gradient is None); freeze them (layer.trainable = False)"
                % ", ".join(lost)
            )
        if not blocks and train:
            raise ValueError(
                "there is nothing to combine: no variable has variables=%r; do the tasks share a trainable layer?"
                % (self.variables_combined,)
            )
        rows = self._rows([gram_matrix(values) for values, _ in blocks.values()], main, train) if blocks else []
        for (i, (values, rebuild)), w in zip(blocks.items(), rows):
            weighed = [v * tf.cast(w[t], v.dtype) for t, v in enumerate(values) if v is not None]
            own[i].append(rebuild(tf.add_n(weighed)))
        return [total(own[i], param) for i, param in enumerate(params)]

    def _rows(self, grams, main, train):
        """The tasks' weights for each variable that is combined."""
        whole = self.inner_product == "global"
        combination = self._coefficients(tf.add_n(grams) if whole else tf.stack(grams), main)
        if train:
            self.combination = combination
        return [combination] * len(grams) if whole else tf.unstack(combination, num=len(grams))

    def _coefficients(self, gram, main):
        if self.method == "normalize":
            return conflict.normalised_weights(gram)
        if self.method == "pcgrad":
            return conflict.pcgrad_weights(gram, self._order(int(gram.shape[-1])))
        return conflict.min_norm_weights(gram, main)

    def _order(self, n):
        """For each task the order in which it meets the others, new at each update and the same after a restart."""
        if self.seed is None:
            return tf.tile(tf.range(n)[None], [n, 1])
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(tf.identity(self.iterations), tf.int64)])
        return tf.argsort(tf.random.stateless_uniform([n, n], seed=seed), axis=-1)

    def update(self, gradients, params):
        if self._positions is None:
            raise RuntimeError(
                "MultiTask got gradients that somebody else has computed; it needs the model's loss. Train with "
                "fit/train_on_batch in graph mode (tf.compat.v1.disable_eager_execution() on TensorFlow 2)"
            )
        return self.inner_update(gradients, params)

    def get_config(self):
        losses = self.losses
        if losses is not None and any(isinstance(entry, tf.Tensor) for entry in losses):
            # Before the first training step tensors have no position yet; all terms are the natural guess.
            losses = self._positions
        variables = self.variables_combined
        return dict(
            super().get_config(),
            losses=losses,
            method=self.method,
            main=list(self.main),
            variables=variables if isinstance(variables, str) else list(variables),
            inner_product=self.inner_product,
            seed=self.seed,
        )


def aligned(gradients, param):
    """The tasks' gradients of one variable on common rows, and the function that makes a gradient of such rows.

    Args:
        gradients: a tensor, IndexedSlices or None for each task.
        param: the variable.

    Returns:
        (list of tensors of one shape, None for None; function from such a tensor to a gradient).
    """
    present = [g for g in gradients if g is not None]
    if not all(grads.is_sparse(g) for g in present):
        return [None if g is None else grads.dense(g, param) for g in gradients], lambda x: x
    # All rows that any task touches, each once: an embedding table of 250,000 rows is never filled in.
    rows, position = tf.unique(tf.concat([g.indices for g in present], axis=0))
    positions = iter(tf.split(position, tf.stack([tf.size(g.indices) for g in present]), num=len(present)))
    values = [
        None if g is None else tf.math.unsorted_segment_sum(g.values, next(positions), tf.size(rows)) for g in gradients
    ]
    return values, lambda x: tf.IndexedSlices(x, rows, present[0].dense_shape)


def gram_matrix(values):
    """Inner products, float64 [n, n], of tensors of one shape; None counts as 0."""
    products = {}
    for i, a in enumerate(values):
        for j, b in enumerate(values[: i + 1]):
            product = tf.zeros((), tf.float64)
            if a is not None and b is not None:
                wide = tf.float64 if a.dtype == tf.float64 else tf.float32
                product = tf.cast(tf.reduce_sum(tf.cast(a, wide) * tf.cast(b, wide)), tf.float64)
            products[i, j] = products[j, i] = product
    n = len(values)
    return tf.reshape(tf.stack([products[i, j] for i in range(n) for j in range(n)]), [n, n])


def total(gradients, param):
    """Sum of dense and sparse gradients of one variable, sparse if all are."""
    if len(gradients) == 1:
        return gradients[0]
    if all(grads.is_sparse(g) for g in gradients):
        values = tf.concat([g.values for g in gradients], axis=0)
        return tf.IndexedSlices(values, tf.concat([g.indices for g in gradients], axis=0), gradients[0].dense_shape)
    return tf.add_n([grads.dense(g, param) for g in gradients])
