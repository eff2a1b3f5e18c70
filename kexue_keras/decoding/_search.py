"""The loops of decoding: each row by itself (greedy, sampling, given tokens), and beam search."""

from collections import namedtuple

import tensorflow as tf

from kexue_keras.backend import tf1

FAR = -1e9  # the score of what is not there
# t; tokens to go in [B, k]; done [B, k]; ids [B, k, T]; scores [B, k]; ends [B, k]; lengths [B, k]
Rows = namedtuple("Rows", "t tokens done ids scores ends lengths ancestors memories")
# running beams by falling score; finished ones likewise; stopped, active [B]
Beams = namedtuple(
    "Beams", "t tokens ids scores ends finished_ids finished_scores lengths stopped active ancestors memories"
)


class Stopping(object):
    """When a sequence ends.

    Args:
        end: scalar int32 tensor, the end token; negative: none.
        minimum: the end token is forbidden for the first so many tokens.
        counts_from: an end token with which the sequence is shorter than this many tokens does not end it.
        ends: so many end tokens end it.
    """

    def __init__(self, end, minimum, counts_from, ends):
        self.end, self.minimum, self.counts_from, self.ends = end, minimum, counts_from, ends

    def forbid(self, scores, t):
        """Logits or log-probabilities `[..., vocabulary]` with the end token at -inf where it must not come yet."""
        low = tf1.where(t < self.minimum, float("-inf"), 0.0)
        return scores + tf.one_hot(self.end, tf.shape(scores)[-1], on_value=low, off_value=0.0)

    def is_end(self, tokens, ends, t):
        """(whether the sequence ends with `tokens`, end tokens counted so far)."""
        here = tf.equal(tokens, self.end)
        ends += tf.cast(here, "int32")
        return here & (ends >= self.ends) & (t + 1 >= self.counts_from), ends


def write(ids, t, tokens):
    """`ids` `[..., T]` with `tokens` `[...]` at position t."""
    now = tf.broadcast_to(tf.one_hot(t, tf.shape(ids)[-1], on_value=True, off_value=False), tf.shape(ids))
    return tf1.where(now, tf.broadcast_to(tokens[..., None], tf.shape(ids)), ids)


def pick(values, places):
    """`values[b, places[b, i]]` for values `[B, n, ...]` and places `[B, k]`."""
    return tf.gather(values, places, batch_dims=1)


def loop(condition, body, state):
    """tf.while_loop over a namedtuple whose tensors keep their rank and nothing else."""
    shapes = tf.nest.map_structure(lambda x: tf.TensorShape([None] * x.shape.ndims), state)
    memories = [tf.TensorShape([None, x.shape[-1]]) for x in state.memories]
    shapes = shapes._replace(memories=memories)
    return tf.while_loop(condition, body, state, shape_invariants=shapes, back_prop=False, parallel_iterations=1)


def blank(steps, pad):
    """ids `[batch, beams, time]` full of `pad`."""
    return tf.fill(tf.stack([steps.batch, steps.beams, steps.time]), pad)


