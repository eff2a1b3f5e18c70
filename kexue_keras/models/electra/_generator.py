"""The generator of ELECTRA: a narrower BERT with an MLM head, whose embeddings are the discriminator's.

Reference: arXiv 2003.10555; 用ALBERT和ELECTRA之前，请确认你真的了解它们, kexue.fm/archives/7846.
"""

from typing import Any, Optional

from bert4keras.models import BERT, build_transformer_model

from kexue_keras import checks
from kexue_keras.types import Transformer

PREFIX = "Generator-"
SHARED = ("Embedding-Token", "Embedding-Segment", "Embedding-Position")


def build_electra_generator(
    discriminator: Transformer, *, size: float = 0.25, num_hidden_layers: Optional[int] = None, **build: Any
) -> Transformer:
    """A generator `size` times as wide as a discriminator, with the same embeddings.

    Heads keep their size; there are `size` times as many, at least one, and hidden and intermediate size follow.

    Args:
        discriminator: bert4keras transformer object, built.
        size: number in (0, 1]; the paper found 1/4 to 1/2 best.
        num_hidden_layers: int; None: as many as the discriminator has.
        **build: further arguments of `build_transformer_model`.

    Returns:
        bert4keras transformer object with `with_mlm="linear"`; the layers have the prefix 'Generator-'.

    Raises:
        ValueError: size outside (0, 1].

    Reference: kexue.fm/archives/7846; arXiv 2003.10555.

    >>> from bert4keras.models import build_transformer_model
    >>> discriminator = build_transformer_model(model='electra', with_discriminator='linear', vocab_size=50,
    ...     hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32, hidden_act='gelu',
    ...     max_position=8, return_keras_model=False)
    >>> generator = kexue_keras.models.build_electra_generator(discriminator, size=1/2)
    >>> generator.hidden_size, generator.layers['Generator-Embedding-Token'] is discriminator.layers['Embedding-Token']
    (8, True)
    """
    size = checks.number(size, "size", "build_electra_generator", above=0, most=1)
    large = discriminator
    heads = max(1, int(round(large.num_attention_heads * size)))
    arguments = dict(
        vocab_size=large.vocab_size,
        max_position=large.max_position,
        segment_vocab_size=large.segment_vocab_size,
        embedding_size=large.embedding_size,
        hidden_size=heads * (large.hidden_size // large.num_attention_heads),
        num_attention_heads=heads,
        intermediate_size=max(1, int(round(large.intermediate_size * size))),
        num_hidden_layers=large.num_hidden_layers if num_hidden_layers is None else num_hidden_layers,
        hidden_act=large.hidden_act,
        dropout_rate=large.dropout_rate,
        attention_dropout_rate=large.attention_dropout_rate,
    )
    arguments.update(build)
    shared = {
        PREFIX + name: large.layers[large.prefixed(name)] for name in SHARED if large.prefixed(name) in large.layers
    }
    return build_transformer_model(
        config_path=None,
        model=BERT,
        with_mlm="linear",
        layers=shared,
        prefix=PREFIX,
        return_keras_model=False,
        **arguments,
    )
