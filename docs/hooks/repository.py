"""Hook of MkDocs: pages from outside of `docs/`, and links that work on GitHub and on the site.

Pages have the links that GitHub follows, relative to where a file lies in the repository. On the
site a link leads to the page of that file, or to GitHub where there is none.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from notebooks import notebook_page

ROOT = Path(__file__).parents[2]

# Files of the repository by the site's page.
PAGES = {
    "baselines.md": "experiments/baselines/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    **{
        f"{folder}/{path.stem}{suffix}": path.relative_to(ROOT).as_posix()
        for folder, pattern, suffix in (
            ("models", "glra_jax/weights/*.md", ".md"),
            ("models", "glra_jax/weights/*.png", ".png"),
            ("examples", "examples/*.ipynb", ".md"),
        )
        for path in sorted(ROOT.glob(pattern))
    },
}
_ON_SITE = {source: page for page, source in PAGES.items()}

_FENCE = re.compile(r"^( *)(```+).*?^\1\2 *$", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the pages and pictures from outside of `docs/`."""
    for page, source in PAGES.items():
        path = ROOT / source
        if path.suffix != ".ipynb":
            files.append(File.generated(config, page, abs_src_path=str(path)))
            continue
        notebook = json.loads(path.read_text(encoding="utf-8"))
        text, pictures = notebook_page(notebook, f"{path.stem}-pictures")
        files.append(File.generated(config, page, content=text))
        for name, data in pictures.items():
            files.append(File.generated(config, f"{posixpath.dirname(page)}/{name}", content=data))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    site_path = page.file.src_uri
    source = PAGES.get(site_path, f"docs/{site_path}")
    known = {file.src_uri for file in files}

    def turned(match: re.Match[str]) -> str:
        target = site_link(match[2], source, site_path, known, config["repo_url"])
        return f"{match[1]}{target}{match[3]}"

    return "".join(
        text if is_code else _LINK.sub(turned, text) for text, is_code in _split(markdown)
    )


def site_link(target: str, source: str, site_path: str, known: set[str], repository: str) -> str:
    """Translates a link.

    Args:
      target: as written, relative to the file.
      source: path of the file in the repository.
      site_path: path of its page on the site.
      known: paths of all pages and pictures of the site.
      repository: address of the repository.

    Returns:
      The link relative to the page, an address on GitHub, or the target where neither is there:
      MkDocs then reports it.
    """
    path, _, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return target
    hash_ = f"#{anchor}" if anchor else ""
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    on_site = _ON_SITE.get(file, file.removeprefix("docs/") if file.startswith("docs/") else "")
    if on_site in known:
        return posixpath.relpath(on_site, posixpath.dirname(site_path) or ".") + hash_
    if not (ROOT / file).exists():
        return target
    kind = "tree" if (ROOT / file).is_dir() else "blob"
    return f"{repository}/{kind}/main/{file}{hash_}"


def _split(markdown: str) -> Iterator[tuple[str, bool]]:
    """Parts of a page, and whether they are fenced code."""
    end = 0
    for fence in _FENCE.finditer(markdown):
        yield markdown[end : fence.start()], False
        yield fence[0], True
        end = fence.end()
    yield markdown[end:], False
