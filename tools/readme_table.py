"""Write the table of techniques, as `kexue_keras.catalogue` knows it, into both READMEs (`make readme`)."""

import os

from kexue_keras import catalogue

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BEGIN, END = "<!-- techniques -->", "<!-- end of techniques -->"


def main():
    """Replace what stands between the two marks."""
    for name in ("README.md", "README.zh-CN.md"):
        path = os.path.join(ROOT, name)
        with open(path, encoding="utf-8") as handle:
            before, rest = handle.read().split(BEGIN)
        after = rest.split(END)[1]
        with open(path, "w", encoding="utf-8") as handle:
            handle.write(before + BEGIN + "\n" + catalogue.markdown_table() + "\n" + END + after)


if __name__ == "__main__":
    main()
