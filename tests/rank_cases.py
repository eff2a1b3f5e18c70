"""What two ranks have to make of a batch as one process does: each case trains a tiny model for a few steps.

A case is a function without arguments that builds and compiles a model and returns (model, make_batch, unit). The same
function runs on one process with the whole batch and on each of several ranks with its part.
"""

import collections

import numpy as np
import tensorflow as tf

from kexue_keras import distributed, losses, optimizers, training
from kexue_keras.backend import K, keras
from kexue_keras.optimizers import AdamW, Distributed, GradientAccumulation
from kexue_keras.training.precision import LossScale

# Whole windows of accumulation: within one each rank has its own part.
STEPS = 6
WORDS = 20
CASES = collections.OrderedDict()


def case(function):
    """Decorator: a case by the name of its function."""
    CASES[function.__name__] = function
    return function


def fixed_weights(model, seed=3, positive=False):
    """The same first weights on all ranks and in one process."""
    random = np.random.RandomState(seed)
    draw = random.uniform if positive else random.normal
    model.set_weights(
        [(draw(*((0.2, 1.0) if positive else (0.0, 0.5)), w.shape)).astype(w.dtype) for w in model.get_weights()]
    )
    return model


def share_of(model):
    """`share` by the rows of the batch."""
    return lambda: distributed.share_of(tf.shape(model.inputs[0])[0])


def tokens(step, rows, length=4):
    """Token ids, of which some rows occur in the parts of several ranks."""
    return np.random.RandomState(100 + step).randint(1, WORDS, (rows, length))


def encoder(outputs=6):
    """Embeddings, so that there are sparse gradients, and two layers."""
    x = keras.layers.Input([4])
    h = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(WORDS, 5, name="Embedding-Token")(x))
    h = keras.layers.Dense(7, activation="tanh", name="Transformer-0-FeedForward")(h)
    return keras.models.Model(x, keras.layers.Dense(outputs, name="head")(h))


def classifier_case(wrap, rows=7, bad_row=None, positive=False, loss=None):
    """A classifier with the optimizer `wrap(share)`, in batches of an odd number of rows."""

    def build():
        model = fixed_weights(encoder(3), positive=positive)
        loss_ = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(wrap(share_of(model)), loss_)

        def make_batch(step):
            x = tokens(step, rows)
            return x, (x.sum(1) % 3).astype("float32")

        return model, make_batch, 1

    return build


def add(name, wrap, **how):
    CASES[name] = classifier_case(wrap, **how)


def sgd():
    return keras.optimizers.SGD(0.1)


add("sgd", lambda share: Distributed(sgd(), share=share))
add("equal parts without a share", lambda share: Distributed(sgd()), rows=8)
add("sparse as dense", lambda share: Distributed(sgd(), share=share, sparse_as_dense=True))
add("keras momentum", lambda share: Distributed(keras.optimizers.SGD(0.05, momentum=0.9), share=share))
add("keras adam", lambda share: Distributed(keras.optimizers.Adam(0.01), share=share))
add("adamw", lambda share: Distributed(AdamW(0.01), share=share))
add("lamb", lambda share: Distributed(AdamW(0.01, layer_adaptation=True), share=share))
add("clipping", lambda share: Distributed(AdamW(0.01, global_clipnorm=0.05, clipvalue=0.02), share=share))
add("keras clipping", lambda share: Distributed(keras.optimizers.SGD(0.1, clipnorm=0.05), share=share))
add("lookahead", lambda share: Distributed(optimizers.Lookahead(AdamW(0.01), steps=2), share=share))
add("ema", lambda share: Distributed(optimizers.ExponentialMovingAverage(AdamW(0.01), decay=0.9), share=share))
add(
    "layerwise rates",
    lambda share: Distributed(optimizers.LayerwiseLearningRate(AdamW(0.01), multipliers={"head": 5}), share=share),
)
add("piecewise linear", lambda share: Distributed(optimizers.PiecewiseLinear(sgd(), {2: 1, 5: 0.1}), share=share))
add("warmup cosine", lambda share: Distributed(optimizers.WarmupCosine(sgd(), warmup=2, total=6), share=share))
add(
    "warmup inverse square root",
    lambda share: Distributed(optimizers.WarmupInverseSquareRoot(sgd(), warmup=2), share=share),
)
add("step size", lambda share: Distributed(optimizers.ExponentiatedStepSize(sgd(), gamma=0.5), share=share))
add(
    "step size cosine",
    lambda share: Distributed(optimizers.ExponentiatedStepSize(sgd(), gamma=0.5, alignment="cosine"), share=share),
)
add("step size momentum", lambda share: Distributed(optimizers.ExponentiatedStepSizeMomentum(0.05), share=share))
add(
    "exponentiated gradient",
    lambda share: Distributed(optimizers.ExponentiatedGradient(0.05), share=share),
    positive=True,
)
for mode in ("mean", "sum"):
    add(
        "accumulation, " + mode,
        lambda share, mode=mode: GradientAccumulation(Distributed(AdamW(0.01), share=share), 2, mode=mode),
    )
