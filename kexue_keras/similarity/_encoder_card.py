"""The model card of a saved `SentenceEncoder`."""

import os

from kexue_keras.hub._model_card import licence_of, model_card, shown_model, write_card

_USAGE = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("PATH OR NAME OF THIS FOLDER")
vectors = model.encode(["今天天气不错", "我想买一本书"])

# or, with Keras
from kexue_keras.similarity import SentenceEncoder

encoder = SentenceEncoder.load("PATH OR NAME OF THIS FOLDER")
vectors = encoder.encode(["今天天气不错", "我想买一本书"])"""


def write_encoder_card(folder, encoder):
    """Write README.md into the folder of an encoder."""
    name, pretrained = shown_model(encoder.pretrained.name), encoder.pretrained
    size = encoder.model.output_shape[-1]
    if encoder.whitening is not None:
        size = encoder.whitening.kernel.shape[1]
    facts = {
        "from": name,
        "kind of model": pretrained.kind if isinstance(pretrained.kind, str) else pretrained.kind.__name__,
        "layers": pretrained.config["num_hidden_layers"],
        "tokens of the vocabulary": pretrained.config["vocab_size"],
        "numbers a vector": size,
        "pooling": encoder.pooling,
        "longest text in tokens": encoder.max_length,
        "vectors have length 1": "yes" if encoder.normalize else "no",
    }
    about = (
        "Sentence vectors of Chinese texts: %d numbers per text; the cosine of two says how similar the texts are."
        % size
    )
    licence = licence_of(pretrained.name)
    text = model_card(
        "sentence vectors from %s" % os.path.basename(name),
        about=about,
        usage=_USAGE,
        facts=facts,
        licence=licence,
        base_model=pretrained.name,
        pipeline_tag="sentence-similarity",
        library_name="sentence-transformers",
        tags=["sentence-transformers", "sentence-similarity", "feature-extraction"],
    )
    write_card(folder, text)
