"""Make kexue_keras/assets/me5_zh_mlm.npz out of the folder that pretraining wrote (tools/pretrain_mlm_torch.py).

    python tools/pack_mlm.py RUN/model [OUT.npz] [--bits 4] [--head-bits 8]

Holds what differs from `me5-zh-char`: the trained layers, as differences, and the head. Prints the size and the
largest error; measure the accuracy with the packed model before you ship it.
"""

import argparse
import os
import sys

import numpy as np

from kexue_keras.checkpoints._bundled import ASSETS, BUNDLED, bundled_variables
from kexue_keras.checkpoints._bundled_changes import pack_changes, unpack_changes
from kexue_keras.checkpoints._load import read_folder

NAME, BASE = "me5-zh-char-mlm", "me5-zh-char"


def pack(folder, out, *, bits=4, head_bits=8):
    """Write the packed file; returns the lines to print.

    Args:
        folder: as `models.save` writes it, in either format.
        out: the .npz to write.
        bits, head_bits: see `pack_changes`.
    """
    _, _, trained, _ = read_folder(folder)
    trained = {name: trained[name] for name in trained if name.startswith(("bert/embed", "bert/enc", "cls/pred"))}
    base = bundled_variables(BASE)
    changes = pack_changes(trained, base, bits=bits, head_bits=head_bits)
    unpacked = unpack_changes(changes)
    np.savez_compressed(out, **changes)
    lines = ["%s: %d arrays, %.2f MB" % (out, len(changes), os.path.getsize(out) / 1e6)]
    errors = []
    for name, change in unpacked.items():
        exact = trained[name] - base.get(name, 0)
        error = np.abs(change - exact)
        relative = np.sqrt(np.mean(error**2) / max(np.mean(np.square(trained[name])), 1e-30))
        errors.append((error.max(), relative, name))
    worst = max(errors)
    lines.append("largest error %.3g, in %s" % (worst[0], worst[2]))
    worst = max(errors, key=lambda row: row[1])
    lines.append("largest relative error (root mean square) %.2f%%, in %s" % (100 * worst[1], worst[2]))
    return lines


def main(argv=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="RUN/model")
    parser.add_argument("out", nargs="?", default=os.path.join(ASSETS, BUNDLED[NAME].changes), help="(%(default)s)")
    parser.add_argument("--bits", type=int, choices=(4, 8), default=4, help="of differences (%(default)s)")
    parser.add_argument("--head-bits", type=int, choices=(4, 8), default=8, help="of the head (%(default)s)")
    options = parser.parse_args(argv)
    print("\n".join(pack(options.folder, options.out, bits=options.bits, head_bits=options.head_bits)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
