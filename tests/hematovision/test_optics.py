"""Optics: what is left after division by the light is stain alone."""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hematovision.errors import ImageError, SettingError
from hematovision.light import Light
from hematovision.optics import check_um_per_pixel, measure_field, optical_density

RED_CELL = np.array([0.85, 0.6, 0.65])


@cache
def smear(width: int, height: int, um_per_pixel: float, seed: int = 0) -> np.ndarray:
    """Transmittance of discs of 7.5 µm that cover about a third of the glass: (height, width, 3)."""
    rng = np.random.default_rng(seed)
    field = np.ones((height, width, 3))
    y, x = np.mgrid[:height, :width] * um_per_pixel
    for _ in range(int(width * height * um_per_pixel**2 / 130)):
        center = rng.uniform(0, width * um_per_pixel), rng.uniform(0, height * um_per_pixel)
        field[(x - center[0]) ** 2 + (y - center[1]) ** 2 < 3.75**2] = RED_CELL
    return field


def photograph(transmittance: np.ndarray, light: np.ndarray, noise: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    picture = transmittance * light + rng.normal(0, noise, transmittance.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def vignetting(width: int, height: int, loss: float) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (1 - loss * (x**2 + y**2) / 2)[..., None]


@pytest.mark.parametrize("lamp", [(230, 230, 230), (240, 200, 150), (140, 180, 220), (90, 100, 95)])
def test_the_colour_and_strength_of_the_lamp_drop_out(lamp: tuple[int, int, int]) -> None:
    field = measure_field(photograph(smear(1280, 960, 0.1), np.array(lamp)), 0.1)
    glass = np.median(field.transmittance[field.transmittance[..., 1] > 0.9], axis=0)
    cells = np.median(field.transmittance[field.transmittance[..., 1] < 0.75], axis=0)
    np.testing.assert_allclose(glass, 1.0, atol=0.02)
    np.testing.assert_allclose(cells, RED_CELL, atol=0.03)


def test_vignetting_drops_out_of_a_wide_field() -> None:
    light = 230 * vignetting(1280, 960, 0.35)
    field = measure_field(photograph(smear(1280, 960, 0.1), light), 0.1)
    rows, columns = field.transmittance.shape[:2]
    error = np.abs(field.light.over(columns, rows) / (vignetting(columns, rows, 0.35) * 230) - 1)
    assert np.percentile(error, 99) < 0.04
    assert error.max() < 0.08  # in the very corners, where the light has lost a third


def test_a_field_crowded_with_cells_keeps_the_glass_as_its_light() -> None:
    crowded = np.minimum(smear(1280, 960, 0.1, seed=1), smear(1280, 960, 0.1, seed=2))
    crowded = np.minimum(crowded, smear(1280, 960, 0.1, seed=3))
    assert (crowded[..., 1] == 1).mean() < 0.5
    light = 220 * vignetting(1280, 960, 0.2)
    field = measure_field(photograph(crowded, light), 0.1)
    measured = field.light.over(320, 240)
    np.testing.assert_allclose(measured, np.repeat(220 * vignetting(320, 240, 0.2), 3, axis=2), rtol=0.06)


def test_black_fill_is_no_image_and_does_not_change_the_light() -> None:
    picture = photograph(smear(640, 480, 0.083), np.array([220, 215, 210]))
    filled = picture.copy()
    y, x = np.mgrid[:480, :640]
    corner = x + y < 300
    filled[corner] = 0
    plain, field = measure_field(picture, 0.083), measure_field(filled, 0.083)
    assert field.dark.any()
    assert not plain.dark.any()
    assert (field.transmittance[field.dark] == 1).all()
    np.testing.assert_allclose(field.light.over(8, 8), plain.light.over(8, 8), rtol=0.02)


def test_a_dark_nucleus_is_not_taken_for_black_fill() -> None:
    transmittance = smear(640, 480, 0.1).copy()
    transmittance[:60, 300:360] = [0.05, 0.03, 0.2]  # a dense nucleus, cut by the border
    assert not measure_field(photograph(transmittance, np.array([230, 230, 230])), 0.1).dark.any()


def test_a_black_field_is_refused() -> None:
    with pytest.raises(ImageError, match="black"):
        measure_field(np.zeros((240, 320, 3), np.uint8), 0.1)


@pytest.mark.parametrize("scale", [0, -0.1, float("nan"), float("inf"), 5.0])
def test_a_scale_that_cannot_be_is_refused(scale: float) -> None:
    with pytest.raises(SettingError, match="µm per pixel"):
        check_um_per_pixel(scale)


@pytest.mark.parametrize("shape", [(240, 320), (240, 320, 1), (240, 320, 4)])
def test_a_frame_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="height, width, 3"):
        measure_field(np.full(shape, 200, np.uint8), 0.1)


def test_a_frame_of_floats_is_refused() -> None:
    with pytest.raises(ImageError, match="uint8"):
        measure_field(np.ones((240, 320, 3)), 0.1)  # type: ignore[arg-type]


def test_a_large_frame_at_a_coarse_scale_is_not_enlarged_but_refused() -> None:
    frame = np.full((1520, 2028, 3), 200, np.uint8)
    with pytest.raises(ImageError, match=r"2028x1520 pixels at 2 µm per pixel .* 4\.1 mm .*check the scale"):
        measure_field(frame, 2.0)
    assert measure_field(frame, 0.5).transmittance.shape == (1520, 2028, 3)


@given(st.floats(0.0011, 1.0))
def test_optical_density_is_the_negative_decimal_logarithm(transmittance: float) -> None:
    density = optical_density(np.full((1, 1), transmittance, np.float32))
    assert density[0, 0] == pytest.approx(-np.log10(transmittance), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-0.1, 0.1), min_size=5, max_size=5))
