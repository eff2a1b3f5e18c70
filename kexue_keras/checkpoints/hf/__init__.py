"""Folders of Hugging Face's library: names of weights, config.json, both directions."""
