"""What a model costs: parameters, how often each layer is applied, floating point operations, time."""

from kexue_keras.analysis.costs._report import CostReport
from kexue_keras.analysis.costs._report import LayerCost
from kexue_keras.analysis.costs._report import model_report