@example([0.1] * 5)
def test_the_light_between_its_places_is_within_a_hundredth_but_for_the_corners(slopes: list[float]) -> None:
    def quadratic(side: int) -> np.ndarray:
        axis = (np.arange(side) + 0.5) * 2 / side - 1
        x, y = axis[None, :, None], axis[:, None, None]
        terms = zip(slopes, (x, y, x * x, x * y, y * y), strict=True)
        return np.exp(5 + sum(slope * term for slope, term in terms)).repeat(3, axis=2).astype(np.float32)

    light, exact = Light(quadratic(48)), quadratic(200)
    axis = (np.arange(200, dtype=np.float32) + 0.5) / 100 - 1
    for interpolated in (light.over(200, 200), light.at(axis, axis)):
        np.testing.assert_allclose(interpolated, exact, rtol=0.015)
        np.testing.assert_allclose(interpolated[10:-10, 10:-10], exact[10:-10, 10:-10], rtol=0.01)


def small_copy(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("size", [(320, 240), (640, 480), (270, 206), (230, 173)])
def test_the_cameras_own_small_picture_gives_the_same_field(size: tuple[int, int]) -> None:
    picture = photograph(smear(1280, 960, 0.1), 230 * vignetting(1280, 960, 0.2))
    without = measure_field(picture, 0.1)
    given_small = measure_field(picture, 0.1, small=small_copy(picture, *size))
    assert given_small.transmittance.shape == without.transmittance.shape
    assert given_small.scale == without.scale
    difference = np.abs(given_small.transmittance - without.transmittance)
    assert np.percentile(difference, 99) < (0.04 if size[0] % 320 == 0 else 0.12)  # the rest is resampling
    np.testing.assert_allclose(given_small.light.over(8, 8), without.light.over(8, 8), rtol=0.02)


def test_the_frame_itself_is_not_looked_at_where_it_brings_a_small_picture() -> None:
    picture = photograph(smear(1280, 960, 0.1), np.array([230, 220, 210]))
    small = small_copy(picture, 320, 240)
    fields = [measure_field(frame, 0.1, small=small) for frame in (picture, np.zeros_like(picture))]
    np.testing.assert_array_equal(fields[0].transmittance, fields[1].transmittance)


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ((96, 128, 3), "128x96 pixels is too coarse .* 256x192"),
        ((480, 480, 3), "480x480 .* not show the same"),
    ],
)
def test_a_small_picture_that_cannot_stand_for_the_frame_is_refused(
    shape: tuple[int, ...], what: str
) -> None:
    with pytest.raises(ImageError, match=what):
        measure_field(np.full((960, 1280, 3), 200, np.uint8), 0.1, small=np.full(shape, 200, np.uint8))


def test_a_small_picture_of_another_type_is_refused() -> None:
    frame = np.full((960, 1280, 3), 200, np.uint8)
    with pytest.raises(ImageError, match="small picture must be"):
        measure_field(frame, 0.1, small=np.ones((240, 320, 3)))  # type: ignore[arg-type]


def test_a_quarter_of_the_frame_is_its_mean_over_16_pixels_but_for_rounding() -> None:
    picture = photograph(smear(1280, 960, 0.125), np.array([230, 220, 210]))
    means = picture.reshape(240, 4, 320, 4, 3).mean(axis=(1, 3))
    field = measure_field(picture, 0.125)
    assert np.abs(field.small - means).max() <= 1.01
    assert np.abs(field.transmittance * field.light.over(320, 240) - means).max() <= 1.01


