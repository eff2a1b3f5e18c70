#!/bin/sh
# Makes .venv in the checkout: CPython 3.7 with the versions of constraints.txt. Touches nothing outside, needs no root.
# A second run with nothing changed returns at once; a half-made .venv is made again.
set -eu
cd "$(dirname "$0")/.."
extras=${EXTRAS:-cpu,demo,dev}
stamp=.venv/.made-from
want=$(cat constraints.txt pyproject.toml tools/venv.sh | cksum | tr ' ' -)-$extras

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && [ -x .venv/bin/python ] && [ -x .venv/bin/kexue-keras ] &&
    .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

# A candidate counts only if it starts and is CPython 3.7: pyenv's shims exist even where they refuse to run.
works() {
    [ -n "$1" ] && "$1" -c 'import platform, sys, venv, ensurepip
assert sys.version_info[:2] == (3, 7) and platform.python_implementation() == "CPython"' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        works "$PYTHON" && { command -v "$PYTHON"; return; }
        echo "venv.sh: PYTHON=$PYTHON is no working CPython 3.7; looking further" >&2
    fi
    for candidate in python3.7 python3 python; do
        works "$candidate" && { command -v "$candidate"; return; }
    done
    for root in "${PYENV_ROOT:-}" "$HOME/.pyenv" /opt/pyenv /usr/local/pyenv; do
        for candidate in "$root"/versions/3.7*/bin/python3.7; do
            works "$candidate" && { echo "$candidate"; return; }
        done
    done
    if command -v uv >/dev/null 2>&1; then
        candidate=$(uv python find --no-python-downloads 3.7 2>/dev/null || true)
        works "$candidate" && { echo "$candidate"; return; }
    fi
    for conda in "${CONDA_EXE:-conda}"; do
        command -v "$conda" >/dev/null 2>&1 || continue
        for prefix in $("$conda" env list 2>/dev/null | awk '!/^#/ {print $NF}'); do
            candidate=$prefix/bin/python3.7
            works "$candidate" && { echo "$candidate"; return; }
        done
    done
    return 1
}

# uv brings CPython 3.7 from python-build-standalone; it goes to .cache in the checkout.
fetch_python() {
    uv=$(command -v uv || true)
    if [ -z "$uv" ]; then
        for any in python3 python3.12 python3.11 python3.10 python3.9 python3.8 python; do
            "$any" -c 'import sys, venv; assert sys.version_info >= (3, 8)' >/dev/null 2>&1 || continue
            "$any" -m venv .cache/uv >/dev/null 2>&1 && .cache/uv/bin/python -m pip install -q uv >&2 || continue
            uv=.cache/uv/bin/uv
            break
        done
    fi
    [ -n "$uv" ] || return 1
    echo "venv.sh: no CPython 3.7 found, fetching one with uv" >&2
    UV_PYTHON_INSTALL_DIR=$PWD/.cache/python "$uv" python install --no-bin 3.7 >&2 ||
        UV_PYTHON_INSTALL_DIR=$PWD/.cache/python "$uv" python install 3.7 >&2 || return 1
    candidate=$(UV_PYTHON_INSTALL_DIR=$PWD/.cache/python "$uv" python find 3.7 2>/dev/null || true)
    works "$candidate" && echo "$candidate"
}

python=$(find_python) || python=$(fetch_python) || {
    cat >&2 <<'MESSAGE'
venv.sh: found no CPython 3.7, and uv could not fetch one. TensorFlow 1.15 needs it. Three ways out:
  pyenv   pyenv install 3.7.16                 then run make again
  conda   conda create -y -n py37 python=3.7   then run make again
  Docker  docker build -f docker/Dockerfile.cpu -t kexue-keras . && docker run --rm kexue-keras
An interpreter in an unusual place: make PYTHON=/path/to/python3.7
MESSAGE
    exit 1
}

echo "venv.sh: making .venv with $python (about two minutes)" >&2
rm -f "$stamp"
if ! { [ -x .venv/bin/python ] && works .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    rm -rf .venv
    "$python" -m venv .venv
fi
.venv/bin/python -m pip install -q --disable-pip-version-check 'pip==24.0' 'setuptools==68.0.0' 'wheel==0.42.0'
.venv/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation -c constraints.txt -e ".[$extras]"
.venv/bin/python -m pip check >&2 || { echo "venv.sh: pip check failed; see above" >&2; exit 1; }
echo "$want" >"$stamp"
