"""The metrics: what they count, and that the page about them is made of them."""

import re
from pathlib import Path

import pytest
from metric_page import render_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from pipeline.observability.histograms import LatencyHistogram
from pipeline.observability.metrics import Metrics
from pipeline.storage.outbox import Channel, Kind, State
from pipeline.storage.rows import BatchCounts

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"
# Words that would be a person, a message or a request: as many values as there are of those.
UNBOUNDED = {
    "order",
    "order_id",
    "event_id",
    "effect_id",
    "message_id",
    "claim_id",
    "customer",
    "customer_id",
    "invoice",
    "phone",
    "email",
    "to",
    "recipient",
    "address",
    "name",
    "path",
    "url",
    "ip",
    "user",
    "subject",
    "error",
    "detail",
}


def test_every_flow_is_counted() -> None:
    metrics = Metrics()
    metrics.publish_to_committed.observe_all([0.1])
    metrics.received.counts["order",] += 2
    metrics.claims.labels("sms").inc()
    metrics.reconnects.labels("order-processed").inc()
    page, content_type = metrics.registry.page("")
    lines = page.decode().splitlines()
    assert content_type.startswith("text/plain")
    assert "postorder_publish_to_committed_seconds_count 1.0" in lines
    assert 'postorder_events_received_total{type="order"} 2.0' in lines
    assert 'postorder_events_received_total{type="quarantine"} 0.0' in lines
    assert 'postorder_claims_total{channel="sms"} 1.0' in lines
    assert 'postorder_amqp_reconnects_total{consumer="order-processed"} 1.0' in lines
    assert not [line for line in lines if line.partition("{")[0].partition(" ")[0].endswith("_created")]


def test_what_alerts_look_at_begins_at_0() -> None:
    """Prometheus sees no increase in what begins with its first event."""
    page = Metrics().registry.page("")[0].decode()
    begins = [
        *(f'postorder_events_total{{outcome="{outcome}"}} 0.0' for outcome in BatchCounts._fields),
        *(
            f'postorder_receipts_total{{channel="{channel}",state="{state}"}} 0.0'
            for channel in Channel
            for state in (State.ACCEPTED, State.FAILED, State.EXPIRED, State.UNKNOWN)
        ),
        *(f'postorder_due_to_accepted_seconds_count{{kind="{kind}"}} 0.0' for kind in Kind),
    ]
    assert [line for line in begins if f"{line}\n" not in page] == []


def test_what_has_to_add_up_is_read_at_one_moment() -> None:
    names = [one.name for one in Metrics().registry.described]
    assert names[:4] == [
        "postorder_events_received_total",
        "postorder_events_total",
        "postorder_buffered_events",
        "postorder_parked_total",
    ]


def test_both_formats_can_be_read() -> None:
    metrics = Metrics()
    metrics.provider_seconds.observe("twilio", 0.2)
    metrics.provider_answers.add("twilio", "accepted")
    text, _ = metrics.registry.page("text/plain")
    openmetrics, content_type = metrics.registry.page("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    named = {family.name for family in text_string_to_metric_families(text.decode())}
    assert named == {family.name for family in openmetrics_families(openmetrics.decode())}
    assert {"process_cpu_seconds", "python_info", "postorder_provider_answers"} <= named


def test_the_page_is_made_of_the_metrics() -> None:
    page = PAGE.read_text()
    assert page == render_metrics.render(page)


def test_everything_that_is_served_is_on_the_page() -> None:
    families = text_string_to_metric_families(Metrics().registry.page("")[0].decode())
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert names - set(re.findall(r"`([a-z_]+)`", PAGE.read_text())) == set()


def test_no_label_is_of_unbounded_number() -> None:
    described = render_metrics.described()
    assert len({one.name for one in described}) == len(described) > 60
    assert {(one.name, label) for one in described for label in one.labels if label in UNBOUNDED} == set()


def test_names_say_their_unit_as_prometheus_has_it() -> None:
    for one in render_metrics.described():
        assert re.fullmatch(r"postorder_[a-z]+(_[a-z]+)*", one.name)
        assert not re.search(r"_(ms|millis|milliseconds|minutes|kb|mb|percent)\b", one.name)
        assert (one.kind == "counter") == one.name.endswith("_total")
        assert one.meaning.strip()


@pytest.mark.parametrize(("value_s", "bound"), [(0.0, 0.001), (0.001, 0.001), (1.0, 1.0), (1.01, 1.192533)])
def test_a_value_is_in_the_first_bucket_that_is_not_below_it(value_s: float, bound: float) -> None:
    histogram = LatencyHistogram("x_seconds", "")
    histogram.observe(value_s)
    buckets, sum_s = histogram.read()
    assert next(float(upper) for upper, count in buckets if count) == bound
    assert (buckets[-1], sum_s) == (("+Inf", 1), value_s)


def test_what_takes_longest_is_counted_too() -> None:
    histogram = LatencyHistogram("x_seconds", "", (1.0, 2.0))
    histogram.observe_all([0.5, 2.0, 3600.0])
    assert histogram.read() == ([("1.0", 1), ("2.0", 2), ("+Inf", 3)], 3602.5)
