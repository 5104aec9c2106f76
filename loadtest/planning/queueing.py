"""The textbook's formulas: Erlang's C, the tail of waiting times, square-root staffing.

Waiting in a queue with several servers and any service times (M/G/c) is taken as: nobody waits with
probability 1 - C; who waits, waits an exponentially distributed time (Kingman; Whitt, "Approximations for
the GI/G/m queue", 1993). That is exact for exponential service times.
"""

import math


def erlang_c(servers: int, offered: float) -> float:
    """Return the probability that an arrival waits; `offered` is in servers' worth of work (Erlang).

    1.0 when the work is more than the servers can do. O(servers), without overflow.
    """
    if offered >= servers:
        return 1.0
    if offered <= 0:
        return 0.0
    blocking = 1.0
    for number in range(1, servers + 1):
        blocking = offered * blocking / (number + offered * blocking)
    return blocking / (1 - offered / servers * (1 - blocking))


def waiting_s(service_s: float, servers: int, busy_share: float, share: float) -> float:
    """Return the time that a `share` of arrivals (0.99: the p99) waits at most; infinite when overloaded.

    `service_s` is the time one piece of work holds a server, times (1 + cv²) / 2 if it varies.
    """
    if busy_share >= 1:
        return math.inf
    waits = erlang_c(servers, busy_share * servers)
    if waits <= 1 - share:
        return 0.0
    return service_s / (servers * (1 - busy_share)) * math.log(waits / (1 - share))


def service_from_waiting_s(wait_s: float, servers: int, busy_share: float, share: float) -> float:
    """Return the service time under which `waiting_s` gives a measured wait: its inverse."""
    waits = erlang_c(servers, busy_share * servers)
    if waits <= 1 - share or busy_share >= 1:
        return 0.0
    return wait_s * servers * (1 - busy_share) / math.log(waits / (1 - share))


def servers_for(offered: float, wait_share_max: float = 0.01) -> int:
    """Return the fewest servers at which no more than a share of arrivals waits at all.

    Grows as offered + constant * sqrt(offered): square-root staffing (Halfin and Whitt, 1981).
    """
    blocking, number = 1.0, 0
    while True:
        number += 1
        blocking = offered * blocking / (number + offered * blocking)
        if number > offered:
            waits = blocking / (1 - offered / number * (1 - blocking))
            if waits <= wait_share_max:
                return number
