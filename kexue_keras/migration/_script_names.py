"""What the names of a script mean, by its imports: `K.eval` is `keras.backend.eval`. Nothing is executed."""

import ast

# The same module by its other names; the longer ones first.
SAME = [
    ("bert4keras.backend.keras", "keras"),
    ("bert4keras.backend.K", "keras.backend"),
    ("tensorflow.compat.v1.keras", "keras"),
    ("tensorflow.python.keras", "keras"),
    ("tensorflow.keras", "keras"),
    ("tensorflow.compat.v1", "tensorflow"),
    ("tf_keras", "keras"),
]


def canonical(path):
    """A dotted name by the one of its names that faults are listed under.

    >>> canonical('bert4keras.backend.K.eval')
    'keras.backend.eval'
    """
    for other, usual in SAME:
        if path == other or path.startswith(other + "."):
            return usual + path[len(other) :]
    return path


class ScriptNames(object):
    """Names of a script as dotted paths.

    Args:
        tree: of `ast.parse`.
        known: set of dotted paths; `from module import *` is taken to bring those of them that the module has.
    """

    def __init__(self, tree, known):
        self.imported, stars = {}, []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    path = alias.name if alias.asname else alias.name.split(".")[0]
                    self.imported[alias.asname or path] = path
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                stars += [node.module for alias in node.names if alias.name == "*"]
                for alias in node.names:
                    if alias.name != "*":
                        self.imported[alias.asname or alias.name] = node.module + "." + alias.name
        for module in stars:
            for path in known:
                parent, _, name = path.rpartition(".")
                if parent == canonical(module):
                    self.imported.setdefault(name, path)
            if module == "bert4keras.backend":
                self.imported.setdefault("K", "keras.backend")
                self.imported.setdefault("keras", "keras")
        defined = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
        # What a script defines itself hides what it imports under the same name.
        self.own = {node.name for node in ast.walk(tree) if isinstance(node, defined)}

    def path(self, node):
        """Dotted path of an expression, '' if it is none of an import."""
        if isinstance(node, ast.Name):
            return canonical(self.imported[node.id]) if node.id in self.imported and node.id not in self.own else ""
        if isinstance(node, ast.Attribute):
            before = self.path(node.value)
            return canonical(before + "." + node.attr) if before else ""
        return ""

    def is_builtin(self, name):
        return name not in self.imported and name not in self.own
