"""Photographs go through every format as they are, read back by another library."""

import io
import re

import numpy as np
import png
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageOps

from glra_jax.photo_files import Photo, check_output, read_kernel, read_photo, write_photo

HEIGHT, WIDTH = 20, 30
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def random_pixels(dtype, channels, seed=0):
    """Photographs of noise: `(H, W)`, or with more channels `(H, W, C)`."""
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def photo(dtype, channels, **options):
    """Grey, grey with alpha, RGB or RGBA."""
    pixels = random_pixels(dtype, channels)
    alpha = pixels[..., -1] if channels in (2, 4) else None
    colour = {1: pixels, 2: pixels[..., 0] if channels == 2 else None}.get(
        channels, pixels[..., :3]
    )
    return Photo(colour, alpha, **options)


def assert_same(found: Photo, expected: Photo) -> None:
    for a, b in ((found.colour, expected.colour), (found.alpha, expected.alpha)):
        assert (a is None) == (b is None)
        if b is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def exif(orientation: int = 1) -> bytes:
    found = Image.Exif()
    found[274], found[271] = orientation, "Maker"
    return found.tobytes()


# --- what is written is read back --------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
def test_lossless_formats_keep_every_bit(tmp_path, suffix, dtype, channels):
    path = tmp_path / f"photo{suffix}"
    written = photo(dtype, channels)
    write_photo(written, path)
    assert_same(read_photo(path), written)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".bmp", ".ppm"])
def test_plain_formats_keep_every_bit(tmp_path, suffix, channels):
    path = tmp_path / f"photo{suffix}"
    write_photo(photo(np.uint8, channels), path)
    assert_same(read_photo(path), photo(np.uint8, channels))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_close(tmp_path, channels):
    smooth = np.linspace(20, 230, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)
    smooth = smooth if channels == 1 else np.stack([smooth, smooth[::-1], smooth[:, ::-1]], axis=2)
    write_photo(Photo(smooth), tmp_path / "photo.jpg")
    found = read_photo(tmp_path / "photo.jpg")
    assert found.alpha is None
    assert found.colour.shape == smooth.shape
    assert np.abs(found.colour.astype(int) - smooth).max() <= 6


def test_webp_is_close_and_its_alpha_exact(tmp_path):
    smooth = np.linspace(20, 230, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)
    colour, alpha = np.stack([smooth] * 3, axis=2), random_pixels(np.uint8, 1)
    write_photo(Photo(colour, alpha), tmp_path / "photo.webp")
    found = read_photo(tmp_path / "photo.webp")
    np.testing.assert_array_equal(found.alpha, alpha)
    assert np.abs(found.colour.astype(int) - colour).max() <= 8


@given(
    pixels=hnp.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    suffix=st.sampled_from([".png", ".tif"]),
)
def test_sixteen_bits_of_any_values_and_sizes(tmp_path_factory, pixels, suffix):
    path = tmp_path_factory.mktemp("any") / f"photo{suffix}"
    write_photo(Photo(pixels), path)
    assert_same(read_photo(path), Photo(pixels))


