"""Readers and batch generators."""
