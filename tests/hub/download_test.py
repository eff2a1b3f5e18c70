"""Models by their names on the hub: a stand-in for it on this machine, its cache, and what is said without it."""

import hashlib
import http.server
import json
import os
import threading

import pytest
from helpers import tiny_bert_folder

from kexue_keras.errors import WeightsError
from kexue_keras.hub import _download
from kexue_keras.models import load
from kexue_keras.similarity import SentenceEncoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """What huggingface_hub asks of the hub for one model, org/tiny."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path, hub = self.path.split("?")[0], self.server
        hub.asked.append(path)
        if path.startswith("/api/models/org/tiny/tree/"):  # newer versions of it
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in sorted(hub.files.items())
            ]
            return self.send(json.dumps(tree).encode(), "application/json")
        if path.startswith("/api/models/org/tiny"):
            files = [{"rfilename": name} for name in sorted(hub.files)]
            answer = {"_id": "1", "id": "org/tiny", "modelId": "org/tiny", "sha": COMMIT, "siblings": files, "tags": []}
            answer.update(private=False, downloads=1, likes=1, disabled=False, gated=False)
            return self.send(json.dumps(answer).encode(), "application/json")
        name = path[len("/org/tiny/resolve/%s/" % COMMIT) :]
        if path.startswith("/org/tiny/resolve/%s/" % COMMIT) and name in hub.files:
            return self.send(hub.files[name], "application/octet-stream")
        self.send(b'{"error": "Repository not found"}', "application/json", 404, "RepoNotFound")

    def send(self, content, kind, status=200, error=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"%s"' % hashlib.sha1(content).hexdigest())
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, tiny):
    """The stand-in with a sentence-transformers folder; `files` of it name -> bytes, `asked` the paths."""
    folder = str(tmp_path / "source")
    SentenceEncoder(tiny, max_length=16).save(folder, format="sentence-transformers")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.files = [], {"onnx/model.onnx": b"left", "tf_model.h5": b"left"}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if not name.startswith("."):
                with open(path, "rb") as handle:
                    server.files[os.path.relpath(path, folder)] = handle.read()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


# In a process of its own: the library reads the environment when it is imported.
SOURCE = """
import os, sys
os.environ.update(HF_ENDPOINT="http://127.0.0.1:" + sys.argv[1], HF_HOME=sys.argv[2], HF_HUB_DISABLE_XET="1")
os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", NO_PROXY="127.0.0.1")
os.chdir(sys.argv[2])
import kexue_keras
from kexue_keras.errors import WeightsError
from kexue_keras.similarity import SentenceEncoder
for name in sys.argv[3:]:
    try:
        encoder = SentenceEncoder.load(name) if name == "org/tiny" else None
        print(kexue_keras.models.load(name) if encoder is None else (encoder.pretrained, encoder.pooling))
    except WeightsError as error:
        print(error)
"""


def test_a_name_of_the_hub_is_fetched_and_then_read_from_the_cache(hub, tmp_path, run_python):
    pytest.importorskip("huggingface_hub")
    port, home = hub.server_address[1], tmp_path / "home"
    home.mkdir()
    loaded, missing = run_python(SOURCE, port, home, "org/tiny", "org/none").splitlines()
    assert loaded.startswith("(<PretrainedModel ") and loaded.endswith(", 'mean')") and str(home) in loaded
    assert missing.startswith("the hub has no model org/none that may be read here")
    assert not any(path.endswith((".onnx", ".h5")) for path in hub.asked)
    hub.shutdown()
    hub.server_close()
    # A folder that is called so wins, though the cache has one of the hub.
    tiny_bert_folder(str(home / "org" / "own"), num_hidden_layers=1)
    again, missing, own = run_python(SOURCE, port, home, "org/tiny", "org/none", "org/own").splitlines()
    assert again == loaded
    assert missing.startswith("org/none cannot be fetched") and "HF_ENDPOINT=https://hf-mirror.com" in missing
    assert own.startswith("<PretrainedModel org/own: bert, 1 layers")


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    for read in (load, SentenceEncoder.load):
        with pytest.raises(WeightsError) as caught:
            read("org/tiny")
        assert "pip install 'kexue-keras[hub]'" in str(caught.value) and "\n" not in str(caught.value)
    for name in ("./org/tiny", "/org/tiny", "org", "a/b/c", "org/..", "org\\x"):
        assert not _download.is_hub_name(name)
