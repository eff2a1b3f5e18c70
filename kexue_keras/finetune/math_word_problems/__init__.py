"""Math word problems: reading Ape210K, evaluating equations safely, a model that writes them."""

from kexue_keras.finetune.math_word_problems._answers import write_answer
from kexue_keras.finetune.math_word_problems._evaluator import safe_eval
from kexue_keras.finetune.math_word_problems._normalizer import normalize_equation
from kexue_keras.finetune.math_word_problems._normalizer import strip_brackets
from kexue_keras.finetune.math_word_problems._reader import Ape210kReader
from kexue_keras.finetune.math_word_problems._reader import WordProblem
from kexue_keras.finetune.math_word_problems._solver import MathSolver
from kexue_keras.finetune.math_word_problems._solver import Solution
from kexue_keras.finetune.math_word_problems._solver import answer_accuracy
from kexue_keras.finetune.math_word_problems._writing import ProblemWriting
