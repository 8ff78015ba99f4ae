#!/usr/bin/env bash
# setup.sh STACK FOLDER: makes the virtual environment FOLDER from requirements/STACK.lock (k2 or modern).
# Use `make setup` and `make setup STACK=modern`. PYTHON=... names the interpreter, which must be a Python 3.11;
# TORCH=cpu or cuda the build of torch 2, which is else CUDA's where there is a GPU or pip finds no other.
set -euo pipefail
cd "$(dirname "$0")/.."
stack=$1 env=$2

fail() { echo "setup: $*" >&2; exit 1; }

is_311() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3 python; do
    if is_311 "$candidate"; then echo "$candidate"; return; fi
    [ "$candidate" != "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is no Python 3.11"
  done
  fail "no Python 3.11 found (as python3.11 or python3). Install it (Debian: apt install python3.11 python3.11-venv;" \
       "or uv python install 3.11), or name one: make setup PYTHON=/path/to/python3.11"
}

case ${TORCH:-} in ''|cpu|cuda) ;; *) fail "TORCH=$TORCH: use cpu or cuda" ;; esac
if [ "$stack" = k2 ] && [ "$(uname -sm)" != "Linux x86_64" ]; then
  fail "PyPI's k2 is built for Linux on x86_64, this is $(uname -sm). What needs no k2 runs here: make setup STACK=modern"
fi
python=$(find_python)
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "$python has no venv module. Debian: apt install python3.11-venv"

# The mark stands while the environment is being filled: whoever finds it starts anew, because no installer can tell
# a package that was half copied from a whole one.
if [ -e "$env/.incomplete" ]; then
  echo "setup: $env was left half made: starting anew"
  rm -rf "$env"
fi
if [ -e "$env" ] && ! is_311 "$env/bin/python"; then
  fail "$env is there and is no environment of Python 3.11: move it away, then run this again"
fi
mkdir -p "$env"
touch "$env/.incomplete"
if [ ! -x "$env/bin/python" ]; then
  "$python" -m venv "$env"
fi
pip() { "$env/bin/python" -m pip --disable-pip-version-check "$@"; }

pip install --quiet --no-deps --require-hashes -r requirements/bootstrap.lock
locked() { "$env/bin/uv" pip install --quiet --python "$env/bin/python" --require-hashes "$@"; }
echo "setup: filling $env from requirements/$stack.lock; a minute or some, by the network"
if [ "$stack" = k2 ]; then
  locked -r requirements/k2.lock
else
  torch=${TORCH:-cpu}
  if [ -z "${TORCH:-}" ] && nvidia-smi -L 2>/dev/null | grep '^GPU ' >/dev/null; then
    echo "setup: there is a GPU; taking PyPI's CUDA build of torch (4.5 GB; TORCH=cpu: the other)"
    torch=cuda
  fi
  # pip and not uv: it knows where the user has pip look for a CPU build of torch (see modern-cpu.lock).
  if [ "$torch" = cpu ] &&
    ! pip install --quiet --no-deps --require-hashes -r requirements/modern-cpu.lock >"$env/.log" 2>&1; then
    [ -z "${TORCH:-}" ] || fail "pip finds no CPU build of torch (see requirements/modern-cpu.lock and $env/.log)"
    echo "setup: pip finds no CPU build of torch; taking PyPI's CUDA build (4.5 GB)"
    torch=cuda
  fi
  [ "$torch" = cpu ] || locked --no-deps --reinstall-package torch -r requirements/modern-cuda.lock
  locked --no-deps -r requirements/modern.lock
fi
pip install --quiet --no-deps --no-build-isolation --editable .
rm "$env/.incomplete"
touch "$env/.$stack"
echo "setup: $env is ready ($("$env/bin/python" --version), $stack stack)"
