#!/bin/sh
# Makes the virtual environment of a stack in the checkout, with pinned versions: sh tools/venv.sh [tf1 | tf2 | tf2.16 | docs]
#   tf1     .venv         CPython 3.7          TensorFlow 1.15.5   constraints.txt (Keras 2.3.1 and tf.keras)
#   tf2     .venv-tf2     CPython 3.12, 3.13   TensorFlow 2.21.0   constraints-tf2.txt
#   tf2.16  .venv-tf2.16  CPython 3.9 to 3.11  TensorFlow 2.16.2   constraints-tf2.16.txt
#   docs    .venv-docs    CPython 3.11 to 3.13 none: mkdocs alone  constraints-docs.txt
# Touches nothing outside, needs no root. A second run with nothing changed returns at once; a half-made environment is
# made again. Exit code 3: this machine has no such CPython (tf1 and docs fetch one with uv, the others are left out).
set -eu
cd "$(dirname "$0")/.."
stack=${1:-tf1}
case $stack in
tf1) venv=.venv pythons=3.7 constraints=constraints.txt extras=${EXTRAS:-cpu,demo,dev} ;;
tf2) venv=.venv-tf2 pythons='3.12 3.13' constraints=constraints-tf2.txt extras=tf2,demo,test ;;
tf2.16) venv=.venv-tf2.16 pythons='3.9 3.10 3.11' constraints=constraints-tf2.16.txt extras=tf2,demo,test ;;
docs) venv=.venv-docs pythons='3.12 3.13 3.11' constraints=constraints-docs.txt extras=docs ;;
*) echo "venv.sh: no stack $stack; it is one of tf1, tf2, tf2.16, docs" >&2; exit 2 ;;
esac
python=$venv/bin/python
stamp=$venv/.made-from
want=$(cat "$constraints" pyproject.toml tools/venv.sh | cksum | tr ' ' -)-$extras

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && [ -x "$python" ] && "$python" -c '' 2>/dev/null &&
    { [ -x $venv/bin/kexue-keras ] || [ $stack = docs ]; }; then
    exit 0
fi

# A candidate counts only if it starts and is the CPython wanted: pyenv's shims exist even where they refuse to run.
works() {
    [ -n "$1" ] && "$1" -c 'import platform, sys, venv, ensurepip
assert "%d.%d" % sys.version_info[:2] in sys.argv[1:] and platform.python_implementation() == "CPython"' \
        $pythons >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ] && [ $stack = tf1 ]; then
        works "$PYTHON" && { command -v "$PYTHON"; return; }
        echo "venv.sh: PYTHON=$PYTHON is no working CPython $pythons; looking further" >&2
    fi
    for version in $pythons; do
        for candidate in python$version python3 python; do
            works "$candidate" && { command -v "$candidate"; return; }
        done
        for root in "${PYENV_ROOT:-}" "$HOME/.pyenv" /opt/pyenv /usr/local/pyenv; do
            for candidate in "$root"/versions/$version.*/bin/python$version; do
                works "$candidate" && { echo "$candidate"; return; }
            done
        done
        if command -v uv >/dev/null 2>&1; then
            candidate=$(uv python find --no-python-downloads $version 2>/dev/null || true)
            works "$candidate" && { echo "$candidate"; return; }
        fi
        for conda in "${CONDA_EXE:-conda}"; do
            command -v "$conda" >/dev/null 2>&1 || continue
            for prefix in $("$conda" env list 2>/dev/null | awk '!/^#/ {print $NF}'); do
                candidate=$prefix/bin/python$version
                works "$candidate" && { echo "$candidate"; return; }
            done
        done
    done
    return 1
}

# uv brings a CPython from python-build-standalone; it goes to .cache in the checkout.
fetch_python() {
    [ $stack = tf1 ] || [ $stack = docs ] || return 1
    wanted=${pythons%% *}
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
    echo "venv.sh: no CPython $pythons found, fetching $wanted with uv" >&2
    UV_PYTHON_INSTALL_DIR=$PWD/.cache/python "$uv" python install --no-bin $wanted >&2 ||
        UV_PYTHON_INSTALL_DIR=$PWD/.cache/python "$uv" python install $wanted >&2 || return 1
    candidate=$(UV_PYTHON_INSTALL_DIR=$PWD/.cache/python "$uv" python find $wanted 2>/dev/null || true)
    works "$candidate" && echo "$candidate"
}

base=$(find_python) || base=$(fetch_python) || {
    if [ $stack != tf1 ]; then
        echo "venv.sh: this machine has no CPython $pythons, so there is no $venv" >&2
        exit 3
    fi
    cat >&2 <<'MESSAGE'
venv.sh: found no CPython 3.7, and uv could not fetch one. TensorFlow 1.15 needs it. Three ways out:
  pyenv   pyenv install 3.7.16                 then run make again
  conda   conda create -y -n py37 python=3.7   then run make again
  Docker  docker build -f docker/Dockerfile.cpu -t kexue-keras . && docker run --rm kexue-keras
An interpreter in an unusual place: make PYTHON=/path/to/python3.7
MESSAGE
    exit 1
}

echo "venv.sh: making $venv with $base (about two minutes)" >&2
rm -f "$stamp"
if ! { [ -x "$python" ] && works "$python" && "$python" -m pip --version >/dev/null 2>&1; }; then
    rm -rf $venv
    "$base" -m venv $venv
fi
pip="$python -m pip --disable-pip-version-check"
if [ $stack = tf1 ]; then
    # seqeval is built with setuptools_scm, of which later versions than the pinned ones do not build it.
    $pip install -q -c "$constraints" 'pip==24.0' 'setuptools==68.0.0' 'wheel==0.42.0' setuptools_scm
    $pip install -q --no-build-isolation -c "$constraints" -e ".[$extras]"
    $pip check >&2 || { echo "venv.sh: pip check failed; see above" >&2; exit 1; }
elif [ $stack = docs ]; then
    # The package itself is read, not imported.
    $pip install -q setuptools wheel
    $pip install -q --no-build-isolation -r "$constraints"
else
    $pip install -q -c "$constraints" setuptools wheel setuptools_scm
    $pip install -q --no-build-isolation -c "$constraints" -e ".[$extras]"
    # It asks for Keras 2.3.1, which TensorFlow 2 neither has nor needs.
    $pip install -q --no-build-isolation --no-deps -c "$constraints" bert4keras
fi
echo "$want" >"$stamp"
