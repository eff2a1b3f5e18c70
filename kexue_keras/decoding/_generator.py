"""`Generator`: batched generation with a bert4keras language model, in one graph that remembers keys and values."""

from collections import namedtuple
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import ModelSession, get_session, keras, refuse_eager, tf1
from kexue_keras.decoding import _sampling as sampling
from kexue_keras.decoding import _search as search
from kexue_keras.decoding._inputs import batches_of, padded_inputs
from kexue_keras.decoding._steps import Source, Steps
from kexue_keras.decoding._structure import Structure
from kexue_keras.models._language_models_only import guard_mlm
from kexue_keras.types import Array, ArrayLike, Model, Transformer


class Generated(namedtuple("Generated", "ids scores lengths")):
    """What was generated for B inputs, n sequences each, the best first where there is an order.

    Attributes:
        ids: int32 `[B, n, T]`, without the start token, with the end token if there was one, then padding.
        scores: float32 `[B, n]`, sum of the tokens' log-probabilities (divided by length**length_penalty, if given).
        lengths: int32 `[B, n]`, tokens of each, the end token included.
    """

    def lists(self, end_id: Optional[int] = None) -> List[List[List[int]]]:
        """List of B lists of n lists of ids without padding, and without the last one if that is `end_id`."""
        rows = [[list(map(int, x[:n])) for x, n in zip(*pair)] for pair in zip(self.ids, self.lengths)]
        return [[ids[:-1] if end_id is not None and ids[-1:] == [end_id] else ids for ids in row] for row in rows]


