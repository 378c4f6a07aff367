"""From settings to a backend: what a mover is told, and what only a Secret tells it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from activities.backends.base import MoverSpec
from activities.backends.kubernetes.backend import KubernetesBackend
from activities.backends.kubernetes.pods import mover_pod
from codehub_storage.errors import ErrorCode, StorageError
from worker.backends import mover_environment, open_backend
from worker.settings import Settings


def settings(**more: object) -> Settings:
    return Settings.model_validate(
        {
            "backend": "k8s",
            "k8s_secret": "store",
            "s3_endpoint": "http://127.0.0.1:9000",
            "s3_access_key": "hush-access",
            "s3_secret_key": "hush-secret",
            "s3_session_token": "hush-token",
            "mover_s3_endpoint": "http://store:9000",
            "mover_temporal_address": "temporal:7233",
            **more,
        }
    )


async def test_a_pod_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its specification can be read by many: settings and addresses stand there, credentials come from the Secret."""
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "TEMPORAL_API_KEY", "TEMPORAL_TLS_CLIENT_KEY_DATA"):
        monkeypatch.setenv(name, "-----BEGIN hush-----" if name.endswith("KEY_DATA") else "hush")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    async with open_backend(settings(allow_devices=True)) as backend:
        assert isinstance(backend, KubernetesBackend)
        pod = mover_pod(backend._shape, MoverSpec("ws1", "ws1-01", "run", "q", writable=False), "ws-ws1-home")
    container = pod["spec"]["containers"][0]
    told = {each["name"]: each["value"] for each in container["env"]}
    assert "hush" not in json.dumps(pod)
    assert told["CODEHUB_STORAGE_S3_ENDPOINT"] == "http://store:9000"
    assert told["TEMPORAL_ADDRESS"] == "temporal:7233"
    assert told["AWS_REGION"] == "eu-west-1"
    assert told["CODEHUB_STORAGE_ALLOW_DEVICES"] == "True"
    assert container["envFrom"] == [{"secretRef": {"name": "store"}}]


def test_what_is_unset_is_for_the_mover_to_decide() -> None:
    """It knows how large its volume is."""
    name = "CODEHUB_STORAGE_SEGMENT_BYTES"
    assert name not in mover_environment(settings())
    assert mover_environment(settings(segment_bytes="3MiB"))[name] == str(3 << 20)


async def test_a_wrong_template_ends_the_start(tmp_path: Path) -> None:
    """Not the first archive of a workspace months later."""
    template = tmp_path / "template.yaml"
    template.write_text("hostPath: /")
    with pytest.raises(StorageError) as error:
        async with open_backend(settings(k8s_pod_template=template)):
            pass
    assert error.value.code is ErrorCode.INVALID_INPUT
