"""Settings of watching and stopping."""

from typing import Annotated, Literal

import msgspec

from pipeline.settings.kinds import Port, Seconds, about


class OpsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Watching and stopping."""

    metrics_host: Annotated[str, about("address of /metrics, /livez and /readyz")] = "127.0.0.1"
    metrics_port: Annotated[Port, about("port of /metrics, /livez and /readyz; 0: none")] = 0
    loop_stalled_s: Annotated[
        Seconds, about("/livez fails when the event loop has not come round for so long")
    ] = 10.0
    ledger_check_s: Annotated[
        float,
        msgspec.Meta(ge=0, le=30 * 86_400),
        about("how often the tables are read through to see whether they add up, and the time-out; 0: never"),
    ] = 300.0
    log_level: Annotated[Literal["debug", "info", "warning", "error"], about("least severe to log")] = "info"
    log_format: Annotated[Literal["auto", "json", "console"], about("auto: console on a terminal")] = "auto"
    drain_timeout_s: Annotated[Seconds, about("from SIGTERM until what is not finished is given up")] = 25.0
