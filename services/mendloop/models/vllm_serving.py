"""Checkpoints behind vLLM servers: started, swapped, started again, or given by URL; each is proved by a probe.

Knows when a server must be started anew; knows neither items nor scores.
"""

from __future__ import annotations

import logging
import secrets
import time
from pathlib import Path

from mendloop.core.errors import Permanent, Retryable
from mendloop.models.checkpoint import directory_sha
from mendloop.models.pace import Pace
from mendloop.models.vllm_backend import Served, VllmModel
from mendloop.models.vllm_client import Busy, Gone, VllmClient
from mendloop.models.vllm_probe import Reference, difference, dtype_of, reference_of, tolerance_of, why_restart
from mendloop.models.vllm_server import ServerOptions, VllmServer, why_not_on_cpu

log = logging.getLogger(__name__)
HEALTH_TIMEOUT_S = 10.0
RETURN_DEADLINE_S = 300.0


class OwnServer:
    """One server of ours that serves one checkpoint after the other."""

    def __init__(self, options: ServerOptions, *, environment: dict[str, str], uses_gpu: bool) -> None:
        self._options, self._environment, self._uses_gpu = options, environment, uses_gpu
        self._name = f"mendloop-{secrets.token_hex(8)}"  # one for all its servers: requests under way outlive a server
        self._server: VllmServer | None = None
        self._served: Reference | None = None
        self._client: VllmClient | None = None
        self._pace = Pace()

    def model(self, directory: Path) -> VllmModel:
        """The checkpoint of a directory, served. Raises Permanent where it cannot be served rightly."""
        if self._served is not None and self._served.sha256 == directory_sha(directory) and not self._why_dead():
            return self._model(self._served)
        reference = reference_of(directory)  # first: a checkpoint that does not load kills an engine
        if self._options.is_on_cpu and (reason := why_not_on_cpu(directory)):
            raise Permanent(f"vLLM cannot serve {directory}: {reason}; measure it with suite.backend transformers")
        if self._server is None or self._served is None:
            self._start(reference)
        elif reason := why_restart(self._served.directory, directory) or self._why_dead():
            log.info("vLLM is started anew", extra={"checkpoint": str(directory), "reason": reason})
            self._start(reference)
        elif not self._is_swapped(reference):
            self._start(reference)
        self._served = reference
        return self._model(reference)

    def client(self) -> VllmClient:
        """Where the server is now."""
        if self._client is None:
            raise Permanent("no vLLM server was started yet; ask for a checkpoint first")
        return self._client

    def revive(self, reason: str) -> None:
        """Start the server again with the same checkpoint, unless it is well."""
        if self._served is None or not (dead := self._why_dead()):
            return
        log.warning("vLLM is started again", extra={"reason": dead, "fault": reason, "last_words": self._last_words()})
        self._start(self._served)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.stop()
        self._server, self._client, self._served = None, None, None

    @property
    def pid(self) -> int | None:
        """The process group of the server, while there is one."""
        return self._server.pid if self._server else None

    def _start(self, reference: Reference) -> None:
        began = time.monotonic()
        if self._server is not None:
            self._server.stop()
        self._served = None
        self._server = VllmServer(
            reference.directory, name=self._name, options=self._options, environment=self._environment
        )
        self._server.wait_ready()
        self._client = self._server.client()
        try:
            off, allowed = self._off_by(reference), self._tolerance(reference.directory)
        except Retryable as error:
            if not self._why_dead():
                raise
            # an engine that dies at its first request says why in its log alone
            raise Permanent(
                f"vLLM started with {reference.directory}, but it dies at the first request; its log"
                f" {self._server.log_path} says: {self._server.cause()}"
            ) from error
        if not off <= allowed:
            raise Permanent(
                f"vLLM serves {reference.directory} wrongly: log-probabilities of a probe differ from transformers' by"
                f" up to {off:.2g} nats, {allowed:g} are allowed; measure it with suite.backend transformers"
            )
        self._served = reference
        facts = {"checkpoint": str(reference.directory), "start_s": time.monotonic() - began, "probe_nats": off}
        log.info("vLLM serves", extra={**facts, "log_file": str(self._server.log_path)})

    def _is_swapped(self, reference: Reference) -> bool:
        """Put new weights into the running server; False, with the reason logged, where the probe disagrees."""
        assert self._served is not None
        began = time.monotonic()
        facts: dict[str, object] = {"checkpoint": str(reference.directory)}
        try:
            arguments = {"weights_path": str(reference.directory)}
            self.client().post("/collective_rpc", {"method": "reload_weights", "kwargs": arguments})
            self.client().post("/reset_prefix_cache")
            facts["swap_ms"] = 1000 * (time.monotonic() - began)
            off = self._off_by(reference)
            off_old = difference(self._served, self._model(self._served).token_logprobs([self._served.probe])[0])
        except (Gone, Busy, Permanent) as error:
            log.warning("vLLM is started anew", extra={**facts, "reason": f"the swap failed: {error}"})
            return False
        facts |= {"probe_nats": off, "probe_ms": 1000 * (time.monotonic() - began)}
        # in half precision the old weights could be near enough; they must not be nearer than the new
        if off <= self._tolerance(reference.directory) and off <= off_old:
            log.info("vLLM serves new weights", extra=facts)
            return True
        log.warning("vLLM is started anew", extra={**facts, "reason": "the probe disagrees after the swap"})
        return False

    def _off_by(self, reference: Reference) -> float:
        return difference(reference, self._model(reference).token_logprobs([reference.probe])[0])

    def _model(self, reference: Reference) -> VllmModel:
        assert self._server is not None
        served = Served(
            name=self._server.name,
            checkpoint=str(reference.directory),
            tokenizer=reference.tokenizer,
            eos_ids=reference.eos_ids,
            context=reference.context,
            length_limit=_length_limit(self.client(), self._server.name),
        )
        return VllmModel(served, connection=self, pace=self._pace, uses_gpu=self._uses_gpu)

    def _tolerance(self, directory: Path) -> float:
        return tolerance_of(self._options.dtype or dtype_of(directory))

    def _why_dead(self) -> str:
        if self._server is None or not self._server.is_alive:
            return "the server's process ended"
        return _why_unwell(self._server.client(timeout_s=HEALTH_TIMEOUT_S))

    def _last_words(self) -> str:
        return self._server.tail() if self._server else ""


