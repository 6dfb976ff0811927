#!/bin/sh
# Installs the peers that are no Python packages, where it can: PostgreSQL and Redis from Debian. They
# are not left running; a run starts its own. What stays missing is named by the run and left out.
set -eu
missing=""
[ -x /usr/lib/postgresql/15/bin/postgres ] || missing="$missing postgresql-15"
command -v redis-server >/dev/null || missing="$missing redis-server"
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "not installed, for want of apt-get or of the right to use it:$missing"
    exit 0
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
# shellcheck disable=SC2086 # several names
{ apt-get -q update && apt-get -q -y --no-install-recommends install $missing; } >/dev/null \
    || echo "could not be installed:$missing"
