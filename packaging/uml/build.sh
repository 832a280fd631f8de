#!/usr/bin/env bash
# Build the kernel of tests/kernel (User Mode Linux, with ESP, L2TP, PPP and nftables) from Debian's source, into the cache
# where the tests look. Once per change of kernel.config: minutes of compiling, 2 GB of disk meanwhile, 9 MB afterwards.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
series=6.1
wanted=(bc bison flex gcc libc6-dev make xz-utils)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/popctl
kernel=$cache/uml-linux-$(sha256sum "$here/kernel.config" | cut -c1-16)
if [ -x "$kernel" ]; then
    echo "uml: $kernel is there"
    exit 0
fi

missing=()
for package in "${wanted[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "uml: not root, and these Debian packages are missing: ${missing[*]}" >&2
        exit 1
    fi
    echo "uml: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/uml-build.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
echo "uml: fetching linux-source-$series"
apt-get -qq -o APT::Sandbox::User=root download "linux-source-$series"
dpkg --fsys-tarfile "linux-source-${series}_"*.deb | tar -xf - "./usr/src/linux-source-$series.tar.xz"
tar -xf "usr/src/linux-source-$series.tar.xz"
mkdir out
echo "uml: compiling"
build() { make -s ARCH=um O="$work/out" -C "$work/linux-source-$series" "$@"; }
build x86_64_defconfig >/dev/null
cat "$here/kernel.config" >>out/.config
build olddefconfig >/dev/null 2>&1
while read -r line; do
    case $line in
    CONFIG_*=y) grep -qx "$line" out/.config || echo "uml: this kernel has no ${line%=y}" >&2 ;;
    esac
done <"$here/kernel.config"
build -j"$(nproc)" linux >build.log 2>&1 || { tail -20 build.log >&2; exit 1; }
strip -o built out/linux
mv built "$kernel"
echo "uml: built $kernel"
