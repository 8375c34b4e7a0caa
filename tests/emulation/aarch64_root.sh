#!/bin/sh
# A root folder of arm64 with Python and what packets need, for tests/emulation/test_aarch64.py: no debootstrap, no binfmt_misc.
# Needs root, apt with a mirror that has arm64 (Debian), qemu-user-static, and Python with pip. PYTHON names that.
#
#   tests/emulation/aarch64_root.sh /var/tmp/arm64 && EDGESEM_AARCH64=/var/tmp/arm64 pytest tests/emulation/test_aarch64.py
set -eu
root=$1
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# apt as if on an empty arm64 machine: it works out what Python needs, and leaves this machine's packages alone
mkdir -p "$work/lists/partial" "$work/archives/partial" "$root"
: >"$work/status"
cat >"$work/options" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Dir::State::status "$work/status";
Dir::State::lists "$work/lists";
Dir::Cache::archives "$work/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
export APT_CONFIG="$work/options" DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --download-only python3 libstdc++6
for package in "$work"/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
done
[ -e "$root/lib" ] || ln -s usr/lib "$root/lib" # newer releases leave this to base-files

cp "$(command -v qemu-aarch64-static)" "$root/qemu-aarch64-static"
version=$(basename "$(readlink "$root/usr/bin/python3")" | sed 's/python//')
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --target "$root/usr/lib/python3/dist-packages" \
    --only-binary=:all: --implementation cp --python-version "$version" --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    numpy onnxruntime pillow
mkdir -p "$root/tmp"
echo "$root: arm64, Python $version, $(du -sm "$root" | cut -f1) MB"
