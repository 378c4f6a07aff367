"""The settings: where each comes from, who wins, and what a wrong one says."""

from __future__ import annotations

import ast
import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest

from codehub_storage.errors import ErrorCode, StorageError
from worker.dev.info import DevInfo, Layout
from worker.settings import Origin, Settings, child_environment, variable

ROOT = Path(__file__).parents[2]
STACK = DevInfo(
    temporal_address="127.0.0.1:7001",
    namespace="stack",
    web_ui="http://127.0.0.1:7002",
    s3_endpoint="http://127.0.0.1:7003",
    s3_access_key="stack-access",
    s3_secret_key="stack-secret",
    bucket="stack-bucket",
    volume_root="/stack/volumes",
    logs="/stack/logs",
)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of the test's own, so that no stack and no Temporal profile of the user is found."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """The data folder of a running stack."""
    folder = tmp_path / "stack"
    folder.mkdir()
    STACK.write(folder)
    return folder


def set_(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for field, value in values.items():
        monkeypatch.setenv(variable(field), value)


def wrong(monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    """The message that these settings are refused with."""
    set_(monkeypatch, **values)
    with pytest.raises(StorageError) as caught:
        Settings.load()
    assert caught.value.code is ErrorCode.INVALID_INPUT
    return caught.value.message


def test_defaults_need_no_environment(home: Path) -> None:
    """Without any setting: AWS, provider chain, data in the user's data folder, Temporal's own default address."""
    settings = Settings.load()
    assert settings.data_dir == home / ".local/share/codehub-storage"
    assert settings.volumes == settings.data_dir / "volumes"
    assert settings.is_aws
    assert settings.s3_secret_key is None
    assert settings.temporal_connect_config() == {"target_host": "localhost:7233"}


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes have units, durations are seconds, an empty variable counts as unset."""
    set_(monkeypatch, budget_bytes="64MiB", settle="2.5", place="", time_scale="0.1", log_level="debug")
    settings = Settings.load()
    assert settings.budget_bytes == 64 << 20
    assert settings.settle == timedelta(seconds=2.5)
    assert settings.place == "default"
    assert settings.log_level == "DEBUG"
    assert settings.scaled(timedelta(seconds=60)) == timedelta(seconds=6)


def test_given_settings_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ``load`` reads the environment; settings made in code are what they are given."""
    set_(monkeypatch, bucket="elsewhere")
    assert Settings().bucket == "codehub-archives"


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message names each variable that is wrong."""
    message = wrong(monkeypatch, settle="-1", volume_root="relative", max_movers="none", retention="perhaps")
    for field in ("settle", "volume_root", "max_movers", "retention"):
        assert variable(field) in message


@pytest.mark.parametrize(
    ("field", "value"),
    [("s3_endpoint", "http://user:hush@host"), ("s3_access_key", "hush"), ("s3_secret_key", "hush")],
)
def test_a_refusal_shows_no_value(monkeypatch: pytest.MonkeyPatch, field: str, value: str) -> None:
    """What is wrong may be a secret: neither message nor details repeat it."""
    assert "hush" not in wrong(monkeypatch, **{field: value})


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings can be printed and dumped without showing a key."""
    set_(monkeypatch, s3_access_key="hush-access", s3_secret_key="hush-secret", s3_session_token="hush-token")
    settings = Settings.load()
    assert "hush" not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 0),
        ({"s3_endpoint": "https://s3.eu-west-1.amazonaws.com"}, 0),
        ({"s3_endpoint": "https://amazonaws.com.example.org"}, 60),
        ({"s3_endpoint": "http://127.0.0.1:8333"}, 60),
        ({"s3_endpoint": "http://127.0.0.1:8333", "settle_sync_dir": "/data"}, 0),
        ({"s3_endpoint": "http://127.0.0.1:8333", "settle": "0"}, 0),
        ({"settle": "PT5M"}, 300),
    ],
)
def test_settle_follows_the_store(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], seconds: int) -> None:
    """A self-hosted store is waited for, AWS and a store that is synced are not, and a setting beats both."""
    set_(monkeypatch, **values)
    assert Settings.load().settle_delay == timedelta(seconds=seconds)


def test_misspelled_variable_is_reported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A variable of our prefix that is no setting is named, with the one that was meant; a failpoint is not."""
    set_(monkeypatch, s3_endpont="http://127.0.0.1:1", failpoint="x")
    with caplog.at_level(logging.WARNING):
        Settings.load()
    assert caplog.messages == [f"{variable('s3_endpont')} is no setting; did you mean {variable('s3_endpoint')}?"]


def test_running_stack_is_found(stack: Path) -> None:
    """Store, bucket, volumes and Temporal come from the stack's dev.json; its store is synced, not waited for."""
    settings = Settings.load(stack)
    assert settings.s3_endpoint == STACK.s3_endpoint
    assert settings.s3_secret_key is not None
    assert settings.s3_secret_key.get_secret_value() == STACK.s3_secret_key
    assert settings.bucket == STACK.bucket
    assert str(settings.volumes) == STACK.volume_root
    assert settings.settle_sync_dir == Layout(stack).store
    assert settings.temporal_connect_config() == {"target_host": STACK.temporal_address, "namespace": "stack"}


def test_stack_is_found_through_the_environment(monkeypatch: pytest.MonkeyPatch, stack: Path) -> None:
    """The data folder may be named by variable; an argument beats it."""
    set_(monkeypatch, data_dir=str(stack))
    assert Settings.load().bucket == STACK.bucket
    assert Settings.load(stack.parent).bucket == "codehub-archives"


