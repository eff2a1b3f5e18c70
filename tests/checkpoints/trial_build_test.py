"""What a load adds to the user's graph: a refused one nothing, any other the model in one run of the session."""

import gc
import weakref

import numpy as np
import pytest
from helpers import tiny_bert_folder

from kexue_keras.backend import K, initialize, is_tf2, keras, scratch_graph, tf1
from kexue_keras.checkpoints._load import read_folder
from kexue_keras.checkpoints._trial_build import is_doubtful
from kexue_keras.errors import WeightsError
from kexue_keras.models import load
from kexue_keras.similarity import SentenceEncoder

KINDS = ["bert", "roformer", "nezha", "albert"]
REFUSED = [
    {"hidden_size": 32},
    {"num_hidden_layers": 2},
    {"with_mlm": "linear"},
    {"with_nsp": True},
    {"application": "unilm"},
    {"vocab_size": 10},
    {"max_position": 12},
    {"kind": "albert"},
]


def operations():
    return len(tf1.get_default_graph().get_operations())


def test_a_refused_load_leaves_nothing_in_the_graph(tmp_path):
    tiny = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    state, before = np.random.get_state()[1].tolist(), operations()
    for options in REFUSED:
        with pytest.raises(WeightsError, match="nothing was loaded"):
            load(tiny, **options)
        assert operations() == before, options
    assert np.random.get_state()[1].tolist() == state


@pytest.mark.dear
@pytest.mark.parametrize("kind", KINDS)
def test_what_fits_is_built_once(kind, tmp_path):
    folder = tiny_bert_folder(tmp_path, kind)
    found, config, variables, _ = read_folder(folder)
    assert not is_doubtful(config, variables, kind=found)
    assert not is_doubtful(dict(config, num_hidden_layers=1), variables, kind=found)
    assert is_doubtful(dict(config, hidden_size=8), variables, kind=found)
    # New heads are none of the file's.
    asked = dict(config, with_mlm=True, with_pool=True)
    assert not is_doubtful(asked, variables, kind=found, missing="initialise")


def test_a_graph_for_trying_out_is_freed():
    with scratch_graph() as session:
        x = keras.layers.Input([3])
        model = keras.models.Model(x, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(x)))
        model.predict(np.ones([1, 3]))
        graph, session = weakref.ref(session.graph), weakref.ref(session)
    del x, model
    gc.collect()
    assert graph() is None and session() is None


@pytest.mark.all_stacks
def test_a_load_is_one_run_of_the_session(tiny, monkeypatch):
    load(tiny, num_hidden_layers=1)
    runs, run = [], tf1.Session.run
    monkeypatch.setattr(tf1.Session, "run", lambda *args, **options: runs.append(args) or run(*args, **options))
    before = operations()
    model = load(tiny, num_hidden_layers=1).model
    assert len(runs) == 1
    added = operations() - before
    assert not [op for op in tf1.get_default_graph().get_operations()[before:] if op.type == "Placeholder"][2:]
    again = load(tiny, num_hidden_layers=1).model
    assert operations() - before == 2 * added
    for ours, theirs in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
    # Training and setting weights go on as with any model.
    again.set_weights([0 * w for w in again.get_weights()])
    assert not again.get_weights()[0].any() and model.get_weights()[0].any()


@pytest.mark.all_stacks
def test_first_values_of_variables():
    start = K.constant([1.0, 2.0])
    shared = [tf1.Variable(start, use_resource=True) for _ in range(2)]
    a, b = K.variable(np.zeros([2, 3])), K.variable(np.ones([2]), dtype="float64")
    initialize([(a, np.arange(6).reshape(2, 3)), (shared[0], [3, 4]), (shared[1], [5, 6])])
    assert K.batch_get_value([a, shared[0], shared[1], b])[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert K.batch_get_value(shared)[1].tolist() == [5, 6] and K.get_value(b).tolist() == [1, 1]
    initialize([])
    with pytest.raises(ValueError):
        initialize([(K.variable(np.zeros(2)), np.zeros(3))])


@pytest.mark.all_stacks
def test_what_is_let_go_after_clear_session_is_freed_and_what_is_kept_goes_on(tiny):
    kept = SentenceEncoder(tiny, max_length=16, num_hidden_layers=1)
    expected = kept.encode(["好"])
    K.clear_session()
    if is_tf2:  # there Keras closes its session, and the weights are gone
        kept = None
    dropped = SentenceEncoder(tiny, max_length=16, num_hidden_layers=1)
    np.testing.assert_allclose(dropped.encode(["好"]), expected, atol=1e-6)
    with dropped.session.entered() as session:
        session, graph = weakref.ref(session), weakref.ref(session.graph)
    K.clear_session()
    del dropped
    gc.collect()
    assert session() is None and graph() is None
    if kept is not None:
        np.testing.assert_allclose(kept.encode(["好"]), expected, atol=1e-6)
