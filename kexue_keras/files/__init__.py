"""What the package needs of the file system and TensorFlow lacks: paths of any kind, folders, files that are whole."""
