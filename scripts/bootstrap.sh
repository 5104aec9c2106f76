#!/bin/sh
# Sets up all that Postorder needs on Debian 12: a virtual environment with the locked
# dependencies, RabbitMQ, and etcd for `stack up --ha`. PostgreSQL 18 and Patroni come with the Python packages.
# Safe to run again: what is there is skipped.
set -eu

cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.11}
VENV=.venv

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Root runs a command as it is; others go through sudo when it needs no password or can ask for it.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then sudo "$@"
    else return 77
    fi
}

apt_install() {
    as_root true || fail "$1 is missing and this user is neither root nor allowed to use sudo. Ask for: apt-get install $1"
    as_root apt-get update -qq || say "apt-get update failed; trying with the package lists at hand"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}

# --- Python -----------------------------------------------------------------------------------
command -v "$PYTHON" >/dev/null 2>&1 || PYTHON=python3
command -v "$PYTHON" >/dev/null 2>&1 || { say "installing python3"; apt_install python3; }
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$PYTHON" --version) is too old: Python 3.11 or newer is needed. Set PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || { say "installing python3-venv"; apt_install python3-venv; }

# --- RabbitMQ ---------------------------------------------------------------------------------
# Debian's package starts a system broker at once. Postorder runs private nodes only, so the start
# is held back with dpkg's own switch for it, unless the administrator has set one already.
install_rabbitmq() {
    as_root true || fail "RabbitMQ is missing and this user is neither root nor allowed to use sudo.
setup: Have an administrator run:   apt-get install rabbitmq-server
setup: then run this command again; nothing else needs root."
    say "installing rabbitmq-server from Debian's packages (its system service is not started)"
    guard=/usr/sbin/policy-rc.d
    if [ ! -e $guard ]; then
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$guard && chmod 755 $guard"
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT INT TERM
    fi
    apt_install rabbitmq-server
}
if command -v rabbitmq-server >/dev/null 2>&1 || [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]; then
    say "RabbitMQ is installed"
else
    install_rabbitmq
fi

# --- etcd -------------------------------------------------------------------------------------
# Only unpacked, never installed: no system service, and no need for root. The client library that
# Patroni talks to etcd with comes from Debian too, because PyPI has it as source only.
DEBIAN=var/cache/debian
unpack_etcd() {
    mkdir -p $DEBIAN/new
    (cd $DEBIAN/new && apt-get download -qq etcd-server python3-etcd) 2>/dev/null || return 1
    for package in $DEBIAN/new/*.deb; do dpkg-deb -x "$package" $DEBIAN/new || return 1; done
    rm -rf $DEBIAN/etcd
    mv $DEBIAN/new $DEBIAN/etcd
}
if [ -x $DEBIAN/etcd/usr/bin/etcd ]; then
    say "etcd is unpacked"
else
    rm -rf $DEBIAN/new
    say "unpacking etcd from Debian's packages ($DEBIAN/etcd)"
    unpack_etcd || { as_root apt-get update -qq && rm -rf $DEBIAN/new && unpack_etcd; } ||
        say "etcd cannot be had: everything works but \`stack up --ha\`. To try again: make setup"
fi

# --- Prometheus -----------------------------------------------------------------------------------
# For the tests of the rules and of what is scraped; unpacked in the same way. They are skipped without it.
unpack_prometheus() {
    rm -rf $DEBIAN/new
    mkdir -p $DEBIAN/new
    (cd $DEBIAN/new && apt-get download -qq prometheus) 2>/dev/null || return 1
    for package in $DEBIAN/new/*.deb; do dpkg-deb -x "$package" $DEBIAN/new || return 1; done
    rm -rf $DEBIAN/prometheus
    mv $DEBIAN/new $DEBIAN/prometheus
}
if [ -x $DEBIAN/prometheus/usr/bin/promtool ]; then
    say "Prometheus is unpacked"
else
    say "unpacking Prometheus from Debian's packages ($DEBIAN/prometheus)"
    unpack_prometheus || say "Prometheus cannot be had: the tests that need it are skipped. To try again: make setup"
fi

# --- virtual environment ----------------------------------------------------------------------
wanted=$(cat requirements.lock pyproject.toml | sha256sum | cut -c1-64)
if [ "$(cat $VENV/.lock-sha256 2>/dev/null || true)" = "$wanted" ]; then
    say "virtual environment is up to date ($VENV)"
else
    say "installing the locked Python packages into $VENV (about a minute)"
    "$PYTHON" -m venv $VENV
    # The lock names every package, so none is looked for beside it; dkimpy is pure Python and comes as source.
    $VENV/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --no-binary dkimpy -r requirements.lock
    $VENV/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
    printf '%s\n' "$wanted" >$VENV/.lock-sha256
fi

# --- byte code ------------------------------------------------------------------------------------
# Each command and each test that starts a process would compile what it loads again where Python may not
# write: PYTHONDONTWRITEBYTECODE. What is compiled already is skipped.
$VENV/bin/python -m compileall -q pipeline consumers stack loadtest

say "ready"
