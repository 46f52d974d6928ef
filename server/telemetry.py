"""What the process says about itself: metrics for Prometheus, and its log."""

from __future__ import annotations

import logging
import sys
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from policies.errors import plainly

__all__ = [
    "CATALOGUE_LOADS",
    "CATEGORIES",
    "COLLAPSED",
    "CONFLICTS",
    "DECISIONS",
    "ENTROPY",
    "LEAD",
    "LEARNED",
    "MODELS_REFUSED",
    "MODEL_POSITION",
    "OUTCOMES",
    "OVERRIDES",
    "PII",
    "PSI",
    "SECONDS",
    "SELECTION_ENTROPY",
    "SHARE",
    "UNKNOWN_FEATURES",
    "configure_log",
    "serve_metrics",
]

DECISIONS = Counter(
    "opportune_decisions", "Decisions made, by what was chosen or why not.", ["result"]
)
OUTCOMES = Counter("opportune_outcomes", "New outcomes, by kind.", ["kind"])
CONFLICTS = Counter(
    "opportune_conflicts", "Decisions made again because the history had changed."
)
OVERRIDES = Counter("opportune_overrides", "Offers chosen that caps do not hold back.")
CATALOGUE_LOADS = Counter(
    "opportune_catalogue_loads", "Catalogues taken into use by this process."
)
UNKNOWN_FEATURES = Counter(
    "opportune_unknown_features",
    "Requests with features that the catalogue does not declare.",
)
SECONDS = Histogram(
    "opportune_request_seconds",
    "How long requests took.",
    ["method"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0),
)
SELECTION_ENTROPY = Histogram(
    "opportune_selection_entropy",
    "How much choice decisions left, from 0 (none) to 1 (any action alike).",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0),
)
MODEL_POSITION = Gauge(
    "opportune_model_position", "How far the model in use has learned."
)
MODELS_REFUSED = Counter(
    "opportune_models_refused",
    "Models that were damaged or not fit to decide; the last good one serves.",
)
COLLAPSED = Gauge(
    "opportune_exploration_collapsed",
    "1 while hardly anything but one action is chosen that is not certainly better.",
)
ENTROPY = Gauge(
    "opportune_recent_entropy",
    "How evenly actions are chosen, 0 to 1, over the last decisions.",
)
PSI = Gauge(
    "opportune_feature_psi",
    "How far the values of a feature have moved from where they were.",
    ["feature"],
)
LEAD = Gauge(
    "opportune_challenger_lead",
    "What a challenger earned above the champion in its last window, at least (low)"
    " and at most (high), a decision.",
    ["challenger", "bound"],
)
SHARE = Gauge(
    "opportune_challenger_share",
    "The share of users for whom a challenger decides.",
    ["challenger"],
)
CATEGORIES = Counter(
    "opportune_feature_categories_beyond",
    "Values of features with more categories than `categories_max`, by feature.",
    ["feature"],
)
PII = Counter(
    "opportune_pii_values",
    "Values that look like e-mail addresses or telephone numbers, by what became of"
    " them.",
    ["handling"],
)
LEARNED = Counter("opportune_resolutions_learned", "Resolutions that were learned.")


def serve_metrics(port: int) -> WSGIServer | None:
    """Answer `/metrics` on the loopback address; nothing where the port is 0."""
    if port == 0:
        return None
    try:
        server, _ = start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        raise OSError(f"metrics: port {port} {plainly(error)}") from error
    return server


def configure_log() -> None:
    """Write the log to standard error: for people at a terminal, else as JSON."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