def positions(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return x[..., None], y[..., None]


def pink_rim() -> np.ndarray:
    """A grey centre in a pink rim, as a lens in front of the wrong sensor gives."""
    x, y = positions(1280, 960)
    rim = 1 / (1 + np.exp((0.65 - np.hypot(x, 0.75 * y)) / 0.1))
    return 140 * (1 + rim * np.array([0.45, -0.12, -0.05]))


def flare(level: float, height: tuple[float, float, float] = (0.1, 0.5, 0.6)) -> np.ndarray:
    """A coloured hot spot some 20 µm wide beside the middle."""
    x, y = positions(1280, 960)
    return level * (1 + np.exp(-((x + 0.25) ** 2 + (y - 0.2) ** 2) / 0.05) * np.array(height))


def error_of(
    light: np.ndarray, seed: int = 0, touch: Callable[[np.ndarray], None] | None = None
) -> np.ndarray:
    """By how much the measured transmittance is off, where the sensor did not clip."""
    transmittance = smear(1280, 960, 0.1, seed)
    picture = photograph(transmittance, light)
    untouched = picture.copy()
    if touch is not None:
        touch(picture)
    field = measure_field(picture, 0.1)
    rows, columns = field.transmittance.shape[:2]
    known = small_copy(((untouched < 250) & (picture == untouched)).astype(np.float32), columns, rows) == 1
    truth = small_copy(transmittance.astype(np.float32), columns, rows)
    return np.abs(field.transmittance - truth)[known]


@pytest.mark.parametrize(
    "light",
    [
        pink_rim(),
        pink_rim() * vignetting(1280, 960, 0.25),
        flare(140),
        flare(140) * vignetting(1280, 960, 0.25),
        pink_rim() * flare(1.0),
        140 * (1 - flare(1.0, (0.3, 0.2, 0.1)) / 2.5),  # a shadow as smooth
    ],
    ids=["rim", "rim, vignetting", "flare", "flare, vignetting", "rim, flare", "shadow"],
)
def test_light_that_is_no_quadratic_drops_out_too(light: np.ndarray) -> None:
    for seed in (1, 2, 3):
        error = error_of(light, seed)
        assert error.mean() < 0.015
        assert np.percentile(error, 99) < 0.08


@pytest.mark.parametrize("light", [flare(210), 280 * vignetting(1280, 960, 0.35)], ids=["flare", "middle"])
def test_a_highlight_that_clips_is_taken_for_at_least_so_bright(light: np.ndarray) -> None:
    error = error_of(light * np.ones(3))
    assert error.mean() < 0.015
    assert np.percentile(error, 99) < 0.06


def scale_bar(picture: np.ndarray) -> None:
    picture[880:905, 950:1230] = 255
    cv2.putText(picture, "20 um", (1000, 860), cv2.FONT_HERSHEY_SIMPLEX, 2, (255, 255, 255), 9)


def coloured_text(picture: np.ndarray) -> None:
    cv2.putText(picture, "Patient 4711", (40, 90), cv2.FONT_HERSHEY_SIMPLEX, 2.5, (255, 255, 0), 6)


def pointer(picture: np.ndarray) -> None:
    cv2.line(picture, (1279, 100), (640, 480), (0, 0, 0), 14)


def dirt(picture: np.ndarray) -> None:
    for x, y in ((200, 200), (640, 500), (1100, 800)):
        cv2.circle(picture, (x, y), 45, (40, 35, 30), -1)


def grey_surround(picture: np.ndarray) -> None:
    y, x = np.mgrid[:960, :1280]
    picture[np.hypot(x - 640, y - 480) > 560] = 60


def thick_place(picture: np.ndarray) -> None:
    picture[300:750, 100:600] = (picture[300:750, 100:600] * RED_CELL**2).astype(np.uint8)


def covered_corner(picture: np.ndarray) -> None:
    picture[:480, 850:] = (picture[:480, 850:].max(axis=(0, 1)) * RED_CELL).astype(np.uint8)


TOUCHES = [covered_corner, scale_bar, coloured_text, pointer, dirt, grey_surround, thick_place]


@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize("light", [170 * np.ones((1, 1, 3)), pink_rim()], ids=["even light", "rim"])
def test_what_is_no_glass_is_not_taken_for_it(touch: Callable[[np.ndarray], None], light: np.ndarray) -> None:
    error = error_of(light, touch=touch)
    assert error.mean() < 0.01
    assert np.percentile(error, 99) < 0.05
