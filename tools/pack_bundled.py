"""Pack what training changed in a bundled model: a file of kexue_keras/assets.

    python tools/pack_bundled.py me5-zh-char-mlm RUN/model
    python tools/pack_bundled.py roformer-sim-zh-small RUN/model --bits 3

The second argument is a model folder in either format; what is written is the difference to the bundled model that the
first began from, and whole what that lacks. Prints the size and the largest error; measure the model before you ship
it (`python benchmarks/bundled_models.py`).
"""

import argparse
import os
import sys

import numpy as np

from kexue_keras.checkpoints._bundled import ASSETS, BUNDLED, bundled_variables
from kexue_keras.checkpoints._bundled_changes import pack_changes, unpack_changes
from kexue_keras.checkpoints._load import read_folder
from kexue_keras.models._rotary import ROTARY_TABLE

TRAINED = sorted(name for name, model in BUNDLED.items() if model.changes)
SHIPPED = ("bert/embeddings", "bert/encoder", "bert/pooler", "cls/predictions")


def pack(name, folder, out, *, bits=4, head_bits=8):
    """Write the packed file; returns the lines to print.

    Args:
        name: of a bundled model with changes.
        folder: as `models.save` writes it, in either format.
        out: the .npz to write.
        bits, head_bits: see `pack_changes`.
    """
    _, _, trained, _ = read_folder(folder)
    # The table of rotary positions is computed, exactly, where there is none.
    trained = {key: trained[key] for key in trained if key.startswith(SHIPPED) and key != ROTARY_TABLE}
    base = bundled_variables(BUNDLED[name].base)
    base = {key: value for key, value in base.items() if key not in BUNDLED[name].without}
    changes = pack_changes(trained, base, bits=bits, head_bits=head_bits)
    unpacked = unpack_changes(changes)
    np.savez_compressed(out, **changes)
    lines = ["%s: %d arrays, %.2f MB" % (out, len(changes), os.path.getsize(out) / 1e6)]
    errors = []
    for key, change in unpacked.items():
        exact = trained[key] - base.get(key, 0)
        error = np.abs(change - exact)
        relative = np.sqrt(np.mean(error**2) / max(np.mean(np.square(trained[key])), 1e-30))
        errors.append((error.max(), relative, key))
    worst = max(errors)
    lines.append("largest error %.3g, in %s" % (worst[0], worst[2]))
    worst = max(errors, key=lambda row: row[1])
    lines.append("largest relative error (root mean square) %.2f%%, in %s" % (100 * worst[1], worst[2]))
    return lines


def main(argv=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=TRAINED)
    parser.add_argument("folder", help="RUN/model")
    parser.add_argument("--out", metavar="OUT.npz", help="(its file in kexue_keras/assets)")
    parser.add_argument("--bits", type=int, choices=(3, 4, 8), default=4, help="of differences (%(default)s)")
    parser.add_argument("--head-bits", type=int, choices=(4, 8), default=8, help="of what is new (%(default)s)")
    options = parser.parse_args(argv)
    out = options.out or os.path.join(ASSETS, BUNDLED[options.name].changes)
    print("\n".join(pack(options.name, options.folder, out, bits=options.bits, head_bits=options.head_bits)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
