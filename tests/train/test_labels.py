"""What people call cells: which labels are a class, which are none, and which are refused as nearly one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import DataSetError
from train.labels import label_of, nearest_class, of_no_class, refuse_near_misses

# Words of haematology, parasites and artefacts beside the four classes, as people label them.
OF_NO_CLASS = """
basophil basophils baso promonocyte prolymphocyte lymphoblast monoblast myeloblast myelocyte promyelocyte
metamyelocyte megakaryocyte megakaryoblast erythrocyte erythroblast normoblast proerythroblast normocyte
reticulocyte platelet platelets thrombocyte plt macrocyte microcyte spherocyte stomatocyte elliptocyte
ovalocyte drepanocyte schistocyte acanthocyte echinocyte dacryocyte codocyte leptocyte keratocyte
knizocyte poikilocyte pyknocyte siderocyte histiocyte macrophage phagocyte leukocyte leucocyte
granulocyte mastocyte plasmocyte plasmablast melanocyte hemocyte haemocyte fibrocyte gametocyte
trophozoite merozoite schizont heterophil azurophil acidophil oncocyte podocyte oocyte rubricyte band
stab blast ig nrbc rbc wbc smudge artefact artifact debris stain mitosis lymphoma monosomy polychromatic
unknown unclassified none nothing other mott leishmania microfilaria platelet_clump plasma_cell
hairy_cell
"""


@pytest.mark.parametrize("name", CLASS_NAMES)
@pytest.mark.parametrize(
    "form",
    ["{}", "{}s", " {}", "{} ", "{}_", "{}.", "-{}-", "{}s ", "'{}'", "{}\u00a0", "({})", "{}\n", "\ufeff{}"],
)
def test_a_class_is_known_whatever_stands_around_it(name: str, form: str) -> None:
    for text in (name, name.upper(), name.capitalize()):
        assert label_of(form.format(text)) == name
        assert nearest_class(label_of(form.format(text))) is None


@pytest.mark.parametrize("label", OF_NO_CLASS.split())
def test_other_cells_and_things_are_of_no_class_without_fuss(label: str) -> None:
    for text in (label, label.upper(), label.capitalize(), f"{label}s", label.replace("_", " ")):
        assert nearest_class(label_of(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "atypical lymphocyte",
            "Reactive Lymphocytes",
            "lymphocyte_variant",
            "pro-monocyte",
            "no neutrophil",
        ),
        *("immature monocyte", "neutrophil myelocyte", "neutrophilic metamyelocyte", "burst neutrophil"),
        *(
            "other eosinophills",
            "Other: lymphocite",
            "other_neutrophils",
            "smudged lymphocyte",
            "non-monocyte",
        ),
    ],
)
def test_a_word_beside_a_class_makes_it_another_cell(text: str) -> None:
    assert nearest_class(label_of(text)) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(
            ("lymphocites", "lymphocyte"),
            ("eosinophills", "eosinophil"),
            ("segmented neutrophil", "neutrophil"),
        ),
        *(("Lymphocyte 1", "lymphocyte"), ("1_neutrophil", "neutrophil"), ("neutrophil2", "neutrophil")),
        *(("SegmentedNeutrophil", "neutrophil"), ("neutrophilic", "neutrophil"), ("Monocytic", "monocyte")),
        *(("NEUT", "neutrophil"), ("Eos", "eosinophil"), ("mono", "monocyte"), ("Lymphs", "lymphocyte")),
        *(("segs", "neutrophil"), ("PMN", "neutrophil"), ("LY", "lymphocyte"), ("large lymph", "lymphocyte")),
        *(("Lymphozyten", "lymphocyte"), ("Monozyt", "monocyte"), ("neutrofilo", "neutrophil")),
        *(("eosinófilos", "eosinophil"), ("linfocito", "lymphocyte"), ("monocito", "monocyte")),
        *(("neutrophile", "neutrophil"), ("éosinophile", "eosinophil"), ("limfosit", "lymphocyte")),
        *(("monosit", "monocyte"), ("neutrofiel", "neutrophil"), ("eozynofil", "eosinophil")),
        *(("nuetrophil", "neutrophil"), ("neutrophi1", "neutrophil"), ("esinophil", "eosinophil")),
        *(("neutrophil?", "neutrophil"), ("Monocyte (?)", "monocyte"), ("? lymphocyte", "lymphocyte")),
        *(("NGS", "neutrophil"), ("PMNs", "neutrophil"), ("LYT", "lymphocyte"), ("Monos", "monocyte")),
        *(
            ("monoc yte", "monocyte"),
            ("M O N O C Y T E", "monocyte"),
            ("lym\u00adphoc\u00adyte", "lymphocyte"),
        ),
        *(("moncyte", "monocyte"), ("lympocyte", "lymphocyte"), ("lymphocyte (typical)", "lymphocyte")),
    ],
)
def test_another_spelling_is_nearly_its_class(text: str, name: str) -> None:
    assert nearest_class(label_of(text)) == name


@given(st.sampled_from(CLASS_NAMES), st.data())
def test_one_typo_anywhere_makes_no_other_cell(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
    kind = data.draw(st.sampled_from(("lacks", "more", "wrong", "swapped")))
    typo = {
        "lacks": name[:place] + name[place + 1 :],
        "more": name[:place] + letter + name[place:],
        "wrong": name[:place] + letter + name[place + 1 :],
        "swapped": name[:place] + name[place : place + 2][::-1] + name[place + 2 :],
    }[kind]
    label = label_of(typo)
    assert name in (label, nearest_class(label))


def test_near_misses_are_refused_with_their_class_and_the_way_out() -> None:
    with pytest.raises(DataSetError, match=r"^a: nearly a class") as caught:
        refuse_near_misses("a", ["neutrophill", "monocyte", "basophil", "lymphocites"])
    assert "'lymphocites' (lymphocyte?), 'neutrophill' (neutrophil?)" in str(caught.value)
    assert "'other lymphocites' where it is none of the four" in str(caught.value)
    refuse_near_misses("a", ["monocyte", "basophil", "other_lymphocite"])


def test_labels_of_no_class_are_counted() -> None:
    assert of_no_class(["platelet", "monocyte", "basophil", "platelet"]) == "basophil 1, platelet 2"
    assert of_no_class(["monocyte"]) == ""


def test_a_label_of_signs_only_is_left_as_it_is() -> None:
    assert label_of(" ? ") == "?"
