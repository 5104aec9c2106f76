"""The metrics: what a process serves, and what keeps it from serving."""

import socket
from urllib.request import urlopen

import pytest

from pipeline.errors import SettingsError
from pipeline.observability.metrics import Metrics


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_every_flow_is_served() -> None:
    port = free_port()
    metrics = Metrics()
    metrics.publish_to_committed.observe_all([0.1])
    metrics.claims.labels("sms").inc()
    metrics.reconnects.labels("order-processed").inc()
    metrics.serve("127.0.0.1", port)
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    assert "postorder_publish_to_committed_seconds_count 1.0" in lines
    assert 'postorder_claims_total{channel="sms"} 1.0' in lines
    assert 'postorder_amqp_reconnects_total{consumer="order-processed"} 1.0' in lines


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_port_that_cannot_be_had_is_a_problem_of_the_settings(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"ops.metrics_port: cannot listen on {host}:{port}: \\w+"):
            Metrics().serve(host, port)
