"""Fixtures of the tests of files."""

import os

import pytest


@pytest.fixture
def quick_disk(monkeypatch):
    """Forcing to disk, which these tests do a thousand times, takes no time; it is a call all the same."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
