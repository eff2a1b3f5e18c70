"""A model card: the README.md of a folder, with the front matter that the hub reads; what is unknown is left out.

Reference: https://huggingface.co/docs/hub/model-cards.
"""

import json
import os
import re
from typing import Any, Dict, Optional, Sequence

from kexue_keras.errors import printable
from kexue_keras.files import atomic
from kexue_keras.hub._download import fetched
from kexue_keras.hub._presets import presets

README = "README.md"
MIT, APACHE = "mit", "apache-2.0"
_MOST = 2**20


def licence_of(model):
    """The licence of a model as the hub spells it: of a known name, or as the README.md of its folder says; else None.

    >>> licence_of('me5-zh-sp'), licence_of('hfl/chinese-macbert-base'), licence_of('/no/such/folder')
    ('mit', 'apache-2.0', None)
    """
    known = {one.name: one.licence for one in presets()}
    if model in known:
        return {"MIT": MIT, "Apache-2.0": APACHE}.get(known[model], "other")
    path = os.path.join(fetched(str(model)) or str(model), README)
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as handle:
        text = handle.read(_MOST).decode("utf-8", "replace")
    matter = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    found = matter and re.search(r"^license:\s*[\"']?([\w.+-]+)", matter.group(1), re.MULTILINE)
    return found.group(1) if found else None


def model_card(
    title: str,
    *,
    about: str,
    usage: str,
    language: str = "python",
    facts: Optional[Dict[str, Any]] = None,
    metrics: Optional[Sequence[Dict[str, Any]]] = None,
    licence: Optional[str] = None,
    base_model: Optional[str] = None,
    pipeline_tag: Optional[str] = None,
    library_name: str = "kexue-keras",
    tags: Sequence[str] = (),
) -> str:
    """The text of a model card.

    Args:
        title: name of the model.
        about: what it is, a paragraph.
        usage: code that loads it.
        language: of that code, 'python' or 'sh'.
        facts: name -> value, a table; values of None are left out.
        metrics: list of dicts: name, type (as the hub calls it), value, data (name of the file), part, and interval or
            None.
        licence: as the hub spells it; None: the card says that it is not known.
        base_model: name of the model that it was trained from; a path is not shown.
        pipeline_tag, library_name, tags: for the hub.

    Returns:
        str, Markdown with front matter.

    >>> print(model_card('demo', about='A demo.', usage='pass', licence='mit').split('---')[1].strip())
    language:
    - zh
    license: "mit"
    library_name: "kexue-keras"
    tags:
    - "kexue-keras"
    """
    metrics, base = list(metrics or ()), shown_model(base_model)
    matter = ["language:", "- zh"]
    if licence is not None:
        matter.append("license: %s" % _yaml(licence))
    matter.append("library_name: %s" % _yaml(library_name))
    if pipeline_tag is not None:
        matter.append("pipeline_tag: %s" % _yaml(pipeline_tag))
    if base is not None and "/" in base:
        matter.append("base_model: %s" % _yaml(base))
    matter += ["tags:"] + ["- %s" % _yaml(tag) for tag in dict.fromkeys(list(tags) + ["kexue-keras"])]
    if metrics:
        matter += ["metrics:"] + ["- %s" % _yaml(name) for name in dict.fromkeys(one["type"] for one in metrics)]
        matter += _model_index(title, pipeline_tag, metrics)
    lines = ["---"] + matter + ["---", "", "# %s" % _line(title), "", about]
    if metrics:
        lines += ["", "## Measured", "", "| data | part | metric | value |", "|---|---|---|---|"]
        for one in metrics:
            value = "%.4f" % one["value"]
            if one.get("interval"):
                value += " (95%% interval %.4f to %.4f)" % tuple(one["interval"])
            lines.append("| %s | %s | %s | %s |" % (_cell(one["data"]), one["part"], one["name"], value))
    known = {name: value for name, value in (facts or {}).items() if value is not None}
    if known:
        lines += ["", "## Facts", "", "| | |", "|---|---|"]
        lines += ["| %s | %s |" % (_cell(name), _cell(value)) for name, value in known.items()]
    lines += ["", "## How to load", "", "```%s" % language, usage, "```", "", "## Licence", "", _licence(licence, base)]
    return "\n".join(lines) + "\n"


def write_card(folder, text):
    """Write README.md into a folder; one that is there is replaced."""
    with atomic(os.path.join(folder, README), "w") as handle:
        handle.write(text)


def _licence(licence, base):
    if licence is None:
        return (
            "Not known here: that of the model it was trained from and that of the data decide. Write it down before "
            "you pass the model on."
        )
    return "`%s`%s. The licence of the data it was trained on may set other terms." % (
        _line(licence),
        "" if base is None else ", that of %s" % _line(base),
    )


def _model_index(title, task, metrics):
    lines = ["model-index:", "- name: %s" % _yaml(title), "  results:"]
    for data, part in dict.fromkeys((one["data"], one["part"]) for one in metrics):
        lines += ["  - task:", "      type: %s" % _yaml(task or "other"), "    dataset:"]
        # A file has no name on the hub.
        lines += ["      name: %s" % _yaml(data), "      type: %s" % _yaml(data), "      split: %s" % _yaml(part)]
        lines.append("    metrics:")
        for one in metrics:
            if (one["data"], one["part"]) == (data, part):
                lines += ["    - type: %s" % _yaml(one["type"]), "      value: %s" % json.dumps(float(one["value"]))]
                lines.append("      name: %s" % _yaml(one["name"]))
    return lines


def shown_model(model):
    """A name as it is; of a path its last part, since its location is private."""
    if model is None:
        return None
    model = str(model)
    known = {one.name for one in presets()}
    if model in known or not (os.path.isabs(model) or os.path.exists(model) or model.startswith(".")):
        return model
    return os.path.basename(os.path.normpath(model))


def _yaml(text):
    """A string of JSON is one of YAML."""
    return json.dumps(_line(text), ensure_ascii=False)


def _line(value):
    return printable(" ".join(str(value).split()))


def _cell(value):
    return _line(value).replace("|", "\\|")
