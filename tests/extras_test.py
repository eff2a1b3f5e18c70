"""The core of the package runs without the packages of the extras: fine-tuning, prediction, the command."""

import os

from helpers import tiny_bert_folder
from reviews import reviews, write_rows

EXTRAS = ("pandas", "matplotlib", "sklearn", "faiss", "jieba", "rouge", "nltk", "snownlp")
EXTRAS += ("tf2onnx", "onnx", "onnxruntime", "flask", "huggingface_hub", "optuna", "wandb", "mlflow", "seqeval")
SOURCE = """
import sys
for name in %r:
    sys.modules[name] = None  # as where it is not installed
from kexue_keras.cli import main as cli
folder = sys.argv[1]
common = ["--model", folder + "/tiny", "--epochs", "1", "--max-length", "16", "--quiet"]
assert cli.main(["finetune", "--data", folder + "/train.tsv", "--out", folder + "/run"] + common) == 0
pairs = ["--task", "similarity", "--data", folder + "/pairs.tsv", "--out", folder + "/pairs"]
assert cli.main(["finetune"] + pairs + common) == 0
assert cli.main(["predict", "--run", folder + "/run", "--data", folder + "/train.tsv", "--quiet"]) == 0

from kexue_keras.errors import UserError
from kexue_keras.finetune._baselines import tfidf_accuracy
try:
    tfidf_accuracy([("好", 1), ("坏", 0)], [("好", 1)])
except UserError as error:
    print(error)
""" % (
    EXTRAS,
)


def test_fine_tuning_and_prediction_need_no_extra(tmp_path, run_python):
    tiny_bert_folder(tmp_path / "tiny", num_hidden_layers=1)
    write_rows(tmp_path / "train.tsv", reviews(40, seed=1))
    write_rows(tmp_path / "pairs.tsv", [("好书%d" % i, "坏书", str(i % 3)) for i in range(20)])
    printed = run_python(SOURCE, tmp_path, bare=True).splitlines()
    assert printed[0].startswith("label\tprobability") and len(printed) == 42
    assert printed[-1].endswith("pip install scikit-learn")
    left = os.listdir(str(tmp_path / "run"))
    assert "confusion.tsv" in left and "metrics.json" in left and "curves.png" not in left
