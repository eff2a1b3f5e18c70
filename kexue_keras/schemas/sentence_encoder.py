"""sentence_encoder.json: how a saved `SentenceEncoder` makes vectors of texts."""

from kexue_keras.schemas.reading import Settings
from kexue_keras.schemas.words import FLAG, POSITIONS, keys, list_of, one_of, whole


def sentence_encoder_settings(poolings):
    """The `Settings` of sentence_encoder.json.

    Args:
        poolings: names of the poolings there are.
    """
    return Settings(
        keys(
            {
                "pooling": one_of(*poolings),
                "max_length": whole(2, POSITIONS),
                "whitening": FLAG,
                "normalize": FLAG,
                "dense": list_of(one_of("linear", "tanh", "relu", "sigmoid"), 1, 20),
            },
            ("pooling", "max_length", "whitening"),
        ),
        remedy="Save the encoder again.",
    )