def test_environment_beats_the_stack(monkeypatch: pytest.MonkeyPatch, stack: Path) -> None:
    """Each setting of the environment holds, also Temporal's own variables."""
    set_(monkeypatch, bucket="mine-own", volume_root="/mine")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example:7233")
    settings = Settings.load(stack)
    assert (settings.bucket, str(settings.volumes)) == ("mine-own", "/mine")
    assert settings.temporal_connect_config()["target_host"] == "temporal.example:7233"


def test_every_value_knows_where_it_comes_from(monkeypatch: pytest.MonkeyPatch, stack: Path) -> None:
    """The option before the environment, that before the stack, that before the default."""
    set_(monkeypatch, bucket="mine-own", data_dir="/elsewhere")
    settings = Settings.load(stack)
    fields = ("data_dir", "bucket", "s3_secret_key", "volume_root", "place")
    origins = [Origin.OPTION, Origin.ENVIRONMENT, Origin.STACK, Origin.STACK, Origin.DEFAULT]
    assert [settings.origin(name) for name in fields] == origins


def test_the_web_ui_is_that_of_the_server_that_is_used(monkeypatch: pytest.MonkeyPatch, stack: Path) -> None:
    """The setting, else the running stack's; that one not for runs on another server."""
    assert Settings.load().web_ui_address is None
    assert Settings.load(stack).web_ui_address == STACK.web_ui
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example:7233")
    assert Settings.load(stack).web_ui_address is None
    set_(monkeypatch, web_ui="https://ui.example/")
    assert Settings.load(stack).web_ui_address == "https://ui.example"


def test_temporal_is_described_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, stack: Path, tmp_path: Path
) -> None:
    """Address and who said it: the default, the stack, a profile's file, the environment."""
    assert Settings.load().temporal_connection()[::5] == ("localhost:7233", Origin.DEFAULT)
    assert Settings.load(stack).temporal_connection()[::5] == (STACK.temporal_address, Origin.STACK)
    file = tmp_path / "temporal.toml"
    file.write_text('[profile.prod]\naddress = "profile.example:7233"\nnamespace = "theirs"\napi_key = "hidden"\n')
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(file))
    monkeypatch.setenv("TEMPORAL_PROFILE", "prod")
    found = Settings.load(stack).temporal_connection()
    assert found == ("profile.example:7233", "theirs", "prod", True, True, Origin.FILE)
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example:7233")
    assert Settings.load(stack).temporal_connection()[::5] == ("temporal.example:7233", Origin.ENVIRONMENT)


def test_store_is_taken_whole(monkeypatch: pytest.MonkeyPatch, stack: Path) -> None:
    """With another endpoint in the environment, neither the stack's keys nor its sync folder are used for that one."""
    set_(monkeypatch, s3_endpoint="http://127.0.0.1:9")
    settings = Settings.load(stack)
    assert settings.s3_access_key is None
    assert settings.s3_secret_key is None
    assert settings.settle_sync_dir is None


def test_temporal_profile_is_honoured(monkeypatch: pytest.MonkeyPatch, stack: Path, tmp_path: Path) -> None:
    """A configuration file that the environment names beats the stack; a broken one is refused with our code."""
    profile = tmp_path / "temporal.toml"
    profile.write_text('[profile.default]\naddress = "profile.example:7233"\nnamespace = "theirs"\n')
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(profile))
    config = Settings.load(stack).temporal_connect_config()
    assert (config["target_host"], config["namespace"]) == ("profile.example:7233", "theirs")
    profile.write_text("not toml")
    with pytest.raises(StorageError) as caught:
        Settings.load(stack).temporal_connect_config()
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_broken_dev_json_is_refused(stack: Path) -> None:
    """A dev.json that is none is an error with our code and names the file's fields, not a stack trace."""
    Layout(stack).info.write_text("{}")
    with pytest.raises(StorageError) as caught:
        Settings.load(stack)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_dev_json_is_private_and_exact(stack: Path) -> None:
    """Other programs read the file: exactly these names, for its owner's eyes only."""
    assert Layout(stack).info.stat().st_mode & 0o777 == 0o600
    assert list(DevInfo.model_fields) == [
        "temporal_address",
        "namespace",
        "web_ui",
        "s3_endpoint",
        "s3_access_key",
        "s3_secret_key",
        "bucket",
        "volume_root",
        "logs",
    ]


def test_child_environment_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child gets what we have, less what starts with a given prefix, plus what is named."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", "elsewhere")
    child = child_environment({"A": "b"}, without=("TEMPORAL_",))
    assert child == {**{k: v for k, v in os.environ.items() if not k.startswith("TEMPORAL_")}, "A": "b"}


def test_every_setting_is_described() -> None:
    """The documentation is made from the descriptions; each is a sentence."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_nobody_else_reads_the_environment() -> None:
    """One reader of the environment, besides the failpoints; passing it on whole to a child is not reading it."""
    readers = {
        str(path.relative_to(ROOT))
        for folder in ("activities", "client", "worker", "workflows")
        for path in (ROOT / folder).rglob("*.py")
        if _reads_environment(ast.parse(path.read_text()))
    }
    assert readers == {"activities/runtime/failpoints.py", "worker/settings.py"}


SYSTEM = ("('PATH', os.defpath)", "('TMPDIR')")


def _reads_environment(tree: ast.Module) -> bool:
    """True for ``os.getenv``, ``os.environ.get`` and ``os.environ[...]``, except of what is the system's to say."""
    for node in ast.walk(tree):
        source = ast.unparse(node) if isinstance(node, ast.Call | ast.Subscript) else ""
        if source.startswith(("os.getenv(", "os.environ.get(", "os.environ[")) and not source.endswith(SYSTEM):
            return True
    return False
