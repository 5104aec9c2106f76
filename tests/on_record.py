"""What the audit says of the latest action of a kind."""

import getpass

from pipeline.clock import SystemClock
from pipeline.control.audit_log import AuditLog
from pipeline.storage.audit import AuditEntry, Outcome
from pipeline.storage.cluster import Cluster


async def last_done(cluster: Cluster, what: str, user: str = "") -> AuditEntry:
    """Return the entry of what came of it, after seeing to it that it was begun, by whom, and is done."""
    done, begun = await AuditLog(cluster, SystemClock()).entries(2, what=what)
    assert (begun.outcome, done.outcome) == (Outcome.BEGUN, Outcome.DONE)
    assert (begun.action_id, begun.target) == (done.action_id, done.target)
    assert begun.actor == done.actor == f"user {user or getpass.getuser()}"
    return done
