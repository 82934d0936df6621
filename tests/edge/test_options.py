"""Options behind a camera's name."""

import pytest

from edge.cameras.options import parse_options
from hematovision.errors import SettingError

KNOWN = {"seed": int, "noise": float, "lamp": str}


def test_each_option_given_has_the_value_and_type_it_should() -> None:
    assert parse_options("seed=3,noise=1.5,lamp=warm", KNOWN) == {"seed": 3, "noise": 1.5, "lamp": "warm"}
    assert parse_options("noise=2", KNOWN) == {"noise": 2.0}
    assert isinstance(parse_options("noise=2", KNOWN)["noise"], float)


def test_an_empty_text_has_no_options_and_blanks_do_not_matter() -> None:
    assert parse_options("", KNOWN) == {}
    assert parse_options(" seed = 3 , noise=1", KNOWN) == {"seed": 3, "noise": 1.0}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("speed=3", "'speed=3' is unknown; known are seed=, noise=, lamp="),
        ("seed=3,", "'' is unknown"),
        ("3", "'3' is unknown"),
        ("seed", "'seed' has no value; write seed=VALUE"),
        ("seed=", "'seed' has no value"),
        ("seed=1,seed=2", "'seed' is given twice"),
        ("seed=1.5", "'seed=1.5': must be a whole number"),
        ("noise=much", "'noise=much': must be a finite number"),
        ("noise=nan", "'noise=nan': must be a finite number"),
        ("noise=-inf", "'noise=-inf': must be a finite number"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        parse_options(text, KNOWN)
