"""`export_model`: a run, or a pretrained encoder, as a folder that predicts without Keras."""

import os
from collections import namedtuple
from typing import Optional

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import scratch_graph, tf1
from kexue_keras.backend.inference_graph import inference_graph
from kexue_keras.data import BucketedBatches, encode
from kexue_keras.errors import UserError
from kexue_keras.export._onnx import write_onnx
from kexue_keras.exported.graphs import INPUTS, OUTPUT, PLACES, open_graph
from kexue_keras.files import check_target, whole_folder, write_json
from kexue_keras.finetune._open_encoder import open_encoder
from kexue_keras.finetune._run_folder import RunFolder, surroundings
from kexue_keras.finetune.classification._classifier import Classifier
from kexue_keras.losses import multilabel_probabilities
from kexue_keras.options.choices import EXPORT_FORMATS
from kexue_keras.plain_types import Path
from kexue_keras.schemas import EXPORTED
from kexue_keras.tokenizing.saved import save_tokenizer

# A graph of float32 that differs more from Keras' is a wrong one.
TOLERANCE = 1e-4
# Head of a run -> its probabilities from logits, as a tensor.
PROBABILITIES = {"single": tf.nn.softmax, "sigmoid": tf.sigmoid, "multi": multilabel_probabilities}

# What it is run on once; of two lengths, since a mask is where conversions go wrong.
SAMPLE = ["今天天气不错，我想去北京看看", "好"]
# Of a pretrained encoder; texts and score, as in STS-B.
VECTOR_COLUMNS = {"text": 0, "text_b": 1, "label": 2}

Exported = namedtuple("Exported", "format megabytes difference")


def export_model(
    source: Path,
    out: Path,
    *,
    format: str = "onnx",
    pooling: Optional[str] = None,
    max_length: Optional[int] = None,
    overwrite: bool = False,
) -> Exported:
    """Write a folder that predicts without Keras: `kexue_keras_exported.load`, `kexue-keras predict` and `serve`.

    The graph has no dropout and nothing of training. It is run once next to the model that it comes from.

    Args:
        source: run of `finetune` for labels or similarity, bundled name, or folder of an encoder.
        out: folder that does not exist or is empty.
        format: 'onnx' (onnxruntime), 'onnx-int8' (the same with int8 matrices: half of the size, about
            twice as fast on a CPU; docs/export.md has what the rounding costs), 'savedmodel' (TensorFlow).
        pooling: of an encoder that does not specify it; None: 'mean'.
        max_length: longest text of an encoder in tokens; None: its own, else 64.
        overwrite: bool, replace a folder that was exported before.

    Returns:
        `Exported`: format, megabytes, and the largest difference of its output from the model's.

    Raises:
        UserError: no such run or model, one that generates, a format whose packages are not installed, a tokenizer that
            no file can hold.
        WeightsError: there is something in `out` that is not to be replaced.
        ValueError: unknown format.
    """
    checks.choice(format, EXPORT_FORMATS, "format", "export_model")
    source = os.fspath(source)
    check_target(out, overwrite=overwrite, inputs=[source] if os.path.exists(source) else [])
    with scratch_graph(optimize=False) as session:
        model, output, facts = _opened(source, pooling, max_length)
        pairs = facts["pairs"] and facts["task"] == "classification"
        texts = [(text, text[:3]) for text in SAMPLE] if pairs else SAMPLE
        encoded, _ = encode(model.tokenizer, texts, model.max_length)
        arrays = BucketedBatches(encoded, batch_size=len(SAMPLE), max_length=model.max_length).inputs([0, 1])
        expected = session.run(output, dict(zip(model.model.inputs, arrays)))
        graph_def = inference_graph(model.model.inputs, output, INPUTS, plain_gelus=format != "savedmodel")
    with whole_folder(out, overwrite=overwrite) as folder:
        place = os.path.join(folder, PLACES[format])
        if format == "savedmodel":
            _write_saved_model(graph_def, place)
        else:
            write_onnx(graph_def, place, int8=format == "onnx-int8")
        save_tokenizer(model.tokenizer, folder)
        facts.update(format=format, source=source, versions=surroundings()["versions"])
        write_json(os.path.join(folder, EXPORTED), facts)
        difference = float(np.abs(open_graph(folder, format)(arrays) - expected).max())
        if format != "onnx-int8" and not difference <= TOLERANCE:
            raise UserError(
                "the exported graph gives other numbers than the model (by %.2g); it was not kept. Please report which "
                "model this is" % difference
            )
        bytes_written = sum(
            os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names
        )
    return Exported(format, bytes_written / 1e6, difference)


def _opened(source, pooling, max_length):
    """(Classifier or SentenceEncoder, tensor to export, contents of exported.json without format and versions)."""
    folder = RunFolder(source) if os.path.isdir(source) else None
    config = folder.config() if folder is not None and folder.is_run else None
    task = "similarity" if config is None else config["options"].get("task", "classification")
    if task == "classification":
        if pooling is not None or max_length is not None:
            raise UserError("--pooling and --max-length are those of the run; leave them out")
        model = Classifier.load(source)
        output = PROBABILITIES[config["head"]](model.model.output)
        facts = {"labels": model.labels, "several": config["head"] != "single", "batch_size": model.batch_size}
    elif task == "similarity":
        model = open_encoder(source, pooling=pooling, max_length=max_length)
        output = model.model.output
        if model.whitening is not None:
            output = tf.matmul(output - _float(model.whitening.mean), _float(model.whitening.kernel))
        output = tf.nn.l2_normalize(output, axis=-1, epsilon=1e-24)
        facts = {"labels": None, "several": False, "batch_size": 64}
    else:
        if task == "ner":
            raise UserError("a run of --task ner cannot be exported yet; EntityRecognizer.load and predict take it")
        raise UserError("a run of --task %s writes its answers word by word; no single graph does that" % task)
    facts.update(
        task=task,
        pairs=task == "similarity" if config is None else config["pairs"],
        columns=VECTOR_COLUMNS if config is None else config["columns"],
        max_length=model.max_length,
    )
    return model, output, facts


def _float(array):
    return tf.constant(array, "float32")


def _write_saved_model(graph_def, path):
    with tf.Graph().as_default() as graph, tf1.Session(graph=graph) as session:
        tf1.import_graph_def(graph_def, name="")
        inputs = {name: graph.get_tensor_by_name(name + ":0") for name in INPUTS}
        tf1.saved_model.simple_save(session, path, inputs, {OUTPUT: graph.get_tensor_by_name(OUTPUT + ":0")})
