"""A graph and a session of its own for each model that is measured, so that models can run in turn in one process."""


class Side(object):
    """Entered, its graph and session are the present ones.

    Args:
        threads: how many TensorFlow may use; None leaves it to TensorFlow.
    """

    def __init__(self, threads=None):
        import tensorflow as tf

        from kexue_keras.backend import tf1

        self.graph = tf.Graph()
        count = threads or 0
        options = tf1.ConfigProto(intra_op_parallelism_threads=count, inter_op_parallelism_threads=count)
        self.session = tf1.Session(graph=self.graph, config=options)

    def __enter__(self):
        self.contexts = [self.graph.as_default(), self.session.as_default()]
        for context in self.contexts:
            context.__enter__()
        return self

    def __exit__(self, *error):
        for context in reversed(self.contexts):
            context.__exit__(*error)
