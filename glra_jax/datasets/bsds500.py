"""BSDS500: 500 photographs of 321 x 481 pixels, upright or lying, by split.

Arbelaez, Maire, Fowlkes and Malik, "Contour Detection and Hierarchical Image Segmentation",
IEEE TPAMI 33(5), 2011; for non-commercial research and teaching. The splits are `train` (200),
`test` (200) and `val` (100). `val` is also named `bsd100`: the paper's Table 2 scores those
images, so training on them is refused unless asked for by name.

The photographs come from the official archive, which is downloaded, or lies in `manual_dir`, and
is prepared once by tensorflow-datasets (`bsds500_builder.py`); or straight from a folder where the
archive was unpacked, for which tensorflow-datasets is not needed.
"""

import os
from pathlib import Path

import numpy as np

from glra_jax import validation
from glra_jax.datasets import bsds500_archive
from glra_jax.datasets.dataset import Dataset

SPLITS = {"train": "train", "test": "test", "val": "val", "bsd100": "val"}


def bsds500_photographs(
    split: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> dict[str, np.ndarray]:
    """Photographs of one split by name, in the order of the names.

    With `folder`, its files are read and nothing is written. Without, the dataset prepared in
    `data_dir` is read; if there is none yet, it is made of what lies in `manual_dir`, else the
    archive (71 MB) is downloaded for it. Once the files are there, nothing needs a network.

    Args:
      split: `"train"`, `"test"`, `"val"`, or `"bsd100"`, which is `val` by another name.
      folder: where the archive was unpacked: any folder with `images/train`, `images/test` or
        `images/val` in it or up to three levels down, or the `images` folder itself.
      data_dir: where prepared data is kept; by default that of tensorflow-datasets
        (`$TFDS_DATA_DIR`, else `~/tensorflow_datasets`).
      manual_dir: a folder with `BSR_bsds500.tgz` or what was unpacked from it; by default
        `downloads/manual` in `data_dir`, if the archive lies there.

    Returns:
      uint8 arrays `(H, W, 3)`, RGB.

    Raises:
      FileNotFoundError: no BSDS500 in `folder` or `manual_dir`, or this split is not in it.
      ImportError: tensorflow-datasets is missing and no `folder` is given.
      NotADirectoryError: `folder` or `manual_dir` is not a folder.
      OSError: the download failed.
      ValueError: unknown split, `folder` along with the other two, a truncated or foreign archive,
        another number of images than BSDS500 has, or one that cannot be decoded.
    """
    validation.check_choice(split, "split", tuple(SPLITS))
    if folder is not None:
        if data_dir is not None or manual_dir is not None:
            raise ValueError(
                f"folder={str(folder)!r} is read as it is; give it without data_dir and manual_dir"
            )
        images = bsds500_archive.find_images(folder)
        if images is None:
            raise FileNotFoundError(
                f"{folder} holds no unpacked BSDS500: no JPEG files in images/train, images/test "
                f"or images/val, here or up to three levels down; an archive goes in manual_dir"
            )
        jpegs = bsds500_archive.read_images(images, (SPLITS[split],))[SPLITS[split]]
    else:
        try:
            from glra_jax.datasets import bsds500_builder
        except ImportError as error:
            raise ImportError(
                "BSDS500 is prepared by tensorflow-datasets: pip install 'glra-jax[experiments]', "
                "or unpack the archive and give its folder (folder=...)"
            ) from error
        jpegs = bsds500_builder.prepared_jpegs(
            SPLITS[split], data_dir=data_dir, manual_dir=manual_dir
        )
    return {name: bsds500_archive.decode_jpeg(jpegs[name], name) for name in sorted(jpegs)}


def load_bsds500(
    split: str, *, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads one split from wherever it lies; see `bsds500_photographs`.

    Args:
      split: `"train"`, `"test"`, `"val"` or `"bsd100"`.
      data_dir: a folder where the archive was unpacked, or where tensorflow-datasets has prepared
        the dataset; by default that library's own folder, where it is prepared if it is not yet.

    Returns:
      uint8 arrays `(H, W, 3)`, RGB, by name.

    Raises:
      FileNotFoundError: no BSDS500 in `data_dir`, or this split is not in it.
      ImportError: tensorflow-datasets is missing and wanted.
      NotADirectoryError: `data_dir` is not a folder.
      OSError: the download failed.
      ValueError: unknown split, or what `bsds500_photographs` refuses.
    """
    if data_dir is None or any(Path(data_dir).glob("bsds500/*/dataset_info.json")):
        return bsds500_photographs(split, data_dir=data_dir)
    return bsds500_photographs(split, folder=data_dir)


DATASET = Dataset(
    "bsds500",
    load=load_bsds500,
    splits=SPLITS,
    training_splits=("train", "test"),
    test_split="val",
    words="BSDS500 {split}",
    scored={"val": "BSD100, the 100 images that the paper's Table 2 scores"},
    licence=bsds500_archive.LICENCE,
)
