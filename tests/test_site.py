"""The site of the documentation: the reference has every public name, and links lead on."""

import base64
import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

import glra_jax as gx
from glra_jax import datasets, interop

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def documented() -> list[str]:
    """Names in the reference."""
    pages = sorted((DOCS / "api").glob("*.md"))
    return [name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)]


@pytest.mark.parametrize("package", [gx, datasets, interop], ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference_once(package):
    names = documented()
    there = [name for name in names if name.rpartition(".")[0] == package.__name__]
    expected = {f"{package.__name__}.{name}" for name in package.__all__}
    if package is datasets:
        expected.discard("glra_jax.datasets.DATASETS")  # the registry behind `dataset_named`
    if package is interop:
        expected.discard("glra_jax.interop.LAYERS")
    assert set(there) == expected
    assert len(there) == len(set(there))


def test_names_in_the_reference_exist_and_are_described():
    for dotted in documented():
        module, _, name = dotted.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        assert (found.__doc__ or "").strip(), dotted


def test_every_page_is_in_the_navigation():
    # Read without PyYAML, which the tests do not need otherwise.
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = set(re.findall(r": (\S+\.md)$", navigation, re.M))
    own = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    notebooks = {f"examples/{path.stem}.md" for path in (ROOT / "examples").glob("*.ipynb")}
    cards = {f"models/{path.name}" for path in (ROOT / "glra_jax" / "weights").glob("*.md")}
    own = {page for page in own if not page.startswith("evaluations/")}  # left out of the site
    assert listed >= own | notebooks | cards


def load_hook(name: str, monkeypatch: pytest.MonkeyPatch):
    """A module of `docs/hooks`, as MkDocs loads it."""
    monkeypatch.syspath_prepend(str(DOCS / "hooks"))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def test_a_notebook_becomes_a_page_with_its_outputs(monkeypatch):
    picture = b"\x89PNG\r\n\x1a\n"
    output = {"data": {"image/png": base64.b64encode(picture).decode(), "text/plain": ["<Figure>"]}}
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
        {
            "cell_type": "code",
            "source": ["print('```')"],
            "outputs": [
                {"output_type": "stream", "text": ["```\n"]},
                {"output_type": "display_data", **output},
                {"output_type": "execute_result", "data": {"text/plain": ["3"]}},
            ],
        },
    ]
    notebooks = load_hook("notebooks", monkeypatch)
    page, pictures = notebooks.notebook_page({"cells": cells}, "n-pictures")
    assert pictures == {"n-pictures/1.png": picture}
    assert page == (
        "# Title\nWords.\n\n````python\nprint('```')\n````\n\n````text\n```\n````\n\n"
        "![Output of the cell](n-pictures/1.png)\n\n```text\n3\n```\n"
    )


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="without MkDocs")
@pytest.mark.parametrize(
    ("target", "source", "page", "link"),
    [
        (
            "../glra_jax/weights/glra.md#limits",
            "docs/method.md",
            "method.md",
            "models/glra.md#limits",
        ),
        ("../../docs/method.md", "glra_jax/weights/glra.md", "models/glra.md", "../method.md"),
        ("../examples/deconvolve.ipynb", "docs/README.md", "README.md", "examples/deconvolve.md"),
        ("../experiments/", "docs/README.md", "README.md", "REPOSITORY/tree/main/experiments"),
        ("../README.md#use", "docs/README.md", "README.md", "REPOSITORY/blob/main/README.md#use"),
        ("#limits", "docs/method.md", "method.md", "#limits"),
        ("https://example.org/a.md", "docs/method.md", "method.md", "https://example.org/a.md"),
        ("lost.md", "docs/method.md", "method.md", "lost.md"),
    ],
)
def test_links_lead_to_pages_of_the_site_or_to_the_repository(
    target, source, page, link, monkeypatch
):
    repository = load_hook("repository", monkeypatch)
    known = {"README.md", "method.md", *repository.PAGES}
    assert repository.site_link(target, source, page, known, "REPOSITORY") == link


def test_notebooks_hold_no_names_of_a_machine():
    for path in (ROOT / "examples").glob("*.ipynb"):
        outputs = [cell.get("outputs", []) for cell in json.loads(path.read_text())["cells"]]
        text = re.sub(r'"image/png": "[^"]*"', "", json.dumps(outputs))
        assert not re.search(r"/(home|root|tmp|work|Users)/|site-packages", text), path.name
