"""A fine-tuned model that labels texts, read from the folder of a run."""

import os

import numpy as np
import tensorflow as tf

import kexue_keras
from kexue_keras.backend import ModelSession, is_tf_keras, keras
from kexue_keras.data import BucketedBatches, UserError, encode
from kexue_keras.tasks.heads import HEADS
from kexue_keras.tasks.options import make_options
from kexue_keras.tasks.runs import RunFolder
from kexue_keras.tasks.saved_tokenizer import load_tokenizer


def surroundings():
    """Stack and versions, as config.json keeps them."""
    return {
        "stack": "tf.keras" if is_tf_keras else "keras",
        "versions": {
            "kexue_keras": kexue_keras.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


class Classifier(object):
    """A fine-tuned model that predicts, in any thread; `Classifier.load(run)` reads one from the folder of a run.

    Args:
        model: Keras model, token ids and segment ids to logits.
        tokenizer: bert4keras tokenizer.
        labels: list of label names.
        head: head of the task.
        options: namespace with length and batch_size.
        pairs: bool, whether it wants pairs of texts; None does not check.
    """

    def __init__(self, model, tokenizer, labels, head, options, pairs):
        self.model, self.tokenizer, self.labels, self.head = model, tokenizer, labels, head
        self.length, self.batch_size, self.pairs = options.length, options.batch_size, pairs
        self.truncated = 0
        self.session = ModelSession(model)

    @classmethod
    def load(cls, run):
        """Read a classifier from the folder of a finished run.

        Args:
            run: the folder, `out` of `finetune`.

        Returns:
            `Classifier`.

        Raises:
            UserError: no such run, or it is not finished.
        """
        folder = RunFolder(run)
        config = folder.config()
        if not os.path.exists(folder.file("model.h5")):
            raise UserError("the run is not finished (no model.h5); go on with finetune --resume", path=folder.path)
        try:
            model = keras.models.load_model(folder.file("model.h5"), compile=False)
        except Exception as error:
            made, mend = config["stack"], {"keras": "unset TF_KERAS", "tf.keras": "set TF_KERAS=1"}
            hint = (
                "" if made == surroundings()["stack"] else "; the run was made on the stack %s: %s" % (made, mend[made])
            )
            raise UserError("cannot be loaded (%s)%s" % (error, hint), path=folder.file("model.h5"))
        options = make_options(**config["options"])
        return cls(
            model, load_tokenizer(folder.path), config["labels"], HEADS[config["head"]], options, config["pairs"]
        )

    def encode(self, texts):
        """Token ids and segment ids; `self.truncated` then says how many texts were cut."""
        encoded, self.truncated = encode(self.tokenizer, texts, self.length)
        return encoded

    def logits(self, encoded):
        """Logits float32 `[N, C]` of encoded texts, in their order."""
        batches = BucketedBatches(encoded, batch_size=self.batch_size, maxlen=self.length)
        out = np.zeros((len(encoded), len(self.labels)), "float32")
        for indices in batches.in_length_order():
            out[indices] = self.session.predict_on_batch(self.model, batches.inputs(indices))
        return out

    def probabilities(self, texts):
        """Probability of each label.

        Args:
            texts: list of str, or of (str, str) for a model of pairs.

        Returns:
            float64 `[N, C]`, columns in the order of `self.labels`.
        """
        texts = list(texts)
        for i, text in enumerate(texts):
            if self.pairs is not None and isinstance(text, tuple) != self.pairs:
                wanted = "pairs (str, str)" if self.pairs else "single texts (str)"
                raise UserError("text %d is %r; this model takes %s" % (i + 1, text, wanted))
        if not texts:
            return np.zeros((0, len(self.labels)))
        return self.head.probabilities(self.logits(self.encode(texts)))

    def predict(self, texts):
        """The label of each text with its probability.

        Args:
            texts: list of str, or of (str, str) for a model of pairs.

        Returns:
            list of (label, probability); where texts have several labels, of (list of labels, list of probabilities).
        """
        return self.head.describe(self.probabilities(texts), self.labels)
