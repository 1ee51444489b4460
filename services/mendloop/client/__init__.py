"""The Python client of a gateway: start runs, wait, stream events, decide, get reports. Needs httpx: mendloop[client].

`Client` blocks, `AsyncClient` awaits; both drive the same core (`talking`, `calls`, `stream`), which does no I/O.
"""

try:
    import httpx  # noqa: F401 (tells what is missing before anything else does)
except ImportError as error:
    raise ImportError("the client needs httpx: pip install 'mendloop[client]'") from error

from mendloop.client.asynchronous import AsyncClient
from mendloop.client.blocking import Client
from mendloop.client.errors import (
    ApiError,
    BadRequest,
    ClientError,
    Conflict,
    Fault,
    Forbidden,
    Invalid,
    NotFound,
    NotReady,
    ServerError,
    Unauthorized,
    Unreachable,
    WaitTimeout,
)
from mendloop.client.results import Accuracy, Cost, Event, Failure, Round, Run, RunPage, RunSummary, Verdict
from mendloop.client.webhook_results import Delivery, DeliveryPage, Webhook, WebhookPage

__all__ = [
    "Accuracy",
    "ApiError",
    "AsyncClient",
    "BadRequest",
    "Client",
    "ClientError",
    "Conflict",
    "Cost",
    "Delivery",
    "DeliveryPage",
    "Event",
    "Failure",
    "Fault",
    "Forbidden",
    "Invalid",
    "NotFound",
    "NotReady",
    "Round",
    "Run",
    "RunPage",
    "RunSummary",
    "ServerError",
    "Unauthorized",
    "Unreachable",
    "Verdict",
    "WaitTimeout",
    "Webhook",
    "WebhookPage",
]
