"""Notebooks as pages of the site: their text, code and stored outputs."""

import base64
import re
from typing import Any


def notebook_page(notebook: dict[str, Any], folder: str) -> tuple[str, dict[str, bytes]]:
    """Writes a notebook as Markdown.

    Args:
      notebook: as its JSON file holds it, format 4.
      folder: where its pictures will be, relative to the page.

    Returns:
      The page, and the pictures by their path.
    """
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(_fenced(source, "python"))
        for output in cell["outputs"]:
            data = output.get("data", {})
            for kind in ("image/png", "image/jpeg"):
                if kind in data:
                    name = f"{folder}/{len(pictures) + 1}.{kind.removeprefix('image/')}"
                    pictures[name] = base64.b64decode("".join(data[kind]))
                    parts.append(f"![Output of the cell]({name})")
                    break
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                if text.strip():
                    parts.append(_fenced(text.rstrip("\n"), "text"))
    return "\n\n".join(parts) + "\n", pictures


def _fenced(text: str, language: str) -> str:
    """A block of code, fenced by more backticks than are in it."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
