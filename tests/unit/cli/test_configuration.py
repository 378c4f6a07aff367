"""`config` shows no secret, wherever one may stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from worker.cli.commands.config import MASK, settings_in_force
from worker.settings import Settings, variable


def test_every_secret_is_masked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Secret settings by their type; passwords in URLs and in a driver's options by their shape."""
    monkeypatch.setenv("HOME", str(tmp_path))
    secret = "hunter2"
    names = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    values = {
        **dict.fromkeys(names, SecretStr(secret)),
        "docker_host": f"tcp://someone:{secret}@engine:2376",
        "docker_volume_options": {"o": f"addr=x,password={secret},uid=1", "token": secret, "type": "cifs"},
    }
    answer = settings_in_force(Settings.model_validate(values))
    assert secret not in answer.model_dump_json()
    shown = {each.variable: each.value for each in answer.settings}
    assert len(shown) == len(Settings.model_fields)
    assert [shown[variable(name)] for name in names] == [MASK] * len(names)
    assert shown[variable("docker_host")] == f"tcp://{MASK}@engine:2376"
    assert shown[variable("docker_volume_options")] == {
        "o": f"addr=x,password={MASK},uid=1",
        "token": MASK,
        "type": "cifs",
    }
