#!/usr/bin/env bash
# Measures podman's slow moments on each storage driver, as root or as a user. Run it as root:
#
#   [AS=USER] [DRIVERS='unionfs fuse-overlayfs'] tests/engines/measure.sh UNIONFS [ROUNDS [FILES]]
#
# UNIONFS is the program (of `cargo build --release`). Flows: `build`, an image whose COPY and RUN make
# FILES files each; `commit` of a container that has changed every tenth file; `keep-id`, the first
# start of that image with --userns=keep-id (not as root, who has no ids of his own to keep). Drivers
# take turns within each round, in an order that moves on; the tables have medians of the rounds, in
# seconds, and the median of the ratios to fuse-overlayfs within rounds: of the time by the clock, and
# of the CPU time of engine and daemon together, which a busy machine disturbs less. Nothing is kept.
set -euo pipefail
program=$(readlink -f "$1") rounds=${2:-3} files=${3:-30000}
if [ -z "${PALIMPSEST_MEASURES:-}" ]; then
  # A machine of its own, as the tests have: mounts and processes end with it.
  namespaces=(-m --propagation private -p --fork --kill-child --mount-proc)
  [ "$(id -u)" -eq 0 ] || { echo "run it as root, with AS=USER for a user" >&2; exit 2; }
  export PALIMPSEST_MEASURES=1
  exec unshare "${namespaces[@]}" bash "$(readlink -f "$0")" "$program" "$rounds" "$files"
fi

top=$(mktemp -d "${TMPDIR:-/tmp}/measure-XXXXXX")
away() {
  cd /
  rm -rf "$top"
  find /sys/fs/cgroup -depth -type d -path '*/libpod_parent*' -exec rmdir {} + 2>/dev/null || true
}
trap away EXIT
trap 'exit 130' INT TERM
chmod 755 "$top"
mount --make-rshared /
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
user=${AS:-}
install -d -m 700 ${user:+-o "$user" -g "$user"} /run/engine
cp "$program" "$top/unionfs"

cat >"$top/containers.conf" <<'C'
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
C
# Made once: a base of one program, and a context of many small files.
mkdir -p "$top/base/bin" "$top/base/tmp" "$top/base/etc" "$top/base/proc" "$top/base/sys" "$top/base/dev" "$top/context/tree"
cp /bin/busybox "$top/base/bin"
for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$top/base/bin/$applet"; done
tar -C "$top/base" --numeric-owner --owner=0 --group=0 -cf "$top/base.tar" .
(cd "$top/context/tree" && mkdir $(seq 100) && for n in $(seq "$files"); do echo "$n" >$((n % 100 + 1))/$n; done)
cat >"$top/context/Containerfile" <<C
FROM localhost/base
COPY tree /first
RUN cp -a /first /second && rm -r /first/1 && mv /first/2 /first/moved
C

# The commands of one driver, in storage of its own.
cat >"$top/flow" <<'C'
set -euo pipefail
driver=$1 what=$2
export CONTAINERS_CONF=$TOP/containers.conf
[ "$(id -u)" -ne 0 ] || export CONTAINERS_STORAGE_CONF=$HOME/.config/containers/storage.conf
cd "$HOME"
case $what in
setup) podman import -q --change 'CMD ["/bin/sh"]' --change 'ENV PATH=/bin' "$TOP/base.tar" localhost/base ;;
build) podman build -q --network none -t localhost/built "$TOP/context" ;;
change) podman run --name changed --net=none localhost/built sh -c 'for f in /second/*/*5; do echo x >>$f; done' ;;
commit) podman commit -q changed localhost/committed ;;
keep-id) podman run --rm --net=none --userns=keep-id localhost/built true ;;
clear) podman rm -a -f; podman rmi -f localhost/committed localhost/built; podman rmi -a -f; podman system migrate ;;
esac >/dev/null
C

