"""The processes themselves: CPU, memory, the event loop, the allocator, the API and traces."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.boards import board
from dashboards.panels import (
    GREEN,
    NS,
    RED,
    YELLOW,
    Query,
    Row,
    graph,
    increase,
    number,
    p,
    rate,
    rows_of,
    states,
)

_ONE = f'{NS}, instance=~"$instance"'
_OURS = f'job=~"(.*/)?postorder", {_ONE}'


def processes() -> Dashboard:
    """Return the dashboard of processes."""
    rows = [_which(), _machine(), _loop(), _allocator(), _api(), _traces()]
    about = "CPU, memory, event loop and garbage collection of each process; the allocator, the API, traces."
    return board("processes", "processes", rows, about=about, variables=("instance",))


def _which() -> Row:
    info = f"postorder_build_info{{{_ONE}}}"
    roles = f"max by (instance, role) (postorder_role{{{_ONE}}} == 1)"
    return Row(
        "Which",
        [
            states(
                "Ready",
                Query(f"min by (instance) (postorder_ready{{{_ONE}}})", "{{instance}}"),
                about="What /readyz answers.",
                words={"0": ("not ready", RED), "1": ("ready", GREEN)},
                width=6,
                height=8,
            ),
            graph(
                "Why not ready",
                Query(f"sum by (instance, cause) (postorder_not_ready{{{_ONE}}})", "{{instance}} {{cause}}"),
                about="Causes that /readyz names: starting, draining, broker, primary.",
                width=6,
                steps=((1, YELLOW),),
            ),
            rows_of(
                "Versions",
                Query(info),
                about="Side by side while an upgrade rolls.",
                columns={"instance": "process", "version": "version"},
                width=6,
            ),
            rows_of(
                "Roles",
                Query(roles),
                about="What each process does.",
                columns={"instance": "process", "role": "role"},
                width=6,
            ),
        ],
    )


def _machine() -> Row:
    return Row(
        "CPU and memory",
        [
            graph(
                "CPU",
                Query(
                    rate("process_cpu_seconds_total", where=_OURS, by="instance"),
                    "{{instance}}",
                ),
                about="In cores. One process uses one core at most, nearly.",
                top=1,
                width=8,
            ),
            graph(
                "Resident memory",
                Query(f"max by (instance) (process_resident_memory_bytes{{{_OURS}}})", "{{instance}}"),
                about="A consumer that drains a backlog holds up to its prefetch in memory.",
                unit="bytes",
                width=8,
            ),
            graph(
                "Open files",
                Query(
                    f"max by (instance) (process_open_fds{{{_OURS}}} / process_max_fds{{{_OURS}}})",
                    "{{instance}}",
                ),
                about="Sockets too, of what the process may open.",
                unit="percentunit",
                steps=((0.8, YELLOW),),
                top=1,
                width=8,
            ),
        ],
    )


def _loop() -> Row:
    return Row(
        "Event loop",
        [
            graph(
                "Lag, 99th percentile",
                Query(p(0.99, "postorder_event_loop_lag_seconds", where=_ONE, by="instance"), "{{instance}}"),
                about="How much later than asked for the loop came round. A ticket above 0.5 s.",
                unit="s",
                steps=((0.5, YELLOW),),
                width=8,
            ),
            graph(
                "Since it last came round",
                Query(f"max by (instance) (postorder_event_loop_idle_seconds{{{_ONE}}})", "{{instance}}"),
                about="After ops.loop_stalled_s (10 s) /livez answers 503.",
                unit="s",
                steps=((10, RED),),
                width=8,
            ),
            graph(
                "Garbage collections",
                Query(
                    rate("python_gc_collections_total", where=_OURS, by="instance, generation"),
                    "{{instance}} generation {{generation}}",
                ),
                about="In a second. The oldest generation's stop the loop longest.",
                unit="ops",
                width=8,
            ),
            number(
                "Starts in the last hour",
                Query(f"sum(changes(process_start_time_seconds{{{_OURS}}}[1h])) or vector(0)"),
                about="Of processes that were there before.",
                steps=((1, YELLOW), (4, RED)),
                width=12,
            ),
            number(
                "Tasks that died",
                Query(increase("postorder_crashes_total", where=_ONE, over="1h")),
                about="Of an error, in the last hour; each ends its process.",
                steps=((1, RED),),
                width=12,
            ),
        ],
    )


def _allocator() -> Row:
    return Row(
        "Workers, and the allocator (postorder run --workers auto)",
        [
            graph(
                "Workers",
                Query(f"sum by (state) (postorder_allocator_workers{{{NS}}})", "{{state}}"),
                about="Wanted and running, of all supervisors.",
                width=8,
            ),
            states(
                "What limits the workers",
                Query(f"max by (bottleneck) (postorder_allocator_bottleneck{{{NS}}})", "{{bottleneck}}"),
                about="docs/how-to/scale.md says what to do about each.",
                words={"0": ("no", "transparent"), "1": ("yes", YELLOW)},
                width=8,
                height=8,
            ),
            graph(
                "What each worker gets and uses",
                Query(f"max(postorder_allocator_prefetch{{{NS}}})", "prefetch"),
                Query(f"max(postorder_allocator_batch_max{{{NS}}})", "batch"),
                about="Deliveries that a consumer may hold, and events that a batch may have.",
                width=8,
            ),
            graph(
                "Work waiting, and CPU of a worker",
                Query(f"max(postorder_allocator_work_seconds{{{NS}}})", "seconds of work"),
                Query(f"max(postorder_allocator_worker_cpu_cores{{{NS}}})", "cores"),
                about="What decisions go by.",
            ),
            graph(
                "Decisions and restarts",
                Query(
                    increase("postorder_allocator_decisions_total", by="lever, direction"),
                    "{{lever}} {{direction}}",
                ),
                Query(
                    increase("postorder_worker_restarts_total"),
                    "restarts",
                ),
                about="One lever at a time. Up and down in turns would be oscillation.",
            ),
        ],
    )


def _api() -> Row:
    return Row(
        "HTTP API",
        [
            graph(
                "Requests",
                Query(rate("postorder_api_requests_total", by="kind, outcome"), "{{kind}} {{outcome}}"),
                about="In a second. failed is ours, the other refusals are the caller's.",
                unit="ops",
                width=8,
            ),
            graph(
                "Time to answer, 99th percentile",
                Query(p(0.99, "postorder_api_seconds", by="kind"), "{{kind}}"),
                about="Streams left out.",
                unit="s",
                width=8,
            ),
            graph(
                "Under way",
                Query(f"sum(postorder_api_under_way{{{NS}}})", "requests"),
                Query(f"sum(postorder_api_streams{{{NS}}})", "streams"),
                about="At the moment.",
                width=8,
            ),
        ],
    )


def _traces() -> Row:
    return Row(
        "Traces (traces.endpoint)",
        [
            graph(
                "Spans",
                Query(rate("postorder_spans_exported_total"), "exported"),
                Query(rate("postorder_spans_dropped_total", by="reason"), "dropped: {{reason}}"),
                about="In a second. Dropped: the receiver is away or too slow; the pipeline does not wait "
                "for it.",
                unit="ops",
            ),
            graph(
                "Spans that wait, and events not traced",
                Query(f"sum(postorder_spans_waiting{{{NS}}})", "waiting"),
                Query(rate("postorder_traces_held_back_total"), "held back in a second"),
                about="Held back: traces.events_per_s_max was reached.",
            ),
        ],
    )
