#!/usr/bin/env bash
# Installs trunkbridge as a service; run again, it upgrades. Nothing of an earlier version is
# changed in place: each version gets a folder of its own and `current` leads to the newest,
# so a daemon that runs keeps what it started with, and going back is one link.
#
#   DESTDIR=   put everything below this folder (for packages: no user, no systemctl)
#   PREFIX=    where bin/trunkbridge is linked, /usr/local by default
#   WHEELS=    a folder of wheels instead of the package index (make setup keeps one)
#   PYTHON=    the interpreter, 3.11 or newer
#
# Configuration (/etc/trunkbridge) and state (/var/lib/trunkbridge) are made once and then
# left alone. scripts/uninstall.sh takes it away again.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/layout.sh

KEPT_RELEASES=2

as_root() { [ "$(id -u)" = 0 ] && [ -z "$DESTDIR" ]; }

refuse_if_hopeless() {
    if [ "$(id -u)" != 0 ] && [ -z "$DESTDIR" ]; then
        complain "not root: use sudo, or DESTDIR= for a folder of your own"
        exit 1
    fi
}

warn_of_a_hidden_python() {
    ! in_a_home "$1" || complain "$1 is in a home folder: the service may not read it (ProtectHome)"
}

# One name for what is installed: the version, and a digest of everything that makes it up.
release_name() {
    local version digest
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
    digest=$({
        "$1" --version
        printf '%s\n' "$RELEASES"
        find trunkbridge bridge sdp rtp -type f ! -path '*/__pycache__/*' -print0 |
            LC_ALL=C sort -z | xargs -0 sha256sum
        sha256sum pyproject.toml requirements-daemon.lock README.md
        cat .cache/media-core/*.whl 2>/dev/null | sha256sum
    } | sha256sum | cut -c1-8)
    echo "$version-$digest"
}

build_release() {
    local python=$1 folder=$2 wheels=$3 pip=() source=()
    [ -z "$wheels" ] || source=(--no-index --find-links "$wheels")
    say "making $folder with $("$python" --version)"
    rm -rf "$DESTDIR$folder"
    mkdir -p "$DESTDIR$RELEASES"
    "$python" -m venv "$DESTDIR$folder"
    pip=("$DESTDIR$folder/bin/python" -m pip --quiet --disable-pip-version-check)
    say "installing Python packages of requirements-daemon.lock (by hash${wheels:+, from $wheels})"
    "${pip[@]}" install --require-hashes --no-compile ${source[@]+"${source[@]}"} -r requirements-daemon.lock
    say "building and installing trunkbridge"
    needs_of_the_build >"$WORK/build.lock"
    "${pip[@]}" install --require-hashes --no-compile ${source[@]+"${source[@]}"} --target "$WORK/build" \
        -r "$WORK/build.lock"
    PYTHONPATH="$WORK/build" "${pip[@]}" wheel --no-deps --no-build-isolation --no-index \
        --wheel-dir "$WORK/wheel" .
    "${pip[@]}" install --no-deps --no-index --no-compile "$WORK"/wheel/*.whl
    if compgen -G ".cache/media-core/*.whl" >/dev/null; then
        say "installing the media core"
        "${pip[@]}" install --no-deps --no-index --no-compile .cache/media-core/*.whl
    else
        complain "no media core in .cache/media-core (make setup builds it); calls will use the SDK engine"
    fi
    # The service may not write here, so the byte code is made now.
    "$DESTDIR$folder/bin/python" -m compileall -q -j 0 "$DESTDIR$folder/lib" \
        ${DESTDIR:+-s "$DESTDIR"} || complain "some byte code could not be made; starts are slower"
    if [ -n "$DESTDIR" ]; then # scripts and the venv itself name the place they were made at
        grep -lIZF -- "$DESTDIR" "$DESTDIR$folder"/bin/* "$DESTDIR$folder/pyvenv.cfg" |
            xargs -0 -r sed -i "s|$(sed 's/[][\\.*^$|]/\\&/g' <<<"$DESTDIR")||g"
    fi
    install -d "$DESTDIR$folder/share/doc/trunkbridge"
    cp docs/*.md "$DESTDIR$folder/share/doc/trunkbridge/"
    touch "$DESTDIR$folder/.complete"
}

make_user() {
    as_root || {
        say "no user made; at boot systemd-sysusers makes it of $PREFIX/lib/sysusers.d/trunkbridge.conf"
        return 0
    }
    getent passwd "$SERVICE_USER" >/dev/null && return 0
    useradd --system --user-group --home-dir "$STATE" --no-create-home \
        --shell /usr/sbin/nologin --comment "trunkbridge, SIP to LiveKit" "$SERVICE_USER" 2>/dev/null ||
        complain "user $SERVICE_USER could not be made: useradd --system $SERVICE_USER"
    say "made the system user $SERVICE_USER"
}

owned_by() { # owned_by OWNER:GROUP MODE PATH
    chmod "$2" "$DESTDIR$3"
    if as_root; then
        chown "$1" "$DESTDIR$3" || complain "$3 could not be given to $1"
    fi
}

make_folders() {
    mkdir -p "$DESTDIR$ETC" "$DESTDIR$STATE"
    owned_by "root:$SERVICE_USER" 0750 "$ETC"
    owned_by "$SERVICE_USER:$SERVICE_USER" 0750 "$STATE"
    if [ -e "$DESTDIR$ETC/trunkbridge.toml" ]; then
        say "kept $ETC/trunkbridge.toml"
    else
        install -m 0640 deploy/trunkbridge.toml "$DESTDIR$ETC/trunkbridge.toml"
        owned_by "root:$SERVICE_USER" 0640 "$ETC/trunkbridge.toml"
        say "made $ETC/trunkbridge.toml"
    fi
}

link() { # link TARGET PATH, at once
    mkdir -p "$(dirname "$DESTDIR$2")"
    ln -sfn "$1" "$DESTDIR$2.new"
    mv -fT "$DESTDIR$2.new" "$DESTDIR$2"
}

install_unit() {
    install -D -m 0644 systemd/trunkbridge.service "$DESTDIR$UNITS/trunkbridge.service"
    install -D -m 0644 systemd/trunkbridge.sysusers "$DESTDIR$PREFIX/lib/sysusers.d/trunkbridge.conf"
    as_root || return 0
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload || complain "systemctl daemon-reload failed: run it yourself"
    else
        say "systemd does not run here: the unit lies in $UNITS, nothing was started"
    fi
}

# The newest stay, and whatever a process still runs from.
forget_old_releases() {
    local old
    for old in "$DESTDIR$RELEASES"/*/; do # what an interrupted installation left
        [ -e "$old/.complete" ] || rm -rf "$old"
    done
    ls -1dt "$DESTDIR$RELEASES"/*/ 2>/dev/null | tail -n +$((KEPT_RELEASES + 1)) | while read -r old; do
        old=${old%/}
        [ "$old" != "$(readlink -f "$DESTDIR$CURRENT")" ] || continue
        if grep -qsF "$old/" /proc/[0-9]*/maps; then
            continue
        fi
        say "removing ${old#"$DESTDIR"}"
        rm -rf "$old"
    done
}

umask 022
refuse_if_hopeless
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python=$(find_python)
warn_of_a_hidden_python "$python"
release=$(release_name "$python")
folder="$RELEASES/$release"
if [ -e "$DESTDIR$folder/.complete" ]; then
    say "$folder is there already"
    touch "$DESTDIR$folder"
else
    build_release "$python" "$folder" "$(find_wheels "$python")"
fi
make_user
make_folders
link "releases/$release" "$CURRENT"
link "$CURRENT/bin/trunkbridge" "$PREFIX/bin/trunkbridge"
install_unit
forget_old_releases

cat <<END
trunkbridge $release is installed.
  1. edit $ETC/trunkbridge.toml
  2. trunkbridge check
  3. systemctl enable --now trunkbridge
  A running one goes on as it is: trunkbridge drain --wait, then systemctl restart trunkbridge.
END
