"""The walks over ops: order, where they stop, what they look through, and graphs that go round or are deep."""

import tensorflow as tf

from kexue_keras.backend import tf1
from kexue_keras.backend.graph import depth_first, origin, reached, readers


def diamond():
    x = tf.constant(3.0)
    left, right = tf.exp(x), tf.sin(x)
    return x, left, right, left + right


def test_inputs_come_first_and_each_op_once():
    x, left, right, total = diamond()
    ops = reached([total, left])
    assert set(ops) == {x.op, left.op, right.op, total.op} and len(ops) == 4
    position = {op: i for i, op in enumerate(ops)}
    for op in ops:
        assert all(position[t.op] < position[op] for t in op.inputs)


def test_the_search_stops_behind_a_tensor_and_at_a_door():
    x, left, right, total = diamond()
    assert set(reached([total], stop=[left, right])) == {total.op}
    assert reached([total], stop=[total]) == []
    assert set(reached([total], enter=lambda op: op is not left.op)) == {x.op, right.op, total.op}
    assert reached([total], enter=lambda op: False) == []


def test_another_output_of_an_op_does_not_stop_the_search():
    x = tf.constant([1.0, 2.0])
    first, second = tf.unstack(x)
    assert first.op in reached([first + second], stop=[first])


def test_control_dependencies_count_unless_they_shall_not():
    x, check = tf.constant(1.0), tf.constant(2.0)
    with tf.control_dependencies([check]):
        y = tf.identity(x)
    assert check.op in reached([y]) and check.op not in reached([y], controls=False)


def test_a_loop_ends_the_walk():
    with tf.Graph().as_default():
        tf1.disable_control_flow_v2()
        total = tf1.while_loop(lambda i: i < 3, lambda i: i + 1, [tf.constant(0)])
        ops = reached([total])
        assert {"Merge", "Switch", "NextIteration", "Exit"} <= {op.type for op in ops} and len(ops) == len(set(ops))


def test_a_deep_graph_is_no_deep_recursion():
    with tf.Graph().as_default():
        x = y = tf.constant(1.0)
        for _ in range(3000):
            y = tf.negative(y)
        assert len(reached([y])) == 3001
        y = x
        for _ in range(3000):
            y = tf.identity(y)
        assert origin(y) is x


def test_any_hashable_nodes_can_be_walked_and_circles_end():
    before = {"d": "bc", "b": "a", "c": "ab", "a": "d"}
    found = depth_first("d", before.get)
    assert sorted(found) == list("abcd") and found[-1] == "d"
    assert depth_first("d", before.get, enter=lambda node: node != "a") == ["b", "c", "d"]
    assert depth_first([], before.get) == []


def test_the_origin_is_looked_for_through_the_ops_that_are_named():
    x = tf.constant([1.0, 2.0])
    cast = tf.cast(tf.identity(x), tf.float64)
    assert origin(cast) is cast
    assert origin(cast, through=("Cast", "Identity")) is x
    assert origin(x) is x and origin(None) is None and origin(2.5) == 2.5


def test_readers_are_found_behind_what_hands_a_value_on():
    x = tf.constant([1.0, 2.0])
    same = tf.identity(x)
    y, z = tf.exp(same), x * same
    found = readers([x], through=("Identity",))
    assert {(t.name, op.name) for t, op in found} == {
        (same.name, y.op.name),
        (same.name, z.op.name),
        (x.name, z.op.name),
    }
    assert len(found) == 3
    assert [op for _, op in readers([same])] == [y.op, z.op] and readers([y]) == []
