#!/bin/sh
# Records what the golden tests read: `record.sh PID DIRECTORY` copies the machine's files, and those
# of the cgroups of process PID and their ancestors, into DIRECTORY.
set -eu
pid=$1 out=$2
mkdir -p "$out"

copy() {
  [ -f "$1" ] || return 0
  mkdir -p "$out/host$(dirname "$1")"
  cat "$1" >"$out/host$1" 2>/dev/null || rm -f "$out/host$1"
}

for file in proc/meminfo proc/cpuinfo proc/swaps proc/diskstats sys/devices/system/cpu/online; do
  copy "/$file"
done
# One interrupt line may hold thousands of figures that no test reads.
mkdir -p "$out/host/proc"
grep -v '^intr' /proc/stat >"$out/host/proc/stat"
grep -E ' - cgroup2? ' /proc/self/mountinfo >"$out/mountinfo"
cat "/proc/$pid/cgroup" >"$out/membership"

hz=100
started=$(sed 's/.*) //' "/proc/$pid/stat" | cut -d' ' -f20)
now=$(cut -d' ' -f1 /proc/uptime | tr -d .)
echo "age_ns=$(( (now - started * 100 / hz) * 10000000 ))" >"$out/case"

# at CONTROLLER: the path of PID's cgroup there ('' for the unified hierarchy).
at() {
  if [ -z "$1" ]; then sed -n 's/^0:://p' "/proc/$pid/cgroup"
  else sed -n "s/^[0-9]*:\([^:]*,\)\?$1\(,[^:]*\)\?:/&/p" "/proc/$pid/cgroup" | cut -d: -f3-; fi
}

# tree MOUNT PATH FILES...: copies the files of each level but the root's.
tree() {
  mount=$1 path=$2
  shift 2
  mkdir -p "$out/host$mount"
  copy "$mount/cgroup.controllers"
  while [ -n "$path" ] && [ "$path" != / ]; do
    mkdir -p "$out/host$mount$path"
    for file; do copy "$mount$path/$file"; done
    path=${path%/*}
  done
}

while read -r _ _ _ _ mount rest; do
  case $rest in
  *' - cgroup2 '*)
    tree "$mount" "$(at '')" memory.max memory.current memory.stat memory.swap.max \
      memory.swap.current cpu.max cpu.stat cpuset.cpus.effective io.stat cpu.pressure \
      memory.pressure io.pressure ;;
  *)
    for name in memory cpu cpuacct cpuset blkio; do
      case ",${rest##*rw,}," in
      *",$name,"*)
        tree "$mount" "$(at $name)" memory.limit_in_bytes memory.usage_in_bytes memory.stat \
          memory.memsw.limit_in_bytes memory.memsw.usage_in_bytes memory.kmem.usage_in_bytes \
          cpu.cfs_quota_us cpu.cfs_period_us cpuacct.stat cpuset.effective_cpus \
          blkio.throttle.io_service_bytes_recursive blkio.throttle.io_serviced_recursive ;;
      esac
    done ;;
  esac
done <"$out/mountinfo"