class GivenServer:
    """A server of somebody else's, which must serve the very checkpoint that is measured."""

    def __init__(self, url: str, *, api_key: str = "", dtype: str = "", uses_gpu: bool = True) -> None:
        self._api_key, self._dtype, self._uses_gpu = api_key, dtype, uses_gpu
        self._client = VllmClient(url, api_key=api_key)
        self._pace = Pace()
        self._served: Reference | None = None

    def model(self, directory: Path) -> VllmModel:
        """The checkpoint of a directory. Raises Permanent where the server serves something else."""
        reference = reference_of(directory)
        try:
            model = self._proved(reference)
        except Gone as gone:
            raise Retryable(f"no vLLM server answers: {gone}") from gone
        self._served = reference
        return model

    def client(self) -> VllmClient:
        """Where the server is."""
        return self._client

    def revive(self, reason: str) -> None:
        """Wait until it is back, with the same checkpoint. Raises Retryable where it does not come back."""
        deadline = time.monotonic() + RETURN_DEADLINE_S
        probing = VllmClient(self._client.url, api_key=self._api_key, timeout_s=HEALTH_TIMEOUT_S)
        while why := _why_unwell(probing):
            if time.monotonic() > deadline:
                raise Retryable(f"{self._client.url} did not come back within {RETURN_DEADLINE_S:.0f} s: {why}")
            time.sleep(0.5)
        log.warning("the vLLM server is back", extra={"url": self._client.url, "fault": reason})
        if self._served is not None:
            self._proved(self._served)

    def close(self) -> None:
        """Nothing: it is not ours."""

    def _proved(self, reference: Reference) -> VllmModel:
        listed = self._client.get("/v1/models")
        names = [entry["id"] for entry in listed["data"]] if isinstance(listed, dict) and "data" in listed else []
        if not names:
            raise Permanent(f"{self._client.url} lists no model; is it a vLLM server?")
        served = Served(
            name=names[0],
            checkpoint=str(reference.directory),
            tokenizer=reference.tokenizer,
            eos_ids=reference.eos_ids,
            context=reference.context,
            length_limit=_length_limit(self._client, names[0]),
        )
        model = VllmModel(served, connection=self, pace=self._pace, uses_gpu=self._uses_gpu)
        dtype = self._dtype or dtype_of(reference.directory)
        try:
            off = difference(reference, model.token_logprobs([reference.probe])[0])
        except Permanent as error:
            raise Permanent(f"{self._client.url} serves {names[0]!r}, not {reference.directory}: {error}") from error
        if not off <= tolerance_of(dtype):
            raise Permanent(
                f"{self._client.url} serves {names[0]!r}, not {reference.directory} in {dtype}: log-probabilities of a"
                f" probe differ by up to {off:.2g} nats, {tolerance_of(dtype):g} are allowed; serve this checkpoint"
                f" with --dtype {dtype}, or let the evaluator start its own server"
            )
        return model


def _length_limit(client: VllmClient, name: str) -> float:
    for entry in client.get("/v1/models")["data"]:
        if entry["id"] == name and entry.get("max_model_len"):
            return float(entry["max_model_len"])
    return float("inf")


def _why_unwell(client: VllmClient) -> str:
    try:
        client.get("/health")
    except (Gone, Busy, Permanent) as fault:
        return str(fault)
    return ""
