"""Mixed precision and XLA, turned on before the first session of the run (kexue.fm/archives/9059)."""

import warnings
import weakref

import numpy as np
import tensorflow as tf

from kexue_keras.backend import K, keras, sessions_created
from kexue_keras.errors import UserError
from kexue_keras.finetune._options import Ranged
from kexue_keras.finetune._recipe import Technique, technique
from kexue_keras.schemas import words
from kexue_keras.training.precision._fp16_lint import fp16_lint
from kexue_keras.training.precision._loss_scale import check_loss_scale
from kexue_keras.training.precision._mixed_precision import check_mixed_precision, enable_mixed_precision
from kexue_keras.training.precision._xla import FLAGS, enable_xla

# XLA compiles each shape; few lengths are worth some padding.
ROUNDING = 32


def _number_or_dynamic(text):
    return text if text == "dynamic" else float(text)


loss_scale = Ranged(_number_or_dynamic, words.either(words.number(), words.one_of("dynamic")))


class Disable(keras.callbacks.Callback):
    """Puts back what was turned on when training ends."""

    def __init__(self, acceleration, said=None):
        super().__init__()
        self.acceleration, self.said = acceleration, said

    def on_train_end(self, logs=None):
        """Called by the training loop."""
        self.acceleration.disable()
        if self.said is not None:
            self.said()


def turn_on(recipe, enable, *args):
    """Turn something on for this run; it is off again when the run ends or is thrown away after an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            acceleration = enable(*args)
    except RuntimeError as error:
        raise UserError(error)
    weakref.finalize(recipe, acceleration.disable)
    return acceleration


@technique
class MixedPrecision(Technique):
    """Matrix products in half precision, with the loss scale outermost."""

    name = "mixed-precision"
    order = 95

    def add_arguments(self, parser):
        parser.add_argument(
            "--mixed-precision",
            nargs="?",
            type=loss_scale,
            const=1000.0,
            metavar="SCALE",
            help="compute in half precision on a GPU, with this loss scale: a number (default 1000) or 'dynamic'; "
            "needs TF_KERAS=1",
        )

    def active(self, options):
        return options.mixed_precision is not None

    def check(self, options):
        try:
            check_loss_scale(options.mixed_precision)
            check_mixed_precision()
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError("--mixed-precision: %s" % error)

    def data_ready(self, recipe):
        recipe.mixed_precision = turn_on(recipe, enable_mixed_precision, recipe.options.mixed_precision)
        if not tf.config.experimental.list_physical_devices("GPU"):
            recipe.say("note: --mixed-precision does nothing here but scale the loss, for there is no GPU")

    def model_built(self, recipe):
        for finding in [finding for finding in fp16_lint(recipe.model) if finding.half][:3]:
            recipe.say("note: half precision cannot hold a constant of the model: %s" % finding)

    def optimizer(self, recipe, optimizer):
        return recipe.mixed_precision.scale(optimizer)

    def callbacks(self, recipe):
        def say_skipped():
            skipped = int(K.get_value(recipe.optimizer.skipped))
            if skipped:
                recipe.say("%d of %d steps were skipped: gradients not finite" % (skipped, recipe.steps))

        return [Disable(recipe.mixed_precision, say_skipped)]


@technique
class XLA(Technique):
    """Compiled training, with batches padded to few lengths."""

    name = "xla"
    order = 5

    def add_arguments(self, parser):
        parser.add_argument(
            "--xla",
            nargs="?",
            const="auto",
            choices=sorted(FLAGS),
            help="let XLA compile the model: auto (default), full, lite (NVIDIA's images); it pays on a GPU, and each "
            "length of a batch is compiled by itself, for seconds up to minutes",
        )

    def active(self, options):
        return options.xla is not None

    def check(self, options):
        if sessions_created():
            raise UserError(
                "--xla has to be set before TensorFlow's first session, and this process has made one already; run it "
                "in a fresh process"
            )

    def data_ready(self, recipe):
        recipe.xla = turn_on(recipe, enable_xla, recipe.options.xla)
        recipe.say("XLA compiles the model for each length of a batch; the first batches take longer")

    def batch(self, recipe, batch):
        length = batch.inputs[0].shape[1]
        wanted = min(-(-length // ROUNDING) * ROUNDING, recipe.options.length)
        padding = ((0, 0), (0, max(wanted - length, 0)))
        return batch._replace(inputs=[np.pad(x, padding, mode="constant") for x in batch.inputs])

    def callbacks(self, recipe):
        return [Disable(recipe.xla)]
