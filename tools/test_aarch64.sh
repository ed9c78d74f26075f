#!/bin/sh
# Build the kernels for aarch64 and run their tests under an emulator: sh tools/test_aarch64.sh FOLDER PYTHON
#
# For Debian on another processor: apt-get install gcc-aarch64-linux-gnu qemu-user-static. The Python of the
# emulated machine is Debian's, unpacked into the folder; nothing of it is installed. PYTHON, of the same version, is one
# of this machine with pip and Cython.
set -eu

folder=$(realpath -m "$1")
python=$2
root=$folder/root
packages=$folder/packages
source=$(cd "$(dirname "$0")/.." && pwd)
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# An apt of its own: another architecture, none of whose packages are installed.
if ! [ -e "$root/usr/bin/python$version" ]; then
    mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$root"
    : > "$folder/apt/status"
    cat > "$folder/apt/conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
Dir::State "$folder/apt";
Dir::State::lists "$folder/apt/lists";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt/cache";
END
    export APT_CONFIG="$folder/apt/conf"
    apt-get --quiet --quiet update
    apt-get --quiet --quiet --yes --download-only install "python$version" "libpython$version-dev" libjpeg62-turbo-dev \
        libstdc++6
    for package in "$folder"/apt/cache/archives/*.deb; do dpkg-deb --extract "$package" "$root"; done
fi

[ -d "$packages/hypothesis" ] || "$python" -m pip install --quiet --target "$packages" --only-binary :all: --implementation cp \
    --python-version "$version" --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform any \
    numpy msgspec simplejpeg opencv-python-headless backports.zstd pillow pytest hypothesis

mkdir -p "$folder/built/iqa_runtime" "$folder/tests"
cp -R "$source/runtime/iqa_runtime" "$folder/built/"
rm -f "$folder"/built/iqa_runtime/*.so
compile() {
    name=$1 directory=$2
    shift 2
    "$python" -m cython -3 -X boundscheck=False -X initializedcheck=False -X wraparound=False \
        "$source/$directory/$name.pyx" --output-file "$folder/$name.c"
    aarch64-linux-gnu-gcc -O3 -g0 -fPIC -shared -pthread -Wall -Wno-unused-function -Werror \
        -DPy_LIMITED_API=0x030B0000 -I"$source/$directory" -isystem "$root/usr/include/python$version" \
        -isystem "$root/usr/include" -isystem "$root/usr/include/aarch64-linux-gnu" \
        -o "$folder/built/iqa_runtime/$name.abi3.so" "$folder/$name.c" "$@" -lm
}
# shellcheck disable=SC2046 # the list of files that are no product of Cython
compile _kernels csrc $(find "$source/csrc" -maxdepth 1 -name '*.c' ! -name _kernels.c)
compile _jpeg_bands csrc/jpeg "$source/csrc/jpeg/bands.c" "$root/usr/lib/aarch64-linux-gnu/libjpeg.so.62"

cp "$source"/tests/runtime/kernels/test_*.py "$source/tests/conftest.py" "$source/tests/fakes/chosen_kernels.py" \
    "$source/tools/chromium.py" "$folder/tests/"
emulated() {
    PYTHONPATH="$folder/built:$packages:$folder/tests" PYTHONDONTWRITEBYTECODE=1 \
        qemu-aarch64-static -L "$root" "$root/usr/bin/python$version" "$@"
}
emulated -c 'from iqa_runtime.kernels import instruction_set as best; from iqa_runtime._jpeg_bands import LIBJPEG_TURBO
print("aarch64:", best(), LIBJPEG_TURBO); raise SystemExit(best() != "neon")'
# What starts another Python would start one of this machine.
emulated -m pytest -q -p no:cacheprovider -c /dev/null --rootdir "$folder/tests" "$folder/tests" \
    --ignore "$folder/tests/test_native.py" -k "not without_the_extension"
