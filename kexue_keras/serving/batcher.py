"""Texts of many requests in common batches: the first waits some milliseconds for others."""

import collections
import threading
import time
from concurrent.futures import Future


class Overloaded(Exception):
    """More texts wait than may."""


class Closed(Exception):
    """Nothing is taken any more."""


class Batcher(object):
    """Calls a function of a list of texts for many threads, in batches, from a thread of its own.

    While a batch is computed the next one gathers, so that under load nobody waits for the clock.

    Args:
        function: of a list of texts; gives one result per text.
        batch_size: most texts a call.
        wait: seconds that the first text of a batch waits for others.
        most_waiting: texts that may wait.

    >>> batcher = Batcher(lambda texts: [len(text) for text in texts], batch_size=8, wait=0.005, most_waiting=100)
    >>> [future.result() for future in batcher.submit(['好', '今天'])]
    [1, 2]
    >>> batcher.close()
    """

    def __init__(self, function, *, batch_size, wait, most_waiting):
        self.function, self.batch_size, self.wait, self.most_waiting = function, batch_size, wait, most_waiting
        self._waiting = collections.deque()  # (text, Future, time of arrival)
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def submit(self, texts):
        """List of `Future`, one per text.

        Raises:
            Overloaded: too many texts wait; none of these was taken.
            Closed: after `close`.
        """
        futures = [Future() for _ in texts]
        with self._changed:
            if self._closed:
                raise Closed()
            if len(self._waiting) + len(texts) > self.most_waiting:
                raise Overloaded()
            now = time.monotonic()
            self._waiting.extend((text, future, now) for text, future in zip(texts, futures))
            self._changed.notify()
        return futures

    def close(self):
        """Compute what has been taken, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _next(self):
        """List of (text, Future) of the next batch; empty at the end."""
        with self._changed:
            while True:
                if self._waiting:
                    left = self._waiting[0][2] + self.wait - time.monotonic()
                    if len(self._waiting) >= self.batch_size or left <= 0 or self._closed:
                        count = min(len(self._waiting), self.batch_size)
                        return [self._waiting.popleft()[:2] for _ in range(count)]
                    self._changed.wait(left)
                elif self._closed:
                    return []
                else:
                    self._changed.wait()

    def _work(self):
        while True:
            batch = self._next()
            if not batch:
                return
            try:
                results = self.function([text for text, _ in batch])
                for (_, future), result in zip(batch, results):
                    future.set_result(result)
            except Exception as error:  # each of those who wait gets it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
