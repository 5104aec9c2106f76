"""The scenarios. Rates suit a machine of two cores that everything runs on: change them with --rate."""

from loadtest.scenarios.scenario import (
    LoadTestError,
    Mix,
    Part,
    PartHeld,
    Phase,
    Ramp,
    Scenario,
    ServerKilled,
    ShardAdded,
    StandInFault,
    Threshold,
)

WARM_UP = Phase(name="warm-up", seconds=5, load=0.5, measured=False)
_NO_WAITING = {"POSTORDER_NOTIFICATIONS_GRACE_WINDOW_S": "0"}
# Two cores for everything: a worker never gets a whole one, so that what is much is less here.
_EAGER = {
    f"POSTORDER_ALLOCATOR_{name}": value
    for name, value in {
        "WORKERS_MAX": "2",
        "PREFETCH_MIN": "2000",
        "BACKLOG_S": "0.5",
        "CPU_HIGH": "0.35",
        "CPU_LOW": "0.15",
        "MACHINE_HIGH": "1.0",
        "GROW_AFTER_S": "4",
        "SHRINK_AFTER_S": "12",
        "SETTLE_S": "6",
    }.items()
}
_ORDERS_ONLY = Mix(invoices=0, duplicates=0, bad=0)
# What a 503 leaves unknown is asked about within the run.
_ASKING_SOON = {
    "POSTORDER_NOTIFICATIONS_LEASE_S": "10",
    "POSTORDER_DOCUMENTS_TIMEOUT_S": "4",
    "POSTORDER_SMS_TIMEOUT_S": "2",
    "POSTORDER_SMS_CONNECT_TIMEOUT_S": "2",
    "POSTORDER_EMAIL_TIMEOUT_S": "2",
    "POSTORDER_EFFECTS_ASK_AFTER_S": "13",
    "POSTORDER_EFFECTS_ASK_INTERVAL_S": "2",
}
_SLOW_SMS = StandInFault(
    stand_in="sms",
    what="answers after 1 s, one call in a hundred after 4 s",
    behaviour={"latency_ms": {"p50": 1000, "p99": 4000}},
)
_NO_SMS = StandInFault(
    stand_in="sms",
    what="answers 503",
    behaviour={"faults": [{"on": "create", "action": "status", "status": 503, "code": 20503}]},
)
_STEP_S = 8.0
_STEP_UP = 1.3
_WHOLE_STEPS = 14
_INTAKE_STEPS = 12


def _committed(phase: str, p99_ms: float) -> Threshold:
    return Threshold(figure=f"{phase}.committed.p99_ms", at_most=p99_ms)


def _accepted(phase: str, channel: str, p99_ms: float) -> Threshold:
    return Threshold(figure=f"{phase}.{channel}_accepted.p99_ms", at_most=p99_ms)


def _steps(count: int) -> tuple[Phase, ...]:
    return tuple(
        Phase(name=f"step-{number:02d}", seconds=_STEP_S, load=round(_STEP_UP**number, 2))
        for number in range(count)
    )


