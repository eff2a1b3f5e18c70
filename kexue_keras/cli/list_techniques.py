"""`kexue-keras list`: the techniques, with article, names and documentation."""

import sys

from kexue_keras import catalogue


def run(options):
    """Print the techniques that contain a word; exit code 2 if there is none."""
    found = catalogue.search(options.search)
    shown = [t for t in found if options.all or catalogue.exists(t)]
    for t in shown:
        print("%3d  %s%s" % (t.number, t.title, "" if catalogue.exists(t) else "  (not there yet)"))
        links = ", ".join("https://kexue.fm/archives/%d" % number for number in t.articles)
        print("     %s" % " ".join(part for part in (t.chinese, links) if part))
        print("     %s" % ", ".join("kexue_keras." + name for name in t.names))
        print("     docs/%s" % t.docs)
    if not shown:
        hint = "; --all also looks at %d that are not there yet" % len(found) if found else ""
        print("kexue-keras list: nothing with %r%s" % (options.search, hint), file=sys.stderr)
        return 2
    return 0
