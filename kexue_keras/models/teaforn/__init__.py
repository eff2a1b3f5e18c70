"""Teacher forcing with N-grams: a model that goes on reading what it wrote itself, a few steps far."""

from kexue_keras.models.teaforn._build import build_teaforn_model
