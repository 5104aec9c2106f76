"""nginx in front of the API: a real nginx takes the configuration, where Debian's package is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest
from deployment import DEPLOY

NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else "")

pytestmark = pytest.mark.skipif(not NGINX, reason="needs nginx: apt-get install nginx-light")


def test_the_configuration_of_the_api_is_one_that_nginx_takes(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    names = [tmp_path / "tls", tmp_path / "tls", "ops.shop.example"]
    subprocess.run(["sh", DEPLOY / "docker" / "make-certificates.sh", *names], check=True, timeout=30)
    for name in ("limits.conf", "proxy.conf", "postorder.conf", "postorder-api.conf"):
        text = (DEPLOY / "nginx" / name).read_text()
        for old, new in {
            "/etc/nginx/postorder/": f"{tmp_path}/",
            "/etc/postorder/tls": f"{tmp_path}/tls",
            "/var/log/nginx": str(tmp_path),
        }.items():
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
    main = tmp_path / "main.conf"
    main.write_text(
        f"pid {tmp_path}/nginx.pid; error_log stderr; events {{}} http {{ include {tmp_path}/postorder.conf; "
        f"include {tmp_path}/postorder-api.conf; }}"
    )
    found = subprocess.run(
        [NGINX, "-t", "-c", main, "-p", tmp_path], capture_output=True, text=True, timeout=20, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "[warn]" not in found.stderr.replace("could not open error log", "")
