"""The layout of the page in Gradio, and what its buttons call."""

import contextlib
import html
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import jax
import numpy as np

from glra_jax.commands.deblur_options import Deblur
from glra_jax.commands.kernel import kernel_picture
from glra_jax.demo import restoring
from glra_jax.demo.blur_kernels import SIZES, brightness, drawn_kernel, family_kernel
from glra_jax.demo.examples import example_names, write_example
from glra_jax.kernel_backgrounds import without_background
from glra_jax.kernel_families import FAMILIES
from glra_jax.model_files import available_models
from glra_jax.photo_files import read_kernel
from glra_jax.programs import MISTAKES, one_line

PLAY = "Blur a sharp photograph first, to play"
RESTORE = "My photograph is already blurred"
SHAPE, DRAWN, FILE = "A shape", "Drawn by hand", "From a file"

_TITLE = """# glra_jax
Blur takes detail away; knowing the blur kernel, the image of a single point, gives much of it back.
Nothing leaves the computer that runs this page."""
_CANVAS = 245  # pixels; 5 for each of the largest kernel
_CSS = """
/* Clipped rather than hidden: what sticks to the window does so in no box that might scroll. */
.gradio-container {
  width: 100% !important; max-width: 1280px !important; margin: 0 auto !important;
  overflow: clip !important;
}
.gradio-container img { max-width: 100%; }
.gradio-container .fillable { max-width: 1280px !important; }
#kernel-picture img { image-rendering: pixelated; }
#notes ul { margin: 0; padding-left: 1.2em; }
#notes, #notes * { overflow-wrap: anywhere; }
#score * { font-size: 1.05em; font-weight: 600; }
#command pre, #command .cm-line { white-space: pre-wrap !important; overflow-wrap: anywhere; }
.tight { gap: 8px !important; }
/* Where there is room, results stay in sight while options are changed. */
@media (min-width: 900px) { #results { position: sticky; top: 12px; align-self: flex-start; } }
@media (max-width: 640px) {
  .gradio-container main { padding: 8px !important; }
}
"""
# Where results are below the options, as on a phone, or out of sight.
_SHOW_RESULTS = """() => {
  const results = document.getElementById("results"), place = results.getBoundingClientRect();
  if (place.top < 0 || place.top > 0.6 * window.innerHeight)
    results.scrollIntoView({behavior: "smooth", block: "start"});
}"""


