//! /proc/slabinfo: the caches that are counted for a container, which only kernels before 5.9 do.

use super::formula::Formula;
use crate::host::trace;

/// Lines above the caches: version and names of columns.
const HEAD: usize = 2;

/// Renders the file from the machine's head and the cgroup's caches, which may have a head, too. No
/// cache of the machine is shown: its figures would say nothing of the container.
pub fn render(host: &str, own: &str) -> Vec<u8> {
    let words =
        "the caches of the cgroup, which Linux counts until 5.8; of the machine the head alone";
    trace::figure("", Formula::new("memory.kmem.slabinfo", words));
    let is_cache = |line: &&str| !line.starts_with('#') && !line.starts_with("slabinfo");
    let head = host.split_inclusive('\n').take(HEAD);
    head.chain(own.split_inclusive('\n').filter(is_cache)).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_cgroup_s_caches_are_shown() {
        let host = "slabinfo - version: 2.1\n# name <active_objs>\ndentry 9 9\n";
        let own = "slabinfo - version: 2.1\n# name <active_objs>\ndentry 2 2\n";
        let text = |own| String::from_utf8(super::render(host, own)).unwrap();
        assert_eq!(text(own), own);
        assert_eq!(text(""), "slabinfo - version: 2.1\n# name <active_objs>\n");
    }
}
