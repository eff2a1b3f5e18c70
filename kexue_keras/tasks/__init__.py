"""Whole fine-tuning recipes, used by the command line and by examples/."""