class Generator(object):
    """Generates with a UniLM, a causal language model or a T5, for many inputs at once.

    The source is read once; then each step computes one token of every sequence from the cached keys and values.
    All steps are one `tf.while_loop`. The weights are the model's own: further training takes
    effect at once. Any thread may generate.

    Args:
        model: Keras model or bert4keras transformer: BERT, RoFormer and the like with application='unilm' or 'lm', GPT,
            T5 (the whole, or its decoder by itself, which then gets the encoder's output). A model made from it for
            training (`keras.models.Model(model.inputs, CrossEntropy(2)(...))`) will do.
        end_id: the token that ends a sequence, or None.
        start_id: the token that generated text begins with (T5: 0). None: generation continues after the source's last
            token.
        segment: segment id of generated tokens; None is 1 for UniLM and UniVAE, 0 for a causal model.
        pad_id: what follows the end.
        positionwise: tuple of layer classes of your own that treat every position by itself.

    Raises:
        ValueError: the model is none of these, or has parts that cannot be computed one position at a time.

    >>> from bert4keras.models import build_transformer_model
    >>> model = build_transformer_model(None, application='unilm', vocab_size=50, hidden_size=16, num_hidden_layers=1,
    ...     num_attention_heads=2, intermediate_size=32, hidden_act='gelu', max_position=64)
    >>> generator = Generator(model, end_id=3)
    >>> generator.greedy([[[2, 7, 8, 3], [2, 9, 3]]], max_length=5).ids.shape
    (2, 1, 5)
    >>> best_two = generator.beam_search([[[2, 7, 8, 3], [2, 9, 3]]], max_length=5, beams=4, n=2)
    >>> best_two.ids.shape, bool(np.all(best_two.scores[:, 0] >= best_two.scores[:, 1]))
    ((2, 2, 5), True)
    """

    def __init__(
        self,
        model: Union[Model, Transformer],
        *,
        end_id: Optional[int],
        start_id: Optional[int] = None,
        segment: Optional[int] = None,
        pad_id: int = 0,
        positionwise: Tuple[type, ...] = (),
    ) -> None:
        refuse_eager("Generator")
        guard_mlm(model)
        if not isinstance(model, keras.models.Model):
            model = getattr(model, "model", model)
        if not isinstance(model, keras.models.Model):
            raise TypeError("a Keras model or a bert4keras transformer is needed, not %r" % (model,))
        self.structure = Structure(model, positionwise)
        self.end_id, self.start_id, self.pad_id = end_id, start_id, pad_id
        self.segment = int(self.structure.rule in ("unilm", "univae")) if segment is None else segment
        if self.structure.context is not None and start_id is None:
            raise ValueError("an encoder-decoder model needs a start token; T5's is start_id=0")
        if self.structure.rule in ("unilm", "univae") and self.segment < 1:
            raise ValueError(
                "segment=%r; in a UniLM tokens of segment 0 are seen by those before them, so generated tokens need 1 "
                "or more" % (self.segment,)
            )
        self.session, self._graphs = ModelSession(self.structure.logits), {}

    def greedy(
        self, inputs: Sequence[ArrayLike], *, max_length: int, min_length: int = 0, batch_size: Optional[int] = None
    ) -> Generated:
        """The most likely token at each step.

        Args:
            inputs: list, one entry for each of the model's inputs before generating: `[token ids]` or `[token ids,
                segment ids]` (0 if not given) for UniLM and causal models, `[token ids]` for T5; each a list of B
                lists, or an array `[B, n]` padded with 0. T5 also takes `[encoder outputs]`, B arrays `[n, d]`.
            max_length: new tokens at most, the end token included.
            min_length: the end token is forbidden before so many others.
            batch_size: inputs computed together, of similar lengths; None: all at once.

        Returns:
            `Generated` with n = 1.

        Raises:
            ValueError: an input has another form, or source and new tokens are more than the model has positions.
        """
        return self.run("greedy", inputs, max_length, batch_size, minimum=min_length)

    def sample(
        self,
        inputs: Sequence[ArrayLike],
        *,
        max_length: int,
        n: int = 1,
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        entropy: Optional[float] = None,
        cap_only: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
        min_length: int = 0,
        batch_size: Optional[int] = None,
    ) -> Generated:
        """Random sequences, each token drawn from softmax(logits / temperature) after `sampling.cut` and, if asked for,
        `sampling.to_entropy` of what is left.

        The same seed, inputs and batch size give the same sequences.

        Args:
            inputs, max_length, min_length, batch_size: as in `greedy`.
            n: sequences for each input.
            top_k: only the k most likely tokens; None: all.
            top_p: only the most likely tokens up to this probability; None: all.
            entropy: nats, >= 0; a temperature is chosen for each token such that its distribution has this entropy
                (log 10: as uncertain as ten equal choices). None: as it comes.
            cap_only: distributions of less entropy stay as they are; only flat ones are sharpened.
            temperature: positive float; without `top_p` and `cap_only` an entropy undoes it.
            seed: int.

        Returns:
            `Generated`; scores are those of the model, without temperature, cut and entropy.

        Raises:
            ValueError: an option outside its range, `cap_only` without `entropy`; see `greedy`.
        """
        checks.whole_number(n, "n", "Generator.sample", least=1)
        checks.number(temperature, "temperature", "Generator.sample", above=0)
        if top_k is not None:
            checks.whole_number(top_k, "top_k", "Generator.sample", least=1)
        if top_p is not None:
            checks.number(top_p, "top_p", "Generator.sample", above=0, most=1)
        if entropy is not None:
            checks.number(entropy, "entropy", "Generator.sample", least=0, remedy="it is in nats")
        elif cap_only:
            raise ValueError("Generator.sample: cap_only=True says how to reach an entropy; give entropy as well")
        strategy, options = sampling.strategy(top_k=top_k, top_p=top_p, entropy=entropy, cap_only=cap_only)
        options.update(width=n, temperature=temperature, seed=seed % 2**31)
        return self.run(strategy, inputs, max_length, batch_size, minimum=min_length, **options)

    def beam_search(
        self,
        inputs: Sequence[ArrayLike],
        *,
        max_length: int,
        beams: int = 4,
        n: int = 1,
        length_penalty: float = 0.0,
        finished: str = "keep",
        temperature: float = 1.0,
        min_length: int = 0,
        batch_size: Optional[int] = None,
    ) -> Generated:
        """The sequences that a beam search finds most likely.

        Args:
            inputs, max_length, min_length, batch_size: as in `greedy`.
            beams: width of the beam.
            n: best sequences for each input, at most `beams`.
            length_penalty: finished sequences compare by score / length**length_penalty.
            finished: 'keep': finished sequences wait until no running one can beat the worst of `beams` of them
                (what Hugging Face does). 'drop': a finished sequence is the result if it leads at that moment, and is
                given up if not (what bert4keras does); n must be 1.
            temperature: the logits are divided by it.

        Returns:
            `Generated`.
        """
        owner = "Generator.beam_search"
        checks.whole_number(beams, "beams", owner, least=1)
        checks.whole_number(n, "n", owner, least=1)
        checks.number(temperature, "temperature", owner, above=0)
        checks.choice(finished, ("keep", "drop"), "finished", owner)
        if n > (beams if finished == "keep" else 1):
            raise ValueError(
                "n=%d; a beam search with beams=%d and finished=%r has %d result(s)"
                % (n, beams, finished, beams if finished == "keep" else 1)
            )
        if finished == "drop" and length_penalty:
            raise ValueError("length_penalty=%r does nothing with finished='drop'" % (length_penalty,))
        options = dict(width=beams, temperature=temperature, length_penalty=length_penalty, minimum=min_length)
        return self.run("beam-" + finished, inputs, max_length, batch_size, n=n, **options)

    def log_probabilities(
        self, inputs: Sequence[ArrayLike], targets: ArrayLike, *, batch_size: Optional[int] = None
    ) -> Array:
        """log softmax of the next token after each prefix of given targets, computed as in generation.

        Args:
            inputs: as in `greedy`.
            targets: int `[B, T]`.

        Returns:
            float32 `[B, T, V]`; `[:, t]` is after the first t targets.
        """
        targets = np.asarray(targets, "int32")
        if targets.ndim != 2:
            raise ValueError("targets of shape %s; [inputs, tokens] is needed" % (targets.shape,))
        inputs, lengths = padded_inputs(self.structure, inputs)
        if len(targets) != len(lengths):
            raise ValueError("%d targets for %d inputs" % (len(targets), len(lengths)))
        parts, order = [], batches_of(lengths, batch_size)
        for rows in order:
            parts.append(
                self._batch("follow", inputs, lengths, rows, dict(time=targets.shape[1], targets=targets[rows]))
            )
        result = np.concatenate(parts)
        return result[np.argsort(np.concatenate(order))]

    def run(
        self,
        strategy: str,
        inputs: Sequence[ArrayLike],
        max_length: int,
        batch_size: Optional[int],
        n: Optional[int] = None,
        ends: int = 1,
        counts_from: int = 0,
        **options: Any,
    ) -> Generated:
        """All that the other methods do, and with bert4keras' way of counting end tokens.

        Args:
            strategy: 'greedy', 'beam-keep', 'beam-drop' or one of `sampling.strategy`.
            inputs, max_length, batch_size: as in `greedy`.
            n: sequences for each input; None: all there are.
            ends, counts_from: see `search.Stopping`.
            **options: values of `_SETTINGS`.

        Returns:
            `Generated`.
        """
        checks.whole_number(max_length, "max_length", "Generator", least=1)
        if batch_size is not None:
            checks.whole_number(batch_size, "batch_size", "Generator", least=1)
        inputs, lengths = padded_inputs(self.structure, inputs)
        options.update(time=max_length, ends=ends, counts_from=counts_from)
        parts, order = [], batches_of(lengths, batch_size)
        for number, rows in enumerate(order):
            if "seed" in options:
                options["stream"] = number
            parts.append(self._batch(strategy, inputs, lengths, rows, options))
        back = np.argsort(np.concatenate(order))
        ids, scores, lengths = (np.concatenate(part)[back][:, :n] for part in zip(*parts))
        return Generated(ids[:, :, : lengths.max()], scores, lengths)

    def _batch(self, strategy, inputs, lengths, rows, options):
        """The fetches of one batch."""
        longest = int(lengths[rows].max())
        s = self.structure
        room = s.max_positions()
        needed = options["time"] + (longest + (self.start_id is not None) - 1 if s.context is None else 0)
        if room is not None and needed > room:
            raise ValueError(
                "%d source tokens and %d new ones need more than the %d positions the model has; shorten the source or "
                "max_length" % (longest, options["time"], room)
            )
        feeds = []
        for x, is_sequence in zip(inputs.arrays, inputs.sequences):
            feeds.append(x[rows, :longest] if is_sequence else x[rows])
        key = (strategy, inputs.from_context)
        source, settings, fetches = self._graph(key)
        feed = dict(zip(source.feeds, feeds))
        feed[source.lengths] = lengths[rows]
        values = dict(options, start=-1 if self.start_id is None else self.start_id, segment=self.segment)
        values["end"] = -1 if self.end_id is None else self.end_id
        feed.update({settings[name]: value for name, value in values.items() if name in settings})
        with self.session.entered() as session:
            found = session.run(fetches, feed)
        return found[0] if strategy == "follow" else found

    def _graph(self, key):
        """What `_build` made for this strategy, made now if it is the first time."""
        if key not in self._graphs:
            with self.session.building():
                if key not in self._graphs:
                    # Keras initializes what has no value yet.
                    get_session()
                    self._graphs[key] = self._build(*key)
        return self._graphs[key]

    def _build(self, strategy, from_context):
        """(Source, dict name -> placeholder, list of fetches) for one strategy."""
        with self.structure.logits.graph.as_default():
            source = Source(self.structure, from_context)
            settings, value = {}, {}
            for name, dtype, default in _SETTINGS:
                settings[name] = value[name] = tf1.placeholder_with_default(np.array(default, dtype), [], name=name)
            steps = Steps(
                self.structure,
                source,
                beams=value["width"],
                time=value["time"],
                start=value["start"],
                segment=value["segment"],
            )
            stopping = search.Stopping(value["end"], value["minimum"], value["counts_from"], value["ends"])
            if strategy == "follow":
                settings["targets"] = tf1.placeholder("int32", [None, None])
                return source, settings, [search.follow(steps, settings["targets"])]
            if strategy.startswith("beam"):
                options = dict(temperature=value["temperature"], length_penalty=value["length_penalty"])
                fetches = search.decode_beams(steps, stopping, self.pad_id, keep=strategy == "beam-keep", **options)
            else:
                fetches = search.decode_rows(steps, stopping, _chooser(strategy, value), self.pad_id)
            return source, settings, list(fetches)


