#!/usr/bin/env bash
# Put promtool into build/, out of Debian's package `prometheus`; nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x build/promtool ] && exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { echo "promtool.sh: this is no Debian; put promtool on PATH" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch() { (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root prometheus >/dev/null); }
# The lists of packages are missing on a new machine, and only root may fetch them.
fetch 2>/dev/null || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null; fetch; }
dpkg-deb --extract "$work"/prometheus_*.deb "$work/tree"
mkdir -p build
cp "$work/tree/usr/bin/promtool" "$work/promtool"
mv "$work/promtool" build/promtool
build/promtool --version 2>&1 | head -1
