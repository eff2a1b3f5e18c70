"""The files that a run reads, and by what a resumed run knows that they are still the same."""

import os
import zlib

from kexue_keras.checkpoints._bundled import BUNDLED
from kexue_keras.errors import UserError
from kexue_keras.files.paths import matching

# What decides how texts become numbers and how the model is built; its weights are in every checkpoint.
MODEL_FILES = ("*.json", "vocab*.txt", "*.model", "*.gin")


def fingerprint(path):
    """Size and CRC-32 of a file.

    Raises:
        UserError: it cannot be read.
    """
    checksum = 0
    try:
        with open(path, "rb") as handle:
            for block in iter(lambda: handle.read(1 << 20), b""):
                checksum = zlib.crc32(block, checksum)
            return "%d bytes, crc32 %08x" % (handle.tell(), checksum)
    except FileNotFoundError:
        raise UserError("no such file", path=path)
    except OSError as error:
        raise UserError("cannot be read: %s" % error.strerror, path=path)


def fingerprints(files, model=None):
    """What config.json says of the files that a run reads.

    Args:
        files: dict name -> path or None; what is no file is left out ('balanced').
        model: folder, or the name of a bundled model.

    Returns:
        dict name -> `fingerprint`; files of the model as 'model/vocab.txt'.
    """
    found = {name: fingerprint(path) for name, path in files.items() if path and os.path.isfile(path)}
    for path in model_files(model):
        found["model/" + os.path.basename(path)] = fingerprint(path)
    return found


def model_files(model):
    """Paths of the files of a model folder that are not weights."""
    if not model or model in BUNDLED or not os.path.isdir(model):
        return []
    found = matching(os.fspath(model), *MODEL_FILES)
    return sorted({path for path in found if os.path.isfile(path) and not path.endswith(".index.json")})


def check_fingerprints(known, files, model=None):
    """Refuse to resume with files other than those the run started with.

    Args:
        known: what `fingerprints` gave then.
        files, model: see `fingerprints`.

    Raises:
        UserError: a file has changed, has gone, or is new in the model's folder.
    """
    here = {"model/" + os.path.basename(path): path for path in model_files(model)}
    for name, before in sorted(known.items()):
        path = files.get(name) or here.get(name) or os.path.join(str(model), name[len("model/") :])
        if not os.path.isfile(path):
            raise UserError("--resume: no such file any more; the run began with it", path=path)
        if fingerprint(path) != before:
            raise UserError("--resume: the file has changed since the run began", path=path)
    new = sorted(set(here) - set(known))
    # Runs of earlier versions know nothing of the model's files.
    if new and any(name.startswith("model/") for name in known):
        raise UserError("--resume: the file was not there when the run began", path=here[new[0]])


def check_readable_again(files):
    """Refuse standard input, pipes and devices, which can be read only once.

    Args:
        files: dict option -> path or None.

    Raises:
        UserError: with what to do.
    """
    for name, path in files.items():
        if path and "\0" in path:
            raise UserError(
                "--%s is %r, no name of a file: it has a NUL character in it" % (name.replace("_", "-"), path)
            )
        piped = path and os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
        if path == "-" or piped:
            raise UserError(
                "--%s: this can be read only once (standard input, a pipe or a device), but --resume reads it again; "
                "write it to a file first" % name.replace("_", "-"),
                path="standard input" if path == "-" else path,
            )