# --- against other libraries -------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_others_read_our_16_bit_png(tmp_path, channels):
    path = tmp_path / "photo.png"
    write_photo(photo(np.uint16, channels, metadata={"icc_profile": PROFILE}), path)
    width, height, rows, info = png.Reader(bytes=path.read_bytes()).read()
    assert (width, height, info["bitdepth"], info["planes"]) == (WIDTH, HEIGHT, 16, channels)
    assert (info["greyscale"], info["alpha"]) == (channels < 3, channels in (2, 4))
    values = np.array([list(row) for row in rows]).reshape(HEIGHT, WIDTH, channels)
    np.testing.assert_array_equal(values.squeeze(), random_pixels(np.uint16, channels))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_others_read_our_tiff(tmp_path, dtype, channels):
    path = tmp_path / "photo.tif"
    write_photo(photo(dtype, channels), path)
    np.testing.assert_array_equal(tifffile.imread(path), random_pixels(dtype, channels))
    if dtype == np.uint8:
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), random_pixels(dtype, channels))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiff_of_other_programs(tmp_path, byteorder, compression, planar):
    pixels = random_pixels(np.uint16, 3)
    tifffile.imwrite(
        tmp_path / "photo.tif",
        np.moveaxis(pixels, 2, 0) if planar == "separate" else pixels,
        byteorder=byteorder,
        compression=compression,
        planarconfig=planar,
        photometric="rgb",
    )
    found = read_photo(tmp_path / "photo.tif")
    assert_same(found, Photo(pixels))
    assert found.colour.dtype.isnative


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_tiff_is_set_upright_alike_in_8_and_16_bits(tmp_path, orientation):
    """Pillow reads 8 bits and is the reference; 16 bits are read otherwise."""
    pixels = random_pixels(np.uint8, 3)
    tag = [(274, "H", 1, orientation, True)]
    for name, values in (("8", pixels), ("16", pixels.astype(np.uint16) * 257)):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="rgb", extratags=tag)
    eight, sixteen = (read_photo(tmp_path / f"{name}.tif").colour for name in ("8", "16"))
    assert eight.shape == ((HEIGHT, WIDTH, 3) if orientation < 5 else (WIDTH, HEIGHT, 3))
    np.testing.assert_array_equal(sixteen, eight.astype(np.uint16) * 257)


def test_palette_black_and_white_and_transparent_colours(tmp_path):
    rgb = (random_pixels(np.uint8, 3) // 128) * 255  # eight colours
    image = Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    image.save(tmp_path / "palette.png")
    assert_same(read_photo(tmp_path / "palette.png"), Photo(np.asarray(image.convert("RGB"))))

    image.save(tmp_path / "clear.png", transparency=3)
    found = read_photo(tmp_path / "clear.png")
    np.testing.assert_array_equal(found.alpha, np.where(np.asarray(image) == 3, 0, 255))

    grey = random_pixels(np.uint8, 1)
    Image.fromarray(grey).save(tmp_path / "grey.png", transparency=int(grey[2, 3]))
    found = read_photo(tmp_path / "grey.png")
    assert_same(found, Photo(grey, np.where(grey == grey[2, 3], 0, 255).astype(np.uint8)))

    bits = grey > 100
    Image.fromarray(bits).save(tmp_path / "bits.png")
    assert_same(read_photo(tmp_path / "bits.png"), Photo(np.where(bits, 255, 0).astype(np.uint8)))


# --- EXIF and colour profile -------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("depth", "to"), [(8, ".bmp"), (8, ".png"), (8, ".tif"), (16, ".png"), (16, ".tif")]
)
def test_turned_photographs_are_written_upright(tmp_path, orientation, depth, to):
    pixels = random_pixels(np.uint8, 3)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "8.png", exif=exif(orientation=orientation))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "8.png")))
    if depth == 16:
        upright = upright.astype(np.uint16) * 257
        turned = Photo(pixels.astype(np.uint16) * 257, None, {"exif": exif(orientation)})
        write_photo(turned, tmp_path / "16.png")
    found = read_photo(tmp_path / f"{depth}.png")
    np.testing.assert_array_equal(found.colour, upright)
    write_photo(found, tmp_path / f"out{to}")
    np.testing.assert_array_equal(read_photo(tmp_path / f"out{to}").colour, upright)
    with Image.open(tmp_path / f"out{to}") as image:
        assert image.size == (upright.shape[1], upright.shape[0])
        assert image.getexif().get(274, 1) == 1


