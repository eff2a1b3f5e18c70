"""A fine-tuning recipe and the registry of techniques that hang on it.

A technique is a small object with a name, options of its own and hooks; whoever fine-tunes goes through the list of
techniques and knows none of them. To add one, write a subclass in `kexue_keras/tasks/techniques/`, decorate it, and
name its module in that package's `__init__.py`:

    @technique
    class LabelNoise(Technique):
        name = "label-noise"

        def add_arguments(self, parser):            # there in the command, finetune(...), config.json
            parser.add_argument("--label-noise", type=fraction, default=0.0, help="share of labels drawn anew")

        def active(self, options):                  # without this the hooks below are not called at all
            return options.label_noise > 0

        def batch(self, recipe, batch):             # batch.inputs, .targets, .weights, of every training step
            random = recipe.random("label-noise")   # numpy generator of this step, the same after --resume
            ...
            return batch._replace(targets=targets)

Hooks in the order of their calls (all optional):

| hook | gets and returns | for instance |
|---|---|---|
| `check(options)` | raises `UserError` | options that exclude each other |
| `data_ready(recipe)` | `recipe.train`, `.labels`, `.head`, `.targets`, `.steps` are there | class weights |
| `build_arguments(recipe, arguments)` | keyword arguments of `models.load` | another model class, dropout |
| `model_built(recipe)` | `recipe.pretrained`, `recipe.model` are there, not compiled | freezing layers |
| `loss(recipe, loss)` | Keras loss | R-Drop |
| `optimizer(recipe, optimizer)` | optimizer instance | schedules, accumulation, EMA |
| `compiled(recipe)` | may replace `recipe.train_on_batch` | adversarial training, gradient cache |
| `callbacks(recipe)` | list of Keras callbacks | early stopping; `on_test_begin/end` stand round a validation |
| `batch(recipe, batch)` | `Batch` | weights, repeated rows |
| `state(recipe)`, `restore(recipe, state)` | dict of arrays | what --resume needs beyond model and optimizer |

`refuses` names the tasks that a technique does not go with, and why. `order` says who comes first: for `optimizer` the
innermost wrapper has the lowest. Random numbers inside the graph must come from Keras' Dropout or from
`recipe.random_step.uniform`; TensorFlow's own keep a hidden counter that no file can hold.
"""

import zlib
from collections import namedtuple

import numpy as np

from kexue_keras.errors import UserError, printable

Batch = namedtuple("Batch", "inputs targets weights")
TECHNIQUES = []


def technique(cls):
    """Decorator: put one instance of the class into the registry.

    Raises:
        ValueError: it has no name, or the name is taken.
    """
    taken = {known.name for known in TECHNIQUES}
    if not cls.name or cls.name in taken:
        raise ValueError("a technique needs a name of its own; %r is not one of them" % (cls.name,))
    TECHNIQUES.append(cls())
    TECHNIQUES.sort(key=lambda known: known.order)
    return cls


class Technique(object):
    """Base of all techniques; every hook does nothing. See the module's docstring."""

    name = None
    order = 50
    # task -> why the technique does not go with it
    refuses = {}

    def add_arguments(self, parser):
        """Add command-line options; their names are also those of `finetune(...)`."""

    def active(self, options):
        """Whether the hooks below are to be called."""
        return True

    def check(self, options):
        """Raise `UserError` if options do not go together; called before any file is read."""

    def data_ready(self, recipe):
        """The data are read and checked; nothing is built yet."""

    def build_arguments(self, recipe, arguments):
        """Change what `models.load` gets."""
        return arguments

    def model_built(self, recipe):
        """The model with its head is built and not yet compiled."""

    def loss(self, recipe, loss):
        """Wrap or replace the loss."""
        return loss

    def optimizer(self, recipe, optimizer):
        """Wrap or replace the optimizer."""
        return optimizer

    def compiled(self, recipe):
        """The model is compiled."""

    def callbacks(self, recipe):
        """Keras callbacks."""
        return []

    def batch(self, recipe, batch):
        """Change a training batch."""
        return batch

    def state(self, recipe):
        """What has to be saved beyond the model's and the optimizer's weights; dict of arrays."""
        return {}

    def restore(self, recipe, state):
        """Take back what `state` gave."""


class Recipe(object):
    """One fine-tuning run while it is being set up and run.

    Attributes:
        options: namespace of all options (see `options.py`).
        techniques: the active techniques, in order.
        say: function that prints a line for the user.
        train, valid, test: `Examples` (valid, test may be None for a recipe without them).
        labels: list of label names (None for similarity).
        head: head of the task (`heads.py`).
        targets: numpy targets of `train`.
        batches: `BucketedBatches` of `train`.
        steps: number of training batches in all.
        updates: number of real updates in all (a technique that accumulates makes it smaller than `steps`).
        step: steps done so far.
        pretrained: what `models.load` returned.
        model: the Keras model that is trained; its output are logits.
        optimizer: the optimizer it is compiled with.
        random_step: `training.randomness.Step`, for random numbers inside the graph.
        train_on_batch: function of a `Batch`, returns a list like Keras' own.
    """

    def __init__(self, options, say=print):
        self.options = options
        # Labels and names come from files that may hold anything.
        self.say = lambda line: say(printable(line))
        self.techniques = [t for t in TECHNIQUES if t.active(options)]
        self.train = self.valid = self.test = self.labels = self.head = self.targets = self.batches = None
        self.steps = self.updates = None
        self.step = 0
        self.pretrained = self.model = self.optimizer = self.random_step = None
        self.train_on_batch = self._keras_train_on_batch
        for one in self.techniques:
            if options.task in one.refuses:
                raise UserError(
                    "%s does not go with --task %s: %s" % (one.name, options.task, one.refuses[options.task])
                )
            one.check(options)

    def pass_through(self, hook, value):
        """Hand `value` through a hook of all techniques."""
        for one in self.techniques:
            value = getattr(one, hook)(self, value)
        return value

    def notify(self, hook):
        """Call a hook that returns nothing."""
        for one in self.techniques:
            getattr(one, hook)(self)

    def callbacks(self):
        """Keras callbacks of all techniques; what wraps the optimizer further out comes first."""
        return [callback for one in reversed(self.techniques) for callback in one.callbacks(self)]

    def make_batch(self, indices):
        """The training batch of the rows `indices`, after all techniques."""
        batch = Batch(self.batches.inputs(indices), self.targets[indices], np.ones(len(indices), "float32"))
        return self.pass_through("batch", batch)

    def random(self, purpose):
        """numpy generator that depends on the seed, the step and `purpose` alone."""
        return np.random.RandomState([self.options.seed % 2**32, self.step, zlib.crc32(purpose.encode())])

    def _keras_train_on_batch(self, batch):
        values = self.model.train_on_batch(batch.inputs, batch.targets, sample_weight=batch.weights)
        return list(np.atleast_1d(values))
