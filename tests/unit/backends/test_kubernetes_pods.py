"""The Pods of movers and walks: what operators may say, what they may not, and what admission must not change."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from activities.backends.base import MoverSpec
from activities.backends.containers import READING, SCRATCH, VOLUME, WRITING, MoverImage, read_spec
from activities.backends.kubernetes.pods import PodShape, check_as_asked, is_for, mover_pod, serves, walk_pod
from activities.backends.kubernetes.template import PodTemplate, read_template
from codehub_storage.errors import ErrorCode, StorageError

SHAPE = PodShape(MoverImage("codehub-storage:1", {"CODEHUB_STORAGE_PLACE": "default"}), secret="s3")
SPEC = MoverSpec("ws1", "ws1-0011", "run-1", "mover/token/1", writable=True)
TEMPLATE = """
nodeSelector: {disk: fast}
tolerations: [{key: homes, operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: movers
runtimeClassName: gvisor
imagePullSecrets: [{name: registry}]
serviceAccountName: movers
labels: {team: storage}
annotations: {note: x}
resources: {requests: {cpu: 250m}, limits: {memory: 1Gi}}
env: {HTTPS_PROXY: "http://proxy:3128"}
caConfigMap: authorities
"""


def with_template(text: str, tmp_path: Path) -> PodTemplate:
    path = tmp_path / "template.yaml"
    path.write_text(text)
    return read_template(path)


@pytest.mark.parametrize(("writable", "capabilities"), [(False, READING), (True, WRITING)])
def test_rights_of_a_mover(writable: bool, capabilities: tuple[str, ...]) -> None:
    """Root with a short list, nothing that can be gained, a read-only root; an archive cannot write its volume."""
    pod = mover_pod(SHAPE, MoverSpec("ws1", "ws1-0011", "run-1", "q", writable=writable), "ws-ws1-home")["spec"]
    container = pod["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": list(capabilities)},
    }
    assert pod["securityContext"] == {"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}}
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert (pod["restartPolicy"], "hostNetwork" in pod, "nodeName" in pod) == ("Never", False, False)
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert mounts == {VOLUME: not writable, SCRATCH: False}


def test_a_mover_is_told_by_argument_and_secret() -> None:
    """The command carries the spec, the environment the settings, the Secret the credentials."""
    container = mover_pod(SHAPE, SPEC, "ws-ws1-home")["spec"]["containers"][0]
    assert container["command"][:3] == ["python", "-m", "worker.mover"]
    assert read_spec(container["command"][3]) == SPEC
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert {"name": "CODEHUB_STORAGE_PLACE", "value": "default"} in container["env"]


def test_a_walk_is_told_nothing() -> None:
    """It needs neither settings nor credentials, reads only, and can hold the claim."""
    pod = walk_pod(SHAPE, "ws1", "ws1-0011", "run-1", "ws-ws1-home", hold=True)
    container = pod["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", "worker.walk", "--hold"]
    assert container["env"] == [{"name": "TMPDIR", "value": SCRATCH}]
    assert "envFrom" not in container
    assert container["volumeMounts"][0]["readOnly"]


def test_who_is_who() -> None:
    """A mover is adopted by its own run and queue; labels that somebody copied make no mover."""
    pod = mover_pod(SHAPE, SPEC, "ws-ws1-home")
    assert serves(pod, SPEC)
    assert not serves(pod, replace(SPEC, protocol=SPEC.protocol + 1))
    assert serves(pod, replace(SPEC, protocol=SPEC.protocol + 1), any_protocol=True)
    assert not serves(pod, MoverSpec("ws1", "ws1-0011", "run-2", SPEC.queue, writable=True))
    assert not serves(pod, MoverSpec("ws1", "ws1-0011", "run-1", "mover/token/2", writable=True))
    assert is_for(walk_pod(SHAPE, "ws1", "ws1-0011", "run-1", "ws-ws1-home", hold=True), "ws1-0011")
    copied = copy.deepcopy(pod)
    copied["metadata"]["name"] = "a-copy"
    assert not is_for(copied, "ws1-0011")


def test_a_template_extends(tmp_path: Path) -> None:
    """Where movers run and with what is the operators'; memory is said once, for request and limit."""
    shape = PodShape(SHAPE.image, template=with_template(TEMPLATE, tmp_path))
    pod = mover_pod(shape, SPEC, "ws-ws1-home")
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["tolerations"] == [{"key": "homes", "operator": "Exists"}]
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("movers", "gvisor")
    assert (spec["imagePullSecrets"], spec["serviceAccountName"]) == ([{"name": "registry"}], "movers")
    assert container["resources"] == {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    assert {"name": "HTTPS_PROXY", "value": "http://proxy:3128"} in container["env"]
    assert {"name": "ca", "configMap": {"name": "authorities"}} in spec["volumes"]
    assert pod["metadata"]["labels"]["team"] == "storage"
    assert serves(pod, SPEC)
    assert spec["securityContext"]["runAsUser"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "hostNetwork: true",
        "securityContext: {fsGroup: 1000}",
        "volumes: []",
        "containers: []",
        "nodeName: n1",
        "automountServiceAccountToken: true",
        "env: {CODEHUB_STORAGE_BUCKET: other}",
        "labels: {codehub-storage/uid: other}",
        "annotations: {codehub-storage/queue: other}",
        "resources: {claims: []}",
        "- a list",
        "a: [",
    ],
)
def test_a_template_is_a_closed_list(tmp_path: Path, text: str) -> None:
    """Anything else is refused at start-up, and the list is told."""
    with pytest.raises(StorageError) as error:
        with_template(text, tmp_path)
    assert error.value.code is ErrorCode.INVALID_INPUT
    assert "nodeSelector" in error.value.hint


def test_an_empty_template_is_none(tmp_path: Path) -> None:
    """No file, or one of comments."""
    assert read_template(None) == with_template("# nothing yet\n", tmp_path) == PodTemplate()


def test_admission_may_add_but_not_change() -> None:
    """Defaults are fine; an fsGroup, a sidecar, another user or another right is refused."""
    asked = mover_pod(SHAPE, SPEC, "ws-ws1-home")
    made = copy.deepcopy(asked)
    made["spec"]["tolerations"] = [{"key": "node.kubernetes.io/not-ready", "tolerationSeconds": 300}]
    del made["spec"]["containers"][0]["volumeMounts"][0]["readOnly"]
    check_as_asked(asked, made)

    def fs_group(pod: dict[str, dict[str, dict[str, int]]]) -> None:
        pod["spec"]["securityContext"]["fsGroup"] = 1000

    def user(pod: dict[str, dict[str, dict[str, int]]]) -> None:
        pod["spec"]["securityContext"]["runAsUser"] = 1000

    for change in (fs_group, user):
        changed = copy.deepcopy(made)
        change(changed)
        with pytest.raises(StorageError) as error:
            check_as_asked(asked, changed)
        assert error.value.code is ErrorCode.UNSUPPORTED
    sidecar = copy.deepcopy(made)
    sidecar["spec"]["containers"].append({"name": "proxy"})
    rights = copy.deepcopy(made)
    rights["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = ["SYS_ADMIN"]
    for changed in (sidecar, rights):
        with pytest.raises(StorageError):
            check_as_asked(asked, changed)