storage() {
  local driver=$1 name=overlay
  [ "$driver" = vfs ] && name=vfs
  printf '[storage]\ndriver = "%s"\ngraphroot = "%s"\nrunroot = "/run/engine/%s"\n' "$name" "$top/home-$driver/graph" "$driver/storage"
  case $driver in
  unionfs) printf '[storage.options.overlay]\nmount_program = "%s"\n' "$top/unionfs" ;;
  fuse-overlayfs) printf '[storage.options.overlay]\nmount_program = "%s"\n' "$(command -v fuse-overlayfs)" ;;
  esac
}
# As the user; each driver has a home, as rootless podman looks for its settings there.
as() {
  local home=$top/home-$1
  local run=(env -i "PATH=$PATH" "HOME=$home" "XDG_RUNTIME_DIR=/run/engine/$1" "TOP=$top" bash "$top/flow" "$@")
  [ -z "$user" ] || run=(setpriv "--reuid=$user" "--regid=$user" --init-groups --inh-caps=-all "${run[@]}")
  "${run[@]}" </dev/null
}

# CPU time in milliseconds of all processes that have ended: orphans are this one's, whose pid is 1.
cpu() {
  read -ra stat </proc/1/stat
  echo $(((stat[15] + stat[16]) * 1000 / $(getconf CLK_TCK)))
}
daemons_are_gone() {
  for _ in $(seq 300); do
    grep -qs -e "^$top/unionfs" -e '^[^ ]*fuse-overlayfs' /proc/[0-9]*/cmdline || break
    sleep 0.1
  done
  sleep 0.1
}

read -ra drivers <<<"${DRIVERS:-unionfs fuse-overlayfs overlay vfs}"
flows=(build commit)
[ -z "$user" ] || flows+=(keep-id)
for driver in "${drivers[@]}"; do
  install -d "$top/home-$driver/.config/containers"
  install -d -m 700 "/run/engine/$driver"
  storage "$driver" >"$top/home-$driver/.config/containers/storage.conf"
done
[ -z "$user" ] || chown -R "$user:" "$top" /run/engine
for round in $(seq "$rounds"); do
  for turn in "${!drivers[@]}"; do
    driver=${drivers[$(((turn + round) % ${#drivers[@]}))]}
    as "$driver" setup
    for flow in "${flows[@]}"; do
      [ "$flow" != commit ] || as "$driver" change
      sync -f "$top"
      before=$EPOCHREALTIME used=$(cpu)
      as "$driver" "$flow"
      after=$EPOCHREALTIME
      daemons_are_gone
      used=$(($(cpu) - used))
      echo "$round $flow $driver $(((${after/./} - ${before/./}) / 1000)) $used" | tee -a "$top/times" >&2
    done
    as "$driver" clear 2>/dev/null || true
  done
done

echo "podman $(podman --version | awk '{ print $3 }'), $(uname -r), ${user:-root}, $files files, $rounds rounds"
table() {
  awk -v drivers="${drivers[*]}" -v flows="${flows[*]}" -v field="$1" -v title="$2" '
  function median(list, n,   i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j] < list[j - 1]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
  }
  { ms[$1, $2, $3] = $field; if ($1 > rounds) rounds = $1 }
  END {
    d = split(drivers, driver, " "); f = split(flows, flow, " ")
    printf "%-10s", title; for (k = 1; k <= d; k++) printf "%24s", driver[k]; print ""
    for (i = 1; i <= f; i++) {
      printf "%-10s", flow[i]
      for (k = 1; k <= d; k++) {
        for (r = 1; r <= rounds; r++) { t[r] = ms[r, flow[i], driver[k]]; q[r] = t[r] / (ms[r, flow[i], "fuse-overlayfs"] + 0.001) }
        printf "%24s", sprintf("%.2f s (x %.2f)", median(t, rounds) / 1000, median(q, rounds))
      }
      print ""
    }
  }' "$top/times"
}
table 4 clock
table 5 CPU
