# The project's own Python environment; sourced by the scripts beside it, from the root of the project.
#
#   ensure_environment run     .venv with Headgate and all its connectors
#   ensure_environment test    the same, and what tests and checks need
#
# Both set PYTHON to the environment's interpreter. Nothing is fetched when all is there: a stamp in .venv holds a
# hash of pyproject.toml, the project's place and the interpreter's version. What is missing is said, with exit code 1.

environment_fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# The first Python that is new enough; PYTHON names a certain one.
find_python() {
    local candidate version found=()
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
        # A shim of a version manager may exist for a version that is not there: asking is the only way to know.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
        version=$("$candidate" --version 2>/dev/null) && found+=("  $version as $candidate")
    done
    [ ${#found[@]} -gt 0 ] || found=("  none at all")
    environment_fail "Headgate needs Python 3.11 or later; found here:" "${found[@]}" \
        "Install one, or name it: PYTHON=/path/to/python3.11 $0"
}

environment_stamp() {
    .venv/bin/python - <<'PYTHON_END'
import hashlib, pathlib, sys
digest = hashlib.sha256(pathlib.Path("pyproject.toml").read_bytes()).hexdigest()
print(f"{digest} {sys.version_info[0]}.{sys.version_info[1]} {pathlib.Path.cwd()}")
PYTHON_END
}

# Whether .venv has what `$1` asks for; that of `test` has what `run` asks for, too.
environment_is_ready() {
    local stamp profile
    stamp=$(environment_stamp 2>/dev/null) || return 1
    for profile in "$1" test; do
        [ "$(cat ".venv/.headgate-$profile" 2>/dev/null)" = "$stamp" ] && return 0
    done
    return 1
}

# Whether packages can be put into .venv: it was made to the end, in this place, by a Python that is still there.
environment_is_usable() {
    grep -qsF "$(pwd -P)/.venv/" .venv/bin/pip &&
        .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

create_environment() {
    local python
    python=$(find_python) || exit 1
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        environment_fail "$python can't make virtual environments." "On Debian and Ubuntu: apt install python3-venv"
    "$python" -m venv --clear .venv || environment_fail "$python could not make .venv here."
}

install_packages() {
    local wanted=(-e '.[all]') output
    [ "$1" = test ] && wanted+=(--group dev)
    # pip below 25.1 knows no dependency groups.
    output=$(pip_install --upgrade 'pip>=25.1' && pip_install "${wanted[@]}") ||
        environment_fail "$output" "" "The packages could not be installed; the first time this needs the network."
    environment_stamp >".venv/.headgate-$1"
}

pip_install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore "$@" 2>&1
}

ensure_environment() {
    if ! environment_is_ready "$1"; then
        if ! environment_is_usable; then
            echo "making the environment in .venv" >&2
            create_environment
        fi
        echo "installing packages into .venv (a minute or two, this once)" >&2
        install_packages "$1"
    fi
    PYTHON=.venv/bin/python
}