@pytest.mark.parametrize("to", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("source", [".png", ".jpg", ".webp"])
def test_metadata_go_from_format_to_format(tmp_path, source, to):
    image = Image.fromarray(random_pixels(np.uint8, 3))
    image.save(tmp_path / f"in{source}", exif=exif(orientation=6), icc_profile=PROFILE)
    write_photo(read_photo(tmp_path / f"in{source}"), tmp_path / f"out{to}")
    with Image.open(tmp_path / f"out{to}") as image:
        assert image.info["icc_profile"] == PROFILE
        found = image.getexif()
        assert found.get(274, 1) == 1
        assert image.size == (HEIGHT, WIDTH)  # turned
        if to != ".tif":
            assert found[271] == "Maker"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_metadata_of_16_bits(tmp_path, suffix):
    written = photo(np.uint16, 3, metadata={"icc_profile": PROFILE, "exif": exif()})
    write_photo(written, tmp_path / f"photo{suffix}")
    found = read_photo(tmp_path / f"photo{suffix}")
    assert_same(found, written)
    assert found.metadata["icc_profile"] == PROFILE
    if suffix == ".png":
        again = Image.Exif()
        again.load(found.metadata["exif"])
        assert again[271] == "Maker"


# --- what cannot be read -----------------------------------------------------------------------


def encoded(suffix: str, dtype=np.uint8) -> bytes:
    pixels = random_pixels(dtype, 3)
    buffer = io.BytesIO()
    if dtype == np.uint16 and suffix == ".png":
        png.from_array(pixels.reshape(HEIGHT, -1), "RGB;16").write(buffer)
    elif suffix == ".tif":
        tifffile.imwrite(buffer, pixels, photometric="rgb", compression="zlib")
    else:
        Image.fromarray(pixels).save(buffer, format={".jpg": "JPEG"}.get(suffix, suffix[1:]))
    return buffer.getvalue()


# Pillow warns of a TIFF file that ends in its tags, and then raises.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", np.uint8),
        (".png", np.uint16),
        (".jpg", np.uint8),
        (".tif", np.uint8),
        (".tif", np.uint16),
        (".webp", np.uint8),
        (".bmp", np.uint8),
    ],
)
def test_truncated_photographs(tmp_path, suffix, dtype, keep):
    path = tmp_path / f"cut{suffix}"
    data = encoded(suffix, dtype)
    path.write_bytes(data)
    assert read_photo(path).colour.dtype == dtype
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_photo(path)


def test_other_files(tmp_path):
    (tmp_path / "letter.jpg").write_text("Dear Sir or Madam")
    with pytest.raises(ValueError, match=r"letter.jpg is not an image that can be read"):
        read_photo(tmp_path / "letter.jpg")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty.png is not an image"):
        read_photo(tmp_path / "empty.png")
    with pytest.raises(FileNotFoundError, match=r"gone.png"):
        read_photo(tmp_path / "gone.png")
    with pytest.raises(IsADirectoryError, match=f"{tmp_path} is a folder"):
        read_photo(tmp_path)


@pytest.mark.parametrize(
    ("name", "pixels", "options", "quoted"),
    [
        ("i.tif", np.zeros((4, 5), np.int32), {}, r"int32\(4, 5\); convert it to 8 or 16 bits"),
        ("w.tif", np.zeros((4, 5), np.uint16), {"photometric": "miniswhite"}, "MINISWHITE pixels"),
        ("c.tif", np.zeros((4, 5, 4), np.uint16), {"photometric": "separated"}, "SEPARATED pixels"),
    ],
)
def test_other_kinds_of_tiff(tmp_path, name, pixels, options, quoted):
    tifffile.imwrite(tmp_path / name, pixels, **options)
    with pytest.raises(ValueError, match=f"{name} .*{quoted}"):
        read_photo(tmp_path / name)


def test_cmyk_is_refused(tmp_path):
    Image.new("CMYK", (8, 8)).save(tmp_path / "print.jpg")
    with pytest.raises(ValueError, match=r"print\.jpg.*CMYK"):
        read_photo(tmp_path / "print.jpg")


