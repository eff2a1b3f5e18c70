"""`kexue-keras inspect`: what the numbers of a model say, as a table and a picture."""

import json
import os

import h5py
import numpy as np

from kexue_keras import checkpoints
from kexue_keras.analysis import costs, dimensions, find_unargmaxable, output_layer, rnn_gradient_profile
from kexue_keras.analysis._recurrent_cells import KINDS
from kexue_keras.analysis.costs._inputs import example_inputs
from kexue_keras.backend import keras
from kexue_keras.checkpoints._load import is_t5
from kexue_keras.cli.output import say
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.pictures._figure import new_figure, save


def run(options):
    """Print what the options ask for."""
    panels = []
    for name in options.looks:
        lines, panel = LOOKS[name](options)
        for line in lines:
            say(line)
        panels.append(panel)
    if options.png:
        _draw(panels, options.png)
    return 0


def unargmaxable_words(options):
    """Lines on the words that greedy decoding can never choose, and a picture of the others' margins."""
    loaded = _load(options.model, with_mlm="linear")
    W, b = output_layer(loaded.decoder if is_t5(options.model) else loaded)
    found = find_unargmaxable(W, b)
    lines = ["%s: %d words, %d numbers each%s" % (options.model, len(W), W.shape[1], "" if b is None else ", a bias")]
    lines += ["%8d  %s" % (count, status) for status, count in found.counts().items()]

    def word(k):
        return loaded.tokenizer.id_to_token(int(k)) if loaded.tokenizer else "token %d" % k

    listed = found.of("unargmaxable")
    lines += ["%8d  %s  %s" % (k, word(k), _reason(found, int(k), word)) for k in listed[: options.words]]
    if len(listed) > options.words:
        lines.append("          and %d more; --words %d shows all" % (len(listed) - options.words, len(listed)))

    def panel(axes):
        axes.hist(found.margin[[s == "argmaxable" for s in found.status]], bins=50)
        axes.set_xlabel("margin at the witness")
        axes.set_ylabel("words")

    return lines, panel


def _reason(found, k, word):
    if k not in found.beaten_by:
        return "no input makes it the largest"
    rows, weights = found.beaten_by[k]
    margin = found.margin[found.classes == k][0]
    if len(rows) == 1:
        return "has the row of %s, whose bias is larger by %.4g" % (word(rows[0]), margin)
    order = np.argsort(-weights)[:3]
    named = ", ".join("%.2f %s" % (weights[i], word(rows[i])) for i in order)
    return "is a mean of %d others (%s%s)" % (len(rows), named, ", ..." if len(rows) > 3 else "")


def model_dimensions(options):
    """Lines on embedding and head size against the rule of 8.33 log N, and a picture of the entropy behind it."""
    loaded = _load(options.model)
    config = loaded.config
    words, size = config["vocab_size"], config.get("embedding_size") or config["hidden_size"]
    head = config.get("attention_head_size") or config["hidden_size"] // config["num_attention_heads"]
    length = getattr(loaded, "max_positions", None) or 512
    rows = [("words", words, "embedding", size), ("tokens in a row", length, "attention head", head)]
    lines = ["%s: N, the rule 8.33 log N, the root of 2 log N + h_n, and the size here" % options.model]
    for what, count, place, here in rows:
        rule, root = dimensions.embedding_dimension(count), dimensions.smallest_dimension(count)
        verdict = "above" if here >= rule else "below"
        lines.append("%8d %-16s %6.1f %6.1f   %s of %d: %s" % (count, what, rule, root, place, here, verdict))
    lines.append(
        "The rule is of an order of magnitude: below it a softmax of inner products cannot be as certain as the"
    )
    lines.append(
        "data may be; above it nothing is promised. Peaked attention fits into it, arbitrary attention does not."
    )

    def panel(axes):
        n = np.arange(2, int(1.3 * max(size, head)))
        for what, count, place, here in rows:
            line = axes.plot(n, [dimensions.pair_entropy(count, int(i)) for i in n], label="%d %s" % (count, what))
            axes.axvline(here, color=line[0].get_color(), linestyle=":")
        axes.axhline(0, color="k", linewidth=0.5)
        axes.set_xlabel("dimension (dotted: this model)")
        axes.set_ylabel("2 log N + h_n")
        axes.legend(fontsize=7, frameon=False)

    return lines, panel