def decode_rows(steps, stopping, choose, pad):
    """Every row of every input goes its own way.

    Args:
        steps: `Steps`.
        stopping: `Stopping`.
        choose: function(logits float32 `[B * k, V]`, t) -> int32 `[B * k]`.
        pad: int, what follows the end.

    Returns:
        (ids int32 `[B, k, T]`, scores float32 `[B, k]`: sums of the model's log-probabilities, lengths int32 `[B, k]`).
    """
    shape = tf.stack([steps.batch, steps.beams])

    def body(*state):
        s = Rows(*state)
        logits, memories, ancestors = steps(s.t, s.tokens, s.memories, s.ancestors)
        logits = tf.reshape(logits, tf.stack([-1, tf.shape(logits)[-1]]))
        tokens = choose(stopping.forbid(logits, s.t), s.t)
        gained = tf.gather_nd(tf.nn.log_softmax(logits), tf.stack([tf.range(tf.size(tokens)), tokens], axis=1))
        tokens, gained = (tf.reshape(x, shape) for x in (tokens, gained))
        tokens = tf1.where(s.done, tf.fill(shape, pad), tokens)
        ended, ends = stopping.is_end(tokens, s.ends, s.t)
        return Rows(
            t=s.t + 1,
            tokens=tokens,
            done=s.done | ended,
            ids=write(s.ids, s.t, tokens),
            scores=s.scores + tf1.where(s.done, tf.zeros_like(gained), gained),
            ends=ends,
            lengths=s.lengths + tf.cast(~s.done, "int32"),
            ancestors=ancestors,
            memories=memories,
        )

    state = Rows(
        t=tf.constant(0),
        tokens=steps.first,
        done=tf.fill(shape, False),
        ids=blank(steps, pad),
        scores=tf.fill(shape, 0.0),
        ends=tf.fill(shape, 0),
        lengths=tf.fill(shape, 0),
        ancestors=steps.no_ancestors(),
        memories=steps.empty(),
    )
    state = loop(lambda *s: (s[0] < steps.time) & ~tf.reduce_all(Rows(*s).done), body, state)
    return state.ids, state.scores, state.lengths


def decode_beams(steps, stopping, pad, *, temperature, length_penalty, keep):
    """Beam search: of all continuations of all beams the most likely survive.

    Args:
        steps: `Steps`; its `beams` is the width.
        stopping: `Stopping`.
        pad: int.
        temperature: scalar tensor.
        length_penalty: scalar tensor; finished sequences are compared by score / length**length_penalty.
        keep: True: finished beams are put aside, and the search ends when none that runs can do better than the worst
            of as many finished ones as there are beams (Hugging Face, early_stopping=False). False: a finished beam
            is the result if it is the best of all, else it is dropped and the search continues with one beam less
            (bert4keras).

    Returns:
        as `decode_rows`, the best first; with keep=False only the first of the k is a result.
    """
    width, shape = steps.beams, tf.stack([steps.batch, steps.beams])

    def body(*state):
        s = Beams(*state)
        logits, memories, ancestors = steps(s.t, s.tokens, s.memories, s.ancestors)
        gained = tf.nn.log_softmax(logits / temperature)
        if not keep:
            gained = tf.math.log(tf.exp(gained) + 1e-12)
        gained = stopping.forbid(gained, s.t)
        size = tf.shape(logits)[-1]
        total = tf.reshape(s.scores[:, :, None] + gained, tf.stack([steps.batch, -1]))
        scores, places = tf.nn.top_k(total, k=2 * width)
        parents, tokens = places // size, places % size
        ids = write(pick(s.ids, parents), s.t, tokens)
        ended, ends = stopping.is_end(tokens, pick(s.ends, parents), s.t)
        now = dict(t=s.t + 1, memories=memories)
        merge = _merge_kept if keep else _merge_dropped
        state, chosen = merge(s, scores, ids, ended, width, steps.time, length_penalty)
        return s._replace(
            tokens=pick(tokens, chosen),
            ids=pick(ids, chosen),
            ends=pick(ends, chosen),
            ancestors=pick(ancestors, pick(parents, chosen)),
            **dict(now, **state),
        )

    only_first = tf.tile(tf.one_hot(0, width, on_value=0.0, off_value=FAR)[None], tf.stack([steps.batch, 1]))
    state = Beams(
        t=tf.constant(0),
        tokens=steps.first,
        ids=blank(steps, pad),
        scores=only_first,
        ends=tf.fill(shape, 0),
        finished_ids=blank(steps, pad),
        finished_scores=tf.fill(shape, FAR),
        lengths=tf.fill(shape, 0),
        stopped=tf.fill([steps.batch], False),
        active=tf.fill([steps.batch], width),
        ancestors=steps.no_ancestors(),
        memories=steps.empty(),
    )
    s = loop(lambda *s: (s[0] < steps.time) & ~tf.reduce_all(Beams(*s).stopped), body, state)
    if keep:
        return s.finished_ids, s.finished_scores, s.lengths
    # Where no beam won, the best of those that ran to the end is the result.
    some = s.stopped
    ids = tf1.where(some, s.finished_ids[:, 0], s.ids[:, 0])
    scores = tf1.where(some, s.finished_scores[:, 0], s.scores[:, 0])
    lengths = tf1.where(some, s.lengths[:, 0], tf.fill(tf.shape(some), s.t))
    return ids[:, None], scores[:, None], lengths[:, None]