def build(folder: Path, *, model: str) -> gr.Blocks:
    """Lays the page out.

    Args:
      folder: for what is computed; nothing in it is deleted here.
      model: that the page begins with, a name or a file.

    Returns:
      The page, which is not yet served.
    """
    models = list(available_models())
    models = models if model in models else [model, *models]
    actions = _Actions(folder)
    private: dict[str, Any] = {"api_visibility": "private"}
    with gr.Blocks(title="glra_jax", analytics_enabled=False) as page:
        gr.Markdown(_TITLE)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                mode = gr.Radio([PLAY, RESTORE], value=PLAY, label="1. What to do", elem_id="mode")
                photo = gr.File(label="2. Photograph", height=130, elem_id="photo")
                with gr.Row(elem_classes="tight"):
                    examples = [
                        (gr.Button(f"Example: {name}", size="sm", min_width=100), name)
                        for name in example_names()
                    ]
                seen = gr.Image(height=200, visible=False, interactive=False, buttons=[])
                source = gr.Radio(
                    [SHAPE, DRAWN, FILE],
                    value=SHAPE,
                    label="3. Blur kernel",
                    elem_id="source",
                    info="The image of a single point of light; draw its path in white.",
                )
                drawing = gr.ImageEditor(
                    value=_black_canvas(),
                    label="Drawing",
                    visible=False,
                    elem_id="drawing",
                    canvas_size=(_CANVAS, _CANVAS),
                    fixed_canvas=True,
                    height=360,
                    sources=(),
                    transforms=(),
                    layers=False,
                    format="png",
                    brush=gr.Brush(
                        colors=["#ffffff", "#999999", "#444444"],
                        default_size=8,
                        color_mode="fixed",
                    ),
                )
                kernel_file = gr.File(
                    label="Kernel: .npy or an image",
                    height=130,
                    visible=False,
                    elem_id="kernel-file",
                )
                with gr.Row(equal_height=False):
                    with gr.Column(min_width=180):
                        family = gr.Dropdown(list(FAMILIES), value="motion", label="Family")
                        size = gr.Slider(*SIZES, value=25, step=2, label="Size", elem_id="size")
                        another = gr.Button("Another, at random", size="sm", min_width=100)
                        subtract = gr.Checkbox(
                            value=False,
                            label="Subtract the background",
                            info="what is not black around the kernel",
                            visible=False,
                        )
                    kernel_seen = gr.Image(
                        label="Kernel",
                        height=210,
                        interactive=False,
                        buttons=[],
                        elem_id="kernel-picture",
                        min_width=140,
                    )
                variation = gr.State(0)
                added = gr.Slider(0, 5, value=1, step=0.1, label="Noise to add, in %")
                with gr.Accordion("Settings", open=False):
                    chosen = gr.Dropdown(models, value=model, label="Model")
                    estimate = gr.Checkbox(value=True, label="Estimate the noise")
                    noise = gr.Slider(
                        0,
                        10,
                        value=1,
                        step=0.1,
                        label="Noise in the photograph, in %",
                        visible=False,
                    )
                    light = gr.Radio(
                        [("in the values of the file", "srgb"), ("in linear light", "linear")],
                        value="srgb",
                        label="The blur was",
                        info="Lenses and shutters blur linear light.",
                    )
                    with gr.Row():
                        white = gr.Number(
                            value=0,
                            label="Value of white",
                            info="--scale; 0: what the file can hold",
                            min_width=120,
                        )
                        number = gr.Number(
                            value=0,
                            precision=0,
                            label="Page",
                            info="--page; 0: the only one",
                            min_width=120,
                        )
                go = gr.Button("Blur and restore", variant="primary", elem_id="go")
            with gr.Column(scale=3, min_width=300, elem_id="results"):
                result = gr.ImageSlider(
                    label="Blurred | restored",
                    format="png",
                    interactive=False,
                    max_height=640,
                    buttons=["fullscreen"],
                    elem_id="result",
                )
                score = gr.HTML(elem_id="score")
                notes = gr.HTML(elem_id="notes")
                with gr.Row():
                    files = [
                        gr.DownloadButton(
                            label,
                            visible=False,
                            size="md",
                            min_width=120,
                            elem_id=name,
                            variant=variant,
                        )
                        for label, name, variant in (
                            ("Save restored", "download-restored", "primary"),
                            ("Save blurred", "download-blurred", "secondary"),
                            ("Save kernel", "download-kernel", "secondary"),
                        )
                    ]
                command = gr.Code(
                    label="The same from the shell",
                    language="shell",
                    visible=False,
                    interactive=False,
                    wrap_lines=True,
                    lines=1,
                    max_lines=4,
                    elem_id="command",
                )

        kernel = [source, family, size, variation, drawing, kernel_file, subtract]
        outputs = [result, score, notes, *files, command]
        for button, name in examples:
            button.click(lambda name=name: actions.example(name), None, photo, **private)
        gr.on(
            [photo.change, white.change, number.change],
            actions.look,
            [photo, white, number],
            [seen, *outputs],
            show_progress_on=photo,
            **private,
        )
        mode.change(_for_mode, mode, [added, go], show_progress="hidden", **private)
        source.change(
            _for_source,
            source,
            [family, size, drawing, kernel_file, subtract, another],
            show_progress="hidden",
            **private,
        )
        estimate.change(
            lambda on: gr.update(visible=not on), estimate, noise, show_progress="hidden", **private
        )
        another.click(lambda n: n + 1, variation, variation, show_progress="hidden", **private)
        family.change(lambda: 0, None, variation, show_progress="hidden", **private)
        gr.on(
            # A stroke of the brush is an input, and no change.
            [page.load, drawing.input, *(part.change for part in kernel)],
            actions.show_kernel,
            kernel,
            kernel_seen,
            show_progress="hidden",
            trigger_mode="always_last",
            **private,
        )
        go.click(None, js=_SHOW_RESULTS, **private)
        go.click(
            actions.work,
            [mode, photo, *kernel, added, chosen, estimate, noise, light, white, number],
            outputs,
            show_progress_on=result,
            **private,
        )
    return page


@contextlib.contextmanager
def launched(page: gr.Blocks, host: str, port: int | None, *, browser: bool) -> Iterator[str]:
    """Serves a page, whose address it gives, until the context ends.

    Raises:
      OSError: a port or a host that cannot be listened on.
    """
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=browser,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=_CSS,
        )
    except OSError as error:
        where = f"port {port} of {host}" if port is not None else f"any port of {host} from 7860 on"
        raise OSError(
            f"{where} cannot be listened on ({error.strerror or 'in use'}); choose another by "
            f"--port or --host"
        ) from error
    try:
        yield address
    finally:
        page.close(verbose=False)


