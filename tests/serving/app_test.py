"""The paths of the server, what it refuses and how, and its end by SIGTERM in the middle of a request."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from conftest import ROOT
from helpers import tiny_bert_folder

from kexue_keras.cli import main as cli
from kexue_keras.similarity import SentenceEncoder

pytest.importorskip("flask")
from kexue_keras.serving.app import Limits, make_app  # noqa: E402


class Labeller(object):
    """Stands for a classifier; "错" breaks it."""

    labels, pairs = ["短", "长"], False

    def predict(self, texts):
        if "错" in texts:
            raise RuntimeError("no such word")
        return [(self.labels[len(text) > 3], 0.75) for text in texts]


class PairLabeller(Labeller):
    pairs = True

    def predict(self, texts):
        return [([self.labels[a == b]], [0.5]) for a, b in texts]


class Vectors(object):
    def encode(self, texts):
        return np.array([[len(text), 1.0] for text in texts], "float32")


@pytest.fixture
def client():
    """Function that makes a client of a server around a model."""
    apps = []

    def make(model, **limits):
        limits = Limits(**dict(dict(texts=3, characters=10, bytes=1000, waiting=50), **limits))
        apps.append(make_app(model, limits, batch_size=8, wait=0.001))
        return apps[-1].test_client()

    yield make
    for app in apps:
        app.batcher.close()


def test_labels(client):
    labeller = client(Labeller())
    answer = labeller.post("/predict", json={"texts": ["好", "今天天气"]})
    assert answer.get_json() == {
        "predictions": [{"label": "短", "probability": 0.75}, {"label": "长", "probability": 0.75}]
    }
    health = labeller.get("/health").get_json()
    assert (health["status"], health["labels"]) == ("ok", ["短", "长"])
    answer = client(PairLabeller()).post("/predict", json={"texts": [["好", "好"], ["好", "坏"]]})
    assert [one["labels"] for one in answer.get_json()["predictions"]] == [["长"], ["短"]]


def test_vectors(client):
    vectors = client(Vectors())
    assert vectors.post("/encode", json={"texts": ["好", "今天"]}).get_json() == {"vectors": [[1, 1], [2, 1]]}
    assert vectors.post("/similarity", json={"pairs": [["好", "今天"]]}).get_json() == {"cosines": [3]}
    assert vectors.post("/predict", json={"texts": ["好"]}).status_code == 404


@pytest.mark.parametrize(
    "data, status, said",
    [
        (b"x", 400, "has to be JSON"),
        (b"\xff", 400, "has to be JSON"),
        (b"[]", 400, "has to be JSON"),
        (b'{"text": "a"}', 400, '{"texts": ["...", ...]}'),
        (b'{"texts": "a"}', 400, "texts is no list"),
        (b'{"texts": []}', 400, "texts has 0 entries; 1 to 3"),
        (b'{"texts": ["a", "a", "a", "a"]}', 400, "texts has 4 entries; 1 to 3"),
        (b'{"texts": ["a", 1]}', 400, "texts[1] is 1; a str is needed"),
        (b'{"texts": [["a", "b"]]}', 400, "a str is needed"),
        (b'{"texts": [" "]}', 400, "texts[0] is empty"),
        (b'{"texts": ["\\ud83d"]}', 400, "half of a surrogate pair"),
        (b'{"texts": ["aaaaaaaaaaa"]}', 400, "texts[0] has 11 characters; 10 are taken"),
        (b'{"texts": ["%s"]}' % (b"a" * 90), 413, "larger than 90 bytes"),
        ('{"texts": ["错"]}'.encode("utf-8"), 500, "RuntimeError: no such word"),
    ],
)
def test_what_is_wrong_is_said_in_json(client, data, status, said):
    answer = client(Labeller(), bytes=90).post("/predict", data=data)
    assert answer.status_code == status and said in answer.get_json()["error"], answer.data


def test_other_paths_and_methods(client):
    labeller = client(Labeller())
    answer = labeller.get("/predict")
    assert answer.status_code == 405 and "not allowed" in answer.get_json()["error"]
    assert labeller.get("/nothing").get_json() == {"error": "/nothing: not found"}


def test_an_overloaded_server_says_when_to_come_back(client):
    answer = client(Labeller(), waiting=1).post("/predict", json={"texts": ["好", "坏"]})
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1" and "wait already" in str(answer.data)


def asked(url, given=None):
    data = None if given is None else json.dumps(given).encode("utf-8")
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as answer:
        return json.loads(answer.read().decode("utf-8"))


def test_a_run_is_served_until_sigterm(tmp_path):
    """With TensorFlow; threads ask at once, and the one that is being answered at the end gets its answer."""
    tiny = tiny_bert_folder(tmp_path / "tiny", num_hidden_layers=1)
    encoder = SentenceEncoder(tiny, max_length=12)
    encoder.save(str(tmp_path / "run" / "encoder"))
    texts = ["今天电影很好", "书店服务好", "我们看电影", "好"] * 4
    expected = encoder.encode(texts)
    served = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path / "run" / "encoder")],
        stdout=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, PYTHONPATH=ROOT, PYTHONIOENCODING="utf-8"),
    )
    address = served.stdout.readline().split()[-1]
    assert asked(address + "/health")["status"] == "ok"
    found = {}

    def ask(i):
        found[i] = asked(address + "/encode", {"texts": [texts[i]]})["vectors"][0]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.allclose([found[i] for i in range(len(texts))], expected, atol=1e-5)
    last = threading.Thread(target=slow, args=(address, found))
    last.start()
    time.sleep(0.3)
    served.send_signal(signal.SIGTERM)
    last.join(30)
    assert served.wait(30) == 0 and served.stdout.read().strip() == "stopped"
    assert len(found["slow"]) == 16
    with pytest.raises(urllib.error.URLError):
        asked(address + "/health")


# A server whose text waits a second for others, so that one is on its way when the signal comes.
SERVE = """
import sys
from kexue_keras.similarity import SentenceEncoder
from kexue_keras.serving.app import Limits, make_app
from kexue_keras.serving.server import serve
model = SentenceEncoder.load(sys.argv[1])
app = make_app(model, Limits(100, 100, 10000, 100), batch_size=64, wait=1.0)
serve(app, host="127.0.0.1", port=0, say=lambda line: print(line, flush=True))
"""


def slow(address, found):
    found["slow"] = asked(address + "/encode", {"texts": ["我们看电影"]})["vectors"][0]


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    for arguments, said in (
        (["--run", str(tmp_path)], "no config.json in it"),
        (["--run", "x", "--port", "65536"], "--port"),
        (["--run", "x", "--wait", "-1"], "--wait"),
    ):
        assert cli.main(["serve"] + arguments) == 2
        found = capsys.readouterr().err
        assert said in found and found.count("\n") == 1
