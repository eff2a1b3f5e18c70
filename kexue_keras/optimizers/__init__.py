"""Optimizer wrappers that take an optimizer instance and are optimizers themselves."""