# --- what cannot be written --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels", "quoted"),
    [
        (".jpg", np.uint16, 3, r"JPEG.*16 bits.*out\.png"),
        (".webp", np.uint16, 1, r"WEBP.*16 bits.*out\.png"),
        (".bmp", np.uint16, 1, r"BMP cannot hold 16 bits"),
        (".jpeg", np.uint8, 4, r"JPEG.*alpha.*out\.png"),
        (".ppm", np.uint8, 2, r"PPM cannot hold an alpha channel"),
        (".xyz", np.uint8, 3, r"out\.xyz must end in one of \.bmp, .*\.webp"),
        ("", np.uint8, 3, r"out must end in one of"),
        (".gif", np.uint8, 3, r"out\.gif must end in one of"),  # would lose colours
        (".ico", np.uint8, 3, r"out\.ico must end in one of"),  # would be made smaller
        (".pdf", np.uint8, 3, r"out\.pdf must end in one of"),
    ],
)
def test_formats_that_would_lose_something(tmp_path, suffix, dtype, channels, quoted):
    path = tmp_path / f"out{suffix}"
    for attempt in (
        lambda: check_output(photo(dtype, channels), path, overwrite=False),
        lambda: write_photo(photo(dtype, channels), path),
    ):
        with pytest.raises(ValueError, match=quoted):
            attempt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "shape", "quoted"),
    [
        (".webp", (1, 16384), r"WEBP holds at most 16383 pixels a side.* 16384; write .*\.png"),
        (".jpg", (65501, 1), r"JPEG holds at most 65500 pixels a side"),
    ],
)
def test_sides_that_a_format_cannot_hold(tmp_path, suffix, shape, quoted):
    with pytest.raises(ValueError, match=quoted):
        check_output(Photo(np.zeros(shape, np.uint8)), tmp_path / f"out{suffix}", overwrite=False)


