"""Loss functions, and thin serialisable classes around those that have parameters."""
