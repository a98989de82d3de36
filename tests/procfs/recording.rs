//! A recorded machine and cgroup, and the files that it should give.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use procfs_shim::cgroup::memory::Swap;
use procfs_shim::cgroup::{Hierarchy, Membership};
use procfs_shim::files::{cpu_online, cpuinfo, diskstats, meminfo, stat, swaps, uptime};
use procfs_shim::host::{Host, HostFile};
use procfs_shim::view::Rules;
use procfs_shim::view::container::Groups;
use procfs_shim::view::cpu::{CpuRules, Numbering, Quota};
use procfs_shim::view::load::Counts;
use procfs_shim::view::memory::{MemoryRules, MemoryView, Show};
use procfs_shim::view::meter::Meter;

/// A directory that `record.sh` has filled.
pub(crate) struct Recording {
    dir: PathBuf,
    age_ns: u64,
}

/// The rules without any option.
pub(crate) fn plain_rules() -> Rules {
    Rules {
        memory: MemoryRules { declared: None, swap: Show::Shown, zswap: Show::Shown },
        cpu: CpuRules { declared: None, quota: Quota::Counted, numbering: Numbering::Kernel },
    }
}

impl Recording {
    /// Opens the recording called `name`.
    pub(crate) fn open(name: &str) -> Recording {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("procfs/golden").join(name);
        let case = std::fs::read_to_string(dir.join("case")).expect("read the case file");
        let age = case.lines().find_map(|l| l.strip_prefix("age_ns=")).expect("a line age_ns=");
        Recording { age_ns: age.parse().expect("a number of nanoseconds"), dir }
    }

    /// The machine.
    pub(crate) fn host(&self) -> Host {
        Host::open(&self.dir.join("host")).expect("open the recorded machine")
    }

    /// The cgroups, of the membership in the file `membership`.
    pub(crate) fn groups(&self, membership: &str) -> Groups {
        let read = |name: &str| std::fs::read_to_string(self.dir.join(name)).expect(name);
        let tree = Hierarchy::detect(&read("mountinfo"), &self.dir.join("host"));
        let at = Membership::parse(&read(membership)).expect("parse the membership");
        Groups::open(&tree, &at, None).expect("open the recorded cgroups")
    }

    /// Renders each file that needs nothing but what was recorded.
    pub(crate) fn render(
        &self,
        membership: &str,
        rules: &Rules,
    ) -> BTreeMap<&'static str, Vec<u8>> {
        let (host, groups) = (self.host(), self.groups(membership));
        let machine = host.meminfo().expect("the recorded meminfo");
        let levels =
            groups.memory.as_ref().expect("a memory cgroup").read(Swap::Read).expect("its levels");
        let memory = MemoryView::of(&levels, &machine, &rules.memory).expect("a view of memory");
        let online = host.online().expect("the recorded list of processors");
        let cpus = groups.cpus(&online, &rules.cpu).expect("a view of processors");
        let used = groups.time.as_ref().expect("a counter of time").used().expect("its figures");
        let account = Meter::default().read(self.age_ns, cpus.capacity, used);
        let btime = host.btime().expect("the recorded boot time");
        let counts = Counts::default();
        let info = host.text(HostFile::Cpuinfo).expect("the recorded cpuinfo");
        let io = groups.io.as_ref().expect("a counter of devices").counts().expect("its figures");
        let devices = host.text(HostFile::Diskstats).expect("the recorded devices");
        BTreeMap::from([
            ("diskstats", diskstats::render(&devices, &io)),
            ("meminfo", meminfo::render(&machine, &memory)),
            ("swaps", swaps::render(memory.swap_total, memory.swap_free)),
            ("cpuinfo", cpuinfo::render(&info, &cpus)),
            ("online", cpu_online::render(&cpus)),
            ("stat", stat::render(&stat::Seen { cpus: &cpus, account, btime, counts })),
            ("uptime", uptime::render(self.age_ns, account.idle)),
        ])
    }

    /// Compares with the recorded expectation `expected`, or writes it anew if
    /// `PALIMPSEST_UPDATE_GOLDEN=1`.
    pub(crate) fn check(&self, expected: &str, rendered: &BTreeMap<&'static str, Vec<u8>>) {
        let dir = self.dir.join(expected);
        let update = std::env::var_os("PALIMPSEST_UPDATE_GOLDEN").is_some_and(|v| v == "1");
        for (name, text) in rendered {
            let path = dir.join(name);
            if update {
                std::fs::create_dir_all(&dir).expect("make the directory of expectations");
                std::fs::write(&path, text).expect("write the expectation");
            }
            let golden = std::fs::read_to_string(&path).expect("read the expectation");
            let text = String::from_utf8_lossy(text);
            assert_eq!(text, golden, "{} differs", path.display());
        }
    }
}