def _merge_kept(s, scores, ids, ended, width, time, length_penalty):
    """Finished candidates join the finished ones, the others run on; the new parts of the state and who runs on."""
    length = tf.cast(s.t + 1, "float32") ** length_penalty
    over = ended | (s.t + 1 >= time)
    first = tf.range(tf.shape(scores)[1])[None] < width
    finished = tf1.where(over & first & ~s.stopped[:, None], scores / length, tf.fill(tf.shape(scores), FAR))
    all_scores = tf.concat([s.finished_scores, finished], axis=1)
    finished_scores, places = tf.nn.top_k(all_scores, k=width)
    running, chosen = tf.nn.top_k(scores + FAR * tf.cast(over, "float32"), k=width)
    best, worst = running[:, 0] / length, tf.reduce_min(finished_scores, axis=1)
    state = dict(
        scores=running,
        finished_scores=finished_scores,
        finished_ids=pick(tf.concat([s.finished_ids, ids], axis=1), places),
        lengths=pick(tf.concat([s.lengths, tf.zeros_like(ended, "int32") + s.t + 1], axis=1), places),
        stopped=s.stopped | (best <= worst),
    )
    return state, chosen


def _merge_dropped(s, scores, ids, ended, width, time, length_penalty):
    """The best candidate may end the search; others that have ended are given up; as `_merge_kept`."""
    scores, ids, ended = scores[:, :width], ids[:, :width], ended[:, :width]
    valid = tf.range(width)[None] < s.active[:, None]
    won = ended[:, 0] & ~s.stopped
    alive = valid & ~ended
    kept, chosen = tf.nn.top_k(tf1.where(alive, scores, tf.fill(tf.shape(scores), FAR)), k=width)
    state = dict(
        scores=kept,
        active=tf.reduce_sum(tf.cast(alive, "int32"), axis=1),
        finished_scores=tf1.where(won, scores, s.finished_scores),
        finished_ids=tf1.where(won, ids, s.finished_ids),
        lengths=tf1.where(won, tf.zeros_like(s.lengths) + s.t + 1, s.lengths),
        stopped=s.stopped | won,
    )
    return state, chosen


def follow(steps, targets):
    """Log-softmax after each prefix of given tokens: float32 `[B, T, V]`.

    Args:
        steps: `Steps` with one beam.
        targets: int32 `[B, T]`.
    """

    def body(t, tokens, ancestors, memories, found):
        logits, memories, ancestors = steps(t, tokens, memories, ancestors)
        return t + 1, targets[:, t][:, None], ancestors, memories, found.write(t, tf.nn.log_softmax(logits[:, 0]))

    first = (tf.constant(0), steps.first, steps.no_ancestors(), steps.empty())
    found = tf.TensorArray("float32", size=steps.time)
    any_shape = [tf.TensorShape([None] * x.shape.ndims) for x in first[:3]]
    shapes = any_shape + [[tf.TensorShape([None, x.shape[-1]]) for x in first[3]], tf.TensorShape(None)]
    *_, found = tf.while_loop(
        lambda t, *_: t < steps.time,
        body,
        first + (found,),
        shape_invariants=tuple(shapes),
        back_prop=False,
        parallel_iterations=1,
    )
    return tf.transpose(found.stack(), [1, 0, 2])
