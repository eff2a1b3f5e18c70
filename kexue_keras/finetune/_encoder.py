"""The encoder of a fine-tuning run: loaded with fewer layers, with recompute or other dropout, frozen in part."""

from tqdm import tqdm

from kexue_keras import models
from kexue_keras.checkpoints._bundled import BUNDLED, bundled_config
from kexue_keras.checkpoints._load import is_t5, read_folder
from kexue_keras.data import encode
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.models import extend_with_recompute
from kexue_keras.models._freezing import freeze_below
from kexue_keras.models._kinds import CLASSES


def load_encoder(options, techniques, special=3, **arguments):
    """Load the pretrained encoder of a run.

    Args:
        options: namespace.
        techniques: `Techniques`.
        special: tokens that the shortest row has, special ones included.
        **arguments: of `models.load`.

    Returns:
        `PretrainedModel`.

    Raises:
        UserError: no such model, a T5, no vocabulary, layers or a length that the model does not have.
    """
    if is_t5(options.model):
        raise UserError(
            "a T5 generates; --task %s takes an encoder, a BERT or a RoFormer" % options.task, path=options.model
        )
    if options.dropout_rate is not None:
        arguments.update(dropout_rate=options.dropout_rate, attention_dropout_rate=options.dropout_rate)
    if options.num_hidden_layers is not None:
        arguments["num_hidden_layers"] = checked_layers(options)
    arguments.update(recomputed(options.model, techniques))
    try:
        pretrained = models.load(options.model, **arguments)
    except WeightsError as error:
        raise UserError(error)
    if pretrained.tokenizer is None:
        raise UserError("the folder has no vocabulary (vocab.txt)", path=options.model)
    most, max_length = pretrained.max_positions, options.max_length
    if most and max_length > most:
        raise UserError("--max-length is %d, but %s has %d positions" % (max_length, pretrained.name, most))
    if max_length < special:
        raise UserError("--max-length is %d; with its special tokens a text has at least %d" % (max_length, special))
    return pretrained


def checked_layers(options):
    """`--num-hidden-layers`; building layers that the checkpoint lacks would only show that afterwards.

    Raises:
        UserError: the model has fewer.
    """
    model = options.model
    try:
        config = bundled_config(model) if model in BUNDLED else read_folder(model, extra="ignore")[1]
    except WeightsError as error:
        raise UserError(error)
    if options.num_hidden_layers > config["num_hidden_layers"]:
        raise UserError(
            "--num-hidden-layers is %d, but %s has %d layers"
            % (options.num_hidden_layers, model, config["num_hidden_layers"])
        )
    return options.num_hidden_layers


def recomputed(name_or_path, techniques):
    """Dict with the argument `model` of `models.load` where techniques ask for recompute, else empty.

    Raises:
        UserError: no such policy, or no such model.
    """
    if techniques.recompute is None:
        return {}
    return {"model": recomputed_class(model_class(name_or_path), techniques)}


def recomputed_class(base, techniques):
    """A bert4keras class with recompute, if techniques ask for it.

    Raises:
        UserError: no such policy.
    """
    try:
        return base if techniques.recompute is None else extend_with_recompute(base, techniques.recompute)
    except ValueError as error:
        raise UserError("%s: %s" % (techniques.spelling("recompute"), error))


def model_class(name_or_path):
    """The bert4keras class that `models.load` builds for a bundled name or a folder.

    Raises:
        UserError: no such folder, or nothing in it that is known.

    >>> model_class('me5-zh-char').__name__
    'BERT'
    """
    if name_or_path in BUNDLED:
        return CLASSES[BUNDLED[name_or_path].kind]
    try:
        # Superfluous variables are reported where the model is loaded.
        return CLASSES[read_folder(name_or_path, extra="ignore")[0]]
    except (WeightsError, ValueError) as error:
        raise UserError(error)


def freeze(pretrained, model, options, say):
    """Keep the pretrained weights of embeddings and lower layers, as `--train-layers` says.

    Raises:
        UserError: a model that shares its layers.
    """
    if options.train_layers is None:
        return
    depth = pretrained.bert.num_hidden_layers
    try:
        freeze_below(pretrained.bert, depth - options.train_layers, heads=())
    except WeightsError as error:
        raise UserError("--train-layers on %s: %s" % (pretrained.name, error))
    trained = sum(int(w.shape.num_elements()) for w in model.trainable_weights)
    say(
        "training the top %d of %d layers: %.1f of %.1f million weights"
        % (min(options.train_layers, depth), depth, trained / 1e6, model.count_params() / 1e6)
    )


def encode_texts(pretrained, texts, options, what, say):
    """Token ids and segment ids of texts; says how many were cut."""

    def bar(texts):
        return tqdm(texts, desc="tokens", unit="text", leave=False, disable=options.quiet or len(texts) < 2000)

    encoded, truncated = encode(pretrained.tokenizer, texts, options.max_length, bar)
    if truncated:
        say(
            "%d of %d %s texts are longer than %d tokens and were truncated (--max-length)"
            % (truncated, len(encoded), what, options.max_length)
        )
    return encoded