class _Actions:
    """What the page's buttons call; each works in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def example(self, name: str) -> str:
        """Writes a photograph that comes with scikit-image."""
        with self._telling():
            return str(write_example(name, self._new_folder()))

    def look(self, photo: str | None, white: float | None, number: int | None) -> list[Any]:
        """Shows a photograph that was opened, and clears former results."""
        cleared = [None, "", "", *[gr.update(visible=False)] * 3, gr.update(visible=False)]
        if photo is None:
            return [gr.update(value=None, visible=False), *cleared]
        with self._telling():
            path = Path(photo)
            options = Deblur(path, path, scale=white or None, page=number or None)
            shown, said = restoring.opened(options)
        return [gr.update(value=shown, label=said, visible=True), *cleared]

    def show_kernel(self, source: str, *kernel: Any) -> np.ndarray | None:
        """Draws the kernel as chosen; None where there is none yet."""
        family, size, variation, drawing, file, subtract = kernel
        with self._telling():
            if source == FILE:
                if file is None:
                    return None
                raw = read_kernel(Path(file))
                raw = without_background(raw) if subtract else raw
                return kernel_picture(raw) if np.isfinite(raw).all() and raw.max() > 0 else None
            if source == DRAWN and not _has_light(drawing):
                return None
            return kernel_picture(_made(source, family, size, variation, drawing))

    def work(
        self,
        mode: str,
        photo: str | None,
        source: str,
        family: str,
        size: float,
        variation: int,
        drawing: dict[str, Any] | None,
        kernel_file: str | None,
        subtract: bool,
        added: float,
        model: str,
        estimate: bool,
        noise: float,
        light: Any,
        white: float | None,
        number: int | None,
        progress: Any = gr.Progress(track_tqdm=True),  # noqa: B008
    ) -> list[Any]:
        """Restores, and blurs before where that is wanted."""
        said: list[str] = []
        with self._telling():
            if photo is None:
                raise ValueError("there is no photograph yet: drop one, or take an example")
            if source == FILE and kernel_file is None:
                raise ValueError("there is no kernel file yet: open one, or choose a shape")
            folder = self._new_folder()
            if source == FILE:
                assert kernel_file is not None
                kernel_path = Path(kernel_file)
            else:
                kernel = _made(source, family, size, variation, drawing)
                kernel_path = restoring.write_kernel(kernel, folder / "kernel.npy")
            options = Deblur(
                Path(photo),
                kernel_path,
                model=model,
                noise=None if estimate else noise / 100,
                light=light,
                scale=white or None,
                page=number or None,
                kernel_background="subtract" if subtract and source == FILE else "keep",
            )
            blurred = None
            if mode == PLAY:
                progress(0, desc="blurring")
                blurred = restoring.blur_photo(options, folder, noise=added / 100, say=said.append)
                options = replace(options, first=blurred.path, page=None)
            progress(0, desc="getting ready; the first photograph of a size takes longer")
            restored = restoring.restore_photo(options, folder, say=said.append)
            before, after = (
                restoring.picture(p, white=restored.white)
                for p in (restored.before, restored.after)
            )
            if (factor := restoring.reduction(restored.before)) > 1:
                said.append(
                    f"shown at 1/{factor} of its size, where blur is smaller too; the files have "
                    f"all pixels"
                )
            score = ""
            if blurred is not None:
                low, high = restoring.decibels(restored, blurred.sharp)
                score = f"Blurred {low:.1f} dB, restored {high:.1f} dB PSNR to the sharp photograph"
        lines = "".join(f"<li>{html.escape(self._shortened(line))}</li>" for line in said)
        return [
            (before, after),
            score,
            f"<ul>{lines}</ul>",
            gr.update(value=str(restored.path), visible=True),
            gr.update(value=blurred and str(blurred.path), visible=blurred is not None),
            gr.update(value=str(kernel_path), visible=source != FILE),
            gr.update(value=restoring.deblur_command(options, restored.path), visible=True),
        ]

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))

    def _shortened(self, text: str) -> str:
        """A line without folders of the page, and without hints at the shell's options."""
        text = re.sub(rf"{re.escape(str(self._folder))}(/[^/\s]+)*/", "", text)
        return one_line(re.sub(r" \(--[^)]*\)", "", text))

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Shows what is of the user's making as a sentence on the page."""
        try:
            yield
        except (*MISTAKES, TypeError, jax.errors.JaxRuntimeError) as error:
            said = self._shortened(str(error) or type(error).__name__)
            sentence = html.escape(said[:1].upper() + said[1:])
            raise gr.Error(
                sentence, title="That did not work", duration=8, print_exception=False
            ) from error


def _for_mode(mode: str) -> list[Any]:
    words = "Blur and restore" if mode == PLAY else "Restore"
    return [gr.update(visible=mode == PLAY), gr.update(value=words)]


def _for_source(source: str) -> list[Any]:
    shape, drawn, file = (gr.update(visible=source == one) for one in (SHAPE, DRAWN, FILE))
    return [shape, gr.update(visible=source != FILE), drawn, file, file, shape]


def _made(
    source: str, family: str, size: float, variation: int, drawing: dict[str, Any] | None
) -> np.ndarray:
    if source == SHAPE:
        return family_kernel(family, size=int(size), variation=variation)
    pixels = None if drawing is None else drawing["composite"]
    return drawn_kernel(np.zeros((_CANVAS,) * 2) if pixels is None else pixels, size=int(size))


def _black_canvas() -> dict[str, Any]:
    black = np.zeros((_CANVAS, _CANVAS, 3), np.uint8)
    return {"background": black, "layers": [], "composite": black}


def _has_light(drawing: dict[str, Any] | None) -> bool:
    pixels = None if drawing is None else drawing["composite"]
    return pixels is not None and bool(brightness(pixels).any())
