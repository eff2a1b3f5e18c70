"""Names of activations: those that bert4keras and Keras know, and those of Hugging Face's configurations."""

# What `keras.activations.get` finds on all stacks, with what bert4keras registers.
ACTIVATIONS = (
    "gelu gelu_erf gelu_tanh relu swish tanh linear sigmoid hard_sigmoid elu selu softplus softsign softmax "
    "exponential leaky_relu"
).split()
# Hugging Face's -> ours. bert4keras' "gelu" is whichever of the two was set last, so both are named.
OF_HUGGING_FACE = {
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "swish",
    "swish": "swish",
    "tanh": "tanh",
}
