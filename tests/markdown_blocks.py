"""Fenced blocks of code in Markdown files."""

import re
from pathlib import Path


def blocks(path: Path, language: str) -> list[str]:
    """Fenced blocks of a language, also where they are indented in a list."""
    text = path.read_text()
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, flags=re.DOTALL | re.MULTILINE)
    return ["\n".join(line[len(i) :] for line in body.split("\n")) for i, body in found]
