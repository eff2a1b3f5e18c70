"""Faults of a script by its names, however they are imported; what is not a fault; what is no script; nothing runs."""

import os
import re

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from kexue_keras.errors import UserError
from kexue_keras.migration import _faults as faults
from kexue_keras.migration import check_script
from kexue_keras.migration._script_names import canonical


@pytest.fixture
def check(tmp_path):
    """[(line, name), ...] of a source."""

    def check(source):
        path = tmp_path / "script.py"
        path.write_text(source, encoding="utf-8")
        return [(found.line, found.name) for found in check_script(str(path))]

    return check


FOUND = """
from bert4keras.optimizers import Adam, extend_with_lookahead as look; A = look(Adam)
> Adam extend_with_lookahead
import bert4keras.optimizers as o; x = o.extend_with_gradient_accumulation_v2(o.Base)
> extend_with_gradient_accumulation_v2
import bert4keras.optimizers; bert4keras.optimizers.LionV2()
> LionV2
from bert4keras.backend import *; loss = sparse_multilabel_categorical_crossentropy
> sparse_multilabel_categorical_crossentropy
from bert4keras.backend import K; K.set_infinity(1e4)
> set_infinity
from bert4keras.backend import keras; keras.optimizers.Nadam()
> Nadam
from keras.optimizers import Adam; from bert4keras.optimizers import extend_with_layer_adaptation as e; W = e(Adam)
> Adam extend_with_layer_adaptation
from tensorflow.keras.optimizers import Adam; from bert4keras.optimizers import extend_with_lookahead as e; L = e(Adam)
> extend_with_lookahead extend_with_lookahead
import keras; model.compile('adam', 'mse'); model.compile(loss='mse', optimizer='Adamax')
> 'adam' 'Adamax'
build(autoresize_weights=True)
> autoresize_weights
import os; os.environ['RECOMPUTE'] = '1'; import bert4keras
> RECOMPUTE
import os; os.environ.setdefault('RECOMPUTE', '1')
> RECOMPUTE
import os; os.environ.update(TF_ENABLE_AUTO_MIXED_PRECISION='1')
> TF_ENABLE_AUTO_MIXED_PRECISION
import os, bert4keras.models\\nos.environ['TF_KERAS'] = '1'
> TF_KERAS
b = build_transformer_model(model='mt5.1.1'); encoder, decoder = b.encoder, b.decoder
> decoder
import tensorflow as tf; tf.compat.v1.train.experimental.enable_mixed_precision_graph_rewrite(o)
> enable_mixed_precision_graph_rewrite
import tensorflow as tf; s = tf.distribute.MirroredStrategy()
> MirroredStrategy
from keras.models import load_model; m = load_model('a.h5')
> load_model
print(eval(open('a').read()))
> eval
"""


@pytest.mark.parametrize("source, found", re.findall("(.*)\n> (.*)", FOUND))
def test_found(check, source, found):
    assert sorted(name for _, name in check(source.replace("\\n", "\n"))) == sorted(found.split())


@pytest.mark.parametrize(
    "source",
    [
        "from tensorflow.keras.optimizers import Adam\nAdam()",  # that one does not race
        "import os\nos.environ['TF_KERAS'] = '1'\nfrom bert4keras.optimizers import Adam\nAdam()",
        "from bert4keras.optimizers import Adam",  # not used
        "from mine import Adam\nAdam()",
        "from bert4keras.optimizers import *\ndef extend_with_lookahead(x): pass\nextend_with_lookahead(1)",
        "build(autoresize_weights=False)",
        "import os\nos.environ['RECOMPUTE'] = '0'\nimport bert4keras",
        "eval('1 + 1')",
        "K.eval(x)\nmodel.eval()",
        "def eval(x): pass\neval(y)",
        "import kexue_keras\nfrom keras.models import load_model\nload_model('a.h5')",
        "from bert4keras.layers import Loss\nfrom keras.models import load_model\nload_model('a.h5')",
        "tokenizer.decoder",
        "# extend_with_lookahead(Adam), eval(x)\n'RECOMPUTE'",
        "",
    ],
)
def test_not_found(check, source):
    assert check(source) == []


def test_lines_and_what_is_said(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("from bert4keras.optimizers import extend_with_lookahead\n\n\nX = extend_with_lookahead(Y)\n")
    (found,) = check_script(str(path))
    assert found.line == 4 and "start at zero" in found.fault and "Lookahead(AdamW" in found.instead
    assert found[2:] == tuple(faults.LOOKAHEAD)


def test_nothing_is_executed(check, tmp_path):
    source = "open(%r, 'w')\nimport no_such_module\nraise SystemExit\neval(x)" % str(tmp_path / "made")
    assert check(source) == [(4, "eval")] and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "data, message",
    [
        (b"print 'Python 2'", "is no Python 3 .line 1."),
        (b"x = '\xff'", "is no Python"),
        (b"x = 1\0", "is no Python"),
        (b"(" * 5000, "is no Python"),
    ],
)
def test_no_script(tmp_path, data, message):
    path = tmp_path / "script.py"
    path.write_bytes(data)
    with pytest.raises(UserError, match="script.py.*" + message):
        check_script(str(path))
    with pytest.raises(UserError, match="none.py.*No such file"):
        check_script(str(tmp_path / "none.py"))
    with pytest.raises(UserError, match="directory"):
        check_script(str(tmp_path))


@given(st.text(alphabet="abKe.()=, \n'[]:x1", max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "script.py"
    path.write_text("from bert4keras.backend import *\n" + text, encoding="utf-8")
    try:
        assert isinstance(check_script(str(path)), list)
    except UserError as error:
        assert "is no Python" in str(error)


def every_fault():
    return sorted({value for value in vars(faults).values() if isinstance(value, faults.Fault)})


@pytest.mark.parametrize("fault", every_fault(), ids=lambda fault: fault.instead[:30])
def test_each_fault_has_a_page_and_names_what_there_is(fault):
    import kexue_keras

    assert os.path.exists(os.path.join(ROOT, "docs", fault.page))
    first = fault.instead.split("(")[0].split(",")[0]
    room = first.split(".")[0]
    if hasattr(kexue_keras, room):
        found = kexue_keras
        for name in first.split("."):
            found = getattr(found, name)


def test_the_same_module_by_other_names():
    assert canonical("tensorflow.keras.backend.eval") == "keras.backend.eval"
    assert canonical("bert4keras.backend.Kernel") == "bert4keras.backend.Kernel"
