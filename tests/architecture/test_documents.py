"""Checks that links and anchors of the documents resolve, that the files they name exist, and that
the code they quote is in them.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT, ROOT / "docs", ROOT / "deploy")
    for path in folder.glob("*.md")
)
# A path is written from one of these.
HOMES = [
    ROOT / home
    for home in (
        "",
        "services",
        "services/headrace",
        "models",
        "models/headrace_models",
        "tests",
        "loadtests/support",
    )
]
# Written by a run, so not in the tree.
MADE = ("models/repository", "reports/")

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_PATH = re.compile(r"(?!/)[\w.*/-]*(?:/|\w\.(?:py|md|toml|ya?ml|json|service|svg))")
# A quote's file: `# path` at the start of a line of code.
_QUOTED = re.compile(r"# ((?:[\w-]+/)+[\w-]+\.\w+)\b.*")
# A row of a drawing: a file, and a function or class in it.
_STAGE = re.compile(r"((?:[a-z_]+/)+[a-z_]+\.py): (?:\w+\.)?(\w+)")
_MODULE = re.compile(r"\b(?:loadtests|tests|headrace|headrace_models)(?:\.[a-z_]+)+\b")


@cache
def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@cache
def anchors(document: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    prose = _FENCE.sub("", text(document))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(prose)
    }


def links(document: str) -> Iterator[str]:
    """The link targets of a document outside code."""
    prose = _CODE.sub("", _FENCE.sub("", text(document)))
    yield from (target for target in _LINK.findall(prose) if "://" not in target)


def resolves(document: str, link: str) -> bool:
    path, _, anchor = unquote(link).partition("#")
    target = (ROOT / document).parent / path if path else ROOT / document
    if not target.exists() or not target.resolve().is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target.resolve().relative_to(ROOT).as_posix())


def named_paths(document: str) -> Iterator[str]:
    """The paths in backticks that look like ours: `a/b.py`, `a/`, `b.py`."""
    for code in _CODE.findall(_FENCE.sub("", text(document))):
        if not _PATH.fullmatch(code) or code.startswith(MADE):
            continue
        if "/" in code or code.endswith(".py"):
            yield code


def drawn_paths(document: str) -> Iterator[str]:
    """The paths of Python files in drawings and code."""
    for fence in _FENCE.findall(text(document)):
        yield from re.findall(r"(?<![\w/.])(?:[a-z_]+/)+[a-z_]+\.py\b", fence)


def source(path: str) -> str:
    """The text of the first file of ours with this path; empty without one."""
    found = (home / path for home in HOMES)
    return next((file.read_text(encoding="utf-8") for file in found if file.is_file()), "")


def quoted_lines(document: str) -> Iterator[tuple[str, str]]:
    """The lines of code that a document quotes, each with its file, and without indentation."""
    for fence in _FENCE.findall(text(document)):
        path = ""
        for line in map(str.strip, fence.splitlines()[1:-1]):
            if named := _QUOTED.fullmatch(line):
                path = named[1]
            elif line and path:
                yield path, line


def named_modules(document: str) -> set[str]:
    """The modules of ours that a document names, in prose, in a command or in code."""
    return {
        name
        for name in re.findall(r"(?:python3? -m|^from) ([\w.]+)", text(document), re.MULTILINE)
        if _MODULE.fullmatch(name)
    } | {
        code
        for code in _CODE.findall(_FENCE.sub("", text(document)))
        if _MODULE.fullmatch(code) and code.startswith(("loadtests.", "tests."))
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_and_anchor_resolves(document: str) -> None:
    assert [link for link in links(document) if not resolves(document, link)] == []


@pytest.mark.parametrize("link", ["docs/nowhere.md", "DESIGN.md#nowhere", "#nowhere", "../x.md"])
def test_a_link_that_leads_nowhere_is_found(link: str) -> None:
    assert not resolves("README.md", link)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    missing = [
        path
        for path in (*named_paths(document), *drawn_paths(document))
        if not any(any(home.glob(path.rstrip("/"))) for home in HOMES)
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_module_that_a_document_names_exists(document: str) -> None:
    paths = {name: Path(*name.split(".")) for name in named_modules(document)}
    missing = [
        name
        for name, path in paths.items()
        if not any(
            (home / path).with_suffix(".py").exists() or (home / path).is_dir() for home in HOMES
        )
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_code_that_a_document_quotes_is_in_its_file(document: str) -> None:
    stale = [
        f"{path}: {line}"
        for path, line in quoted_lines(document)
        if line not in map(str.strip, source(path).splitlines())
    ]
    assert stale == []


def test_recipes_quote_code() -> None:
    assert {path for path, _ in quoted_lines("docs/how-to-change.md")} >= {
        "gateway/settings.py",
        "telemetry/events.py",
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_function_in_a_drawing_is_in_its_file(document: str) -> None:
    missing = [
        f"{path}: {name}"
        for fence in _FENCE.findall(text(document))
        for path, name in _STAGE.findall(fence)
        if not re.search(rf"\b(?:def|class) {name}\b", source(path))
    ]
    assert missing == []
