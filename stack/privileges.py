"""Whom the servers run as. PostgreSQL refuses to run as root, and RabbitMQ need not."""

import os
import pwd
import stat
from pathlib import Path

import msgspec

from stack.errors import StackError

_CANDIDATES = ("postgres", "rabbitmq", "nobody")


class Account(msgspec.Struct, frozen=True):
    """A user of the machine, by number."""

    name: str
    uid: int
    gid: int

    def can_enter(self, path: Path) -> bool:
        """Tell whether this user gets to a path: execute permission on each folder above it."""
        return all(self._may_search(folder) for folder in path.resolve().parents)

    def _may_search(self, folder: Path) -> bool:
        try:
            status = folder.stat()
        except OSError:
            return False
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

    def take(self, path: Path) -> None:
        """Make a folder, and what is in it, this user's own."""
        for folder, folders, names in os.walk(path):
            os.chown(folder, self.uid, self.gid)
            for name in (*folders, *names):
                os.chown(Path(folder, name), self.uid, self.gid, follow_symlinks=False)


def unprivileged_account() -> Account | None:
    """Return whom to run servers as when started by root: who called sudo, else a service account.

    None when this process is not root, and the servers simply run as its user.
    """
    if os.geteuid() != 0:
        return None
    names = [pwd.getpwuid(int(os.environ["SUDO_UID"])).pw_name] if "SUDO_UID" in os.environ else []
    for name in (*names, *_CANDIDATES):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid != 0:
            return Account(found.pw_name, found.pw_uid, found.pw_gid)
    raise StackError("no unprivileged user to run PostgreSQL as: tried " + ", ".join(_CANDIDATES))
