"""bert4keras model classes and loaders."""