def recurrent_gradients(options):
    """Lines on the gradients of each recurrent layer by lag, on noise, and their picture."""
    model = _load_keras(options.model)
    layers = [layer for layer in model.layers if type(layer).__name__ in KINDS]
    if not layers:
        raise UserError("it has no recurrent layer (%s)" % ", ".join(KINDS), path=options.model)
    inputs = example_inputs(model, batch_size=4, length=options.steps)
    lines, profiles = [], []
    for layer in layers:
        x = np.asarray(keras.models.Model(model.inputs, layer.input).predict_on_batch(inputs))
        found = rnn_gradient_profile(layer, x)
        profiles.append((layer.name, found))
        lines.append("%s (%s): spectral radius %.3f" % (layer.name, found.kind, found.spectral_radius))
        if np.isfinite(found.main):
            lines[-1] += ", kept %.3f, side terms %.3f" % (found.main, found.side)
        lines.append("%8s %14s %14s" % ("lag", "contribution", "|dh_T/dh_T-lag|"))
        lags = sorted({0, 1, 2, 5, 10, 20, 50, 100, len(found.contribution) - 1} & set(range(len(found.contribution))))
        lines += ["%8d %14.4g %14.4g" % (lag, found.contribution[lag], found.state_jacobian[lag]) for lag in lags]

    def panel(axes):
        for name, found in profiles:
            axes.semilogy(np.maximum(found.contribution, 1e-30), label=name)
        axes.set_xlabel("lag")
        axes.set_ylabel("contribution to the gradient")
        axes.legend(fontsize=7, frameon=False)

    return lines, panel


def layer_costs(options):
    """Lines on what each layer costs, and a picture of how parameters, products and time are shared out."""
    loaded = _load(options.model)
    model = loaded.model
    try:
        report = costs.model_report(model, options.length, batch_size=options.batch_size, repeats=options.repeats)
    except ValueError as error:
        raise UserError(error)
    lines = ["%s, %d x %d tokens, forward" % (options.model, options.batch_size, options.length)] + report.table()
    lines.append("FLOPs are those of matrix products; times are medians of %d passes." % options.repeats)

    def panel(axes):
        layers = [layer for layer in report.grouped() if layer.parameters]
        for i, word in enumerate(("parameters", "flops", "milliseconds")):
            values = [getattr(layer, word) or 0 for layer in layers]
            left = 0
            for number, value in enumerate(values):
                axes.barh(i, value / max(sum(values), 1e-9), left=left, color="C%d" % (number % 10))
                left += value / max(sum(values), 1e-9)
        axes.set_yticks(range(3))
        axes.set_yticklabels(["parameters", "FLOPs", "time"])
        axes.set_xlabel("share")

    return lines, panel


LOOKS = {
    "unargmaxable": unargmaxable_words,
    "dimensions": model_dimensions,
    "gradients": recurrent_gradients,
    "costs": layer_costs,
}


def _load(model, **build):
    try:
        return checkpoints.load_t5(model) if is_t5(model) else checkpoints.load(model, **build)
    except (WeightsError, ValueError) as error:
        raise UserError(error)


def _load_keras(path):
    """A Keras model from a file. A Lambda layer holds code that would run on loading, so that none is taken."""
    if not os.path.isfile(path):
        raise UserError("no such file; give a model that Keras saved (model.h5)", path=path)
    try:
        with h5py.File(path, "r") as handle:
            config = handle.attrs.get("model_config")
        config = config.decode("utf-8") if isinstance(config, bytes) else config
        if config is None or '"Lambda"' in json.dumps(json.loads(config)):
            raise UserError("it is no whole model, or holds code (a Lambda layer); none of it was run", path=path)
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError) as error:
        raise UserError("Keras cannot load it: %s" % error, path=path)


def _draw(panels, path):
    figure = new_figure(4.5 * len(panels), 3.2)
    for panel, ax in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0]):
        panel(ax)
    save(figure, path)
