"""`fetch`: the folder of a model of the hub, in huggingface_hub's cache; a second time it works without network.

The library is an extra and is imported when a name is asked for. It reads HF_ENDPOINT (a mirror), HF_HOME, HF_TOKEN and
HF_HUB_OFFLINE itself.
"""

import fnmatch
import os
import re
from typing import Optional

from kexue_keras.errors import WeightsError, shorten

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}\Z")
# What is read here; pictures, ONNX and other libraries' weights are left. Small modules may have weights of the old
# kind beside a transformer that has new ones.
TEXTS = ["*.json", "*.txt", "*.model", "README.md", "*_Dense/pytorch_model.bin"]
WEIGHTS = ["*.safetensors", "*.ckpt*", "*.index", "*.data-*"]
# The same weights once more, which are fetched where there are no others.
OLD_WEIGHTS = ["*pytorch_model*.bin"]
LEFT = ["onnx/*", "openvino/*", "*.onnx", "*.msgpack", "*.h5", "*.ot"]
_INSTALL = "it takes huggingface_hub: pip install 'kexue-keras[hub]'"
_REMEDY = (
    "where huggingface.co is out of reach, HF_ENDPOINT=https://hf-mirror.com (set before Python starts) names a "
    "mirror; or fetch the folder elsewhere and give its path"
)
_fetched = {}


def is_hub_name(text):
    """Whether a text can be the name of a model of the hub, and is no path that exists.

    >>> is_hub_name('hfl/chinese-macbert-base'), is_hub_name('me5-zh-sp'), is_hub_name('./a/b')
    (True, False, False)
    """
    return bool(NAME.match(text)) and ".." not in text and not os.path.lexists(text)


def fetch(name: str, *, revision: Optional[str] = None) -> str:
    """The folder of a model of the hub, fetched if need be; a process asks the hub once per name.

    Args:
        name: 'organisation/model'.
        revision: branch, tag or commit; None: the newest.

    Returns:
        str, a folder in the library's cache.

    Raises:
        WeightsError: huggingface_hub is not installed, there is no such model, or it is not in the cache and the hub
            cannot be reached; the message says what to do.
    """
    if (name, revision) not in _fetched:
        _fetched[name, revision] = _fetch(name, revision)
    return _fetched[name, revision]


def fetched(name):
    """The folder of a model that this process has fetched, or None."""
    return _fetched.get((name, None))


def _fetch(name, revision):
    try:
        import huggingface_hub
        from huggingface_hub.utils import RepositoryNotFoundError, RevisionNotFoundError
    except ImportError:
        raise WeightsError("no folder %s is here; for a model of the hub of that name %s" % (name, _INSTALL))

    def snapshot(patterns, **how):
        return huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=patterns, ignore_patterns=LEFT, **how
        )

    try:
        folder = snapshot(TEXTS + WEIGHTS)
        if not _has(folder, WEIGHTS):
            folder = snapshot(TEXTS + OLD_WEIGHTS)
        return folder
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise WeightsError(
            "the hub has no model %s%s that may be read here (private ones take HF_TOKEN): %s"
            % (name, "" if revision is None else " of revision %s" % revision, _short(error))
        )
    except Exception as error:  # of requests, httpx, urllib3, the file system, ...: the library lets them through
        reason = error
    try:
        folder = snapshot(TEXTS + WEIGHTS + OLD_WEIGHTS, local_files_only=True)
    except Exception:  # nothing of that name in the cache
        raise WeightsError("%s cannot be fetched (%s), and is not in the cache; %s" % (name, _short(reason), _REMEDY))
    if not _has(folder, WEIGHTS + OLD_WEIGHTS):
        raise WeightsError(
            "%s cannot be fetched (%s), and the cache has only part of it; %s" % (name, _short(reason), _REMEDY)
        )
    return folder


def _has(folder, patterns):
    names = (file for _, _, files in os.walk(folder) for file in files)
    return any(fnmatch.fnmatch(file, pattern) for file in names for pattern in patterns)


def _short(error):
    """An error of the library on one line; theirs have paragraphs."""
    text = " ".join(str(error).split())
    return shorten("%s: %s" % (type(error).__name__, text) if text else type(error).__name__, 120)
