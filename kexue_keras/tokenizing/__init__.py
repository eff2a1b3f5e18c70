"""bert4keras' tokenizers: full-width characters, and tokenizers as files; nothing here needs TensorFlow."""