_SETTINGS = [
    ("width", "int32", 1),
    ("time", "int32", 1),
    ("start", "int32", -1),
    ("segment", "int32", 0),
    ("end", "int32", -1),
    ("minimum", "int32", 0),
    ("counts_from", "int32", 0),
    ("ends", "int32", 1),
    ("temperature", "float32", 1.0),
    ("length_penalty", "float32", 0.0),
    ("top_k", "int32", 1),
    ("top_p", "float32", 1.0),
    ("entropy", "float32", 0.0),
    ("seed", "int32", 0),
    ("stream", "int32", 0),
]


def _chooser(strategy, value):
    """function(logits, t) -> tokens."""
    if strategy == "greedy":
        return lambda logits, t: tf.argmax(logits, axis=-1, output_type="int32")
    parts = strategy.split("-")
    top_k = value["top_k"] if "k" in parts else None
    top_p = value["top_p"] if "p" in parts else None

    def choose(logits, t):
        logits, tokens = sampling.cut(logits / value["temperature"], top_k=top_k, top_p=top_p)
        if "entropy" in parts or "cap" in parts:
            logits = sampling.to_entropy(logits, value["entropy"], cap_only="cap" in parts)
        return sampling.draw(logits, tokens, seed=tf.stack([value["seed"], value["stream"] * 100003 + t]))

    return choose
