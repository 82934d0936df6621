"""What an audit says is wrong: leaks across a split, one cell with two labels, files that cannot be read."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from hematovision.errors import DataSetError, SettingError
from hematovision.images import RGBImage
from hematovision.phantom import Microscope, Pose, Slide, Smear, draw_field
from train.audit import AuditReport, Finding, audit_datasets
from train.audit_command import audit
from train.datasets import read_dataset

UM_PER_PIXEL = 0.1


def save(path: Path, image: RGBImage) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR))


def field(seed: int) -> RGBImage:
    return draw_field(seed, 400, 320, UM_PER_PIXEL).image


def split(folder: Path, sides: dict[str, str]) -> None:
    rows = "".join(f"{image},{side}\n" for image, side in sides.items())
    (folder / "split.csv").write_text("image,split\n" + rows)


def run(*arguments: Path | str) -> Result:
    return CliRunner().invoke(audit, [str(argument) for argument in arguments])


def numbers(finding: Finding) -> tuple[int, ...]:
    """Numbers of the two Kaggle originals."""
    return tuple(sorted(int(image.path.stem[-5:]) for image in (finding.pair.first, finding.pair.second)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four different fields of two labels, two on each side."""
    sides = {}
    for seed in range(4):
        name = f"{'monocyte' if seed % 2 else 'neutrophil'}/{seed}.png"
        save(tmp_path / "set" / name, field(seed))
        sides[name] = "train" if seed < 2 else "test"
    split(tmp_path / "set", sides)
    return tmp_path / "set"


def test_a_set_without_fault_ends_with_status_0(folder: Path) -> None:
    result = run(f"{folder}@{UM_PER_PIXEL}")
    assert result.exit_code == 0, result.output
    assert "Nothing wrong." in result.output


def test_counts_are_by_label_and_side(folder: Path) -> None:
    report = audit_datasets([read_dataset(str(folder))])
    assert {(count.label, count.side): count.images for count in report.counts} == {
        (label, side): 1 for label in ("monocyte", "neutrophil") for side in ("train", "test")
    }


def test_a_copy_on_the_other_side_is_a_leak(folder: Path) -> None:
    # Resized and mirrored; 0 is neutrophil on the training side.
    save(folder / "neutrophil/copy.png", cv2.resize(field(0), (200, 160), interpolation=cv2.INTER_AREA)[::-1])
    sides = {f"neutrophil/{n}.png": side for n, side in ((0, "train"), (2, "test"), ("copy", "test"))}
    split(folder, sides)
    report = audit_datasets([read_dataset(str(folder))])
    (leak,) = report.leaks
    assert {leak.pair.first.path.name, leak.pair.second.path.name} == {"0.png", "copy.png"}
    assert not report.label_conflicts
    result = run(folder)
    assert result.exit_code == 1
    assert "On both sides of the split (groups: 1, pairs: 1)" in result.output


def test_a_copy_on_the_same_side_is_told_but_is_no_fault(folder: Path) -> None:
    save(folder / "neutrophil/copy.png", field(0)[::-1])
    split(folder, {"neutrophil/0.png": "train", "neutrophil/copy.png": "train", "neutrophil/2.png": "test"})
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert "Repeated on one side (groups: 1)" in result.output


def test_a_pair_may_lie_in_two_data_sets(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "other/neutrophil/x.png", field(3)[:, 60:])
    split(tmp_path / "other", {"neutrophil/x.png": "train"})
    report = audit_datasets([read_dataset(str(folder)), read_dataset(str(tmp_path / "other"))])
    assert len(report.leaks) == 1


