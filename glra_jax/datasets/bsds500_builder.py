"""BSDS500 as a tensorflow-datasets builder. Needs no TensorFlow: ArrayRecord, read as data source.

Importing this module imports tensorflow-datasets; `bsds500.py` does so only when prepared data is
asked for.
"""

import contextlib
import io
import os
import sys
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, download_manager

from glra_jax.datasets import bsds500_archive


class Bsds500(tfds.core.GeneratorBasedBuilder):
    """The photographs of BSDS500, in the splits `train`, `test` and `val`.

    Examples have an `image` (JPEG as in the archive) and a `name`. Prepare with
    `file_format="array_record"`, read with `as_data_source`. From an unpacked folder, the splits
    are those that the folder has.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The photographs, without the segmentations."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Not needed with a network. Without: {bsds500_archive.ARCHIVE_NAME} from "
        f"{bsds500_archive.ARCHIVE_URL}, or the folder that was unpacked from it."
    )
    url_infos = {  # noqa: RUF012
        bsds500_archive.ARCHIVE_URL: checksums.UrlInfo(
            size=bsds500_archive.ARCHIVE_SIZE,
            checksum=bsds500_archive.ARCHIVE_SHA256,
            filename=bsds500_archive.ARCHIVE_NAME,
        )
    }

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description="500 photographs of 321 x 481 pixels, with their official splits.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "name": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,  # in the order of the names
            homepage="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
            license=bsds500_archive.LICENCE,
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        archive = images = None
        with contextlib.suppress(AssertionError):  # its way to say: manual_dir missing or empty
            archive = bsds500_archive.find_archive(dl_manager.manual_dir)
            images = None if archive else bsds500_archive.find_images(dl_manager.manual_dir)
        if images:
            jpegs = bsds500_archive.read_images(images)
        else:
            jpegs = bsds500_archive.read_archive(archive or _download(dl_manager))
        return {split: self._generate_examples(jpegs[split]) for split in jpegs}

    def _generate_examples(self, jpegs: dict[str, bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in sorted(jpegs):
            bsds500_archive.decode_jpeg(jpegs[name], name)  # nothing is stored that cannot be read
            yield name, {"image": io.BytesIO(jpegs[name]), "name": name}


def prepared_jpegs(
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> dict[str, bytes]:
    """Encoded images of one split by name; prepares the dataset first where that is still to do.

    Args:
      split: `train`, `test` or `val`.
      data_dir: see `bsds500.bsds500_photographs`.
      manual_dir: see `bsds500.bsds500_photographs`.

    Returns:
      JPEG files.

    Raises:
      FileNotFoundError: nothing in `manual_dir`, or the prepared dataset lacks this split.
      NotADirectoryError: `manual_dir` is not a folder.
      OSError: the download failed.
      ValueError: a truncated or foreign archive, or images that are not those of BSDS500.
    """
    builder = _prepared_builder(data_dir, manual_dir)
    if split not in builder.info.splits:
        raise FileNotFoundError(
            f"{builder.data_dir} was prepared from a folder without images of split {split!r}; "
            f"choose another data_dir and prepare it from the official archive"
        )
    # The bytes as they are, so that one decoder serves all sources: TFDS's own depends on whether
    # OpenCV is installed.
    examples = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    return {example["name"].decode(): example["image"] for example in examples}


def _prepared_builder(
    data_dir: str | os.PathLike[str] | None, manual_dir: str | os.PathLike[str] | None
) -> Bsds500:
    builder = _open_builder(data_dir)
    if Path(builder.data_dir).exists():
        return builder
    root = Path(builder.data_dir).parents[1]
    if manual_dir is None:
        # Archive or nothing: what else lies there may belong to other datasets.
        archive = bsds500_archive.find_archive(root / "downloads" / "manual")
        manual_dir = archive.parent if archive else None
    elif not bsds500_archive.find_archive(manual_dir) and not bsds500_archive.find_images(
        manual_dir
    ):
        raise FileNotFoundError(
            f"{manual_dir} holds neither {bsds500_archive.ARCHIVE_NAME} nor an unpacked BSDS500; "
            f"put the archive there, or leave manual_dir out to download it"
        )
    root.mkdir(parents=True, exist_ok=True)
    # TFDS prints to stdout, which belongs to the caller's results. And it gets a folder of its own
    # for the download, so that one that breaks off leaves nothing behind.
    with (
        contextlib.redirect_stdout(sys.stderr),
        tempfile.TemporaryDirectory(prefix="bsds500_download_", dir=root) as download_dir,
    ):
        try:
            builder.download_and_prepare(
                file_format="array_record",
                download_dir=download_dir,
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
            )
        except OSError:
            # TFDS renames a finished folder to its name; another process may have been faster.
            if not Path(builder.data_dir).exists():
                raise
            return _open_builder(data_dir)
    return builder


def _open_builder(data_dir: str | os.PathLike[str] | None) -> Bsds500:
    with warnings.catch_warnings():
        # Where TFDS 4.9.10 reads what it has prepared, it asks protobuf for a field's `label`, too,
        # for the sake of old versions; protobuf 6 warns of that, and here it means nothing.
        warnings.filterwarnings("ignore", r"label\(\) is deprecated", DeprecationWarning)
        return Bsds500(data_dir=data_dir)


def _download(dl_manager: Any) -> Path:
    fix = (
        f"fetch {bsds500_archive.ARCHIVE_NAME} by other means and give the folder that holds it as "
        f"manual_dir, or unpack it and give that folder"
    )
    try:
        # Without a network TFDS goes on trying for minutes, so knock once before. An answer of any
        # kind will do: what it is worth is for TFDS to say.
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(bsds500_archive.ARCHIVE_URL, timeout=60).close()
        return Path(dl_manager.download(bsds500_archive.ARCHIVE_URL))
    except download_manager.NonMatchingChecksumError as error:
        raise ValueError(f"the download is truncated or another file; {fix}: {error}") from error
    except (OSError, tfds.download.DownloadError) as error:
        raise OSError(
            f"{bsds500_archive.ARCHIVE_URL} cannot be downloaded; {fix}: {error}"
        ) from error


_CITATION = """@article{arbelaez2011contour,
  author = {Arbelaez, Pablo and Maire, Michael and Fowlkes, Charless and Malik, Jitendra},
  title = {Contour Detection and Hierarchical Image Segmentation},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume = {33}, number = {5}, pages = {898--916}, year = {2011},
  doi = {10.1109/TPAMI.2010.161},
}"""
