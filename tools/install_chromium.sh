#!/bin/sh
# Install Debian's Chromium for the tests of pages, where it is missing and can be had: as root, with apt-get, within
# a minute. Without it those tests are skipped, so nothing here is an error.
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null || ! command -v timeout >/dev/null; then
    echo "no Chromium: tests of pages are skipped (Debian: apt-get install chromium)"
    exit 0
fi
echo "installing Chromium for the tests of pages"
export DEBIAN_FRONTEND=noninteractive
what="chromium fonts-dejavu-core"
get="apt-get -qq -o DPkg::Lock::Timeout=5 -o Acquire::Retries=0"
# Only what can be ended at any time is under a time limit; unpacking what is there takes seconds.
# shellcheck disable=SC2086
{
    timeout 20 $get update
    timeout 40 $get install --yes --no-install-recommends --download-only $what &&
        $get install --yes --no-install-recommends --no-download $what
} >/dev/null 2>&1
command -v chromium >/dev/null || echo "that failed: tests of pages are skipped"
