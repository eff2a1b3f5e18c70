"""What can be asked for: the choices that there are, and the options of fine-tuning.

Nothing here imports TensorFlow, so that the command answers a `--help` and a wrong option at once.
"""
