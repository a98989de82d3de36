//! Capabilities by name (capabilities(7)).

/// Names, each at the place of its number, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Those that Docker grants by default: chown, dac_override, fowner, fsetid, kill, setgid, setuid,
/// setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
pub(crate) const USUAL: u64 = bits(&[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31]);
/// All that there are.
pub(crate) const ALL: u64 = (1 << NAMES.len()) - 1;

const fn bits(numbers: &[u32]) -> u64 {
    let (mut set, mut n) = (0, 0);
    while n < numbers.len() {
        set |= 1 << numbers[n];
        n += 1;
    }
    set
}

/// Returns the set of a name, with or without `CAP_`, in letters of any size; `ALL` is all.
pub(crate) fn named(name: &str) -> Option<u64> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if name == "ALL" {
        return Some(ALL);
    }
    NAMES.iter().position(|n| *n == name).map(|n| 1 << n)
}

/// Returns the names of a set.
pub(crate) fn names(set: u64) -> Vec<String> {
    let is_there = |n: &usize| set >> n & 1 == 1;
    let all = NAMES.iter().enumerate().filter(|(n, _)| is_there(n));
    all.map(|(_, name)| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers() {
        assert_eq!(named("cap_sys_admin"), Some(1 << 21));
        assert_eq!(named("CHECKPOINT_RESTORE"), Some(1 << 40));
        assert_eq!(named("nothing"), None);
        assert_eq!(names(USUAL).len(), 14);
        assert!(names(USUAL).contains(&"CAP_SETFCAP".to_owned()));
    }
}
