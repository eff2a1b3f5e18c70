"""Pages that need nothing but themselves: tokens in colours, and attention to click through."""

import base64
import html
import json

import numpy as np

from kexue_keras.files import atomic
from kexue_keras.pictures._tokens import spoken

_PAGE = """<!DOCTYPE html>
<html lang="zh"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>%(title)s</title>
<style>
:root { color-scheme: light dark; }
body {
  font: 16px/1.7 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
  margin: 2em auto; max-width: 60em; padding: 0 1em;
}
.t { border-radius: 3px; padding: 1px 2px; margin: 0 1px; white-space: pre; }
.text { margin: 0 0 2em; }
.facts { color: gray; font-size: .85em; }
canvas { image-rendering: pixelated; width: 100%%; max-width: 40em; border: 1px solid #8888; }
</style></head><body>
%(body)s
</body></html>
"""

_ATTENTION = """<p><label>layer <select id="layer"></select></label> <label>head <select id="head"></select></label></p>
<p class="facts">Point at a token: the darker another one, the more it looks there.
The matrix has a row for each token that looks.</p>
<p id="tokens"></p>
<canvas id="matrix"></canvas>
<script>
const tokens = %(tokens)s, names = %(names)s, maps = %(maps)s, heads = %(heads)s, n = tokens.length;
const layer = document.getElementById("layer"), head = document.getElementById("head");
const place = document.getElementById("tokens"), canvas = document.getElementById("matrix");
names.forEach((name, i) => layer.add(new Option(name, i)));
layer.value = names.length - 1;
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const spans = tokens.map((token, i) => {
  const span = document.createElement("span");
  span.className = "t"; span.textContent = token;
  span.addEventListener("mouseenter", () => look(i));
  place.appendChild(span); return span;
});
let values;
function weight(h, i, j) {
  if (h >= 0) return values[(h * n + i) * n + j] / 255;
  let sum = 0; for (let k = 0; k < heads[layer.value]; k++) sum += weight(k, i, j);
  return sum / heads[layer.value];
}
function look(i) {
  spans.forEach((span, j) => {
    span.style.background = "rgba(30, 100, 220, " + weight(+head.value, i, j) + ")";
    span.style.outline = i === j ? "1px solid gray" : "";
  });
}
function draw() {
  canvas.width = canvas.height = n;
  const context = canvas.getContext("2d");
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
    context.fillStyle = "rgba(30, 100, 220, " + weight(+head.value, i, j) + ")";
    context.clearRect(j, i, 1, 1); context.fillRect(j, i, 1, 1);
  }
  look(0);
}
function choose() {
  values = bytes(maps[layer.value]);
  head.length = 0; head.add(new Option("mean", -1));
  for (let k = 0; k < heads[layer.value]; k++) head.add(new Option(k, k));
  draw();
}
layer.addEventListener("change", choose); head.addEventListener("change", draw);
choose();
</script>"""


def write_attributions_page(path, found):
    """The tokens of texts on a ground that is red where they speak for the label, and blue where against it.

    Args:
        path: file.
        found: list of `Attributions`.
    """
    body = []
    for one in found:
        most = max(np.abs(one.scores).max(), 1e-12)
        body.append(
            "<p><b>%s</b> <span class=facts>p = %.3f, log-odds %+.2f, without the words %+.2f</span></p>"
            % (html.escape(str(one.label)), one.probability, one.log_odds, one.baseline_log_odds)
        )
        body.append('<p class="text">%s</p>' % "".join(_coloured(*pair, most) for pair in zip(one.tokens, one.scores)))
    _write(path, "attributions", "\n".join(body))


def _coloured(token, score, most):
    colour = "220, 50, 40" if score > 0 else "40, 90, 220"
    return '<span class="t" style="background: rgba(%s, %.3f)" title="%+.3f">%s</span>' % (
        colour,
        abs(score) / most,
        score,
        html.escape(spoken(token)),
    )


def write_attention_page(path, tokens, names, weights):
    """The attention of all layers and heads, in 8 bits.

    Args:
        path: file.
        tokens: list of str.
        names: list of str, of the layers.
        weights: list of `[h, n, n]`, between 0 and 1.
    """
    maps = [np.rint(np.clip(one, 0, 1) * 255).astype("uint8").tobytes() for one in weights]
    body = _ATTENTION % {
        "tokens": _for_script([spoken(token) for token in tokens]),
        "names": _for_script(names),
        "maps": _for_script([base64.b64encode(one).decode("ascii") for one in maps]),
        "heads": _for_script([len(one) for one in weights]),
    }
    _write(path, "attention", body)


def _for_script(value):
    # A text may hold "</script>".
    return json.dumps(value, ensure_ascii=True).replace("<", "\\u003c")


def _write(path, title, body):
    with atomic(path, "w") as handle:
        handle.write(_PAGE % {"title": title, "body": body})
