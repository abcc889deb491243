"""The store without a network: mirrors, checksums, unpacking, the `course data` command, the cards."""

import hashlib
import io
import os
import random
import re
import shutil
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from course_lib import paths
from course_lib.cli import data as command
from course_lib.data import store
from course_lib.data.store import SOURCES, Source, source
from course_lib.errors import DataError

CARDS = Path(__file__).parents[2] / "data" / "README.md"


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


FILES = {"a/images/a.png": bytes(range(256)) * 9, "a/masks/1.png": b"one"}
GOOD, SUBSET = zipped(FILES), zipped({"a/images/a.png": b"smaller"})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setattr(paths, "cache_dir", lambda: place)
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    return place


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Source:
    entry = replace(SOURCES["nuclei"], name="tiny", archive="tiny.zip", checksum=None, alternatives=("tiny.tar.gz",))
    monkeypatch.setitem(SOURCES, "tiny", entry)
    return entry


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "mirror"
    place.mkdir()
    (place / "tiny.zip").write_bytes(GOOD)
    monkeypatch.setenv("COURSE_DATA_DIR", str(place))
    return place


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_first_mirror_wins_then_the_cache(
    mirror: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "second"
    for place in (second, cache):
        place.mkdir()
        (place / "tiny.zip").write_bytes(SUBSET)
    monkeypatch.setenv("COURSE_DATA_DIR", os.pathsep.join([str(tmp_path / "missing"), str(mirror), str(second)]))
    assert store.find("tiny") == mirror / "tiny.zip"
    (mirror / "tiny.zip").unlink()
    assert store.find("tiny") == second / "tiny.zip"
    monkeypatch.delenv("COURSE_DATA_DIR")
    assert store.find("tiny") == cache / "tiny.zip"
    (cache / "tiny.zip").unlink()
    assert store.find("tiny") is None


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_mirror_is_unpacked_into_the_cache_and_not_touched(kind: str, mirror: Path, cache: Path) -> None:
    if kind == "tar":
        (mirror / "tiny.zip").unlink()
        (mirror / "tiny.tar.gz").write_bytes(tarred(FILES))
    before = content(mirror)
    folder = store.folder("tiny")
    assert folder == cache / f"tiny-{hashlib.sha256(*before.values()).hexdigest()[:8]}"
    assert content(folder) == FILES
    assert content(mirror) == before


def test_a_subset_and_the_whole_set_do_not_mix(mirror: Path, cache: Path) -> None:
    whole = store.folder("tiny")
    (mirror / "tiny.zip").write_bytes(SUBSET)
    subset = store.folder("tiny")
    assert whole != subset
    assert content(whole) == FILES
    assert content(subset) == {"a/images/a.png": b"smaller"}


def test_finding_an_unpacked_set_is_fast_and_hashes_nothing(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.folder("tiny")
    monkeypatch.setattr(store, "_hash", lambda *_: pytest.fail("hashed again"))
    start = time.perf_counter()
    assert store.folder("tiny") == folder
    assert time.perf_counter() - start < 0.05


def test_a_folder_unpacked_by_hand_is_used_as_it_is(mirror: Path, cache: Path) -> None:
    (mirror / "tiny").mkdir()
    assert store.folder("tiny").parent == cache  # an empty folder is not a data set
    (mirror / "tiny" / "a.png").write_bytes(b"1")
    assert store.folder("tiny") == mirror / "tiny"


def test_an_unpacked_set_outlives_its_archive(mirror: Path) -> None:
    folder = store.folder("tiny")
    (mirror / "tiny.zip").unlink()
    assert store.folder("tiny") == folder


def test_a_mirror_that_lists_checksums_is_held_to_them(mirror: Path, cache: Path) -> None:
    right, wrong = hashlib.sha256(GOOD).hexdigest(), "0" * 64
    (mirror / "SHA256SUMS").write_text(f"{wrong} *tiny.zip\n{right}  other.zip\n")
    for use in (store.folder, store.fetch, command.verified):
        with pytest.raises(DataError) as caught:
            use("tiny")
        found = f"{mirror / 'tiny.zip'} is damaged or was replaced: its sha256 is {right}"
        assert caught.value.message == f"{found}, not {wrong} as listed in SHA256SUMS"
        assert caught.value.hint == f"replace it in the mirror, or take {mirror} out of COURSE_DATA_DIR"
    assert not cache.exists()
    (mirror / "SHA256SUMS").write_text(f"{right.upper()}  tiny.zip\r\n")
    assert command.verified("tiny").endswith(f"sha256 {right[:16]}..., as listed in SHA256SUMS")


def test_what_was_recorded_at_first_use_is_checked_by_verify(mirror: Path) -> None:
    assert command.verified("tiny").endswith("recorded now, at first use")
    assert command.verified("tiny").endswith("as recorded at first use")
    file = mirror / "tiny.zip"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(GOOD[:-40] + bytes(40))  # same size
    os.utime(file, ns=times)  # and same time: what a failing disk does
    store.fetch("tiny")
    with pytest.raises(DataError, match=r"tiny\.zip is damaged or was replaced: its sha256 is .* as recorded at first"):
        command.verified("tiny")


def test_an_archive_in_the_cache_must_be_the_published_one(
    cache: Path, tiny: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    (cache / "tiny.zip").write_bytes(SUBSET)
    monkeypatch.setitem(SOURCES, "tiny", replace(tiny, checksum=f"md5:{hashlib.md5(GOOD).hexdigest()}"))
    with pytest.raises(DataError, match=r"its md5 is .*, not .* as published") as caught:
        store.folder("tiny")
    assert caught.value.hint == "delete it and fetch it again: course data fetch tiny"
    (cache / "tiny.zip").write_bytes(GOOD)
    assert content(store.folder("tiny")) == FILES
    assert command.verified("tiny").endswith("as published")


def test_verify_misses_files_of_the_unpacked_folder(mirror: Path) -> None:
    folder = store.folder("tiny")
    command.verified("tiny")
    (folder / "a/masks/1.png").unlink()
    (folder / "a/images/a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 files are missing or changed, such as a\.png") as caught:
        command.verified("tiny")
    assert caught.value.hint == "delete that folder; the next use unpacks it again"
    shutil.rmtree(folder)
    assert content(store.folder("tiny")) == FILES


def test_a_class_room_mirror_serves_another_computer(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "room"
    (room / "sub").mkdir(parents=True)
    (room / "SHA256SUMS").write_text(f"{'1' * 64}  other.zip\n")
    assert store.fetch("tiny", to=room) == room / "tiny.zip"
    assert store.fetch("tiny", to=room) == room / "tiny.zip"
    assert (room / "SHA256SUMS").read_bytes().decode() == (
        f"{'1' * 64}  other.zip\n{hashlib.sha256(GOOD).hexdigest()}  tiny.zip\n"
    )
    assert sorted(path.name for path in room.iterdir() if path.name[0] != ".") == ["SHA256SUMS", "sub", "tiny.zip"]
    monkeypatch.setenv("COURSE_DATA_DIR", str(room))
    monkeypatch.setattr(paths, "cache_dir", lambda: tmp_path / "another computer")
    assert content(store.folder("tiny")) == FILES


def test_an_unknown_name_lists_the_known_ones() -> None:
    for use in (source, store.find, store.unpacked, store.fetch, store.folder, command.verified):
        with pytest.raises(
            DataError, match="no data set named 'nope'\nWhat to do: known: nuclei, camvid, cifar10, penn"
        ):
            use("nope")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([GOOD, tarred(FILES)]), st.integers(0, 2**32))
def test_no_damage_gets_past_as_another_error(tmp_path: Path, archive: bytes, seed: int) -> None:
    chance = random.Random(seed)
    damaged = bytearray(archive)
    for _ in range(chance.randint(1, 8)):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    if chance.random() < 0.3:
        del damaged[chance.randrange(len(damaged)) :]
    file, into = tmp_path / "damaged", tmp_path / "into"
    file.write_bytes(damaged)
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    try:
        store.extract(file, into)
    except store._Failure:
        return
    # nothing said: the damage was where nothing is checked, such as a name
    assert set(content(into).values()) <= set(FILES.values())


# --- the command

run = CliRunner()


def test_list_says_where_everything_is(mirror: Path) -> None:
    shown = run.invoke(command.app, ["list"])
    assert shown.exit_code == 0
    lines = {line.split()[0]: line for line in shown.output.splitlines()}
    assert list(lines) == ["NAME", *PUBLISHED, "tiny"]
    assert lines["tiny"].endswith(str(mirror / "tiny.zip"))
    assert lines["nuclei"].endswith("not here")
    assert re.match(r"nuclei +83 MB +CC0 1\.0 +Nuclei", lines["nuclei"])


def test_path_prints_the_folder_and_nothing_else(mirror: Path) -> None:
    shown = run.invoke(command.app, ["path", "tiny", "--offline"])
    assert (shown.exit_code, shown.output) == (0, f"{store.folder('tiny')}\n")


def test_fetch_and_verify_go_on_after_a_failure(mirror: Path, tmp_path: Path) -> None:
    room = tmp_path / "room"
    shown = run.invoke(command.app, ["fetch", "pennfudan", "tiny", "--to", str(room), "--offline"])
    assert shown.exit_code == 1
    assert "Error: pennfudan is not here, and downloads are off:" in shown.stderr
    assert f"tiny: {room / 'tiny.zip'}\n" in shown.stdout
    shown = run.invoke(command.app, ["fetch", "tiny", "--to", str(room)])
    assert shown.stdout.splitlines()[1] == f"To use this mirror: set COURSE_DATA_DIR={room.resolve()}"
    shown = run.invoke(command.app, ["verify", "pennfudan", "tiny"])
    assert shown.exit_code == 1
    assert "Error: the archive of pennfudan is not here:" in shown.stderr
    assert shown.stdout.startswith(f"tiny: ok: {mirror / 'tiny.zip'}: ")
    shown = run.invoke(command.app, ["verify"])  # only what is here
    assert (shown.exit_code, shown.stdout.count("ok")) == (0, 1)


def test_all_leaves_out_what_only_a_person_can_get(mirror: Path) -> None:
    shown = run.invoke(command.app, ["fetch", "--all", "--offline"])
    assert "pennfudan is not here" in shown.stderr
    assert "cityscapes" not in shown.stderr
    shown = run.invoke(command.app, ["fetch", "cityscapes"])
    assert "cityscapes is not here" in shown.stderr
    assert "What to do: register at https://www.cityscapes-dataset.com" in shown.stderr


def test_fetch_needs_a_name() -> None:
    failed = run.invoke(command.app, ["fetch"])
    assert isinstance(failed.exception, DataError)
    assert failed.exception.message == "no data set named"
    assert "known: nuclei, camvid, cifar10, pennfudan" in failed.exception.hint


@pytest.mark.parametrize("words", [[], ["list"], ["fetch"], ["verify"], ["path"]])
def test_every_command_has_help(words: list[str]) -> None:
    shown = run.invoke(command.app, [*words, "--help"])
    assert shown.exit_code == 0
    assert "Usage" in shown.output


# --- the table and the cards

PUBLISHED = [name for name in SOURCES if name != "tiny"]


def test_the_table_is_complete() -> None:
    assert PUBLISHED == ["nuclei", "camvid", "cifar10", "pennfudan", "voc", "coco", "cityscapes"]
    for name in PUBLISHED:
        entry = SOURCES[name]
        assert entry.name == name
        assert len(entry.urls) >= 2 or entry.by_hand
        assert len(set(entry.urls)) == len(entry.urls)
        assert all(url.startswith("https://") for url in (*entry.urls, entry.homepage))
        assert entry.title
        assert entry.licence
        assert entry.citation
        assert entry.size > 1e6
        assert entry.checksum is None or re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", entry.checksum)


def test_nothing_of_cifar10_needs_to_be_unpickled() -> None:
    entry = SOURCES["cifar10"]
    assert entry.archive == "cifar-10-binary.tar.gz"
    assert (entry.size, entry.checksum) == (170_052_171, "md5:c32a1d4ab5d03f1284b67883e8d87530")
    assert all(url.endswith("/cifar-10-binary.tar.gz") for url in entry.urls)
    assert entry.urls[-1] == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"  # the slow one
    assert entry.alternatives[0] == "cifar10-images.tar.gz"  # before the pickles


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_card_agrees_with_the_table(name: str) -> None:
    entry = SOURCES[name]
    sections = re.split(r"(?m)^## ", CARDS.read_text("utf-8"))
    card = next((text for text in sections if text.startswith(f"`{name}`")), "")
    assert card, f"data/README.md has no card for {name}"
    said = dict(re.findall(r"(?m)^- ([A-Z][a-z ]+): (.+?)$", card))
    assert said["Title"] == entry.title
    assert said["Licence"].rstrip(".").startswith(entry.licence)
    assert said["Size"].startswith(store.megabytes(entry.size))
    assert entry.citation.replace(" ", "") in re.sub(r"\s", "", card)
    assert entry.archive in said["By hand"]
    assert entry.homepage in said["By hand"]
    assert all(name in card for name in entry.alternatives)


def test_the_store_opens_no_connection_at_import() -> None:
    import subprocess

    program = (
        "import socket, sys; socket.socket.connect = None; import course_lib.data.store; "
        "print([name for name in ('requests', 'tqdm', 'torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
