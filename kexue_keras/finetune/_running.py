"""What all fine-tuning tasks do in the same way: load the encoder, compile, run the loop with its saved points."""

import tensorflow as tf
from tqdm import tqdm

from kexue_keras import models
from kexue_keras.checkpoints._load import is_t5
from kexue_keras.data import encode
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune._loop import Loop
from kexue_keras.finetune._run_folder import config_of
from kexue_keras.finetune._tensorboard import ScalarLogger
from kexue_keras.optimizers import AdamW
from kexue_keras.training._randomness import stateful_random_ops


def load_encoder(recipe, special=3, **arguments):
    """Set `recipe.pretrained`.

    Args:
        recipe: `Recipe`.
        special: tokens that the shortest row has, special ones included.
        **arguments: of `models.load`.

    Raises:
        UserError: no such model, a T5, no vocabulary, a length that the model does not have.
    """
    options = recipe.options
    if is_t5(options.model):
        raise UserError(
            "a T5 generates; --task %s takes an encoder, a BERT or a RoFormer" % options.task, path=options.model
        )
    if options.dropout is not None:
        arguments.update(dropout_rate=options.dropout, attention_dropout_rate=options.dropout)
    arguments = recipe.pass_through("build_arguments", arguments)
    try:
        recipe.pretrained = models.load(options.model, **arguments)
    except WeightsError as error:
        raise UserError(error)
    if recipe.pretrained.tokenizer is None:
        raise UserError("the folder has no vocabulary (vocab.txt)", path=options.model)
    most, length = recipe.pretrained.max_positions, options.length
    if most and length > most:
        raise UserError("--length is %d, but %s has %d positions" % (length, recipe.pretrained.name, most))
    if length < special:
        raise UserError("--length is %d; with its special tokens a text has at least %d" % (length, special))


def make_optimizer(recipe):
    """The optimizer before the techniques wrap it."""
    return AdamW(recipe.options.learning_rate, weight_decay=recipe.options.weight_decay)


def compile_model(recipe):
    """Compile `recipe.model` with the head's loss and metrics, through the hooks of the techniques."""
    loss = recipe.pass_through("loss", recipe.head.loss())
    recipe.optimizer = recipe.pass_through("optimizer", make_optimizer(recipe))
    recipe.model.compile(recipe.optimizer, loss, metrics=recipe.head.metrics())
    recipe.notify("compiled")


def say_unrepeatable(recipe):
    """Tell which random numbers no saved point can hold."""
    total = getattr(recipe.model, "total_loss", None)
    unrepeatable = stateful_random_ops(total) if tf.is_tensor(total) and hasattr(total, "op") else []
    if unrepeatable:
        recipe.say("note: a run with --resume will differ a little; not repeatable: %s" % ", ".join(unrepeatable[:3]))


def encode_texts(recipe, texts, what):
    """Token ids and segment ids of texts; says how many were cut."""

    def bar(texts):
        return tqdm(texts, desc="tokens", unit="text", leave=False, disable=recipe.options.quiet or len(texts) < 2000)

    encoded, truncated = encode(recipe.pretrained.tokenizer, texts, recipe.options.length, bar)
    if truncated:
        recipe.say(
            "%d of %d %s texts are longer than %d tokens and were truncated (--length)"
            % (truncated, len(encoded), what, recipe.options.length)
        )
    return encoded


def run_loop(recipe, folder, facts, evaluate):
    """Train to the end, from the saved point on if that is asked for.

    Args:
        recipe: `Recipe`, compiled, with batches.
        folder: `RunFolder`.
        facts: dict for config.json.
        evaluate: see `Loop`.

    Returns:
        (`Loop`, `Progress`), the best weights in the model.
    """
    folder.begin(lambda: config_of(recipe.options, facts))
    loop = Loop(recipe, folder.path, evaluate, recipe.callbacks())
    loop.callbacks.append(ScalarLogger(folder.file("logs"), lambda: loop.progress.step))
    if recipe.options.resume:
        if loop.restore():
            p = loop.progress
            recipe.say("going on after epoch %d, batch %d (step %d of %d)" % (p.epoch, p.batch, p.step, recipe.steps))
        else:
            recipe.say("nothing to go on from in %s; starting from the beginning" % folder.home)
    return loop, loop.run()