add(
    "accumulation in momentum, AdamW",
    lambda share: Distributed(optimizers.MomentumAccumulationAdamW(0.01, steps=2), share=share),
)
add(
    "accumulation in momentum, SGD",
    lambda share: Distributed(optimizers.MomentumAccumulationSGD(0.1, steps=2), share=share),
)
add("loss scale", lambda share: LossScale(Distributed(AdamW(0.01), share=share), 1024.0))
add(
    "all together",
    lambda share: LossScale(
        GradientAccumulation(
            Distributed(
                optimizers.ExponentialMovingAverage(
                    optimizers.Lookahead(
                        optimizers.LayerwiseLearningRate(
                            optimizers.WarmupCosine(AdamW(0.01, global_clipnorm=0.1), warmup=1, total=5),
                            multipliers={"head": 3},
                        ),
                        steps=2,
                    ),
                    decay=0.9,
                ),
                share=share,
            ),
            2,
        ),
        "dynamic",
    ),
)


def nan_case(wrap):
    """One row of the third batch is NaN, in the part of one rank: all skip it."""

    def build():
        x = keras.layers.Input([3])
        model = fixed_weights(keras.models.Model(x, keras.layers.Dense(2)(x)))
        model.compile(wrap(share_of(model)), "mse")

        def make_batch(step):
            random = np.random.RandomState(step)
            x, y = random.normal(size=(6, 3)), random.normal(size=(6, 2))
            if step == 2:
                x[1] = np.nan
            return x, y

        return model, make_batch, 1

    return build


CASES["loss scale skips on all ranks"] = nan_case(
    lambda share: LossScale(Distributed(AdamW(0.01), share=share), "dynamic")
)
CASES["accumulation skips on all ranks"] = nan_case(
    lambda share: GradientAccumulation(Distributed(AdamW(0.01), share=share), 2, skip_nonfinite=True)
)


def multitask_case(**how):
    """Two heads on shared layers."""

    def build():
        x = keras.layers.Input([4])
        h = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(WORDS, 5)(x))
        h = keras.layers.Dense(6, activation="tanh", name="shared")(h)
        outputs = [keras.layers.Dense(3, name="topic")(h), keras.layers.Dense(1, name="score")(h)]
        model = fixed_weights(keras.models.Model(x, outputs))
        topic = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizers.MultiTask(Distributed(sgd(), share=share_of(model)), **how), [topic, "mse"])

        def make_batch(step):
            x = tokens(step, 7)
            return x, [(x.sum(1) % 3)[:, None].astype("float32"), (x[:, :1] % 4) / 4.0]

        return model, make_batch, 1

    return build


for method in ("normalize", "mgda", "pcgrad", "main_auxiliary"):
    CASES["multitask, " + method] = multitask_case(method=method)
CASES["multitask, decoupled"] = multitask_case(method="main_auxiliary", decoupled=True)
CASES["multitask, representation"] = multitask_case(method="mgda", representation="shared")
CASES["multitask, normalize by representation"] = multitask_case(method="normalize", representation="shared")


# Losses that couple the batch


def pairs_case(loss, vectors=2, rows=7, cached=False):
    """Each row of the data has several texts, the vectors of which are y_pred [batch, vectors, dimension]."""

    def build():
        tower = fixed_weights(encoder())
        if cached:
            model = training.gradient_cache.gradient_cache([tower] * vectors, chunk_size=2)
        else:
            inputs = [keras.layers.Input([4]) for _ in range(vectors)]
            stack = training.gradient_cache.Towers()([tower(x) for x in inputs])
            model = keras.models.Model(inputs, stack)
        model.compile(Distributed(sgd(), share=share_of(model)), loss())

        def make_batch(step):
            return [tokens(10 * step + i, rows) for i in range(vectors)], np.zeros((rows, 1, 1))

        return model, make_batch, 1

    return build


