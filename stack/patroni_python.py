"""A Python that the servers' account can run, with the packages that Patroni needs."""

import shutil
import sys
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from stack.errors import StackError
from stack.privileges import Account

# What the daemon imports, not what patronictl does.
_PACKAGES = (
    "patroni", "psycopg", "psycopg-binary", "pyyaml", "python-dateutil", "psutil", "urllib3", "dnspython",
    "typing-extensions",
)  # fmt: skip


def patroni_python(folder: Path, etcd_client: Path, account: Account | None) -> tuple[Path, str]:
    """Return an interpreter and the PYTHONPATH to run Patroni with. Raises StackError.

    Where servers run as another account, that account may not be allowed to where this interpreter and its
    packages are: then the packages are copied into `folder`, as PostgreSQL's programs are.
    """
    if account is None:
        _check_installed()
        return Path(sys.executable), str(etcd_client)
    if not account.can_enter(etcd_client / "etcd"):
        etcd_client = Path(shutil.copytree(etcd_client, folder / "etcd-client", dirs_exist_ok=True))
    return _interpreter(account), f"{_copied_packages(folder)}:{etcd_client}"


def _check_installed() -> list[str]:
    try:
        return [f"{name} {distribution(name).version}" for name in _PACKAGES]
    except PackageNotFoundError as error:
        raise StackError(f"{error.name} is missing, and --ha needs it. Run: make setup") from error


def _interpreter(account: Account) -> Path:
    """Return an interpreter of this version that an account can run."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (Path(sys.executable).resolve(), Path("/usr/local/bin") / name, Path("/usr/bin") / name):
        if path.exists() and account.can_enter(path):
            return path
    raise StackError(
        f"--ha runs Patroni as user {account.name}, who cannot run {Path(sys.executable).resolve()}: "
        f"install Debian's {name}, or run this as a user other than root"
    )


def _copied_packages(folder: Path) -> Path:
    versions = _check_installed()
    target = folder / f"patroni-{sha256(' '.join(versions).encode()).hexdigest()[:12]}"
    if not target.exists():
        half_made = target.with_suffix(".new")
        shutil.rmtree(half_made, ignore_errors=True)
        for name in _PACKAGES:
            _copy(name, half_made)
        half_made.rename(target)
    return target


def _copy(name: str, target: Path) -> None:
    package = distribution(name)
    for file in package.files or ():
        # Scripts and byte code stay behind.
        if ".." not in file.parts and "__pycache__" not in file.parts:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target / file)
