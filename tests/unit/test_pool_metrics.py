"""What /metrics shows of the pools."""

from prometheus_client import generate_latest
from provider_double import POOLS, ScriptedProvider, sms
from virtual_clock import VirtualClock

from consumers.provider_slots import SlotMaker
from pipeline.errors import ThrottledError
from pipeline.notifications.pools.provider_slots import ProviderSlots
from pipeline.observability.metrics import Metrics
from pipeline.settings import SmsSettings


def shown(metrics: Metrics) -> dict[str, float]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def made(clock: VirtualClock, metrics: Metrics) -> tuple[ProviderSlots, list[ScriptedProvider]]:
    sections = {"twilio": SmsSettings(concurrency=8), "twilio_second": SmsSettings(concurrency=4, weight=0)}
    providers = {name: ScriptedProvider(name, clock, took_s=0.2) for name in sections}
    slots = SlotMaker(POOLS, metrics, clock).sms(sections, providers)  # type: ignore[arg-type]
    return slots, list(providers.values())


async def test_limits_calls_and_times_by_slot() -> None:
    clock, metrics = VirtualClock(), Metrics()
    slots, [first, _] = made(clock, metrics)
    before = shown(metrics)
    assert before['postorder_pool_ceiling{channel="sms"}'] == 4 * 12  # three beside each call
    assert before['postorder_slot_limit{slot="twilio"}'] == 4
    assert before['postorder_retry_budget{channel="sms"}'] == 6
    await clock.run(slots.send(sms(), 1))
    first.answer = lambda _message: ThrottledError("429", "", 60.0)
    await clock.run(slots.send(sms(), 1))
    after = shown(metrics)
    assert after['postorder_provider_seconds_count{slot="twilio"}'] == 1  # a refusal for load says nothing
    assert after['postorder_provider_seconds_sum{slot="twilio_second"}'] > 0.1
    assert after['postorder_provider_seconds_bucket{le="+Inf",slot="twilio"}'] == 1
    assert after['postorder_slot_in_flight{slot="twilio"}'] == 0


async def test_a_limit_that_an_operator_set_is_the_ceiling() -> None:
    metrics = Metrics()
    slots, _ = made(VirtualClock(), metrics)
    assert shown(metrics)['postorder_slot_ceiling{slot="twilio"}'] == 8
    slots.slots[0].limit_to(concurrency=5, rate_per_s=0.0)
    assert shown(metrics)['postorder_slot_ceiling{slot="twilio"}'] == 5


async def test_circuits_and_what_was_held_back() -> None:
    clock, metrics = VirtualClock(), Metrics()
    slots, providers = made(clock, metrics)
    for provider in providers:
        provider.answer = lambda _message: ThrottledError("unreachable", "")
    for _ in range(200):
        try:
            await clock.run(slots.send(sms(), 1))
        except ThrottledError:
            await clock.pass_by(0.5)
    found = shown(metrics)
    assert {found[f'postorder_slot_circuit{{slot="{one.name}"}}'] for one in providers} <= {1, 2}
    reasons = {key for key in found if key.startswith("postorder_held_back_total")}
    assert 'postorder_held_back_total{channel="sms",reason="circuit_open"}' in reasons
