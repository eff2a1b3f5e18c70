"""What is said of a model when the techniques are laid round it."""

from kexue_keras.trainer import _wrapping
from kexue_keras.training.precision._fp16_lint import Finding


def test_what_half_precision_cannot_hold_is_told(monkeypatch):
    found = Finding("layer", "node", 1e-12, "underflow", ("Add",), True, "write 1e-7")
    monkeypatch.setattr(_wrapping, "fp16_lint", lambda model: [found, found._replace(half=False)])
    said = []
    _wrapping.say_half(None, said.append)
    assert said == ["note: half precision cannot hold a constant of the model: %s" % str(found)]
