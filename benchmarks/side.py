"""A graph and a session of its own for each model that is measured, so that models can run in turn in one process."""


class Side(object):
    """Entered, its graph and session are the present ones."""

    def __init__(self):
        import tensorflow as tf

        from kexue_keras.backend import tf1

        self.graph = tf.Graph()
        self.session = tf1.Session(graph=self.graph)

    def __enter__(self):
        self.contexts = [self.graph.as_default(), self.session.as_default()]
        for context in self.contexts:
            context.__enter__()
        return self

    def __exit__(self, *error):
        for context in reversed(self.contexts):
            context.__exit__(*error)
