"""200 ways to change a settings file, from a seed, and what a reader may say to them."""

import copy
import json
import os

import numpy as np

from kexue_keras.errors import UserError, WeightsError

OF_OTHER_TYPES = ["12", "false", "", "x" * 3000, None, True, False, [], [1], ["a", "a"], {}, {"a": {"b": 1}}, 0.5]
OF_OTHER_SIZES = [-1, -8, 0, 10**6 + 1, 10**9 + 1, 10**15, 1e300, -(10**350), 1.5]
HOSTILE = ["\x1b[31mred\x1b[0m", "a\nb\r\x00c", "\u202eabc", "../../../etc/passwd", "/dev/zero", "很" * 50]
# What `build_transformer_model` takes, and must never get from a file.
UNKNOWN = {
    "checkpoint_path": "/no/such/checkpoint",
    "config_path": "/no/such/config",
    "model": "gpt2_ml",
    "return_keras_model": True,
    "application": "lm",
    "keep_tokens": [0, 1],
    "layers": {"Embedding-Token": 1},
    "prefix": "x",
    "name": 7,
    "sequence_length": -1,
    "with_mlm": "nonsense",
    "what": {"is": ["this"]},
}
DEEP = b"[" * 100000


def edits(value, seed, count=200):
    """`count` changed files, (what was done, bytes); those that are no JSON come first, always the same ones."""
    random = np.random.RandomState(seed)
    text = json.dumps(value, ensure_ascii=False).encode("utf-8")
    made = [
        ("empty", b""),
        ("blanks", b" \n"),
        ("byte order mark", b"\xef\xbb\xbf" + text),
        ("UTF-16", text.decode("utf-8").encode("utf-16")),
        ("not UTF-8", text.replace(b"{", b'{"\xc4\xe3": 1,', 1)),
        ("zeros", b"\0" * 100),
        ("more behind it", text + b"}"),
        ("a list", b"[%s]" % text),
        ("a string", json.dumps("text").encode()),
        ("null", b"null"),
        ("deep list", DEEP),
        ("deep object", b'{"a":' * 100000),
        ("deep key", text.replace(b"{", b'{"deep": %s,' % (b"[" * 500 + b"]" * 500), 1)),
        ("many digits", text.replace(b"{", b'{"digits": %s,' % (b"9" * 10**6), 1)),
    ]
    made += [("cut at %d" % n, text[:n]) for n in random.randint(1, len(text), 8)]
    places = list(_places(value))
    for path in places:
        made.append(("key twice", _raw(value, path, b'1, "%s": 2' % str(path[-1]).encode("utf-8"))))
        made += [("%s at %s" % (raw, path), _raw(value, path, raw)) for raw in (b"NaN", b"-Infinity", b"1e999")]
    more = [("without %s" % (path,), _dump(_without(value, path))) for path in places]
    for path in places:
        for new in OF_OTHER_TYPES + OF_OTHER_SIZES + HOSTILE:
            more.append(("%.60r at %s" % (new, path), _dump(_with(value, path, new))))
        more.append(("half a character at %s" % (path,), _raw(value, path, b'"\\ud83d"')))
    if isinstance(value, dict):
        more += [
            ("unknown %s" % key, _dump(dict(value, **{key: new}))) for key, new in UNKNOWN.items() if key not in value
        ]
    made = made[: count // 2]
    chosen = random.permutation(len(more))[: count - len(made)]
    return made + [more[i] for i in chosen]


def refusals(path, value, read, seed, count=200, name=None):
    """Read each changed file; returns what was accepted, after every error was seen to be a clear line about the file.

    Args:
        path: the file, written anew each time, and with `value` at the end.
        value: what it holds when it is right.
        read: function without arguments.
        seed, count: see `edits`.
        name: what every message names; None: the file.

    Returns:
        list of (what was done, result of `read`).
    """
    accepted = []
    read()
    for what, data in edits(value, seed, count):
        with open(str(path), "wb") as handle:
            handle.write(data)
        try:
            accepted.append((what, read()))
        except (UserError, WeightsError) as error:
            assert is_clear(str(error), name or os.path.basename(str(path))), (what, str(error))
        except Exception as error:
            raise AssertionError("%s: %s: %.300s" % (what, type(error).__name__, error)) from error
    with open(str(path), "wb") as handle:
        handle.write(_dump(value))
    read()
    assert len(accepted) < count * 2 // 3, "nothing was looked at"
    return accepted


def is_clear(message, name):
    """Whether a message is one line that can be printed, not too long, and names the file."""
    return message.isprintable() and len(message) < 1200 and name in message and message.rstrip(".") != name


def _dump(value):
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _places(value, path=()):
    """Paths of all entries; of long lists the first two."""
    entries = (
        value.items() if isinstance(value, dict) else list(enumerate(value))[:2] if isinstance(value, list) else ()
    )
    for key, part in entries:
        yield path + (key,)
        for below in _places(part, path + (key,)):
            yield below


def _with(value, path, new):
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return changed


def _without(value, path):
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return changed


def _raw(value, path, raw):
    """The file with something that `json.dumps` would not write at `path`."""
    return _dump(_with(value, path, "@RAW@")).replace(b'"@RAW@"', raw)
