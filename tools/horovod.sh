#!/bin/sh
# Builds Horovod for .venv (CPython 3.7, TensorFlow 1.15.5) and installs it there: sh tools/horovod.sh
# The wheel stays in .cache/horovod, so that a second run, or a new .venv, takes seconds. Communicates with Gloo: no MPI.
# Needed beforehand: a C++ compiler and make; cmake is fetched from PyPI where there is none.
set -eu
cd "$(dirname "$0")/.."
version=0.28.1
# The rest of what it imports is pinned in constraints.txt. The last versions that go with Python 3.7.
others='cloudpickle==2.2.1 psutil==5.9.8'
python=$PWD/.venv/bin/python
pip="$python -m pip --disable-pip-version-check"

if "$python" -c 'import horovod, sys; sys.exit(horovod.__version__ != sys.argv[1])' $version 2>/dev/null &&
    "$python" -c 'import cloudpickle, psutil' 2>/dev/null; then
    exit 0
fi

# A wheel is good for the Python and the TensorFlow that it was compiled for.
key=$("$python" -c 'import platform, sys, tensorflow as tf
print("py%d.%d-tf%s-%s" % (sys.version_info[0], sys.version_info[1], tf.__version__, platform.machine()))' 2>/dev/null) || {
    echo "horovod.sh: .venv has no TensorFlow; run make venv first" >&2
    exit 1
}
wheels=$PWD/.cache/horovod/$key
wheel=$(ls "$wheels"/horovod-$version-*.whl 2>/dev/null || true)
if [ -z "$wheel" ]; then
    for tool in g++ make; do
        command -v $tool >/dev/null || {
            echo "horovod.sh: no $tool on this machine; on Debian and Ubuntu: apt-get install g++ make" >&2
            exit 1
        }
    done
    if ! command -v cmake >/dev/null; then
        tools=$PWD/.cache/horovod/cmake
        [ -x "$tools/bin/cmake" ] || $pip install -q --no-deps --target "$tools" 'cmake==3.25.2'
        PATH=$tools/bin:$PATH PYTHONPATH=$tools${PYTHONPATH:+:$PYTHONPATH}
        export PATH PYTHONPATH
    fi
    mkdir -p "$wheels"
    log=$wheels/build.log
    echo "horovod.sh: building Horovod $version for $key (about five minutes; $log)" >&2
    # Horovod asks for cloudpickle and others only when it runs; it finds TensorFlow in the environment it is built in.
    # Every core, unless the caller says otherwise; not the flags that make hands on, which name its own jobs.
    unset MFLAGS
    HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 \
        HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 MAKEFLAGS=-j${HOROVOD_JOBS:-$(getconf _NPROCESSORS_ONLN)} \
        $pip wheel -v --no-deps --no-build-isolation --no-binary horovod -w "$wheels/new" horovod==$version \
        >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        echo "horovod.sh: the build failed; all of it is in $log" >&2
        exit 1
    }
    mv "$wheels"/new/*.whl "$wheels"/
    rmdir "$wheels/new"
    wheel=$(ls "$wheels"/horovod-$version-*.whl)
fi
# Without dependencies, so that no pinned version changes.
$pip install -q --no-deps "$wheel" $others
$pip check >&2 || { echo "horovod.sh: pip check failed; see above" >&2; exit 1; }
