"""The loops of decoding on a language that is a table, against plain Python and bert4keras."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import tf1
from kexue_keras.decoding import _search as search

SIZE, TIME, END, PAD = 4, 4, 1, 9


class Table(object):
    """Stands for `Steps`: the logits depend on the last token, on the number of the input and on the time."""

    def __init__(self):
        self.table = tf1.placeholder("float32", [None, TIME, SIZE, SIZE])
        self.beams = tf1.placeholder_with_default(1, [])
        self.batch, self.time = tf.shape(self.table)[0], tf.constant(TIME)
        self.first = tf.zeros(tf.stack([self.batch, self.beams]), "int32")

    def empty(self):
        return [tf.zeros([1, 1])]

    def no_ancestors(self):
        return tf.fill(tf.stack([self.batch, self.beams, TIME]), -1)

    def __call__(self, t, tokens, memories, ancestors):
        return tf.gather(self.table[:, t], tokens % SIZE, batch_dims=1), memories, ancestors


@pytest.fixture(scope="module")
def searches():
    """function(table, kind, beams, ...) -> (ids, scores, lengths); the graphs are built once."""
    graph = tf.Graph()
    with graph.as_default():
        steps = Table()
        minimum, counts, ends = (tf1.placeholder_with_default(n, []) for n in (0, 0, 1))
        penalty, temperature = tf1.placeholder_with_default(0.0, []), tf1.placeholder_with_default(1.0, [])
        stopping = search.Stopping(tf.constant(END), minimum, counts, ends)
        options = dict(temperature=temperature, length_penalty=penalty)
        found = {keep: search.decode_beams(steps, stopping, PAD, keep=keep, **options) for keep in (True, False)}
        found["greedy"] = search.decode_rows(steps, stopping, lambda x, t: tf.argmax(x, -1, output_type="int32"), PAD)
    # Not as the default session, which must not outlive a test.
    session = tf1.Session(graph=graph)

    def run(table, kind, beams=1, **given):
        places = dict(minimum=minimum, counts=counts, ends=ends, penalty=penalty, temperature=temperature)
        feed = {places[name]: value for name, value in given.items()}
        return session.run(found[kind], {**feed, steps.table: table, steps.beams: beams})

    yield run
    session.close()


def log_probabilities(logits):
    logits = logits.astype("float64")
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def sequences(table):
    """All (ids, log-probability) of one input: up to the end token or TIME."""
    lp = log_probabilities(table)
    for n in range(1, TIME + 1):
        for ids in itertools.product(range(SIZE), repeat=n):
            if END not in ids[:-1] and (ids[-1] == END or n == TIME):
                yield list(ids), sum(lp[t, a, b] for t, (a, b) in enumerate(zip((0,) + ids[:-1], ids)))


def hugging_face(table, beams, penalty, minimum):
    """Beam search that puts finished sequences aside, with lists."""
    lp, running, finished = log_probabilities(table), [([], 0.0)], []
    for t in range(TIME):
        candidates = []
        for ids, score in running:
            for token in range(SIZE):
                if not (token == END and t < minimum):
                    candidates.append((ids + [token], score + lp[t, (ids or [0])[-1], token]))
        candidates = sorted(candidates, key=lambda c: -c[1])[: 2 * beams]
        over = [c[0][-1] == END or t + 1 == TIME for c in candidates]
        finished += [(c[0], c[1] / (t + 1) ** penalty) for c, o in zip(candidates[:beams], over) if o]
        finished = sorted(finished, key=lambda c: -c[1])[:beams]
        running = [c for c, o in zip(candidates, over) if not o][:beams]
        if not running or (len(finished) == beams and running[0][1] / (t + 1) ** penalty <= finished[-1][1]):
            break
    return finished


@st.composite
def tables(draw):
    seed = draw(st.integers(0, 10**6))
    scale = draw(st.sampled_from([0.5, 2.0, 5.0]))
    return scale * np.random.RandomState(seed).randn(draw(st.integers(1, 3)), TIME, SIZE, SIZE).astype("float32")


def row(ids, length):
    assert (ids[length:] == PAD).all()
    return ids[:length].tolist()


@hypothesis.given(tables(), st.integers(1, 5), st.sampled_from([0.0, 1.0, 2.0]), st.integers(0, 3))
def test_beam_search_is_that_of_lists(searches, table, beams, penalty, minimum):
    ids, scores, lengths = searches(table, True, beams, penalty=penalty, minimum=minimum)
    for b, one in enumerate(table):
        wanted = hugging_face(one, beams, penalty, minimum)
        for j, (sequence, score) in enumerate(wanted):
            np.testing.assert_allclose(scores[b, j], score, rtol=1e-4, atol=1e-4)
            assert row(ids[b, j], lengths[b, j]) == sequence


@hypothesis.given(tables())
def test_a_beam_as_wide_as_the_language_finds_the_best(searches, table):
    width = 3 ** (TIME - 1)
    ids, scores, lengths = searches(table, True, width)
    for b, one in enumerate(table):
        every = sorted(sequences(one), key=lambda pair: -pair[1])
        for j in range(3):
            np.testing.assert_allclose(scores[b, j], every[j][1], atol=1e-4)
            assert row(ids[b, j], lengths[b, j]) == every[j][0]


@hypothesis.given(tables(), st.integers(1, 4), st.integers(0, 4), st.integers(1, 2), st.sampled_from([1.0, 0.7]))
def test_giving_up_is_that_of_bert4keras(searches, table, beams, minlen, min_ends, temperature):
    from bert4keras.snippets import AutoRegressiveDecoder

    class Decoder(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(default_rtype="logits")
        def predict(self, inputs, output_ids, states):
            last = output_ids[:, -1] if output_ids.shape[1] else np.zeros(len(output_ids), int)
            return one[output_ids.shape[1], last]

    options = dict(counts=minlen, ends=min_ends, temperature=temperature)
    ids, _, lengths = searches(table, False, beams, **options)
    greedy, _, ends = searches(table, "greedy", counts=minlen, ends=min_ends)
    decoder = Decoder(start_id=None, end_id=END, maxlen=TIME, minlen=minlen)
    for b, one in enumerate(table):
        wanted = decoder.beam_search([[0]], topk=beams, temperature=temperature, min_ends=min_ends)
        assert row(ids[b, 0], lengths[b, 0]) == wanted.tolist()
        wanted = decoder.beam_search([[0]], topk=1, min_ends=min_ends)
        assert row(greedy[b, 0], ends[b, 0]) == wanted.tolist()


def test_finished_beams_wait_for_better_ones(searches):
    """The two rules differ: the beam that ends second best at once is the likeliest of all in the end."""
    table = np.full([1, TIME, SIZE, SIZE], -9.0, "float32")
    table[0, 0, 0, 2], table[0, 0, 0, END] = np.log(0.55), np.log(0.45)
    table[0, 1, 2] = np.log([0.25, 0.25, 0.25, 0.25])
    table[0, 2:] = np.log([0.1, 0.7, 0.1, 0.1])
    kept, scores, lengths = searches(table, True, 2)
    given_up, _, n = searches(table, False, 2)
    assert row(kept[0, 0], lengths[0, 0]) == [END] and abs(scores[0, 0] - np.log(0.45)) < 1e-2
    assert row(given_up[0, 0], n[0, 0])[0] == 2