def test_more_exif_than_a_jpeg_can_hold(tmp_path):
    much = Photo(np.zeros((4, 4), np.uint8), metadata={"exif": b"Exif\0\0" + bytes(70000)})
    with pytest.raises(ValueError, match=r"out\.jpg: JPEG cannot hold the photograph"):
        check_output(much, tmp_path / "out.jpg", overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_floating_point_goes_into_tiff_and_fits_alone(tmp_path, suffix):
    photo = Photo(np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match=r"cannot hold floating-point pixels; write .*out\.tif"):
        check_output(photo, tmp_path / f"out{suffix}", overwrite=False)


@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_keeps_every_bit(tmp_path, channels):
    pixels = np.random.default_rng(0).standard_normal((9, 8, 3)).astype(np.float32) * 1e4
    pixels = pixels if channels == 3 else pixels[..., 0]
    write_photo(Photo(pixels), tmp_path / "out.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), pixels)
    assert_same(read_photo(tmp_path / "out.tif"), Photo(pixels))


@pytest.mark.parametrize("greyscale", [True, False])
def test_a_transparent_colour_of_16_bits_becomes_alpha(tmp_path, greyscale):
    pixels = random_pixels(np.uint16, 1 if greyscale else 3)
    clear = tuple(int(v) for v in np.atleast_1d(pixels[2, 3]))
    writer = png.Writer(
        *(WIDTH, HEIGHT), greyscale=greyscale, bitdepth=16,
        transparent=clear[0] if greyscale else clear,
    )  # fmt: skip
    with (tmp_path / "a.png").open("wb") as file:
        writer.write(file, pixels.reshape(HEIGHT, -1).tolist())
    found = read_photo(tmp_path / "a.png")
    same = np.all(np.atleast_3d(pixels) == np.array(clear), axis=2)
    assert_same(found, Photo(pixels, np.where(same, 0, 65535).astype(np.uint16)))


def test_damaged_exif_is_left_out(tmp_path):
    """Of 16 bits as of 8."""
    written = photo(np.uint16, 3, metadata={"exif": b"Exif\0\0" + b"no such thing"})
    write_photo(written, tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert_same(found, written)
    write_photo(found, tmp_path / "b.png")


def test_a_pgm_of_16_bits_and_a_pfm(tmp_path):
    pixels = random_pixels(np.uint16, 1)
    head = f"P5 {WIDTH} {HEIGHT} 65535\n".encode()
    (tmp_path / "a.pgm").write_bytes(head + pixels.astype(">u2").tobytes())
    assert_same(read_photo(tmp_path / "a.pgm"), Photo(pixels))
    values = np.random.default_rng(0).random((HEIGHT, WIDTH), np.float32)
    Image.fromarray(values).save(tmp_path / "a.pfm")
    assert_same(read_photo(tmp_path / "a.pfm"), Photo(values))


def test_a_preview_in_a_jpeg_is_left_out_and_said(tmp_path):
    frames = [Image.fromarray(random_pixels(np.uint8, 3)) for _ in range(2)]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    found = read_photo(tmp_path / "a.jpg")
    assert found.colour.shape == (HEIGHT, WIDTH, 3)
    assert found.notes == (
        f"{tmp_path / 'a.jpg'} holds 2 images; the first, the photograph, is taken",
    )


def test_an_existing_file_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"out\.png exists"):
        write_photo(photo(np.uint8, 3), path)
    assert path.read_bytes() == b"precious"
    write_photo(photo(np.uint8, 3), path, overwrite=True)
    assert_same(read_photo(path), photo(np.uint8, 3))
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder .*gone does not exist; make it first"):
        write_photo(photo(np.uint8, 3), tmp_path / "gone" / "out.png")


# --- kernels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32, np.uint8, bool])
def test_kernel_from_numpy_file(tmp_path, dtype):
    kernel = np.array([[0, 1, 0], [1, 5, 2]]).astype(dtype)
    np.save(tmp_path / "kernel.npy", kernel)
    found = read_kernel(tmp_path / "kernel.npy")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, kernel.astype(np.float64))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_kernel_from_an_image_is_the_mean_of_its_channels(tmp_path, dtype, channels):
    pixels = random_pixels(dtype, channels)
    write_photo(Photo(pixels), tmp_path / "kernel.png")
    expected = pixels.astype(np.float64).reshape(HEIGHT, WIDTH, channels).mean(axis=2)
    np.testing.assert_allclose(read_kernel(tmp_path / "kernel.png"), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "quoted"),
    [
        (np.zeros((3, 3, 2)), r"holds float64\(3, 3, 2\)"),
        (np.zeros(3), r"holds float64\(3,\)"),
        (np.zeros((3, 3), complex), r"holds complex128\(3, 3\)"),
        (np.array([["a", "b"]]), r"holds <U1\(1, 2\)"),
    ],
)
def test_other_arrays_are_no_kernels(tmp_path, kernel, quoted):
    np.save(tmp_path / "kernel.npy", kernel)
    with pytest.raises(ValueError, match=f"kernel.npy {quoted}"):
        read_kernel(tmp_path / "kernel.npy")


def test_other_files_are_no_kernels(tmp_path):
    path = tmp_path / "kernel.npy"
    np.save(path, np.ones((30, 30)))
    whole = path.read_bytes()
    # Objects would run code when they are read; they are not read.
    np.save(tmp_path / "objects.npy", np.array([[None]]), allow_pickle=True)
    for data in (b"", b"letter", whole[:-100], (tmp_path / "objects.npy").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"kernel\.npy.*not a whole"):
            read_kernel(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.npy"):
        read_kernel(tmp_path / "gone.npy")


def test_a_header_that_promises_more_than_there_is(tmp_path):
    """No memory is asked for, whatever it says."""
    path = tmp_path / "kernel.npy"
    np.savez(tmp_path / "k.npz", np.ones((3, 3)))
    (tmp_path / "k.npz").rename(path)
    with pytest.raises(ValueError, match=r"kernel\.npy is not a whole .npy file.*numpy\.save"):
        read_kernel(path)
    for shape in ("(100000, 100000)", "(9223372036854775807, 2)", "(-1, 5)"):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
        path.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode())
        with pytest.raises(ValueError, match=r"kernel\.npy is not a whole"):
            read_kernel(path)