def rows_case(loss, targets, rows=14):
    """Rows 2i and 2i+1 of the data belong together."""

    def build():
        model = fixed_weights(encoder())
        model.compile(Distributed(sgd(), share=share_of(model)), loss())

        def make_batch(step):
            return tokens(step, rows), targets(step, rows)

        return model, make_batch, 2

    return build


def scores(step, rows):
    """A score a pair, in both of its rows."""
    return np.repeat(np.random.RandomState(step).randint(0, 4, rows // 2), 2).astype("float32")


def classes(step, rows):
    return np.repeat(np.random.RandomState(step).randint(0, 6, rows // 2), 2).astype("float32")


CASES["InfoNCE"] = pairs_case(lambda: losses.InfoNCE(0.5, distributed=True))
CASES["InfoNCE, hard negatives"] = pairs_case(lambda: losses.InfoNCE(0.5, distributed=True), vectors=3)
CASES["InfoNCE, symmetric"] = pairs_case(lambda: losses.InfoNCE(0.5, symmetric=True, distributed=True))
CASES["FlatNCE"] = pairs_case(lambda: losses.FlatNCE(0.5, distributed=True))
CASES["FlatNCE, symmetric"] = pairs_case(lambda: losses.FlatNCE(0.5, symmetric=True, distributed=True), vectors=3)
CASES["SimCSE (InfoNCE of two views)"] = rows_case(
    lambda: losses.InfoNCE(0.5, layout="two_view", distributed=True), lambda step, rows: np.zeros((rows, 1))
)
CASES["FlatNCE of two views"] = rows_case(
    lambda: losses.FlatNCE(0.5, layout="two_view", distributed=True), lambda step, rows: np.zeros((rows, 1))
)
CASES["CoSENT"] = rows_case(lambda: losses.CoSENT(5.0, distributed=True), scores)
CASES["R-Drop of pairs"] = rows_case(lambda: losses.RDropCrossentropy(alpha=2.0), classes)
CASES["gradient cache, InfoNCE"] = pairs_case(lambda: losses.InfoNCE(0.5, distributed=True), cached=True)
CASES["gradient cache, FlatNCE"] = pairs_case(
    lambda: losses.FlatNCE(0.5, symmetric=True, distributed=True), vectors=2, cached=True
)


# Adversarial training


def adversarial_case(technique, rows=7):
    def build():
        model = fixed_weights(encoder(3))
        model.compile(
            Distributed(sgd(), share=share_of(model)), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        technique(model)

        def make_batch(step):
            x = tokens(step, rows)
            return x, (x.sum(1) % 3).astype("float32")

        return model, make_batch, 1

    return build


CASES["FGM of the matrix"] = adversarial_case(
    lambda model: training.adversarial.FGM(model, epsilon=0.5, clean_weight=0.5, distributed=True)
)
CASES["FGM of the output"] = adversarial_case(
    lambda model: training.adversarial.FGM(model, epsilon=0.5, target="output", distributed=True)
)
for reduction in ("author", "per_sample"):
    CASES["gradient penalty, " + reduction] = adversarial_case(
        lambda model, reduction=reduction: training.adversarial.GradientPenalty(
            model, epsilon=2.0, reduction=reduction, distributed=True
        )
    )


def prepared(name):
    """The function that trains the case to its end; its graph is built.

    Returns:
        function without arguments -> (list of weights, of the model and of its optimizer; losses, the means of the
        ranks by their rows).
    """
    model, make_batch, unit = CASES[name]()
    model._make_train_function()

    def run():
        found = []
        for step in range(STEPS):
            part = distributed.part_of(make_batch(step), unit=unit)
            values = np.atleast_1d(model.train_on_batch(part[0], part[1]))
            rows = len(part[0][0] if isinstance(part[0], list) else part[0])
            found.append(distributed.average({"loss": float(values[0])}, rows)["loss"])
        return K.batch_get_value(model.weights) + list(model.optimizer.get_weights()), found

    return run
