"""Predicting over HTTP: requests that come at about the same time share a batch."""
