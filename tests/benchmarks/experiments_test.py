"""Every experiment runs on a tiny budget."""

import glob
import importlib
import os

import pytest
from conftest import ROOT

FOLDER = os.path.join(ROOT, "benchmarks", "experiments")
EXPERIMENTS = sorted(os.path.basename(path)[: -len(".py")] for path in glob.glob(os.path.join(FOLDER, "*.py")))
for helper in (
    "comparison",
    "intervals",
    "paired_measures",
    "paired_phases",
    "paired_sets",
    "paired_similarity",
    "paired_titles",
    "few_shot_methods",
    "few_shot_tasks",
    "few_shot_untrained",
    "few_shot_prompted",
    "few_shot_distillation",
):
    EXPERIMENTS.remove(helper)


@pytest.mark.dear
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = importlib.import_module(name).main(["--quick"])
    assert rows == 0 or rows
