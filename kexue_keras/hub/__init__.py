"""Model folders of the hub: fetched by their names, known by name, described by a card."""

from kexue_keras.hub._download import fetch
from kexue_keras.hub._model_card import model_card
from kexue_keras.hub._presets import Preset
from kexue_keras.hub._presets import presets
