"""A stranger's view of a workspace: where its one complete copy is, found by tools that know nothing of this project.

Imports nothing of ours, only the standard library, boto3 and blake3, and runs ``rsync``, ``tar`` and ``gzip``. What it
knows of the service stands in DESIGN.md: names of objects and folders, and what record and manifest say.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from blake3 import blake3
from botocore.config import Config
from botocore.exceptions import ClientError

_MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion"})
_RSYNC_GONE = (23, 24)
"""Exit status of rsync where what it compares is not there, or goes away meanwhile."""


class NoCopy(AssertionError):
    """What was to be whole is not; the message says what was found instead."""


@dataclass(frozen=True)
class Store:
    """Where the objects are."""

    endpoint_url: str
    access_key: str
    secret_key: str
    bucket: str

    def client(self) -> Any:
        """A plain client, past every proxy."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=4),
        )


class Oracle:
    """Looks at one bucket and one volume root. ``reference``: the tree that all copies must equal.

    ``home``: where the tree of a workspace stands, if not below the root by its name. Calls block.
    """

    def __init__(self, store: Store, root: Path, reference: Path, home: Callable[[str], Path] | None = None) -> None:
        self._home = home or (lambda workspace: root / f"ws_{workspace}_home")
        self._bucket = store.bucket
        self._s3 = store.client()
        self._root = root
        self._reference = reference

    # ------------------------------------------------------------ what must hold

    def check_copy(self, workspace: str) -> str:
        """``volume``, ``trash`` or ``archive``: where the one complete copy is. ``NoCopy`` if it is nowhere.

        The volume is looked at first: a deletion that goes on meanwhile needs a proven archive, which then stays.
        """
        try:
            return self.check_volume(workspace)
        except NoCopy as no_volume:
            try:
                self.check_archive(workspace)
            except NoCopy as no_archive:
                raise NoCopy(f"no volume: {no_volume}; and no archive: {no_archive}") from no_archive
        return "archive"

    def check_volume(self, workspace: str) -> str:
        """``volume`` or ``trash``, where it stands. ``NoCopy`` unless it is whole and the record lets it live.

        A deletion that is being decided has moved the volume to the trash; it counts there as long as the record does
        not say `deleting`, because whoever comes next renames it back.
        """
        state = self.state(workspace)
        if state not in ("ready", "archived"):
            raise NoCopy(f"the record says {state}")
        found = [(place, path) for place, path in self._places(workspace) if path.exists()]
        differences = [f"{place}: {self.differences(path)}" for place, path in found]
        for (place, _), difference in zip(found, differences, strict=True):
            if difference == f"{place}: ":
                return place
        raise NoCopy(f"the record says {state}, but {differences or 'there is no folder'}")

    def check_archive(self, workspace: str, *, is_copied: bool = False) -> None:
        """The manifest names exactly the stored version, and ``tar xzf`` makes the reference of it. Else ``NoCopy``.

        ``is_copied``: of a bucket that was copied, where ETag and version may still be those of before.
        """
        manifest = self._json(f"{workspace}/home.tar.gz.meta")
        proven = (manifest or {}).get("object")
        if manifest is None or proven is None:
            raise NoCopy("no manifest names an object")
        version = {"VersionId": proven["version_id"]} if proven.get("version_id") and not is_copied else {}
        with self._found(f"{proven['key']} {version}"):
            head = self._s3.head_object(Bucket=self._bucket, Key=proven["key"], **version)
        etag = proven["etag"] if is_copied else head["ETag"].strip('"')
        stored = (etag, head["ContentLength"], head["Metadata"].get("archive-id"))
        if stored != (proven["etag"], proven["size_bytes"], manifest["archive_id"]):
            raise NoCopy(f"the manifest proves {proven}, but stored is {stored}")
        with tempfile.TemporaryDirectory() as scratch:
            archive, tree = Path(scratch, "home.tar.gz"), Path(scratch, "tree")
            tree.mkdir()
            with archive.open("wb") as file, self._found(proven["key"]):
                self._s3.download_fileobj(self._bucket, proven["key"], file, ExtraArgs=version)
            if archive.stat().st_size != proven["size_bytes"]:
                raise NoCopy(f"{archive.stat().st_size} bytes came instead of {proven['size_bytes']}")
            self._check_segments(archive, manifest)
            extract = ["tar", "--xattrs", "--acls", "-xzpf", str(archive), "-C", str(tree)]
            extracted = subprocess.run(extract, capture_output=True, text=True, check=False)
            difference = self.differences(tree) if extracted.returncode == 0 else extracted.stderr
            if difference:
                raise NoCopy(f"the archive is not the tree: {difference}")

    def check_empty(self, workspace: str) -> None:
        """The volume is there, ready and empty, and no archive stands beside it. Else ``NoCopy``."""
        volume = self._home(workspace)
        state = self.state(workspace)
        if state != "ready" or not volume.is_dir() or any(volume.iterdir()):
            raise NoCopy(f"the record says {state}, and there is no empty volume")
        if objects := self.objects(workspace):
            raise NoCopy(f"beside an empty volume stand {objects}")

    def litter(self, key: str) -> None:
        """What others leave at a key: an unfinished upload, and where versions are kept a deleted object."""
        self._s3.create_multipart_upload(Bucket=self._bucket, Key=key)
        if self._s3.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled" and not self._exists(key):
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=b"of long ago")
            self._s3.delete_object(Bucket=self._bucket, Key=key)

    def copy(self, key: str) -> None:
        """Another object of the same bytes in its place, as in a bucket that was mirrored."""
        found = self._s3.get_object(Bucket=self._bucket, Key=key)
        listed = self._s3.list_object_versions(Bucket=self._bucket, Prefix=key).get("Versions", ())
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=found["Body"].read(), Metadata=found["Metadata"])
        for each in listed:
            if each["Key"] == key and each["VersionId"] != "null":
                self._s3.delete_object(Bucket=self._bucket, Key=key, VersionId=each["VersionId"])

    # ------------------------------------------------------------ what is there

    def state(self, workspace: str) -> str | None:
        """What the record says of the volume: `restoring`, `ready`, `archived`, `deleting`; ``None``: no volume."""
        record = self._json(f"{workspace}/home.state")
        volume = (record or {}).get("volume")
        return None if volume is None else str(volume["state"])

    def is_signed_off(self, workspace: str) -> bool:
        """True if the last owner ended in order."""
        record = self._json(f"{workspace}/home.state")
        return record is not None and bool(record["owner"]["signed_off"])

    def objects(self, workspace: str) -> list[str]:
        """Keys of all versions, delete markers and unfinished uploads below the workspace's prefix, but the record."""
        versions = self._s3.list_object_versions(Bucket=self._bucket, Prefix=f"{workspace}/")
        uploads = self._s3.list_multipart_uploads(Bucket=self._bucket)
        found = [each["Key"] for kind in ("Versions", "DeleteMarkers") for each in versions.get(kind, ())]
        found += [f"{each['Key']} (upload)" for each in uploads.get("Uploads", ())]
        return sorted(key for key in found if key.startswith(f"{workspace}/") and not key.endswith("/home.state"))

    def folders(self, workspace: str) -> list[str]:
        """What stands of the workspace below the root: volume, trash, half-made folder, note."""
        own = self._root / ".codehub"
        paths = [path for _, path in self._places(workspace)]
        paths += [own / "making" / workspace, own / "volumes" / f"{workspace}.json"]
        return [str(path) for path in paths if path.exists()]

    def differences(self, tree: Path) -> str:
        """What rsync would do to make ``tree`` the reference, contents compared by checksum. Empty: nothing."""
        command = ["rsync", "-naHAXc", "--delete", "--itemize-changes", f"{self._reference}/", f"{tree}/"]
        compared = subprocess.run(command, capture_output=True, text=True, check=False)
        if compared.returncode not in (0, *_RSYNC_GONE):
            raise RuntimeError(compared.stderr)
        return compared.stdout + compared.stderr

    # ------------------------------------------------------------ helpers

    def _places(self, workspace: str) -> list[tuple[str, Path]]:
        return [
            ("volume", self._home(workspace)),
            ("trash", self._root / ".codehub/trash" / workspace),
        ]

    def _check_segments(self, archive: Path, manifest: dict[str, Any]) -> None:
        """Each segment by itself, as the format says: a gzip member whose raw bytes have the digest in the manifest."""
        for segment in manifest["segments"]:
            cut = f"tail -c +{segment['offset'] + 1} {archive} | head -c {segment['stored_bytes']} | gzip -dc"
            raw = subprocess.run(["sh", "-c", cut], capture_output=True, check=True).stdout
            digest = f"b3:{blake3(raw).hexdigest()}"
            if digest != segment["digest"]:
                raise NoCopy(f"segment {segment} has digest {digest}")

    def _json(self, key: str) -> dict[str, Any] | None:
        try:
            body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise
        found: dict[str, Any] = json.loads(body)
        return found

    def _exists(self, key: str) -> bool:
        listed = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=key)
        return any(each["Key"] == key for each in listed.get("Contents", ()))

    @contextlib.contextmanager
    def _found(self, what: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                raise NoCopy(f"{what} is not stored") from error
            raise
