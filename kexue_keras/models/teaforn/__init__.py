"""Teacher forcing with N-grams: a model that continues from its own output for a few steps."""

from kexue_keras.models.teaforn._build import build_teaforn_model
