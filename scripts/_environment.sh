# The project's own Python environments; sourced by the scripts beside it, from the root of the project.
#
#   ensure_environment run          .venv with Headgate and all its connectors
#   ensure_environment test         the same, and what tests and checks need
#   ensure_environment test 3.12    the same in .venv-3.12, with that version of Python
#
# All set PYTHON to the environment's interpreter. Packages are installed as locked in scripts/requirements/, each checked
# against its hash; scripts/lock renews the lock. Nothing is fetched when the environment is complete: a stamp in it
# holds a hash of pyproject.toml and the lock, the project's place and the interpreter's version. Errors end the script
# with exit code 1.

environment_fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Print the first Python that is new enough; PYTHON names a certain one. With a version: the first Python of it.
find_python() {
    local candidate version found=()
    if [ $# -gt 0 ]; then
        # Interpreters of a version manager are on the PATH only where its user has chosen them.
        for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
            if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" >/dev/null 2>&1; then
                printf '%s\n' "$candidate"
                return
            fi
        done
        return 1
    fi
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
        # A shim of a version manager may exist for a version that is not there: asking is the only way to know.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
        version=$("$candidate" --version 2>/dev/null) && found+=("  $version as $candidate")
    done
    [ ${#found[@]} -gt 0 ] || found=("  no Python at all")
    environment_fail "Headgate needs Python 3.11 or later; found here:" "${found[@]}" \
        "Install one, or name it: PYTHON=/path/to/python3.11 $0"
}

environment_stamp() {
    "$venv/bin/python" - <<'PYTHON_END'
import hashlib, pathlib, sys
digest = hashlib.sha256()
for path in [pathlib.Path("pyproject.toml"), *sorted(pathlib.Path("scripts/requirements").glob("*.txt"))]:
    digest.update(path.read_bytes())
print(f"{digest.hexdigest()} {sys.version_info[0]}.{sys.version_info[1]} {pathlib.Path.cwd()}")
PYTHON_END
}

# Whether the environment has what `$1` asks for; that of `test` has what `run` asks for, too.
environment_is_ready() {
    local stamp profile
    stamp=$(environment_stamp 2>/dev/null) || return 1
    for profile in "$1" test; do
        [ "$(cat "$venv/.headgate-$profile" 2>/dev/null)" = "$stamp" ] && return 0
    done
    return 1
}

# Whether packages can be installed into it: it was made to the end, in this place, by a Python that is still there.
environment_is_usable() {
    grep -qsF "$(pwd -P)/$venv/" "$venv/bin/pip" &&
        "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

create_environment() {
    local python
    python=$(find_python "$@") || exit 1
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        environment_fail "$python can't make virtual environments." "On Debian and Ubuntu: apt install python3-venv"
    "$python" -m venv --clear "$venv" || environment_fail "$python could not make $venv here."
}

install_packages() {
    local output
    # The lock is complete, with the build backend: nothing has to be resolved or fetched beside it.
    output=$(pip_install --no-deps --require-hashes -r "scripts/requirements/$1.txt" &&
        pip_install --no-deps --no-build-isolation -e .) ||
        environment_fail "$output" "" "The packages could not be installed; the first time this needs the network."
    environment_stamp >"$venv/.headgate-$1"
}

pip_install() {
    if [ "$venv" != .venv ]; then
        # scripts/matrix: uv, which .venv has by then, needs a tenth of pip's time. pip reads its user's own settings.
        .venv/bin/uv pip install --quiet --python "$venv/bin/python" "$@" 2>&1
        return
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore "$@" 2>&1
}

ensure_environment() {
    local profile=$1 venv=.venv${2:+-$2}
    shift
    if ! environment_is_ready "$profile"; then
        if ! environment_is_usable; then
            echo "making the environment in $venv" >&2
            create_environment "$@"
        fi
        echo "installing packages into $venv (a minute or two, this once)" >&2
        install_packages "$profile"
    fi
    PYTHON=$venv/bin/python
}
