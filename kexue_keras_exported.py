"""A model that `kexue-keras export` wrote, in a process without TensorFlow: `load(folder)`."""

from kexue_keras_launcher import light_package


def load(folder, *, threads=None):
    """Read an exported folder; one of format onnx or onnx-int8 takes onnxruntime and no TensorFlow.

    Args:
        folder: `--out` of `kexue-keras export`.
        threads: of a batch; None: one for each core.

    Returns:
        `ExportedModel`: `predict` of texts for labels, `encode` and `similarity` for vectors.

    Raises:
        UserError: no such folder, or a file in it that was changed.
    """
    with light_package():
        from kexue_keras.tokenizing.without_tensorflow import import_tokenizers

        import_tokenizers()
        from kexue_keras.exported.model import ExportedModel

        return ExportedModel(folder, threads=threads)