def test_an_unreadable_file_is_listed_and_the_status_says_so(folder: Path) -> None:
    (folder / "monocyte/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    result = run(folder)
    assert result.exit_code == 1
    assert "unreadable" in result.output
    assert "broken.jpg" in result.output


def test_one_cell_with_two_labels_is_a_conflict(folder: Path) -> None:
    save(folder / "monocyte/again.png", np.rot90(field(0)))
    for source in (folder, f"{folder}@{UM_PER_PIXEL}"):  # 0 is in neutrophil
        (conflict,) = audit_datasets([read_dataset(str(source))]).label_conflicts
        assert {conflict.pair.first.label, conflict.pair.second.label} == {"monocyte", "neutrophil"}
    assert conflict.same_cell is True
    result = run(folder)
    assert result.exit_code == 1
    assert "One cell, two labels (groups: 1, pairs: 1)" in result.output


@pytest.fixture
def neighbours(tmp_path: Path) -> Path:
    """Two crops of one field that overlap, each around a cell of its own, labelled as they are."""
    slide = Slide(
        Smear(1, 0.07, 0.04, UM_PER_PIXEL), [("lymphocyte", (26.0, 21.0)), ("monocyte", (43.5, 19.0))]
    )
    drawn = Microscope(slide, 700, 400).look(Pose(35.0, 20.0))
    for number, cell in enumerate(drawn.cells):
        x, y = (round(value) for value in cell.center)
        crop = drawn.image[max(y - 170, 0) : y + 170, max(x - 170, 0) : x + 170]
        save(tmp_path / f"{cell.class_name}/{number}.png", crop)
    return tmp_path


def test_neighbours_with_labels_of_their_own_are_no_conflict(neighbours: Path) -> None:
    report = audit_datasets([read_dataset(f"{neighbours}@{UM_PER_PIXEL}")])
    assert len(report.pairs) == 1
    assert (report.label_conflicts, report.neighbours) == ((), 1)


def test_without_a_scale_neighbours_may_be_a_conflict(neighbours: Path) -> None:
    (conflict,) = audit_datasets([read_dataset(str(neighbours))]).label_conflicts
    assert conflict.same_cell is None


def test_which_of_two_touching_cells_a_label_means_is_not_known(tmp_path: Path) -> None:
    image = draw_field(1, 700, 400, UM_PER_PIXEL).image.copy()
    for x in (300, 400):  # nuclei of 10 µm
        cv2.circle(image, (x, 200), 50, (90, 40, 130), -1, cv2.LINE_AA)
    save(tmp_path / "lymphocyte/left.png", image[30:370, 130:470])
    save(tmp_path / "monocyte/right.png", image[30:370, 230:570])
    (conflict,) = audit_datasets([read_dataset(f"{tmp_path}@{UM_PER_PIXEL}")]).label_conflicts
    assert conflict.same_cell is None


def test_the_json_file_holds_the_whole_report(folder: Path, tmp_path: Path) -> None:
    save(folder / "monocyte/again.png", field(0)[::-1])
    split(folder, {"neutrophil/0.png": "train", "monocyte/again.png": "test"})
    (folder / "monocyte/broken.jpg").write_text("text")
    path = tmp_path / "report.json"
    assert run(folder, "--json", path).exit_code == 1
    content = json.loads(path.read_text())
    both = {str(folder / "neutrophil/0.png"), str(folder / "monocyte/again.png")}
    (pair,), (leak,), (conflict,) = content["pairs"], content["leaks"], content["label_conflicts"]
    for entry in (pair, leak, conflict):
        assert {entry["first"], entry["second"]} == both
        assert entry["kind"] == "near"
    assert sorted(leak["sides"]) == ["test", "train"]
    assert sorted(conflict["labels"]) == ["monocyte", "neutrophil"]
    assert [set(group) for group in content["groups"]] == [both]
    assert [entry["image"] for entry in content["unreadable"]] == [str(folder / "monocyte/broken.jpg")]
    assert content["images"] == 6


def test_many_copies_are_shown_as_one_group(folder: Path) -> None:
    sides = {"neutrophil/0.png": "test"}
    for turn in range(1, 13):
        name = f"neutrophil/copy{turn}.png"
        matrix = cv2.getRotationMatrix2D((200, 160), 27 * turn, 1)
        save(folder / name, cv2.warpAffine(field(0), matrix, (400, 320)))
        sides[name] = "train"
    split(folder, sides)
    result = run(folder)
    assert result.exit_code == 1
    assert "On both sides of the split (groups: 1, pairs: " in result.output
    assert len(result.output.splitlines()) < 40


def test_an_empty_folder_is_an_error_of_one_line(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert isinstance(result.exception, DataSetError)


def test_a_single_image_has_nothing_wrong(tmp_path: Path) -> None:
    save(tmp_path / "neutrophil/a.png", field(0))
    assert run(tmp_path).exit_code == 0


def test_an_image_given_twice_is_refused(folder: Path) -> None:
    with pytest.raises(SettingError, match="give one of them"):
        audit_datasets([read_dataset(str(folder)), read_dataset(f"{folder}@0.1")])


@pytest.fixture(scope="module")
def kaggle_originals(data_dir: Path) -> AuditReport:
    return audit_datasets([read_dataset(str(data_dir / "kaggle-blood-cells/Original_Images"))])


@pytest.mark.data
@pytest.mark.slow
def test_kaggle_cells_photographed_on_both_sides_are_found(kaggle_originals: AuditReport) -> None:
    same_cell = {numbers(finding) for finding in kaggle_originals.leaks if finding.same_cell}
    assert {(230, 257), (204, 277)} <= same_cell
    # Seen to be so in the pictures, too: fields that share a smaller part.
    assert same_cell <= {(230, 257), (204, 277), (224, 264), (377, 400), (365, 408), (364, 409)}


@pytest.mark.data
@pytest.mark.slow
def test_the_kaggle_cell_with_two_labels_is_found(kaggle_originals: AuditReport) -> None:
    assert [numbers(finding) for finding in kaggle_originals.label_conflicts] == [(206, 278)]
    assert kaggle_originals.neighbours > 0