_ALL = (
    Scenario(
        name="steady",
        purpose="a steady rate well below the knee: what latency is like on an ordinary day",
        rate_per_s=100,
        phases=(WARM_UP, Phase(name="steady", seconds=40)),
        settings=_NO_WAITING,
        thresholds=(
            _committed("steady", 250),
            _accepted("steady", "sms", 1500),
            _accepted("steady", "mail", 3000),
        ),
    ),
    Scenario(
        name="ramp-to-knee",
        purpose="steps of 30 % until orders, SMS or mails no longer keep up: the limit of the whole",
        rate_per_s=50,
        phases=(WARM_UP, *_steps(_WHOLE_STEPS)),
        settings=_NO_WAITING,
        ramp=Ramp(p99_of="mail_accepted", p99_ms_max=5000, lag_s_max=3, give_up_lag_s=10),
        thresholds=(Threshold(figure="knee.orders_per_s", at_least=100),),
    ),
    Scenario(
        name="ramp-intake",
        purpose="the same without sending: the limit of broker, intake and shards",
        rate_per_s=1000,
        phases=(WARM_UP, *_steps(_INTAKE_STEPS)),
        parts=(Part.INTAKE,),
        settings=_NO_WAITING,
        mix=_ORDERS_ONLY,
        ramp=Ramp(),
        thresholds=(Threshold(figure="knee.orders_per_s", at_least=2000),),
    ),
    Scenario(
        name="drain-sending",
        purpose="orders are stored while the sender is away, then all messages are due: its limit",
        rate_per_s=300,
        phases=(
            WARM_UP,
            Phase(name="pile-up", seconds=30, faults=(PartHeld(part=Part.SENDER),)),
            Phase(name="drain", seconds=15, load=0),
        ),
        settings=_NO_WAITING,
        mix=_ORDERS_ONLY,
        thresholds=(Threshold(figure="drained.messages_per_s", at_least=200),),
    ),
    Scenario(
        name="drain-intake",
        purpose="events pile up at the broker while intake is away: how fast a backlog goes",
        rate_per_s=5000,
        phases=(
            Phase(name="warm-up", seconds=2, load=0.1, measured=False),
            Phase(name="pile-up", seconds=20, faults=(PartHeld(part=Part.INTAKE),)),
            Phase(name="drain", seconds=8, load=0),
        ),
        parts=(Part.INTAKE,),
        settings=_NO_WAITING,
        mix=_ORDERS_ONLY,
        thresholds=(Threshold(figure="drained.orders_per_s", at_least=4000),),
    ),
    Scenario(
        name="burst",
        purpose="eight times the load for five seconds: how deep the backlog gets and when it is gone",
        rate_per_s=50,
        phases=(
            WARM_UP,
            Phase(name="calm", seconds=15),
            Phase(name="burst", seconds=5, load=8),
            Phase(name="recovery", seconds=20),
            Phase(name="after", seconds=15),
        ),
        settings=_NO_WAITING,
        thresholds=(_committed("burst", 1500), _committed("after", 250), _accepted("after", "mail", 3000)),
    ),
    Scenario(
        name="soak",
        purpose="an hour at a moderate rate: memory, tables and latency must not creep",
        rate_per_s=80,
        phases=(
            WARM_UP,
            Phase(name="first", seconds=600),
            Phase(name="middle", seconds=2400),
            Phase(name="last", seconds=600),
        ),
        settings=_NO_WAITING,
        thresholds=(
            _committed("first", 250),
            _committed("last", 250),
            *(Threshold(figure=f"memory.{part}.growth_mb_per_h", at_most=5) for part in Part),
        ),
    ),
    Scenario(
        name="replay",
        purpose="the orders of a real shop in the order and rhythm they came in, time compressed",
        rate_per_s=100,
        # CDNOW's 69,659 orders in six minutes: 193/s on average, 900/s in its first minute and a half.
        phases=(Phase(name="replay", seconds=360),),
        settings=_NO_WAITING,
        history=True,
        thresholds=(_committed("replay", 500),),
    ),
    Scenario(
        name="slow-provider",
        purpose="the SMS provider takes seconds to answer: mails and intake must not notice",
        rate_per_s=60,
        phases=(
            WARM_UP,
            Phase(name="calm", seconds=20),
            Phase(
                name="slow",
                seconds=30,
                faults=(_SLOW_SMS,),
            ),
            Phase(name="recovery", seconds=20),
            Phase(name="after", seconds=15),
        ),
        settings=_NO_WAITING,
        thresholds=(
            _committed("slow", 250),
            _accepted("slow", "mail", 3000),
            _accepted("after", "sms", 3000),
        ),
    ),
    Scenario(
        name="provider-outage",
        purpose="the SMS provider answers 503: nothing is lost, nothing sent twice, mails go on",
        rate_per_s=60,
        phases=(
            WARM_UP,
            Phase(name="calm", seconds=15),
            Phase(
                name="outage",
                seconds=20,
                faults=(_NO_SMS,),
            ),
            Phase(name="recovery", seconds=40),
            Phase(name="after", seconds=15),
        ),
        settings=_NO_WAITING | _ASKING_SOON,
        thresholds=(
            _committed("outage", 250),
            _accepted("outage", "mail", 3000),
            _accepted("after", "sms", 3000),
        ),
    ),
    Scenario(
        name="shard-down",
        purpose="a primary is killed for 20 s: the other shard goes on, the events come back by themselves",
        rate_per_s=60,
        phases=(
            WARM_UP,
            Phase(name="calm", seconds=15),
            Phase(name="down", seconds=20, faults=(ServerKilled(server="shard1-primary"),)),
            Phase(name="recovery", seconds=60),
            Phase(name="after", seconds=15),
        ),
        settings=_NO_WAITING,
        thresholds=(
            Threshold(figure="down.committed_shard0.p99_ms", at_most=1000),
            _committed("after", 500),
        ),
    ),
    Scenario(
        name="allocator",
        purpose="--workers auto: a backlog that keeps a worker busy, then load, then little: it settles",
        rate_per_s=4000,
        phases=(
            # What keeps one thread busy for long, and leaves CPU for another, is a backlog alone.
            Phase(name="pile-up", seconds=30, load=1.5, faults=(PartHeld(part=Part.INTAKE),)),
            Phase(name="rise", seconds=25, load=0.25),
            Phase(name="hold", seconds=35),
            Phase(name="fall", seconds=40, load=0.01),
            Phase(name="rest", seconds=25, load=0.01),
        ),
        parts=(Part.INTAKE,),
        allocated=(Part.INTAKE,),
        settings=_NO_WAITING | _EAGER,
        mix=_ORDERS_ONLY,
        thresholds=(
            Threshold(figure="allocator.workers_max", at_least=2),
            Threshold(figure="allocator.turns", at_most=1),
            # A window of which little is used is halved once; nothing else may move.
            Threshold(figure="hold.allocator.changes", at_most=1),
            Threshold(figure="hold.allocator.workers_added", at_most=0),
            Threshold(figure="rest.allocator.changes", at_most=0),
            Threshold(figure="rest.allocator.workers", at_most=1),
        ),
    ),
    Scenario(
        name="allocator-provider",
        purpose="--workers auto for sending, to a provider that is the limit: no worker comes",
        rate_per_s=60,
        phases=(
            WARM_UP,
            Phase(name="slow", seconds=40, faults=(_SLOW_SMS,)),
            Phase(name="after", seconds=30),
        ),
        allocated=(Part.SENDER,),
        settings=_NO_WAITING | _EAGER | {"POSTORDER_SMS_CONCURRENCY": "16"},
        thresholds=(Threshold(figure="allocator.workers_max", at_most=1),),
    ),
    Scenario(
        name="reshard",
        purpose="a third shard takes its share of the slots while orders come",
        rate_per_s=60,
        phases=(
            WARM_UP,
            Phase(name="calm", seconds=15),
            Phase(name="move", seconds=40, faults=(ShardAdded(shard="shard2"),)),
            Phase(name="after", seconds=15),
        ),
        shards=3,
        idle_shards=1,
        settings=_NO_WAITING,
        thresholds=(_committed("move", 1000), _committed("after", 500)),
    ),
)
SCENARIOS = {scenario.name: scenario for scenario in _ALL}


def scenario_named(name: str) -> Scenario:
    """Return a scenario. Raises LoadTestError, with the names there are."""
    try:
        return SCENARIOS[name]
    except KeyError:
        raise LoadTestError(f"{name}: no such scenario: there are {', '.join(SCENARIOS)}") from None
