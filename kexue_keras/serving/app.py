"""The Flask application of `kexue-keras serve`: paths, limits, and every error as JSON."""

import time
from collections import namedtuple

from flask import Flask, jsonify, request
from werkzeug.exceptions import HTTPException

from kexue_keras.data import checked_texts
from kexue_keras.errors import UserError, shorten
from kexue_keras.serving.batcher import Batcher, Closed, Overloaded

# texts: of a request; characters: of a text; bytes: of a request; waiting: texts of all requests
Limits = namedtuple("Limits", "texts characters bytes waiting")
# Seconds that a client is asked to wait when too many texts are waiting.
RETRY_AFTER = "1"


class Refused(Exception):
    """A request that is not answered: HTTP status and what is wrong."""

    def __init__(self, status, message):
        super(Refused, self).__init__(message)
        self.status = status


def make_app(model, limits, *, batch_size, wait):
    """Flask application around a model; its `batcher` has to be closed in the end.

    Args:
        model: `ExportedModel`, `Classifier` or `SentenceEncoder`.
        limits: `Limits`.
        batch_size: most texts computed together.
        wait: seconds that a text waits for others.
    """
    app = Flask("kexue_keras")
    app.config["MAX_CONTENT_LENGTH"] = limits.bytes
    labels = getattr(model, "labels", None)
    compute = model.predict if labels is not None else model.encode
    app.batcher = Batcher(compute, batch_size=batch_size, wait=wait, most_waiting=limits.waiting)
    begun = time.time()

    def results(texts):
        try:
            futures = app.batcher.submit(texts)
        except Overloaded:
            raise Refused(503, "%d texts wait already; try again in a second" % limits.waiting)
        except Closed:
            raise Refused(503, "the server is stopping")
        return [future.result() for future in futures]

    @app.route("/health")
    def health():
        task = "similarity" if labels is None else "classification"
        return jsonify(status="ok", task=task, labels=labels, seconds=round(time.time() - begun, 1))

    if labels is not None:

        @app.route("/predict", methods=["POST"])
        def predict():
            found = results(_given(limits, "texts", bool(model.pairs)))
            return jsonify(predictions=[_described(*one) for one in found])

    else:

        @app.route("/encode", methods=["POST"])
        def encode():
            return jsonify(vectors=[vector.tolist() for vector in results(_given(limits, "texts", False))])

        @app.route("/similarity", methods=["POST"])
        def similarity():
            pairs = _given(limits, "pairs", True)
            vectors = results([text for pair in pairs for text in pair])
            return jsonify(cosines=[float(a @ b) for a, b in zip(vectors[::2], vectors[1::2])])

    @app.errorhandler(Refused)
    def refused(error):
        answer = jsonify(error=str(error))
        if error.status == 503:
            answer.headers["Retry-After"] = RETRY_AFTER
        return answer, error.status

    @app.errorhandler(HTTPException)
    def wrong(error):
        return jsonify(error="%s: %s" % (request.path, error.name.lower())), error.code

    @app.errorhandler(Exception)
    def failed(error):
        return jsonify(error="%s: %s" % (type(error).__name__, shorten(str(error)))), 500

    return app


def _given(limits, name, pairs):
    """The texts, or pairs of texts, of a request.

    Raises:
        Refused: it is no JSON, has other names, or breaks a limit.
    """
    # Not all versions of Flask look before they read JSON.
    if (request.content_length or 0) > limits.bytes:
        raise Refused(413, "the request is larger than %d bytes" % limits.bytes)
    given = request.get_json(force=True, silent=True)
    if not isinstance(given, dict) or set(given) != {name}:
        wanted = '{"%s": [["...", "..."], ...]}' if pairs else '{"%s": ["...", ...]}'
        raise Refused(400, "the request has to be JSON: " + wanted % name)
    try:
        if not isinstance(given[name], list):
            raise UserError("%s is no list" % name)
        texts = checked_texts(given[name], name=name, pairs=pairs)
    except (UserError, ValueError) as error:
        raise Refused(400, str(error))
    if not 1 <= len(texts) <= limits.texts:
        raise Refused(400, "%s has %d entries; 1 to %d are taken at once" % (name, len(texts), limits.texts))
    for i, text in enumerate(texts):
        for part in text if pairs else (text,):
            if not part.strip():
                raise Refused(400, "%s[%d] is empty" % (name, i))
            if len(part) > limits.characters:
                raise Refused(400, "%s[%d] has %d characters; %d are taken" % (name, i, len(part), limits.characters))
    return texts


def _described(label, probability):
    if isinstance(label, list):
        return {"labels": label, "probabilities": probability}
    return {"label": label, "probability": probability}
