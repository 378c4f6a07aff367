"""What `make dist` builds: complete, nothing but our own files, and what is Python the same wherever it is built."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from tests.harness.sources import TOP, copy_sources, sources
from tests.packaging.pythons import PROJECTS, named_versions, project

ARCHIVER = "codehub-archive"
PACKAGES = {"codehub-storage": {"codehub_storage"}, "codehub-storage-service": {"activities", "workflows", "worker"}}


def wheel(checkout: Path, name: str) -> Path:
    [found] = (checkout / "dist").glob(f"{name.replace('-', '_')}-[0-9]*.whl")
    return found


def archive(checkout: Path, name: str) -> Path:
    [found] = (checkout / "dist").glob(f"{name.replace('-', '_')}-[0-9]*.tar.gz")
    return found


def metadata(checkout: Path, name: str) -> bytes:
    """That of the wheel; the source archive's is the same."""
    with zipfile.ZipFile(wheel(checkout, name)) as file:
        [path] = [each for each in file.namelist() if each.endswith(".dist-info/METADATA")]
        found = file.read(path)
    with tarfile.open(archive(checkout, name)) as tar:
        member = tar.extractfile(f"{archive(checkout, name).name.removesuffix('.tar.gz')}/PKG-INFO")
        assert member is not None
        assert member.read() == found
    return found


def test_six_files(checkout: Path) -> None:
    """A wheel and a source archive of each distribution, of one version."""
    assert len(list((checkout / "dist").iterdir())) == 6
    assert {each.name.split("-")[1].removesuffix(".tar.gz") for each in (checkout / "dist").iterdir()} == {"0.1.0"}


def test_built_elsewhere_they_are_the_same(checkout: Path, constraints: dict[str, str], tmp_path: Path) -> None:
    """Byte for byte: in another folder, at another time, with other modes, the wheel not made of the source archive."""
    folder = tmp_path / "elsewhere"
    copy_sources(sources(), folder)
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        if path.is_file():
            path.chmod(path.stat().st_mode & 0o700)
    for project_folder in PROJECTS.values():
        build = (sys.executable, "-m", "build", "--sdist", "--wheel", "--outdir", "dist")
        subprocess.run(
            [*build, project_folder.relative_to(TOP)],
            cwd=folder,
            env={**os.environ, **constraints},
            check=True,
            stdout=subprocess.DEVNULL,
            umask=0o077,
        )
    built = {path.name: path.read_bytes() for path in (folder / "dist").iterdir()}
    assert built.keys() == {each(checkout, name).name for name in PROJECTS for each in (wheel, archive)}
    assert [name for name, content in built.items() if content != (checkout / "dist" / name).read_bytes()] == []


@pytest.mark.parametrize("name", PROJECTS)
def test_metadata_is_valid_and_complete(checkout: Path, name: str) -> None:
    """As an index would check it: each field parses, and none is missing that says what this is, for whom, and how."""
    found = metadata(checkout, name)
    valid = Metadata.from_email(found, validate=True)
    raw: Message = email.message_from_bytes(found)
    assert (valid.name, str(valid.version)) == (name, "0.1.0")
    assert valid.summary == project(name)["description"]
    assert valid.license_expression == "Apache-2.0"
    assert valid.license_files == ["LICENSE"]
    assert valid.description_content_type == "text/markdown"
    assert valid.description == (PROJECTS[name] / "README.md").read_text()
    assert valid.keywords
    assert valid.requires_python is not None
    assert str(valid.requires_python) == ">=3.11"
    assert raw.get_all("Classifier")


@pytest.mark.parametrize("name", PROJECTS)
def test_wheel_holds_our_sources_and_no_other(checkout: Path, name: str) -> None:
    """Each file of the packages as the repository has it, the mark of types, the licence; no other."""
    base = PROJECTS[name].relative_to(TOP)
    expected = {
        str(path.relative_to(base)): (TOP / path).read_bytes()
        for path in sources()
        if path.is_relative_to(base) and path.relative_to(base).parts[0] in PACKAGES[name]
    }
    with zipfile.ZipFile(wheel(checkout, name)) as file:
        found = {each: file.read(each) for each in file.namelist()}
    own = {path: content for path, content in found.items() if ".dist-info/" not in path}
    assert own == expected
    assert "codehub_storage/py.typed" in own or name != "codehub-storage"
    [licence] = [content for path, content in found.items() if path.endswith(".dist-info/licenses/LICENSE")]
    assert licence == (TOP / "LICENSE").read_bytes()


@pytest.mark.parametrize("name", PROJECTS)
def test_source_archive_builds_on_its_own(checkout: Path, name: str) -> None:
    """It has what it is built of and the licence, and no file of tests, documents or the other distribution."""
    with tarfile.open(archive(checkout, name)) as tar:
        paths = {Path(*Path(each).parts[1:]) for each in tar.getnames()}
    assert {path.parts[0] for path in paths} == PACKAGES[name] | {
        *("pyproject.toml", "README.md", "LICENSE", "PKG-INFO", ".gitignore")
    }


def test_the_archiver_brings_its_library_and_licences(checkout: Path) -> None:
    """The program as a script of any environment, ISA-L where it looks for it, and each licence. No module."""
    with zipfile.ZipFile(wheel(checkout, ARCHIVER)) as file:
        found = set(file.namelist())
    data, info = (f"{ARCHIVER.replace('-', '_')}-0.1.0.{kind}" for kind in ("data", "dist-info"))
    assert found == {
        f"{data}/scripts/codehub-archive",
        f"{data}/data/lib/codehub-archive/libisal.so.2",
        f"{data}/data/share/doc/codehub-archive/libisal2.txt",
        f"{info}/licenses/LICENSE",
        f"{info}/sboms/codehub-archive.cyclonedx.json",
        *(f"{info}/{each}" for each in ("METADATA", "WHEEL", "RECORD")),
    }
    assert Metadata.from_email(metadata(checkout, ARCHIVER), validate=True).license_expression == "Apache-2.0"


def test_the_archiver_builds_of_its_source_archive(checkout: Path, tmp_path: Path) -> None:
    """With nothing but Rust, a C compiler and pip: where ISA-L is missing, too."""
    done = subprocess.run(
        (sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, archive(checkout, ARCHIVER)),
        env={**os.environ, "CODEHUB_ARCHIVE_NO_ISAL": "1", "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    [built] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as file:
        path = Path(file.extract("codehub_archive-0.1.0.data/scripts/codehub-archive", tmp_path))
    path.chmod(0o755)
    said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    assert said == "codehub-archive 0.1.0 (zlib-rs)\n"


def test_both_name_the_same_pythons() -> None:
    """The service needs the client, so neither can have more."""
    assert named_versions("codehub-storage") == named_versions("codehub-storage-service") == ["3.11", "3.12", "3.13"]


def test_one_version_everywhere() -> None:
    """The service needs the client of its own version; the image names it, too."""
    version = project("codehub-storage")["version"]
    assert project("codehub-storage-service")["version"] == version
    dependencies = project("codehub-storage-service")["dependencies"]
    assert isinstance(dependencies, list)
    assert f"codehub-storage=={version}" in dependencies
    extras = project("codehub-storage-service")["optional-dependencies"]
    assert isinstance(extras, dict)
    assert extras["archiver"] == [f"{ARCHIVER}=={version}"]
    assert tomllib.loads((TOP / "archiver/Cargo.toml").read_text())["package"]["version"] == version
    assert f"ARG VERSION={version}\n" in (TOP / "Dockerfile").read_text()
