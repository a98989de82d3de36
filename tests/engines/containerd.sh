#!/usr/bin/env bash
# Runs containers of a containerd whose fuse-overlayfs snapshotter starts the given program, and then
# the same with the packaged fuse-overlayfs; what they said must be equal. Run it as root:
#
#   tests/engines/containerd.sh UNIONFS SNAPSHOTTER
#
# UNIONFS is the program, SNAPSHOTTER a containerd-fuse-overlayfs-grpc (in no Debian package: `go install
# github.com/containerd/fuse-overlayfs-snapshotter/v2/cmd/containerd-fuse-overlayfs-grpc@latest`). Needs
# containerd, runc, fuse-overlayfs, busybox and python3. An image of two layers is imported; containers
# run, eight at once too, are looked into, compared with their image while they run and afterwards, and
# killed. Nothing is kept, and what a run leaves is an error.
set -euo pipefail
if [ -z "${PALIMPSEST_CONTAINERD:-}" ]; then
  [ "$(id -u)" -eq 0 ] && [ $# -eq 2 ] || { sed -n '5p' "$0" >&2; exit 2; }
  program=$(readlink -f "$1") snapshotter=$(readlink -f "$2")
  top=$(mktemp -d "${TMPDIR:-/tmp}/containerd-XXXXXX")
  trap 'rm -rf "$top"' EXIT
  for driver in unionfs fuse-overlayfs; do
    mkdir "$top/$driver"
    [ $driver = unionfs ] || program=$(command -v fuse-overlayfs)
    # A machine of its own, as the tests have: mounts and processes end with it.
    PALIMPSEST_CONTAINERD=$top/$driver unshare -m --propagation private -p --fork --kill-child --mount-proc \
      bash "$(readlink -f "$0")" "$program" "$snapshotter" >"$top/$driver.said" || { cat "$top/$driver.said" "$top/$driver/log"; exit 1; }
  done
  cat "$top/unionfs.said"
  diff "$top/fuse-overlayfs.said" "$top/unionfs.said" && echo "equal to fuse-overlayfs"
  exit
fi

cd "$PALIMPSEST_CONTAINERD"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir bin base /run/containerd
ln -s "$1" bin/fuse-overlayfs
export PATH=$PWD/bin:$PATH
# Layers: a small system; then one that adds a file and deletes a directory.
mkdir -p base/{bin,etc,proc,sys,dev,run,tmp,usr/share/tree}
cp /bin/busybox base/bin
for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "base/bin/$applet"; done
echo low >base/etc/lower
echo in >base/usr/share/tree/f
python3 - <<'P'
import hashlib, io, json, tarfile

def entry(tar, name, data=b""):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))

def layer(name, fill):
    with tarfile.open(name, "w") as tar:
        fill(tar)
    return "sha256:" + hashlib.sha256(open(name, "rb").read()).hexdigest()

def second(tar):
    entry(tar, "etc/second", b"second\n")
    entry(tar, "usr/share/.wh.tree")

ids = [layer("1.tar", lambda tar: tar.add("base", arcname=".")), layer("2.tar", second)]
config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
          "rootfs": {"type": "layers", "diff_ids": ids}}
manifest = [{"Config": "config.json", "RepoTags": ["localhost/bb:1"], "Layers": ["1.tar", "2.tar"]}]
with tarfile.open("image.tar", "w") as tar:
    tar.add("1.tar")
    tar.add("2.tar")
    entry(tar, "config.json", json.dumps(config).encode())
    entry(tar, "manifest.json", json.dumps(manifest).encode())
P
cat >config.toml <<T
version = 2
root = "$PWD/root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/run/containerd/containerd.sock"
[proxy_plugins."fuse-overlayfs"]
  type = "snapshot"
  address = "/run/containerd/snapshotter.sock"
T
"$2" /run/containerd/snapshotter.sock "$PWD/snapshots" >>log 2>&1 &
snapshotter=$!
containerd -c config.toml >>log 2>&1 &
containerd=$!
for _ in $(seq 300); do ctr version >/dev/null 2>&1 && break || sleep 0.1; done

run() { ctr run --snapshotter fuse-overlayfs "$@"; }
changes() { ctr snapshots --snapshotter fuse-overlayfs diff "$1" >changes.tar && tar -tzf changes.tar; }
ctr images import --snapshotter fuse-overlayfs image.tar >/dev/null
run --rm localhost/bb:1 one sh -euc '
  mount | grep -o "^[^ ]* on / type [^ ]*" | sed "s/^[^ ]*//"; cat /etc/lower /etc/second; ls /usr/share
  rm /etc/lower; mkdir /usr/share/tree; mv /bin/true /bin/other; ls /etc /usr/share/tree'
run -d localhost/bb:1 two sh -c 'rm /etc/lower; echo new >/etc/new; sleep 1000'
until ctr tasks exec --exec-id look two test -e /etc/new 2>/dev/null; do sleep 0.1; done
waits=()
for n in $(seq 8); do
  run --rm localhost/bb:1 "at-once-$n" sh -c "echo $n >>/etc/lower; cat /etc/lower" >"said.$n" &
  waits+=($!)
done
wait "${waits[@]}"
for n in $(seq 8); do printf 'low\n%s\n' "$n" | cmp - "said.$n"; done
echo "while it runs:"; changes two
ctr tasks exec --exec-id look two sh -euc 'ls /etc; cat /etc/new'
ctr tasks kill -s KILL two
until ctr tasks rm two >/dev/null 2>&1 || ! ctr tasks ls -q | grep -q two; do sleep 0.1; done
echo "afterwards:"; changes two
ctr containers rm two
ctr images rm --sync localhost/bb:1 >/dev/null
ctr snapshots --snapshotter fuse-overlayfs ls | tail -n +2
kill "$containerd" "$snapshotter"
wait "$containerd" "$snapshotter" || true
for _ in $(seq 100); do pgrep -x fuse-overlayfs >/dev/null || break; sleep 0.1; done
echo "left: $(ls snapshots/snapshots)$(pgrep -l 'fuse|containerd' || true)$(grep -c 'fuse\.' /proc/self/mountinfo || true)"
find /sys/fs/cgroup -depth -type d -path '*/default' -exec rmdir {} + 2>/dev/null || true
