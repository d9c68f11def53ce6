"""The documents keep their word: the README's Python runs, and what they name exists."""

import ast
import dataclasses
import importlib
import itertools
import os
import re
import shlex
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_blocks import blocks

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "glra_jax" / "weights").glob("*.md")),
    ROOT / "experiments" / "baselines" / "README.md",
]
WITH_LINKS = [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "tests" / "README.md"]
PACKAGES = ("glra_jax", "experiments")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def inline_code(path: Path) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(path))


# --- the README's Python -------------------------------------------------------------------------


def test_the_python_of_the_readme_restores(tmp_path):
    first = blocks(ROOT / "README.md", "python")[0]
    done = subprocess.run(
        [sys.executable, "-c", first],
        cwd=tmp_path,  # nothing of it may depend on the folder
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    blurred, restored = (float(word) for word in done.stdout.split())
    said = [float(number) for number in re.findall(r"# ([\d.]+) and ([\d.]+) dB", first)[0]]
    assert [blurred, restored] == pytest.approx(said, abs=0.1)


# --- what the documents name ---------------------------------------------------------------------


@pytest.mark.parametrize("document", WITH_LINKS, ids=name_of)
def test_links_lead_somewhere(document):
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = document.parent / file if file else document
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            lost.append(target)
    assert not lost


def _anchors(path: Path) -> set[str]:
    """Anchors of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_paths_exist(document):
    top = {entry.name for entry in ROOT.iterdir()}
    lost = []
    for code in inline_code(document):
        word = code.split("::")[0].rstrip("/")
        looks_like_one = re.fullmatch(r"[\w./*-]+", word) and ("/" in word or "." in word)
        if looks_like_one and word.split("/")[0] in top and not list(ROOT.glob(word)):
            lost.append(code)
    assert not lost


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_modules_and_names_exist(document):
    lost = []
    for code in inline_code(document):
        match = re.match(r"(gx|glra_jax|experiments)((?:\.[A-Za-z_]\w*)+)", code)
        if match and not code.endswith((".py", ".json", ".npz")):
            package = {"gx": "glra_jax"}.get(match[1], match[1])
            if not _resolves(f"{package}{match[2]}"):
                lost.append(code)
    for block in blocks(document, "python"):
        lost += [name for name in _names_of(block) if not _resolves(name)]
    assert not lost


def _names_of(block: str) -> Iterator[str]:
    """Dotted names that a block takes from this project."""
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            package = {"gx": "glra_jax"}.get(node.value.id, node.value.id)
            if package in PACKAGES:
                yield f"{package}.{node.attr}"


def _resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in PACKAGES:
                return True  # it is there and wants a library that is not
            continue
        for attribute in parts[count:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


# --- commands ------------------------------------------------------------------------------------


def commands(path: Path) -> Iterator[list[str]]:
    """Words of every command in shell blocks and in inline code that runs a program of ours."""
    texts = blocks(path, "bash") + re.findall(r"`([^`]+)`", prose(path))
    for text in texts:
        for line in re.sub(r"\\\n\s*", " ", text).split("\n"):
            for command in re.split(r"&&|;", line):
                if "python -m experiments" in command or command.strip().startswith("glra-jax "):
                    yield shlex.split(command, comments=True)


def options_of(words: list[str]) -> type | None:
    """The dataclass that a command's options fill, found in its program."""
    if words[:2] == ["glra-jax", "kernel"]:
        shapes = importlib.import_module("glra_jax.commands.kernel_shapes")
        return shapes.SHAPES[words[2]] if len(words) > 2 else shapes.KernelShape
    if words[:2] == ["glra-jax", "demo"]:
        return importlib.import_module("glra_jax.commands.demo").Demo
    if words[0] == "glra-jax":
        return importlib.import_module("glra_jax.cli").Deblur
    program = next((word for word in words if word.startswith("experiments.")), None)
    if program is None:
        return None
    if program == "experiments.reliability":
        main = importlib.import_module("experiments.reliability.__main__")
        return vars(main)[words[words.index(program) + 1].capitalize()]
    module = importlib.import_module(program)
    found = [
        thing
        for name, thing in vars(module).items()
        if name.endswith("Options") and dataclasses.is_dataclass(thing)
    ]
    own = [thing for thing in found if thing.__module__ == program] or found
    if len(own) > 1:  # the one that belongs to this program by its folder
        own = [thing for thing in own if program.rsplit(".", 1)[-1] in thing.__name__.lower()]
    assert len(own) == 1, f"{program} has the options {own}"
    return own[0]


def flags(options: type, prefix: str = "") -> set[str]:
    """Flags that tyro makes of a dataclass, with those of dataclasses in its fields."""
    hints = typing.get_type_hints(options, include_extras=True)
    found = set()
    for field in dataclasses.fields(options):
        if not field.init:
            continue
        kind = hints[field.name]
        name: str | None = field.name
        if typing.get_origin(kind) is typing.Annotated:
            for extra in kind.__metadata__:
                given = getattr(extra, "name", None)
                name = given if isinstance(given, str) else name
                found |= set(getattr(extra, "aliases", None) or ())
            kind = typing.get_args(kind)[0]
        inner = [prefix, name] if name else [prefix]
        dotted = ".".join(part for part in inner if part)
        if dotted:
            found.add("--" + dotted.replace("_", "-"))
            if kind is bool and field.default is True:
                found.add("--no-" + dotted.replace("_", "-"))
        for nested in _dataclasses_in(kind):
            found |= flags(nested, dotted)
    return found


def _dataclasses_in(kind: Any) -> list[type]:
    """Dataclasses that a field may hold: named in its type, or derived from what is."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType, typing.Annotated):
        return [found for part in typing.get_args(kind) for found in _dataclasses_in(part)]
    if isinstance(kind, typing.TypeVar):
        return _dataclasses_in(kind.__bound__)
    kind = typing.get_origin(kind) or kind  # of a generic one, such as TrainConfig[Glra]
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return []
    importlib.import_module("glra_jax.networks")  # a field may hold any of them
    derived = [found for child in kind.__subclasses__() for found in _dataclasses_in(child)]
    return [kind, *derived]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_programs_have_the_flags_that_are_named(document):
    lost = []
    for words in commands(document):
        given = [word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
        given = [flag for flag in given if flag not in ("-m", "--help")]
        options = options_of(words)
        if options is not None:
            lost += [(words, flag) for flag in given if flag not in flags(options)]
    assert not lost


# CONTRIBUTING.md adds methods of its own as examples.
@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.name != "CONTRIBUTING.md"], ids=name_of
)
def test_methods_that_are_named_can_be_evaluated(document):
    parse_method = importlib.import_module("experiments.evaluation.method_specs").parse_method
    for words in commands(document):
        if "--methods" in words and "experiments.evaluate" in words:
            rest = words[words.index("--methods") + 1 :]
            for spec in itertools.takewhile(lambda word: not word.startswith("-"), rest):
                if spec != "...":
                    parse_method(spec)  # raises ValueError for an unknown method or option


def test_commands_are_found_and_their_flags_read():
    found = [words for document in DOCUMENTS for words in commands(document)]
    assert len(found) > 20
    assert any("experiments.train" in words for words in found)
    options = options_of(["python", "-m", "experiments.train"])
    assert options is not None
    assert {"--preset", "--workdir", "--steps", "--kernels.families"} <= flags(options)
    assert "--no-such-flag" not in flags(options)
    cli = options_of(["glra-jax", "deblur"])
    assert cli is not None
    assert {"--output", "-o", "--noise"} <= flags(cli)
