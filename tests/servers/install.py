"""Installer of the real servers that tests run against.

    PYTHONPATH=tests python -m servers.install            install all that are missing
    PYTHONPATH=tests python -m servers.install --check    only report missing ones, with exit code 1

PostgreSQL, mosquitto, InfluxDB 1 and VictoriaMetrics are packages of a Debian system (installing them needs root).
Kafka's jars come by Maven, and FerretDB (the MongoDB server) is built by Go, into a cache directory,
``HEADGATE_TEST_CACHE`` or ``~/.cache/headgate-tests``. Only the standard library is used, so that this runs before
anything else is installed. It starts no server, and no service of the system.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

KAFKA_VERSION = "4.3.1"
FERRETDB_VERSION = "1.24.2"
_FERRETDB_SOURCE = Path(__file__).with_name("ferretdb")
_POM = Path(__file__).with_name("kafka-pom.xml")
_POLICY = Path("/usr/sbin/policy-rc.d")


def cache_dir() -> Path:
    """Return the folder that keeps downloaded servers between runs."""
    return Path(os.environ.get("HEADGATE_TEST_CACHE") or Path.home() / ".cache" / "headgate-tests")


def postgresql_bin() -> Path | None:
    """Return the folder of PostgreSQL's server programs: the newest of Debian's, or the one on the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


def kafka_jars() -> Path | None:
    """Return the folder of Kafka's jars."""
    folder = _kafka_folder()
    return folder if folder.is_dir() else None


def mosquitto_program() -> str | None:
    """Return the mosquitto program, also from Debian's folder outside a user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def influxdb_program() -> str | None:
    """Return the program of InfluxDB 1."""
    return shutil.which("influxd")


def victoriametrics_program() -> str | None:
    """Return the program of VictoriaMetrics, by Debian's name or by its maker's."""
    return shutil.which("victoria-metrics") or shutil.which("victoria-metrics-prod")


def ferretdb_program() -> Path | None:
    """Return the FerretDB program."""
    program = cache_dir() / f"ferretdb-{FERRETDB_VERSION}"
    return program if program.is_file() else None


def missing(server: str) -> str | None:
    """Return the reason why `server` can't be started here, or None. Raises `KeyError` for an unknown name."""
    return _MISSING[server]()


def install() -> None:
    """Install every missing server. Raises `RuntimeError` with the reason if one can't be installed."""
    packages = _missing_packages()
    if packages:
        _install_packages(packages)
    if kafka_jars() is None:
        _install_kafka()
    if ferretdb_program() is None:
        _build_ferretdb()
    still = [reason for server in _MISSING if (reason := missing(server))]
    if still:
        raise RuntimeError("; ".join(still))


def _missing_postgresql() -> str | None:
    return None if postgresql_bin() else "PostgreSQL's server is not installed"


def _missing_kafka() -> str | None:
    if shutil.which("java") is None:
        return "java, which Kafka needs, is not installed"
    return None if kafka_jars() else f"Kafka's jars are not in {cache_dir()}"


def _missing_mongodb() -> str | None:
    return None if ferretdb_program() else f"FerretDB is not in {cache_dir()}"


def _missing_mosquitto() -> str | None:
    return None if mosquitto_program() else "mosquitto is not installed"


def _missing_influxdb() -> str | None:
    return None if influxdb_program() else "InfluxDB 1 is not installed"


def _missing_victoriametrics() -> str | None:
    return None if victoriametrics_program() else "VictoriaMetrics is not installed"


_MISSING: dict[str, Callable[[], str | None]] = {
    "postgresql": _missing_postgresql,
    "kafka": _missing_kafka,
    "mongodb": _missing_mongodb,
    "mosquitto": _missing_mosquitto,
    "influxdb": _missing_influxdb,
    "victoriametrics": _missing_victoriametrics,
}


def _missing_packages() -> list[str]:
    needed = {
        "postgresql": postgresql_bin() is not None,
        "mosquitto": mosquitto_program() is not None,
        "influxdb": influxdb_program() is not None,
        "victoria-metrics": victoriametrics_program() is not None,
        "default-jre-headless": shutil.which("java") is not None,
        "maven": kafka_jars() is not None or shutil.which("mvn") is not None,
    }
    return [package for package, present in needed.items() if not present]


def _install_packages(packages: list[str]) -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise RuntimeError(f"please install {', '.join(packages)}: this needs root on a Debian system")
    print("installing", *packages, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services_started():
        _run(["apt-get", "update", "-qq"], env=environment)
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=environment)


@contextlib.contextmanager
def _no_services_started() -> Iterator[None]:
    """Keep packages from starting their services; an existing policy of the machine is kept."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _kafka_folder() -> Path:
    return cache_dir() / f"kafka-{KAFKA_VERSION}"


def _install_kafka() -> None:
    if shutil.which("mvn") is None:
        raise RuntimeError("please install maven: it brings Kafka's jars")
    print(f"fetching Kafka {KAFKA_VERSION}", flush=True)
    folder = _kafka_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when complete: an interrupted run leaves nothing that looks installed.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as name:
        jars = Path(name) / "jars"
        # Maven writes beside its pom, so it works on a copy.
        pom = shutil.copy(_POM, name)
        _run(["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"])
        try:
            jars.rename(folder)
        except OSError:  # another run was quicker
            if not folder.is_dir():
                raise


def _build_ferretdb() -> None:
    if shutil.which("go") is None:
        raise RuntimeError("please install Go 1.24 or later: it builds FerretDB, the MongoDB server of the tests")
    print(f"building FerretDB {FERRETDB_VERSION}", flush=True)
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as name:
        program = Path(name) / "ferretdb"
        _run(["go", "build", "-o", str(program), "."], cwd=_FERRETDB_SOURCE)
        program.rename(folder / f"ferretdb-{FERRETDB_VERSION}")


def _run(command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    done = subprocess.run(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}):\n{tail}")


def main() -> int:
    """Install or check, depending on the arguments."""
    parser = argparse.ArgumentParser(description="Installs the real servers that tests run against.")
    parser.add_argument("--check", action="store_true", help="only say what is missing")
    arguments = parser.parse_args()
    if not arguments.check:
        try:
            install()
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
    reasons = [reason for server in _MISSING if (reason := missing(server))]
    print("\n".join(reasons) if reasons else "all test servers are installed")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
