#!/usr/bin/env bash
# A compiler, Python's headers and Highway's headers, on Debian and its relatives. Does nothing
# where all are there; says the one line to type where it may not install.
set -eu

python=${PYTHON:-python3}
missing=()
command -v c++ >/dev/null || missing+=(g++)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
"$python" - <<'EOT' || missing+=(python3-dev)
import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())
EOT
[ -e /usr/include/hwy/highway.h ] || [ -e /usr/local/include/hwy/highway.h ] ||
    [ -n "${HIGHWAY_INCLUDE_DIR:-}" ] || missing+=(libhwy-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

install="apt-get install -y ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "Missing: ${missing[*]}. Install them with the system's package manager." >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive $install -qq >/dev/null
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive $install -qq >/dev/null
else
    echo "Missing: ${missing[*]}. Type:  sudo $install" >&2
    exit 1
fi
