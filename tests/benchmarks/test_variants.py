"""Variants are built once, kept, checked, and built again when they are not what they were."""

from benchmarks.variants import VARIANT_NAMES, BuiltModel


def test_every_variant_of_a_network_is_built(tiny_model: BuiltModel) -> None:
    assert tuple(tiny_model.files) == VARIANT_NAMES
    assert tuple(variant.name for variant in tiny_model.variants) == VARIANT_NAMES
