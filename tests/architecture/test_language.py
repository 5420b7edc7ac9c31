"""Rules of style that a program can check: first words of docstrings, imports inside functions."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("services", "models/headrace_models", "tests", "loadtests")
    for path in (ROOT / folder).rglob("*.py")
)
QUESTIONS = {"what", "who", "which", "how", "whether", "where", "why"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def docstrings(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Every docstring of a module, with the line that it begins in."""
    for node in ast.walk(module):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def first_imports(module: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """The first import inside each function that has one; the others share its comment."""
    for function in ast.walk(module):
        if isinstance(function, FUNCTIONS):
            found = [n for n in ast.walk(function) if isinstance(n, (ast.Import, ast.ImportFrom))]
            if found:
                yield min(found, key=lambda node: node.lineno)


def test_no_docstring_begins_with_a_question() -> None:
    """A docstring begins with a verb or a noun phrase that names the thing."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in SOURCES
        for line, text in docstrings(parsed(path))
        if text.split(maxsplit=1)[0].strip(".,:'\"").lower() in QUESTIONS
    ]
    assert found == []


def test_an_import_inside_a_function_says_why() -> None:
    """A comment stands on its line or on the one above."""
    found = []
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in first_imports(parsed(path)):
            own = lines[node.lineno - 1 : node.end_lineno]
            above = lines[node.lineno - 2].strip()
            if not above.startswith("#") and not any("#" in line for line in own):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []
