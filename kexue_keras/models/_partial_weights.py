"""Pretrained checkpoints in models that compute something else than they were trained for: refuse, or keep what fits.

A checkpoint that such a model saved itself carries a mark, and loads as usual. A foreign one (an ordinary BERT, say) is
refused, since its weights would silently mean something else; `allow_pretrained=True` takes what the two have in
common and says what that is.
"""

import re
import warnings
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
import tensorflow as tf
from bert4keras.models import LM_Mask, Transformer, UniLM_Mask

from kexue_keras.backend import K, tf1
from kexue_keras.errors import WeightsError
from kexue_keras.models._language_models_only import guard_mlm
from kexue_keras.types import Array, Variable

# What the names of marks begin with.
MARKS = "kexue_keras/"


def marks_of(transformer):
    """Names of the marks that a model writes into its checkpoints; an ordinary model has none.

    >>> from bert4keras.models import BERT
    >>> deep = kexue_keras.models.extend_with_deepnorm(BERT)
    >>> marks_of(deep(max_position=8, vocab_size=9, hidden_size=4, num_hidden_layers=2, num_attention_heads=1,
    ...     intermediate_size=8, hidden_act='relu'))
    ['kexue_keras/deepnorm']
    """
    return transformer.marks if isinstance(transformer, PartialWeights) else []


def summarize(names):
    """Names of variables for people: numbered layers in one, in order.

    >>> summarize(['a/layer_0/k', 'a/layer_1/k', 'b'])
    'a/layer_*/k, b'
    """
    return ", ".join(dict.fromkeys(re.sub(r"(?<=_)\d+(?=/)", "*", name) for name in names))


def extended_bases(BaseModel, function):
    """The bases of a class that extends `BaseModel`: the mixin, if it is not among its bases already, and it.

    Raises:
        ValueError: `BaseModel` is no model class of bert4keras; the message names `function`.
    """
    if not (isinstance(BaseModel, type) and issubclass(BaseModel, Transformer)):
        raise ValueError(
            "%s takes a model class of bert4keras, such as bert4keras.models.BERT, but got %r" % (function, BaseModel)
        )
    return (BaseModel,) if issubclass(BaseModel, PartialWeights) else (PartialWeights, BaseModel)


class PartialWeights(object):
    """Mixin of model classes; it comes before the bert4keras class among the bases.

    Works with `build_transformer_model(config, checkpoint, model=...)` and with `kexue_keras.models.load`.

    Attributes:
        technique: str, what the model does otherwise; it names the mark in its checkpoints.
        changes_function: whether a foreign checkpoint would compute something else here (may be a property).
        allow_pretrained: whether foreign checkpoints are taken all the same; also an argument of the constructor and
            hence of `build_transformer_model`.
        kept_variables: names that the last checkpoint filled.
        fresh_variables: names that the last checkpoint did not have; they keep their random start.
    """

    technique = "changed"
    changes_function = True
    allow_pretrained = False

    def __init__(self, *args: Any, allow_pretrained: Optional[bool] = None, **kwargs: Any) -> None:
        super(PartialWeights, self).__init__(*args, **kwargs)
        if isinstance(self, (LM_Mask, UniLM_Mask)):
            guard_mlm(type(self))
        if allow_pretrained is not None:
            self.allow_pretrained = bool(allow_pretrained)
        self.kept_variables, self.fresh_variables = [], []
        self._examined = None

    @property
    def mark(self) -> str:
        """Name of the variable that says that a checkpoint was saved by such a model."""
        return MARKS + self.technique

    @property
    def marks(self) -> List[str]:
        """The marks of all techniques by which the model was extended; none if it computes what its base computes."""
        if not self.changes_function:
            return []
        classes = [cls for cls in type(self).__mro__ if cls is not PartialWeights]
        return sorted(MARKS + vars(cls)["technique"] for cls in classes if "technique" in vars(cls))

    def create_variable(self, name: str, value: Any, dtype: Any = None) -> Variable:
        """As in bert4keras, and before the first of a checkpoint its mark."""
        present = [v.op.name for v in tf1.global_variables()]
        for mark in self.marks:
            if mark not in present:
                K.variable(np.float32(1), dtype="float32", name=mark)
        return super(PartialWeights, self).create_variable(name, value, dtype)

    def load_weights_from_checkpoint(
        self, checkpoint: Union[str, Dict[str, Array]], mapping: Optional[Dict[str, Sequence[str]]] = None
    ) -> None:
        """As in bert4keras, but foreign checkpoints are refused or loaded in part.

        Raises:
            WeightsError: the checkpoint was not saved by such a model, and `allow_pretrained` is False.
        """
        self._examined = None
        self._examine(checkpoint)
        super(PartialWeights, self).load_weights_from_checkpoint(checkpoint, mapping)

    def load_variable(self, checkpoint: Union[str, Dict[str, Array]], name: str) -> Optional[Array]:
        """As in bert4keras; None for what a foreign checkpoint does not have, which both loaders leave out."""
        self._examine(checkpoint)
        if name in self._absent:
            return None
        return super(PartialWeights, self).load_variable(checkpoint, name)

    def _examine(self, checkpoint):
        same = checkpoint is self._examined
        if same or (isinstance(checkpoint, str) and checkpoint == self._examined):
            return
        if isinstance(checkpoint, dict):
            names, source = set(checkpoint), "the dict of variables"
        else:
            names, source = {name for name, _ in tf.train.list_variables(checkpoint)}, checkpoint
        wanted = []
        for layer, variables in self.variable_mapping().items():
            layer = self.layers.get(self.prefixed(layer))
            if layer is not None:
                wanted.extend(variables[: len(layer.trainable_weights)])
        own = names.issuperset(self.marks)
        if not own and not self.allow_pretrained:
            raise WeightsError(
                "%s was not saved by a model with %s, so that its weights would compute something else here; nothing "
                "was loaded. To start from what can be kept all the same (%d of %d variables), give "
                "allow_pretrained=True to build_transformer_model or to the function that made the class."
                % (source, self.technique, len([n for n in wanted if n in names]), len(wanted))
            )
        self.kept_variables = [n for n in wanted if n in names]
        self.fresh_variables = [n for n in wanted if n not in names]
        # Of an own checkpoint nothing may be missing: the loaders report it in their own way.
        self._absent = set() if own else set(self.fresh_variables)
        self._examined = checkpoint
        if not own:
            warnings.warn(
                "%s was not saved by a model with %s. Kept, %d variables: %s. Fresh, %d variables: %s. Train it "
                "further before you use it."
                % (
                    source,
                    self.technique,
                    len(self.kept_variables),
                    summarize(self.kept_variables) or "none",
                    len(self.fresh_variables),
                    summarize(self.fresh_variables) or "none",
                ),
                stacklevel=2,
            )
