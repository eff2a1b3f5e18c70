"""Write what of docs/ is made from something else, between the marks of its pages: `make docs-pages`.

docs/techniques.md from the catalogue, docs/benchmarks.md and docs/evidence.md from benchmarks/results, all in two
languages, and the pictures of docs/pictures/.

    python tools/docs_pages.py [--no-pictures]
    python tools/docs_pages.py --check              writes nothing; exit code 1 if a page is out of date
"""

import argparse
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools", "documentation"))

import benchmark_tables  # noqa: E402
import evidence_tables  # noqa: E402
import technique_cards  # noqa: E402

BEGIN, END = "<!-- made by tools/docs_pages.py -->", "<!-- end of what is made -->"
PAGES = {
    "docs/techniques.md": lambda: technique_cards.cards(technique_cards.ENGLISH),
    "docs/techniques.zh.md": lambda: technique_cards.cards(technique_cards.CHINESE),
    "docs/benchmarks.md": lambda: benchmark_tables.all_tables(benchmark_tables.ENGLISH),
    "docs/benchmarks.zh.md": lambda: benchmark_tables.all_tables(benchmark_tables.CHINESE),
    "docs/evidence.md": lambda: evidence_tables.tables(evidence_tables.ENGLISH),
    "docs/evidence.zh.md": lambda: evidence_tables.tables(evidence_tables.CHINESE),
}


def wanted(page):
    """(text of a page as it is, text as it should be)."""
    with open(os.path.join(ROOT, page), encoding="utf-8") as handle:
        text = handle.read()
    before, rest = text.split(BEGIN)
    return text, "%s%s\n\n%s\n%s%s" % (before, BEGIN, PAGES[page]().rstrip("\n") + "\n", END, rest.split(END)[1])


def main(arguments=None):
    """Write or check all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--no-pictures", action="store_true")
    options = parser.parse_args(arguments)
    stale = []
    for page in PAGES:
        text, right = wanted(page)
        if text != right:
            stale.append(page)
            if not options.check:
                with open(os.path.join(ROOT, page), "w", encoding="utf-8") as handle:
                    handle.write(right)
    print("%s: %s" % ("out of date" if options.check else "written", ", ".join(stale) or "nothing"))
    if not options.check and not options.no_pictures:
        import docs_pictures

        docs_pictures.draw_all()
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
