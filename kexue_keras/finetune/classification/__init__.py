"""Labels for texts or pairs of texts: the classifier, how its head starts, how it is trained."""

from kexue_keras.finetune.classification._classifier import Classifier
