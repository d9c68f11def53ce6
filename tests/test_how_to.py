"""The how-to pages run: their Python from top to bottom, with the figures that they print."""

import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from markdown_blocks import blocks

import glra_jax as gx
from glra_jax import cli, interop

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "getting-started.md", *sorted((DOCS / "how-to").glob("*.md"))]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Pages write their files here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: str, names: dict[str, object]) -> str:
    """Runs a block and gives what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "<block>", "exec"), names)
    return printed.getvalue()


def said(block: str) -> list[str]:
    """What comments behind calls of print say of their output."""
    return re.findall(r"^ *print\(.*\)  # (.+)$", block, flags=re.MULTILINE)


def same(printed: str, comment: str) -> bool:
    """Whether words agree, and numbers to a unit of the last digit in the comment."""
    found, wanted = printed.split(), comment.split()
    if len(found) != len(wanted):
        return False
    return all(map(_same_word, found, wanted))


def _same_word(found: str, wanted: str) -> bool:
    if not re.fullmatch(r"-?\d+(\.\d+)?", wanted):
        return found == wanted
    unit = 10.0 ** -len(wanted.partition(".")[2])
    return abs(float(found) - float(wanted)) <= 1.01 * unit


def run_page(page: Path, names: dict[str, object]) -> None:
    for block in blocks(page, "python"):
        lines = run(block, names).splitlines()
        comments = said(block)
        assert not comments or len(lines) == len(comments), lines
        for line, comment in zip(lines, comments, strict=False):
            assert same(line, comment), f"{page.name} prints {line}, and says {comment}"


def test_comments_are_compared_with_what_is_printed():
    assert same("20.84 True", "20.8 True")
    assert not same("20.8 False", "20.8 True")
    assert not same("20.5", "20.8")
    assert not same("20.8 20.8", "20.8")
    assert said("x = 1\nprint(x)  # 1.0\n    print(f(x), y)  # 2 3\n") == ["1.0", "2 3"]


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "training"], ids=lambda p: p.stem)
def test_the_python_of_a_page_runs(page):
    run_page(page, {"__name__": "page"})


def test_the_page_of_training_loads_what_a_run_leaves(folder, random_model):
    (folder / "runs" / "second").mkdir(parents=True)
    gx.save_model(random_model, folder / "runs" / "second" / "model.safetensors")
    blurred, kernel = jnp.full((40, 44), 0.5), gx.gaussian_kernel(sigma=1.0, size=9)
    run_page(DOCS / "how-to" / "training.md", {"blurred": blurred, "kernel": kernel})


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="without PyTorch")
def test_the_page_of_pytorch_runs_up_to_caffe(folder, small_basis, colour_photograph):
    model = gx.initial_model(jax.random.key(0), gx.Glra(31, 6, 16), small_basis)
    interop.save_torch_model(model, folder / "network.pt")
    page = folder / "page.md"
    page.write_text((DOCS / "pytorch.md").read_text().partition("## The authors' Caffe model")[0])
    small = model  # in the place of the model of the package, which takes long
    names: dict[str, object] = {"blurred": np.asarray(colour_photograph)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gx, "load_model", lambda name: small)
        run_page(page, names)
    restored, again = names["restored"], names["again"]
    assert restored.shape == (1, 1, 96 - 30, 112 - 30)  # by the module of PyTorch
    assert again.architecture == small.architecture
    y = jnp.asarray(colour_photograph[..., 1])
    ours = gx.deconvolve(y, names["kernel"], small, noise=0.01, boundary="valid")
    np.testing.assert_allclose(restored[0, 0], ours, atol=2e-5)


def shell_commands() -> Iterator[tuple[str, list[str]]]:
    """Commands of `glra-jax` in the pages."""
    for page in [*PAGES, DOCS / "files.md"]:
        for block in blocks(page, "bash"):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                if line.startswith("glra-jax "):
                    yield page.name, shlex.split(line, comments=True)


@pytest.mark.parametrize(("page", "words"), list(shell_commands()))
def test_commands_are_taken(page, words, folder, monkeypatch):
    """Kernels are made; of `deblur` and `demo` options are read: their work takes its time."""
    taken = []
    monkeypatch.setattr(cli, "deblur", taken.append)
    monkeypatch.setattr(cli, "show_demo", taken.append)
    cli.main(words[1:])
    if words[1] == "kernel":
        assert (folder / words[words.index("-o") + 1]).is_file()
    else:
        assert len(taken) == 1
