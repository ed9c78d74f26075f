#!/bin/sh
# Build the libjpeg-turbo that wheels for Linux carry: that of manylinux images is older than csrc/jpeg takes.
set -eu

version=3.1.4.1
digest=ecae8008e2cc9ade2f2c1bb9d5e6d4fb73e7c433866a056bd82980741571a022
archive=libjpeg-turbo-$version.tar.gz

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
curl --fail --location --silent --show-error --output "$archive" \
    "https://github.com/libjpeg-turbo/libjpeg-turbo/releases/download/$version/$archive"
echo "$digest  $archive" | sha256sum --check --quiet
tar -xzf "$archive"
# The assembler of its SIMD code.
case $(uname -m) in x86_64) dnf install --assumeyes --quiet nasm ;; esac
cmake -S "libjpeg-turbo-$version" -B build -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr/local \
    -DENABLE_STATIC=OFF -DREQUIRE_SIMD=ON -DWITH_TURBOJPEG=OFF
cmake --build build --parallel
cmake --install build
ldconfig
