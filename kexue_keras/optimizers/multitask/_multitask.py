r"""One step for several tasks: the gradients are combined, not the losses.

Articles: 多任务学习漫谈（二）：行梯度之事 (kexue.fm/archives/8896), 多任务学习漫谈（三）：分主次之序
(kexue.fm/archives/8907). Papers: MGDA (arXiv 1810.04650), PCGrad (arXiv 2001.06782). Combining the losses instead
(kexue.fm/archives/8870) is `kexue_keras.losses.combine_losses`.
"""

from typing import Any, Optional, Sequence, Union

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import register, tf1
from kexue_keras.distributed._collectives import all_reduce
from kexue_keras.distributed._ranks import engine
from kexue_keras.optimizers import _gradients as grads
from kexue_keras.optimizers._adamw import as_patterns, constrained, matches
from kexue_keras.optimizers._base import Wrapper
from kexue_keras.optimizers._inner import chain, distributed_in
from kexue_keras.optimizers.multitask import _conflict as conflict
from kexue_keras.optimizers.multitask._loss_tasks import find_tasks
from kexue_keras.optimizers.multitask._loss_terms import named_term
from kexue_keras.optimizers.multitask._representation import gradients_at, layer_names, shared_tensors
from kexue_keras.types import Config, Gradients, KerasOptimizer, Op, Tensor, Variables

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
            layers that call `add_loss`, or of the scalar tensors themselves (or functions that make them, as given to
            `add_loss`). 'regularization' is all terms without data together, 'l2' half the sum of the squares of the
            weights; a list within the list is one task, the sum of what it names. A tensor that is in the loss is saved
            as its position. One that is not is still a task: its gradient counts, its value is not shown, and it
            has to be given again after loading.
        method: see above.
        main: for 'main_auxiliary': which of the tasks is the main one, position in `losses` or name; a list of
            several looks for the shortest mixture of the main gradients instead of g_main.
        variables: which variables are combined: 'shared', those reached by two tasks or more; 'all'; or regular
            expressions for their names. The others get the sum of their gradients.
        inner_product: 'global', over all these variables, as in the articles; 'variable', for each separately.
        seed: of the random order of 'pcgrad'; None takes the order of the tasks.
        decoupled: for 'main_auxiliary' with one main task. False: the inner optimizer gets u. True, as AdamW decouples
            its decay: it gets g_main, its moments see nothing else, and its step -d becomes -d', the d' closest to d
            with <d', g_i> >= 0 for the others.
        representation: name of the last layer that the tasks share, or its output (or a list). The weights of the
            g_i are then found from the gradients there, which bound those of the shared weights, and one backward pass
            below it is left instead of n. Of no use where the tasks have different samples.
        name: default "MultiTask".

    Raises:
        ValueError: unknown method or option; fewer than two tasks; a task whose loss reaches no variable; a name or
            position that is no term of the loss; a tensor that the loss is computed from without being its term; a
            representation that the tasks do not share; MultiTask inside MultiTask.

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

    # It asks `Distributed` for the mean of each task's gradients.
    sees_own_rank = True

    def __init__(
        self,
        optimizer: KerasOptimizer,
        losses: Optional[Sequence[Any]] = None,
        *,
        method: str = "normalize",
        main: Union[int, str, Sequence[Union[int, str]]] = 0,
        variables: Union[str, Sequence[str]] = "shared",
        inner_product: str = "global",
        seed: Optional[int] = 0,
        decoupled: bool = False,
        representation: Optional[Union[str, Tensor, Sequence[Union[str, Tensor]]]] = None,
        name: Optional[str] = None,
    ) -> None:
        checks.choice(method, METHODS, "method", type(self).__name__)
        checks.choice(inner_product, ("global", "variable"), "inner_product", type(self).__name__)
        if losses is not None and (not isinstance(losses, (list, tuple)) or len(losses) < 2):
            raise ValueError(
                "losses is %r; give a list of two or more positions, names or scalar tensors, or None for all terms "
                "of the model's loss" % (losses,)
            )
        several = isinstance(main, (list, tuple)) and len(main) != 1
        if decoupled and (method != "main_auxiliary" or several):
            raise ValueError(
                "decoupled=True corrects the step of one main task: it needs method='main_auxiliary' and one `main`, "
                "not method=%r and main=%r" % (method, main)
            )
        if decoupled and representation is not None:
            raise ValueError("decoupled=True needs the auxiliary gradients themselves; leave representation=... out")
        if inner_product == "variable" and (decoupled or representation is not None):
            raise ValueError(
                "inner_product='variable' gives each variable its own weights, but there is one set of weights with "
                "decoupled=True or representation=...; leave one of them out"
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
        # float64 [n] or [variables, n]: the weights of the current batch, for inspection.
        self.combination = None
        self.decoupled = bool(decoupled)
        self.representation = representation
        self._auxiliary = {}
        # How the tasks are written into a configuration, once the loss is known.
        self._saved = None
        # The loss that is trained, and the gradient of each of its variables.
        self._trained = None, {}
        # What the loss of this rank counts, see `Distributed`.
        self._own_share = None

    def _main_tasks(self, tasks):
        if self.method == "mgda":
            return list(range(len(tasks)))
        main = [named_term(tasks, m) if isinstance(m, str) else m for m in self.main]
        for m in main:
            if isinstance(m, bool) or not isinstance(m, int) or not 0 <= m < len(tasks):
                raise checks.invalid(type(self).__name__, "main", "a task's name or in 0 .. %d" % (len(tasks) - 1), m)
        return main

    # Their gradients

    def get_gradients(self, loss: Tensor, params: Variables) -> Gradients:
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
        if loss.shape.rank != 0:
            raise ValueError("the model's loss has shape %s; MultiTask needs a scalar, take its mean" % (loss.shape,))
        with loss.graph.as_default(), tf.name_scope("MultiTask"):
            found, rest = find_tasks(loss, self.losses, params)
            tasks, names = [task.loss for task in found], [task.name for task in found]
            by_task = [tf1.gradients(task, params) for task in tasks]
            for name, own in zip(names, by_task):
                if train and all(g is None for g in own):
                    raise ValueError(
                        "the loss %s reaches no trainable variable (all its gradients are None); look for an operation "
                        "without a gradient (argmax, round), stop_gradient or frozen layers below it" % name
                    )
            added = tf1.gradients(rest, params) if rest else [None] * len(params)
            self._own_share = None if self._ranks is None else self._ranks.own_share()
            by_task, added = [self._shared(own) for own in by_task], self._shared(added)
            if train:
                self._saved, self._auxiliary = [task.config for task in found], {}
            return self._combined(params, by_task, added, tasks, train)

    def _is_combined(self, param, reached):
        if self.variables_combined == "shared":
            return reached >= 2
        return reached >= 1 and (self.variables_combined == "all" or matches(param, self.variables_combined))

    def _combined(self, params, by_task, added, tasks, train):
        main, blocks, own, lost = self._main_tasks(tasks), {}, {}, []
        for i, param in enumerate(params):
            gradients = [of_task[i] for of_task in by_task]
            reached = [g for g in gradients if g is not None]
            if self._is_combined(param, len(reached)):
                blocks[i] = aligned(self._of_all_ranks(gradients, param), param)
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
        if self.decoupled:
            for i, (values, rebuild) in blocks.items():
                if train:
                    self._auxiliary[id(params[i])] = [v for t, v in enumerate(values) if t != main[0]], rebuild
                of_main = values[main[0]]
                own[i].append(tf.zeros_like(params[i]) if of_main is None else rebuild(of_main))
        elif blocks:
            add = self._add_by_weights if self.representation is None else self._add_by_representation
            combination = add(params, tasks, main, blocks, own)
            if train:
                self.combination = combination
        return [total(own[i], param) for i, param in enumerate(params)]

    def _add_by_weights(self, params, tasks, main, blocks, own):
        """Add to `own` the combination of the tasks' gradients of the shared weights; returns the tasks' weights."""
        grams = [gram_matrix(values) for values, _ in blocks.values()]
        whole = self.inner_product == "global"
        combination = self._coefficients(tf.add_n(grams) if whole else tf.stack(grams), main)
        rows = [combination] * len(blocks) if whole else tf.unstack(combination, num=len(blocks))
        for (i, (values, rebuild)), w in zip(blocks.items(), rows):
            weighed = [v * tf.cast(w[t], v.dtype) for t, v in enumerate(values) if v is not None]
            own[i].append(rebuild(tf.add_n(weighed)))
        return combination

    def _add_by_representation(self, params, tasks, main, blocks, own):
        """The same with the weights found at the representation: one backward pass through what is below it."""
        at = [self._shared(values) for values in gradients_at(shared_tensors(self.representation, tasks), tasks)]
        gram = tf.add_n([gram_matrix(values) for values in at])
        if self._ranks is not None:
            # Each rank has rows of its own, and the gradient of its own loss there, R times that of the mean.
            gram = all_reduce(gram, name="kexue_gram") / float(engine().size) ** 2
        combination = self._coefficients(gram, main)
        weights = [tf.cast(combination[t], task.dtype) for t, task in enumerate(tasks)]
        found = tf1.gradients(tasks, [params[i] for i in blocks], grad_ys=weights)
        for i, g in zip(blocks, self._shared(found)):
            own[i].append(g)
        return combination

    # Of several ranks

    @property
    def _ranks(self):
        return distributed_in(self.optimizer)

    def _shared(self, gradients):
        """Gradients, or None, times what the loss of this rank counts."""
        share = self._own_share
        if share is None:
            return gradients
        return [None if g is None else grads.map_values(lambda x: x * tf.cast(share, x.dtype), g) for g in gradients]

    def _of_all_ranks(self, gradients, param):
        """The tasks' gradients of one variable, of the whole batch."""
        if self._ranks is None or self.representation is not None:
            return gradients
        return [None if g is None else self._ranks.averaged([g], [param])[0] for g in gradients]

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

    def update(self, gradients: Gradients, params: Variables) -> Op:
        if self._saved is None:
            raise RuntimeError(
                "MultiTask got gradients that somebody else has computed; it needs the model's loss. Train with "
                "fit/train_on_batch in graph mode (tf.compat.v1.disable_eager_execution() on TensorFlow 2)"
            )
        return self._corrected(gradients, params) if self.decoupled else self.inner_update(gradients, params)

    def _corrected(self, gradients, params):
        """The step of the inner optimizer for the main task, then what the auxiliary gradients ask of it.

        Args:
            gradients, params: of this step; the gradients of the main task for what is combined.
        """
        combined = [p for p in params if id(p) in self._auxiliary]
        before = [tf.identity(p) for p in combined]

        def then():
            descents, grams = [], []
            for p, old in zip(combined, before):
                values, rebuild = self._auxiliary[id(p)]
                others = [None if v is None else grads.dense(rebuild(v), p) for v in values]
                descents.append(others)
                grams.append(gram_matrix([old - p.read_value()] + others))
            w = conflict.min_norm_weights(tf.add_n(grams), [0])
            ops = []
            for p, others in zip(combined, descents):
                shift = tf.add_n([v * tf.cast(w[1 + t], v.dtype) for t, v in enumerate(others) if v is not None])
                ops.append(constrained(p, p.assign_sub(tf.cast(shift, p.dtype.base_dtype), read_value=False)))
            return ops

        # The step must not touch a weight that is still to be read, here or by an auxiliary gradient.
        auxiliary = [v for values, _ in self._auxiliary.values() for v in values if v is not None]
        with tf.control_dependencies([tf.group(*(before + auxiliary))]):
            return self.after_update(gradients, params, then)

    def get_config(self) -> Config:
        losses = self.losses
        if losses is not None and any(_is_unsaveable(entry) for entry in losses):
            # Before the first training step tensors have no position yet; all terms are the natural guess.
            losses = self._saved
        variables = self.variables_combined
        return dict(
            super().get_config(),
            losses=losses,
            method=self.method,
            main=list(self.main),
            variables=variables if isinstance(variables, str) else list(variables),
            inner_product=self.inner_product,
            seed=self.seed,
            decoupled=self.decoupled,
            representation=layer_names(self.representation),
        )


def _is_unsaveable(entry):
    """Whether an entry of `losses` is a tensor or a function, or a list that holds one."""
    if isinstance(entry, (list, tuple)):
        return any(_is_unsaveable(part) for part in entry)
    return not isinstance(entry, (str, int, dict))


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
