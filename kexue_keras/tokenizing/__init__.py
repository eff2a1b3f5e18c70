"""bert4keras' tokenizers: full-width characters, places of tokens, and tokenizers as files; nothing here needs TensorFlow."""
