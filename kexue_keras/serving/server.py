"""The server: a thread a connection, and an end that answers all it has taken."""

import signal
import threading

from werkzeug.serving import WSGIRequestHandler, make_server

# Seconds that the end of the server waits for answers, and a connection for its request.
PATIENCE = 10.0


class _Answering(object):
    """How many connections are being answered."""

    def __init__(self):
        self.count, self.changed = 0, threading.Condition()

    def __enter__(self):
        with self.changed:
            self.count += 1

    def __exit__(self, *error):
        with self.changed:
            self.count -= 1
            self.changed.notify_all()

    def settle(self):
        """Wait until there is none."""
        with self.changed:
            self.changed.wait_for(lambda: self.count == 0, PATIENCE)


def _handler(answering):
    class Handler(WSGIRequestHandler):
        timeout = PATIENCE

        def handle(self):
            with answering:  # until the last byte is written, which is after the application has returned
                super(Handler, self).handle()

        def log_request(self, code="-", size="-"):
            pass

    return Handler


def serve(app, *, host, port, say):
    """Answer requests until SIGTERM or SIGINT; what was taken by then is answered.

    Args:
        app: of `serving.app.make_app`.
        host, port: address; port 0 takes a free one.
        say: function that takes a line.

    Raises:
        OSError: the address cannot be had.
    """
    answering = _Answering()
    server = make_server(host, port, app, threaded=True, request_handler=_handler(answering))
    # `shutdown` waits for the loop that this very thread runs.
    stop = threading.Thread(target=server.shutdown, daemon=True)

    def begin_to_stop(*_):
        if not stop.ident:
            stop.start()

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, begin_to_stop) for number in numbers]
    say("listening on http://%s:%d" % (host, server.server_port))
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        answering.settle()
        app.batcher.close()
        server.server_close()
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    say("stopped")
