"""T5 and mT5: configuration, weights, a smaller vocabulary."""
