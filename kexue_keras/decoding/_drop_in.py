"""`CachedDecoder`: bert4keras' AutoRegressiveDecoder with remembered keys and values, for scripts that have one."""

from typing import List, Optional, Sequence, Union

import numpy as np
from bert4keras.snippets import AutoRegressiveDecoder

from kexue_keras.decoding._generator import Generator
from kexue_keras.decoding._sampling import strategy
from kexue_keras.types import Array, ArrayLike, Model, Transformer


class CachedDecoder(AutoRegressiveDecoder):
    """In an existing script the base class changes, and the constructor gets the model; all else stays.

        class AutoTitle(CachedDecoder):                                                     # was AutoRegressiveDecoder
            @AutoRegressiveDecoder.wraps(default_rtype='probas')
            def predict(self, inputs, output_ids, states): ...                              # now only checked against
            def generate(self, text, topk=1):
                token_ids, segment_ids = tokenizer.encode(text, maxlen=max_c_len)
                return tokenizer.decode(self.beam_search([token_ids, segment_ids], topk=topk))

        autotitle = AutoTitle(start_id=None, end_id=tokenizer._token_end_id, maxlen=32, model=model)

    `beam_search` gives the same ids as bert4keras'; `random_sample` draws with the same probabilities and other
    random numbers. `beam_search_batch` and `random_sample_batch` take many inputs at once, which is where the speed is.

    Args:
        start_id, end_id, maxlen, minlen: as in bert4keras: `minlen` counts the start and the end token, and an end
            token before it does not end the text.
        model: what `Generator` takes. For T5 `t5.model` or `t5.decoder`: the inputs may be the encoder's output, as in
            bert4keras' examples, or with the whole model the token ids.
        segment: as in `Generator`.
        check: compare the first result's probabilities with what `predict` says, if the class has a `predict`.

    Raises:
        ValueError: see `Generator`; or `predict` computes other probabilities than the model, as one does that
            builds its inputs in another way or changes the model's output.

    Reference: bert4keras, https://github.com/bojone/bert4keras.

    >>> from bert4keras.models import build_transformer_model
    >>> model = build_transformer_model(None, application='unilm', vocab_size=50, hidden_size=16, num_hidden_layers=1,
    ...     num_attention_heads=2, intermediate_size=32, hidden_act='gelu', max_position=64)
    >>> decoder = CachedDecoder(start_id=None, end_id=3, maxlen=5, model=model)
    >>> one = decoder.beam_search([[2, 7, 8, 3], [0, 0, 0, 0]], topk=3)
    >>> many = decoder.beam_search_batch([[[2, 7, 8, 3], [2, 9, 3]], [[0, 0, 0, 0], [0, 0, 0]]], topk=3)
    >>> len(many), many[0].tolist() == one.tolist()
    (2, True)
    """

    def __init__(
        self,
        start_id: int,
        end_id: Optional[int],
        maxlen: int,
        minlen: int = 1,
        *,
        model: Union[Model, Transformer],
        segment: Optional[int] = None,
        check: bool = True,
    ) -> None:
        super(CachedDecoder, self).__init__(start_id, end_id, maxlen, minlen)
        self.generator = Generator(model, end_id=end_id, start_id=start_id, segment=segment)
        own = type(self).predict is not AutoRegressiveDecoder.predict
        self._unchecked = check and own

    def beam_search(
        self, inputs: Sequence[ArrayLike], topk: int, states: None = None, temperature: float = 1, min_ends: int = 1
    ) -> Array:
        """The best sequence for one input, as an array of ids with start and end token.

        Args:
            inputs: list of the inputs, each for one text.
            topk: width of the beam; 1 is greedy.
            states: must be None: the cache is kept here.
            temperature: the logits are divided by it.
            min_ends: so many end tokens end the sequence.
        """
        _no_states(states)
        return self.beam_search_batch([[x] for x in inputs], topk, temperature=temperature, min_ends=min_ends)[0]

    def beam_search_batch(
        self,
        inputs: Sequence[Sequence[ArrayLike]],
        topk: int,
        *,
        temperature: float = 1,
        min_ends: int = 1,
        batch_size: Optional[int] = None,
    ) -> List[Array]:
        """List of the best sequence of each text.

        Args:
            inputs: list of the inputs, each a list with an entry for every text: `[list of token ids, list of
                segment ids]`.
            topk, temperature, min_ends: as in `beam_search`.
            batch_size: texts computed together; None: all.
        """
        options = dict(width=topk, temperature=temperature)
        found = self._run("beam-drop", inputs, batch_size, min_ends, options)
        results = [rows[0] for rows in found]
        self._check(inputs, results[0])
        return results

    def random_sample(
        self,
        inputs: Sequence[ArrayLike],
        n: int,
        topk: Optional[int] = None,
        topp: Optional[float] = None,
        states: None = None,
        temperature: float = 1,
        min_ends: int = 1,
        seed: Optional[int] = None,
        *,
        entropy: Optional[float] = None,
        cap_only: bool = False,
    ) -> List[Array]:
        """List of n sequences for one input.

        Args:
            inputs, temperature, min_ends, states: as in `beam_search`.
            n: sequences.
            topk, topp: see `sampling.cut`.
            entropy, cap_only: as in `Generator.sample`; bert4keras has nothing like them.
            seed: int; None takes one from numpy's generator, so that `np.random.seed` repeats the sequences.
        """
        _no_states(states)
        options = dict(topk=topk, topp=topp, temperature=temperature, min_ends=min_ends, seed=seed)
        options.update(entropy=entropy, cap_only=cap_only)
        return self.random_sample_batch([[x] for x in inputs], n, **options)[0]

    def random_sample_batch(
        self,
        inputs: Sequence[Sequence[ArrayLike]],
        n: int,
        *,
        topk: Optional[int] = None,
        topp: Optional[float] = None,
        entropy: Optional[float] = None,
        cap_only: bool = False,
        temperature: float = 1,
        min_ends: int = 1,
        seed: Optional[int] = None,
        batch_size: Optional[int] = None,
    ) -> List[List[Array]]:
        """List of the n sequences of each text; arguments as in `random_sample` and `beam_search_batch`."""
        seed = np.random.randint(2**31) if seed is None else seed
        name, options = strategy(top_k=topk, top_p=topp, entropy=entropy, cap_only=cap_only)
        options.update(width=n, temperature=temperature, seed=seed)
        found = self._run(name, inputs, batch_size, min_ends, options)
        self._check(inputs, found[0][0])
        return found

    def _run(self, name, inputs, batch_size, min_ends, options):
        start = [] if self.start_id is None else [self.start_id]
        found = self.generator.run(
            name, inputs, self.maxlen, batch_size, ends=min_ends, counts_from=self.minlen - len(start), **options
        )
        return [[np.array(start + ids, int) for ids in row] for row in found.lists()]

    def _check(self, inputs, ids):
        """Compare with `predict`, once."""
        if not self._unchecked:
            return
        self._unchecked = False
        # A thread other than the one that built the model may be the first.
        with self.generator.session.building():
            self._compare(inputs, ids)

    def _compare(self, inputs, ids):
        start = len(self.first_output_ids[0])
        one = [x[:1] for x in inputs]
        ours = self.generator.log_probabilities(one, ids[None, start:])[0]
        for t in sorted({0, len(ids) - start - 1}):
            theirs = self.predict([np.array(x) for x in one], ids[None, : start + t], None, 1, "probas")[0]
            distance = np.abs(np.exp(ours[t]) - np.asarray(theirs).reshape(-1, ours.shape[-1])[0]).max()
            if not distance < 1e-3:
                raise ValueError(
                    "after %d generated tokens predict() of %s gives other probabilities than the model "
                    "(difference %.2g). CachedDecoder runs the model itself and does not call predict(): give "
                    "segment=... if predict() gives generated tokens other segment ids, use AutoRegressiveDecoder if "
                    "it changes the probabilities" % (t, type(self).__name__, distance)
                )


def _no_states(states):
    if states is not None:
        raise ValueError("states=%r; CachedDecoder keeps its own cache, leave states out" % (states,))
