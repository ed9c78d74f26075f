"""tools/check_release.py: what must not be published is refused, and why is said."""

import io
import tarfile
from zipfile import ZipFile

import pytest

import check_release
from check_release import IN_SOURCES, IN_WHEEL, changelog_complaints, complaints, main
from iqa_runtime import __version__

METADATA = f"iqa_deploy-{__version__}.dist-info/METADATA"


@pytest.fixture
def folder(tmp_path):
    """A wheel and a source distribution of empty files that are all there."""

    def fill(left_out="", wheel="manylinux_2_28_x86_64", more=(), version=__version__, metadata=""):
        with ZipFile(tmp_path / f"iqa_deploy-{__version__}-cp311-abi3-{wheel}.whl", "w") as archive:
            archive.writestr(METADATA, f"Version: {version}\n{metadata}")
            for name in (*IN_WHEEL, *more):
                if name != left_out:
                    archive.writestr(name, b"")
        with tarfile.open(tmp_path / f"iqa_deploy-{__version__}.tar.gz", "w:gz") as archive:
            for name in (*IN_SOURCES, *more):
                if name != left_out:
                    archive.addfile(tarfile.TarInfo(f"iqa_deploy-{__version__}/{name}"), io.BytesIO())
        return tmp_path

    return fill


def test_what_is_whole_passes(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(str(folder()))
    assert ended.value.code == 0
    assert capsys.readouterr().out.endswith("ready\n")


@pytest.mark.parametrize("name", ["iqa_runtime/_kernels.", "iqa_runtime/models/edge-nr.onnx", IN_SOURCES[-1]])
def test_a_missing_file_is_named(folder, name, capsys):
    [found] = complaints(folder(left_out=name))
    assert found.endswith(f"{name} is missing")
    with pytest.raises(SystemExit) as ended:
        main(str(folder(left_out=name)))
    assert ended.value.code == 1
    assert f"{name} is missing" in capsys.readouterr().out


def test_what_was_built_is_no_source(folder):
    [found] = complaints(folder(more=["csrc/_kernels.c"]))
    assert found == f"iqa_deploy-{__version__}.tar.gz: csrc/_kernels.c was built"


def test_a_wheel_of_this_machine_alone(folder):
    [found] = complaints(folder(wheel="linux_x86_64"))
    assert "auditwheel repairs it" in found


def test_a_wheel_that_is_too_large(folder, monkeypatch):
    monkeypatch.setattr(check_release, "MOST_BYTES", 100)
    [found] = complaints(folder())
    assert "MB, more than" in found


def test_metadata_of_another_version(folder):
    [found] = complaints(folder(version="9.9.9"))
    assert found.endswith("its metadata are of 9.9.9")


def test_a_folder_of_nothing(tmp_path):
    assert list(complaints(tmp_path)) == [f"{tmp_path}: 0 wheels and 0 source distributions"]


def test_a_tag_is_the_version_and_has_its_changes(folder, monkeypatch, tmp_path):
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## Unreleased\n\n### Added\n\n- All.\n")
    monkeypatch.setattr(check_release, "ROOT", tmp_path)
    tag, changes, urls = complaints(folder(), "v9.9.9")
    assert tag == f"v9.9.9: iqa_runtime.__version__ is {__version__}"
    assert changes == f"CHANGELOG.md: no heading ## {__version__} - YYYY-MM-DD"
    assert "no Project-URL" in urls


def test_what_is_published_says_where_its_repository_is(folder, monkeypatch, tmp_path):
    (tmp_path / "CHANGELOG.md").write_text(f"# Changes\n\n## {__version__} - 2026-12-01\n\n- All.\n")
    monkeypatch.setattr(check_release, "ROOT", tmp_path)
    url = "Project-URL: Source, https://example.org/iqa-deploy\n"
    assert not list(complaints(folder(metadata=url), f"v{__version__}"))


@pytest.mark.parametrize(
    ("text", "released", "expected"),
    [
        ("## Unreleased\n\n- a\n", False, None),
        (f"## {__version__} - 2026-12-01\n\n- a\n", False, None),
        (f"## {__version__} - 2026-12-01\n\n- a\n\n## 0.0.1 - 2026-01-01\n", True, None),
        (f"## {__version__}\n\n- a\n", True, "no heading"),
        ("## Unreleased\n\n## 0.0.1 - 2026-01-01\n\n- a\n", False, "nothing under"),
        ("", False, "no ## Unreleased"),
    ],
)
def test_changelog(text, released, expected):
    found = list(changelog_complaints(text, released=released))
    assert not found if expected is None else expected in found[0]
