"""File formats of weights: safetensors, PyTorch, TensorFlow, quantized blocks."""
