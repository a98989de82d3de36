# The life of one machine: what an engine keeps until the next boot is fresh, then the script runs as
# the user, then nothing may be left of it. Started with namespaces of its own, as their process 1.
# Arguments: directory of the machine, user (empty: root), script, whether everything is killed.
dir=$1 user=$2 script=$3 crash=$4

mount --make-rshared /
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
install -d -m 700 ${user:+-o "$user" -g "$user"} /run/engine

mounts() { awk '{ print $5 }' /proc/self/mountinfo | sort; }
# Processes beside this one that aren't dead; starts none itself.
others() {
  local process
  for process in /proc/[0-9]*; do
    [ "$process" = /proc/1 ] || [ "$process" = "/proc/$BASHPID" ] || [ ! -e "$process/exe" ] ||
      { tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null
  done
}

# Control groups are the host's. The last of these machines that end takes podman's own away.
exec 9</sys/fs/cgroup
flock -s 9
before=$(mounts)
environment=(-i "PATH=$PATH" "HOME=$dir/home" XDG_RUNTIME_DIR=/run/engine "D=$dir")
if [ -z "$user" ]; then
  environment+=("CONTAINERS_CONF=$dir/home/.config/containers/containers.conf"
    "CONTAINERS_STORAGE_CONF=$dir/home/.config/containers/storage.conf")
  become=()
else
  become=(setpriv "--reuid=$user" "--regid=$user" --init-groups --inh-caps=-all)
fi
cd "$dir/home" || exit
"${become[@]}" env "${environment[@]}" bash -euo pipefail "$script" </dev/null 9<&-
code=$?

if [ "$crash" = true ]; then
  kill -KILL -1
  exit $code
fi
for _ in $(seq 300); do
  [ -z "$(others)" ] && break
  sleep 0.1
done
if [ -n "$(others)" ]; then
  echo "processes are left:" >&2
  others >&2
  code=97
fi
if [ -z "$user" ] && flock -x -n 9; then
  find /sys/fs/cgroup -depth -type d -path '*/libpod_parent*' -exec rmdir {} + 2>/dev/null
fi
# Mounts below what others remove disappear meanwhile.
left=$(comm -13 <(echo "$before") <(mounts))
if [ -n "$left" ]; then
  echo "mounts are left: $left" >&2
  code=98
fi
exit $code
