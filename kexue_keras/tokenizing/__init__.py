"""bert4keras' tokenizers: full-width characters, places of tokens, as files; nothing here needs TensorFlow."""
