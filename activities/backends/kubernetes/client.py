"""The API server, as far as the backend needs it: raw JSON, a timeout on every call, the project's errors.

One connection for all calls, made inside the event loop. Where the server no longer knows our credentials they are
read again: tokens of service accounts, of kubeconfig plugins and rotated files come to the same.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
import yaml  # type: ignore[import-untyped]  # published without types
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration

from activities.backends.kubernetes.errors import refused, unreachable
from codehub_storage.errors import ErrorCode, StorageError

Json = dict[str, Any]
"""A thing as the API server shows it."""

_PAGE = 500
_RELOAD_SECONDS = 10.0
_AUTH = ["BearerToken"]
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True)
class Cluster:
    """Where the API server is. ``kubeconfig`` unset: our own service account, else where kubectl would look."""

    namespace: str
    kubeconfig: str | None = None
    context: str | None = None
    timeout_seconds: float = 30.0


class _Answer(NamedTuple):
    status: int
    data: bytes

    @property
    def json(self) -> Json:
        try:
            found = json.loads(self.data)
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {"message": self.data[:500].decode("utf-8", "replace")}


class Api:
    """Calls to one API server. Paths begin with ``/``; see ``pods`` and its siblings for those of our namespace."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._client: ApiClient | None = None
        self._retired: list[ApiClient] = []
        self._loaded = 0.0
        self._loading = asyncio.Lock()

    async def aclose(self) -> None:
        """End the connection; the next call makes a new one."""
        clients, self._retired = [*self._retired, *([self._client] if self._client else [])], []
        self._client = None
        for client in clients:
            await client.close()

    # ------------------------------------------------------------ paths

    def path(self, kind: str, name: str = "") -> str:
        """Where things of our namespace are: ``pods``, ``persistentvolumeclaims``, ``events``."""
        return f"/api/v1/namespaces/{self.cluster.namespace}/{kind}" + (f"/{name}" if name else "")

    @property
    def namespace_path(self) -> str:
        """Where our namespace itself is."""
        return f"/api/v1/namespaces/{self.cluster.namespace}"

    # ------------------------------------------------------------ calls

    async def get(self, path: str) -> Json | None:
        """One thing as it is now; ``None`` if it does not exist."""
        answer = await self._call("GET", path)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        return _checked(path, answer).json

    async def items(self, path: str, **selectors: str) -> list[Json]:
        """All things of a kind, as they are now and not as a cache has them."""
        found: list[Json] = []
        query = {**selectors, "limit": str(_PAGE)}
        while True:
            page = _checked(path, await self._call("GET", path, query)).json
            found += page.get("items") or []
            query["continue"] = (page.get("metadata") or {}).get("continue") or ""
            if not query["continue"]:
                return found

    async def create(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """A new thing, as admission left it. A field that the server does not know is refused."""
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        what = f"{body['kind']} {body['metadata']['name']} cannot be created"
        return _checked(what, await self._call("POST", path, query, body)).json

    async def may(self, attributes: Json) -> bool:
        """Whether our account has a right, as the API server decides it (``ResourceAttributes`` of a review)."""
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = _checked(_REVIEWS, await self._call("POST", _REVIEWS, None, body)).json
        return bool((answer.get("status") or {}).get("allowed"))

    async def delete(self, path: str, uid: str) -> bool:
        """Mark it for deletion, with its own grace. False if it does not exist. ``Refused`` if it is another by now."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        answer = await self._call("DELETE", path, None, body)
        if answer.status == HTTPStatus.NOT_FOUND:
            return False
        _checked(f"{path} cannot be deleted", answer)
        return True

    async def text(self, path: str, **query: str) -> str | None:
        """Plain text, such as a log; ``None`` if there is none (yet)."""
        answer = await self._call("GET", path, query)
        if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
            return None
        return _checked(path, answer).data.decode("utf-8", "replace")

    async def _call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Json | None = None
    ) -> _Answer:
        client = await self._connected()
        answer = await self._send(client, method, path, query, body)
        if answer.status == HTTPStatus.UNAUTHORIZED and await self._reload(client):
            answer = await self._send(await self._connected(), method, path, query, body)
        return answer

    async def _send(
        self, client: ApiClient, method: str, path: str, query: Mapping[str, str] | None, body: Json | None
    ) -> _Answer:
        try:
            response = await client.call_api(
                path,
                method,
                query_params=[(key, value) for key, value in (query or {}).items() if value],
                header_params={"Accept": "application/json, */*"},
                body=body,
                auth_settings=_AUTH,
                _preload_content=False,
                _request_timeout=self.cluster.timeout_seconds,
            )
            async with response:
                return _Answer(response.status, await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unreachable(f"{method} {path}", error) from error

    # ------------------------------------------------------------ the connection

    async def _connected(self) -> ApiClient:
        async with self._loading:
            if self._client is None:
                self._client = ApiClient(await self._configuration())
                self._loaded = asyncio.get_running_loop().time()
            return self._client

    async def _reload(self, client: ApiClient) -> bool:
        """Forget what the server no longer accepts. False if that was just tried."""
        if client is not self._client:
            return True
        if asyncio.get_running_loop().time() < self._loaded + _RELOAD_SECONDS:
            return False
        self._retired.append(client)  # others may be waiting for responses on it
        self._client = None
        return True

    async def _configuration(self) -> Configuration:
        found = Configuration()
        try:
            if self.cluster.kubeconfig is None and self.cluster.context is None and _is_in_cluster(found):
                return found
            await config.load_kube_config(
                config_file=self.cluster.kubeconfig,
                context=self.cluster.context,
                client_configuration=found,
                persist_config=False,
            )
        except (config.ConfigException, yaml.YAMLError, OSError, ValueError, AttributeError) as error:
            raise StorageError(
                ErrorCode.INVALID_INPUT,
                f"no way to a Kubernetes cluster: {error}",
                hint="Run the worker in the cluster, or name a kubeconfig file.",
            ) from error
        return found


def _is_in_cluster(found: Configuration) -> bool:
    try:
        config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        return False
    return True


def _checked(what: str, answer: _Answer) -> _Answer:
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise refused(what, answer.status, answer.json)
    return answer
