#!/bin/sh
# Installs the peers that are no Python packages, where it can: PostgreSQL and Redis from Debian, and
# VictoriaMetrics, built by Go into .venv/bin. They are not left running; a run starts its own. What
# stays missing is named by the run and left out.
set -eu
cd "$(dirname "$0")/../.."

victoria=v1.146.0
if [ ! -x .venv/bin/victoria-metrics ]; then
    if command -v go >/dev/null; then
        echo "building VictoriaMetrics $victoria: a minute or two"
        module=github.com/VictoriaMetrics/VictoriaMetrics
        # Built from a module it would not know its own version.
        GOBIN=$PWD/.venv/bin go install -trimpath \
            -ldflags "-X $module/lib/buildinfo.Version=victoria-metrics-$victoria" \
            "$module/app/victoria-metrics@$victoria" \
            >.venv/victoria-metrics.log 2>&1 \
            || echo "could not be built: VictoriaMetrics (.venv/victoria-metrics.log says why)"
    else
        echo "not built, for want of Go: VictoriaMetrics"
    fi
fi

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
