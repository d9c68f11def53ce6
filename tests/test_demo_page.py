"""The page of `glra-jax demo` in a browser: from a dropped photograph to a file of the result."""

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import glra_jax as gx
from glra_jax import cli
from glra_jax.commands import demo
from glra_jax.demo.blur_kernels import family_kernel

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT = 180_000  # milliseconds, on a machine that does other work as well

in_a_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gradio") is None, reason="without Gradio, the extra demo"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None,
        reason="without Playwright, the extra test-demo",
    ),
    pytest.mark.skipif(
        not any(map(shutil.which, BROWSERS)), reason=f"none of {', '.join(BROWSERS)} is installed"
    ),
]


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs Gradio.*pip install 'glra-jax\[demo\]'"):
        cli.main(["demo"])


def test_a_port_that_none_can_be_is_refused():
    with pytest.raises(ValueError, match="--port must be from 1 to 65535, got 70000"):
        demo.show_demo(demo.Demo(port=70000))


def test_a_port_in_use_and_a_host_of_others_are_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"port {port} of 127\.0\.0\.1 cannot .* --port or --host"
        ):
            demo.show_demo(demo.Demo(port=port))
    with pytest.raises(OSError, match=r"192\.0\.2\.1 cannot be listened on"):
        demo.show_demo(demo.Demo(host="192.0.2.1"))  # an address for documentation alone


def test_the_page_is_for_this_computer_alone_unless_told(monkeypatch):
    taken: list[demo.Demo] = []
    monkeypatch.setattr(cli, "show_demo", taken.append)
    cli.main(["demo"])
    cli.main(["demo", "--host", "0.0.0.0", "--port", "8000", "--no-browser", "--model", "glra"])
    assert taken == [demo.Demo(), demo.Demo(host="0.0.0.0", port=8000, browser=False, model="glra")]
    assert taken[0].host == "127.0.0.1"


@contextlib.contextmanager
def served(model: str) -> Iterator[str]:
    """Address of the page, served by a process of its own, which is stopped as users do."""
    command = [sys.executable, "-m", "glra_jax.cli", "demo", "--no-browser", "--model", model]
    # The test's own devices and compiler flags, with which it is compared to the last level.
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/", first)
            assert found is not None, first
            yield found[0]
        finally:
            process.terminate()
            rest = process.communicate(timeout=60)[0]
        assert process.returncode == 0
        assert "Traceback" not in rest
        assert "stopped; uploads and results are deleted" in rest


@pytest.fixture(scope="module")
def address(random_model_file: str) -> Iterator[str]:
    with served(random_model_file) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def opened(browser: Any, address: str, width: int) -> Iterator[Any]:
    """A page at a width, which asks no other computer for anything."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_default_timeout(WAIT)
    page.goto(address)
    page.wait_for_selector("#go")
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def choose_gaussian(page: Any, size: int) -> None:
    page.get_by_label("Family").click()
    page.get_by_role("option", name="gaussian").click()
    number = page.locator("#size input[type=number]")
    number.fill(str(size))
    number.press("Tab")
    page.wait_for_timeout(500)  # the page sends what was typed after a moment


def download(page: Any, button: str, folder: Path) -> Path:
    with page.expect_download() as found:
        page.locator(button).click()
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    return path


def beyond_the_window(page: Any) -> list[str]:
    """What reaches further right than the window does."""
    return page.evaluate(
        """() => [document.documentElement, ...document.querySelectorAll("body *")]
        .filter(e => Math.max(e.getBoundingClientRect().right, e === document.documentElement
            ? e.scrollWidth : 0) > window.innerWidth + 1)
        .map(e => e.tagName + "#" + e.id + "." + e.className)"""
    )


class TestInABrowser:
    pytestmark = in_a_browser

    def test_a_blurred_photograph_is_restored_as_by_deconvolve(
        self, address, browser, tmp_path, colour_photograph, random_model
    ):
        pixels = np.uint8(np.round(255 * colour_photograph))
        Image.fromarray(pixels).save(tmp_path / "cat.png")
        with opened(browser, address, 1280) as page:
            page.set_input_files("#photo input[type=file]", tmp_path / "cat.png")
            page.get_by_text("96×112 pixels").wait_for()
            page.get_by_label("My photograph is already blurred").click()
            choose_gaussian(page, 9)
            page.get_by_role("button", name="Restore", exact=True).click()
            page.locator("#download-restored").wait_for()
            assert page.locator("#result img").count() == 2
            assert not page.locator("#download-blurred").is_visible()
            assert "cat.png kernel.npy -o cat.restored.png" in page.locator("#command").inner_text()
            restored = download(page, "#download-restored", tmp_path)
            kernel = np.load(download(page, "#download-kernel", tmp_path))
        np.testing.assert_array_equal(kernel, family_kernel("gaussian", size=9))
        expected = np.asarray(gx.deconvolve(np.float32(pixels) / 255, kernel, random_model))
        assert restored.name == "cat.restored.png"
        with Image.open(restored) as image:
            found = np.asarray(image)
        np.testing.assert_allclose(found, 255 * np.clip(expected, 0, 1), atol=0.51)

    def test_at_a_phones_width_errors_are_sentences_and_nothing_is_too_wide(
        self, address, browser, tmp_path
    ):
        Image.new("RGB", (30, 24), "gray").save(tmp_path / "grey.png")
        with opened(browser, address, 400) as page:
            page.locator("#go").click()
            page.get_by_text("There is no photograph yet").wait_for()
            assert beyond_the_window(page) == []
            page.set_input_files("#photo input[type=file]", tmp_path / "grey.png")
            page.get_by_text("24×30 pixels").wait_for()
            choose_gaussian(page, 27)
            page.locator("#go").click()
            page.get_by_text("The kernel of 27×27 pixels is too large for the").wait_for()
            choose_gaussian(page, 9)
            page.locator("#go").click()
            page.locator("#download-blurred").wait_for()
            page.get_by_text("Settings").click()
            page.get_by_label("Estimate the noise").click()
            page.get_by_text("Noise in the photograph").wait_for()
            page.get_by_label("Drawn by hand").click()
            page.locator("#drawing canvas").first.wait_for()
            assert beyond_the_window(page) == []
            page.get_by_role("button", name="Blur and restore").click()
            page.get_by_text("The drawing is empty").wait_for()
