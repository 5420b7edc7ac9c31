"""Folders of this checkout."""

from pathlib import Path

__all__ = ["REPOSITORY", "ROOT"]

ROOT = Path(__file__).parents[2]
REPOSITORY = ROOT / "models" / "repository"
