"""Every technique of the catalogue has a page that the navigation and the index of techniques show."""

import importlib.util
import os

import repository


def techniques():
    """The list of kexue_keras.catalogue, without importing the package, which needs TensorFlow."""
    path = os.path.join(repository.ROOT, "kexue_keras", "catalogue", "_techniques.py")
    spec = importlib.util.spec_from_file_location("techniques", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TECHNIQUES


def faults(pages, listed):
    """What is wrong, as sentences.

    Args:
        pages: dict page -> text, at least those of docs/.
        listed: pages of the navigation.
    """
    index = pages.get("techniques.md", "")
    for technique in techniques():
        name = "technique %d (%s)" % (technique.number, technique.title)
        if technique.docs not in pages:
            yield "%s has no page docs/%s" % (name, technique.docs)
        elif technique.docs not in listed:
            yield "%s: docs/%s is not in the nav of mkdocs.yml" % (name, technique.docs)
        if "](%s)" % technique.docs not in index:
            yield "%s is not in docs/techniques.md; run tools/docs_pages.py" % name

