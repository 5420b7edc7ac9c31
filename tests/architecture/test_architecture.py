"""Rules that matter: imports, exports, errors, and that nothing is pickled."""

import ast
import copy
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from headrace import errors
from headrace.edge.problems import ENDINGS, STATUS, status_of

ROOT = Path(__file__).parents[2]
SERVICES, MODELS, TESTS = ROOT / "services", ROOT / "models" / "headrace_models", ROOT / "tests"
LOADTESTS = ROOT / "loadtests"
SOURCES = sorted([*SERVICES.rglob("*.py"), *MODELS.rglob("*.py")])
# Importing these starts a runtime that a machine may not have, or (Locust) changes the standard
# library.
HEAVY = {"ray", "torch", "onnx", "onnxruntime", "h5py", "safetensors", "locust"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, wherever in it, and the line."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno


def importers(*packages: str) -> set[str]:
    """The files of ours that import a package or something in it."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for name, _ in imports(path)
        if name.partition(".")[0] in packages
    }


def outside(found: set[str], *homes: str) -> set[str]:
    return {path for path in found if not any(Path(path).match(home) for home in homes)}


def test_ray_is_imported_where_processes_are_placed_and_nowhere_else() -> None:
    homes = (
        "services/headrace/app.py",
        "services/headrace/*/deployment.py",
        "services/headrace/fleet/*.py",
    )
    assert outside(importers("ray"), *homes) == set()


def test_http_is_spoken_at_the_edge_alone() -> None:
    homes = (
        "services/headrace/edge/*.py",
        "services/headrace/admin/*.py",
    )
    assert outside(importers("uvicorn", "httptools", "starlette", "fastapi"), *homes) == set()


def test_prometheus_is_known_where_metrics_are_named_and_registries_made() -> None:
    homes = (
        "services/headrace/telemetry/*.py",
        "services/headrace/*/program.py",
        "services/headrace/admin/*.py",
    )
    assert outside(importers("prometheus_client"), *homes) == set()


def test_runtimes_are_known_to_their_backend_and_to_builders_alone() -> None:
    homes = (
        "services/headrace/backends/*.py",
        "models/headrace_models/zoo/*.py",
        "models/headrace_models/*.py",
    )
    assert outside(importers("torch", "onnx", "onnxruntime"), *homes) == set()


def test_batching_knows_no_arrays() -> None:
    assert {path for path in importers("numpy") if "/batching/" in path} == set()


def test_models_know_nothing_of_serving() -> None:
    assert {path for path in importers("headrace") if path.startswith("models/")} == set()


def project_imports(folder: Path, *packages: str) -> set[str]:
    """`file:line imports module` for each import of the packages by files in a folder."""
    return {
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in folder.rglob("*.py")
        for name, line in imports(path)
        if any(f"{name}.".startswith(f"{package}.") for package in packages)
    }


def test_load_tests_import_no_tests() -> None:
    assert project_imports(LOADTESTS, "tests") == set()


def test_tests_import_of_load_tests_what_supports_both() -> None:
    found = project_imports(TESTS, "loadtests") - project_imports(TESTS, "loadtests.support")
    assert {each for each in found if not each.startswith("tests/loadtests/")} == set()


def test_what_supports_both_imports_neither() -> None:
    support = LOADTESTS / "support"
    found = project_imports(support, "loadtests", "tests")
    assert found - project_imports(support, "loadtests.support") == set()


def test_nothing_is_pickled() -> None:
    assert importers("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal") == set()


def test_arrays_are_never_read_as_pickles() -> None:
    allowing = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.keyword)
        and node.arg == "allow_pickle"
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    }
    assert allowing == set()


@pytest.mark.parametrize("bare", ["services", "models"])
def test_no_module_of_ours_is_imported_a_second_time_by_its_folder(bare: str) -> None:
    found = [
        f"{path}:{line}"
        for path in [*SOURCES, *TESTS.rglob("*.py"), *LOADTESTS.rglob("*.py")]
        for name, line in imports(path)
        if name.partition(".")[0] == bare
    ]
    assert found == []


def module_of(path: Path) -> str:
    home = SERVICES if path.is_relative_to(SERVICES) else MODELS.parent
    parts = path.relative_to(home).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


LIGHT = [
    path for path in SOURCES if not HEAVY & {name.partition(".")[0] for name, _ in imports(path)}
]


@pytest.mark.parametrize("name", [module_of(path) for path in LIGHT])
def test_what_a_module_says_that_it_exports_is_there(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert [e for e in exported if not hasattr(module, e)] == []
    assert len(exported) == len(set(exported))


def family(root: type[errors.HeadraceError]) -> list[type[errors.HeadraceError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in family(child))]


@pytest.mark.parametrize("kind", family(errors.HeadraceError))
def test_every_error_is_in_the_tree_exported_numbered_and_finds_its_way_home(
    kind: type[errors.HeadraceError],
) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
    assert kind.__name__ in errors.__all__
    assert any(ancestor in STATUS for ancestor in kind.__mro__)
    again = errors.error_from(kind.code, "why", 2.0)
    assert (type(again), again.message, again.retry_after_s) == (kind, "why", 2.0)


@pytest.mark.parametrize("kind", family(errors.HeadraceError))
def test_every_error_is_somebodys_as_its_status_has_it(kind: type[errors.HeadraceError]) -> None:
    """4xx is the caller's, except what was lost with a replica; 5xx is not."""
    status = status_of(kind("why"))
    by_status = {
        499: {"left"},
        409: {"caller", "state"},
        501: {"caller"},
        505: {"caller"},
        503: {"state"},
        504: {"state"},
    }
    expected = by_status.get(status, {"caller"} if status < 500 else {"ours"})
    assert errors.OUTCOMES[kind.code] in expected
    assert (status, errors.OUTCOMES[kind.code]) in ENDINGS


def test_codes_tell_the_errors_apart() -> None:
    codes = [kind.code for kind in family(errors.HeadraceError)]
    assert len(codes) == len(set(codes))


def test_an_unknown_code_is_a_failed_inference() -> None:
    assert type(errors.error_from("of the future", "why")) is errors.InferenceFailed


def test_errors_cross_processes_whole() -> None:
    again = copy.copy(errors.Overloaded("full", 2.0))
    assert (type(again), again.message, again.retry_after_s, str(again)) == (
        errors.Overloaded,
        "full",
        2.0,
        "full",
    )
