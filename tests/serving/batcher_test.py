"""Texts of many threads share batches; errors reach those who wait; nothing that was taken is lost at the end."""

import threading

import pytest

from kexue_keras.serving.batcher import Batcher, Closed, Overloaded


def batcher(function, **options):
    return Batcher(function, **dict(dict(batch_size=8, wait=0.005, most_waiting=100), **options))


def test_what_comes_together_is_computed_together():
    sizes, started, go_on = [], threading.Event(), threading.Event()

    def lengths(texts):
        sizes.append(len(texts))
        started.set()
        go_on.wait(10)
        return [len(text) for text in texts]

    batches = batcher(lengths, wait=0)
    first = batches.submit(["a"])
    started.wait(10)
    # These come while the first is computed, from threads of their own.
    found = {}

    def ask(n):
        (future,) = batches.submit(["x" * n])
        found[n] = future.result(10)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 13)]
    for thread in threads:
        thread.start()
    while len(batches._waiting) < 12:
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    assert first[0].result() == 1 and found == {n: n for n in range(1, 13)}
    assert sizes == [1, 8, 4]
    batches.close()


def test_a_full_batch_does_not_wait_for_the_clock():
    batches = batcher(lambda texts: texts, wait=1000, batch_size=2)
    assert [future.result(10) for future in batches.submit(["a", "b"])] == ["a", "b"]
    batches.close()


def test_an_error_reaches_all_who_wait_and_the_next_batch_is_computed():
    def fussy(texts):
        if "bad" in texts:
            raise ValueError("bad text")
        return texts

    batches = batcher(fussy)
    for future in batches.submit(["good", "bad"]):
        with pytest.raises(ValueError, match="bad text"):
            future.result(10)
    assert batches.submit(["good"])[0].result(10) == "good"
    batches.close()


def test_too_many_are_refused_whole_and_none_is_lost_at_the_end():
    started, go_on = threading.Event(), threading.Event()

    def slow(texts):
        started.set()
        go_on.wait(10)
        return texts

    batches = batcher(slow, wait=0, most_waiting=3)
    futures = batches.submit(["a"])
    started.wait(10)
    futures += batches.submit(["b", "c"])
    with pytest.raises(Overloaded):
        batches.submit(["d", "e"])
    closing = threading.Thread(target=batches.close)
    closing.start()
    while not batches._closed:
        pass
    with pytest.raises(Closed):
        batches.submit(["f"])
    go_on.set()
    closing.join(10)
    assert [future.result(0) for future in futures] == ["a", "b", "c"]
