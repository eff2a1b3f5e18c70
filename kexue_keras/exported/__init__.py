"""Folders that `kexue-keras export` wrote: predicting with them takes onnxruntime (or TensorFlow alone), no Keras."""
