//! The system calls that containers may make by default: what Docker documents
//! (<https://docs.docker.com/engine/security/seccomp/>), grouped by what they are for. As there, all that
//! is not listed fails with EPERM, and some calls come with a capability. Beyond it, calls of newer
//! kernels are listed that do what a listed one does.

use crate::spec::{Action, Argument, Comparison, Profile, Rule};

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
/// `AF_VSOCK`: sockets to the host of a virtual machine, which no namespace holds.
const AF_VSOCK: u64 = 40;
/// `CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
/// CLONE_NEWNET`.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Personalities that change nothing of importance: Linux, Linux 2.4 to 2.6 as their numbers, both with
/// `UNAME26`, and the question which one holds.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Files, and what is known of them.
const FILES: &str = "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 \
    faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 \
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr \
    fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents \
    getdents64 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl \
    lchown lchown32 lgetxattr link linkat listxattr listxattrat llistxattr _llseek lremovexattr lseek \
    lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 \
    pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr \
    removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat \
    stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range sync_file_range2 \
    arm_sync_file_range arm_fadvise64_64 syncfs tee truncate truncate64 umask unlink unlinkat utime \
    utimensat utimensat_time64 utimes vmsplice write writev cachestat";
/// Waiting for several things at once, and asynchronous I/O.
const WAITING: &str = "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old eventfd eventfd2 io_cancel io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 io_setup io_submit _newselect pipe pipe2 poll ppoll ppoll_time64 pselect6 \
    pselect6_time64 select signalfd signalfd4";
/// Processes, their identity, limits and scheduling.
const PROCESSES: &str = "capget capset execve execveat exit exit_group fork getegid getegid32 geteuid \
    geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority \
    getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid \
    get_thread_area gettid getuid getuid32 ioprio_get ioprio_set kill landlock_add_rule \
    landlock_create_ruleset landlock_restrict_self lsm_get_self_attr lsm_list_modules membarrier pause \
    pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease process_vm_readv process_vm_writev \
    ptrace restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity \
    sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 \
    setgroups setgroups32 setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid \
    setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid set_thread_area set_tid_address \
    setuid setuid32 sigaction signal sigaltstack sigpending sigprocmask sigreturn sigsuspend tgkill \
    tkill ugetrlimit uname vfork wait4 waitid waitpid";
/// Memory.
const MEMORY: &str = "brk futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake madvise \
    map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap \
    mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages cacheflush";
/// Time.
const TIME: &str = "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 \
    clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep \
    setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 \
    timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times";
/// Sockets, queues, semaphores and shared memory, all of which namespaces hold.
const COMMUNICATION: &str = "accept accept4 bind connect getpeername getsockname getsockopt ipc listen \
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg recvmmsg_time64 \
    recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg sendmsg sendto setsockopt \
    shmat shmctl shmdt shmget shutdown socketcall socketpair";
/// What the machine is, and processors' own needs.
const MACHINE: &str = "getcpu getrandom sysinfo arch_prctl modify_ldt breakpoint set_tls \
    riscv_flush_icache riscv_hwprobe uretprobe";

/// Calls that come with a capability (by its number in capabilities(7)).
const WITH_CAPABILITY: [(u32, &str); 13] = [
    (2, "open_by_handle_at"),
    (
        21,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount \
         mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd \
         setdomainname sethostname setns statmount syslog umount umount2 unshare",
    ),
    (22, "reboot"),
    (18, "chroot"),
    (16, "delete_module init_module finit_module"),
    (20, "acct"),
    (19, "kcmp pidfd_getfd process_madvise"),
    (17, "iopl ioperm"),
    (25, "settimeofday stime clock_settime clock_settime64"),
    (26, "vhangup"),
    (23, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (34, "syslog"),
    (39, "bpf"),
];
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;

/// Returns the default profile of a container with these capabilities (bit n is capability n).
pub(super) fn default(capabilities: u64) -> Profile {
    let has = |cap: u32| capabilities >> cap & 1 == 1;
    let mut rules: Vec<Rule> =
        [FILES, WAITING, PROCESSES, MEMORY, TIME, COMMUNICATION, MACHINE].map(allow).into();
    rules
        .extend(WITH_CAPABILITY.iter().filter(|(cap, _)| has(*cap)).map(|(_, names)| allow(names)));
    if has(CAP_PERFMON) {
        rules.push(allow("perf_event_open"));
    }
    rules.push(allow_if("socket", 0, Comparison::NotEqual, AF_VSOCK));
    rules.extend(PERSONALITIES.map(|p| allow_if("personality", 0, Comparison::Equal, p)));
    if !has(CAP_SYS_ADMIN) {
        rules.push(allow_if("clone", 0, Comparison::Masked(NEW_NAMESPACES), 0));
        // Its flags are in memory, where no filter can look; libraries fall back to clone.
        let names = vec!["clone3".to_owned()];
        rules.push(Rule { names, action: Action::Errno(ENOSYS), arguments: Vec::new() });
    }
    Profile::new(Action::Errno(EPERM), rules)
}

fn allow(names: &str) -> Rule {
    let names = names.split_whitespace().map(str::to_owned).collect();
    Rule { names, action: Action::Allow, arguments: Vec::new() }
}

fn allow_if(name: &str, index: u8, comparison: Comparison, value: u64) -> Rule {
    let arguments = vec![Argument { index, comparison, value }];
    Rule { names: vec![name.to_owned()], action: Action::Allow, arguments }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(profile: &Profile, name: &str) -> bool {
        let named = |r: &&Rule| r.names.iter().any(|n| n == name) && r.arguments.is_empty();
        profile.rules.iter().find(named).is_some_and(|r| r.action == Action::Allow)
    }

    #[test]
    fn what_could_reach_the_host_needs_a_capability() {
        let usual = default(0);
        let admin = default(1 << CAP_SYS_ADMIN);
        for name in ["mount", "unshare", "setns", "bpf", "clone3", "open_tree"] {
            assert!(!allows(&usual, name), "{name}");
            assert!(allows(&admin, name), "{name}");
        }
        for name in ["keyctl", "add_key", "io_uring_setup", "kexec_load", "userfaultfd", "swapon"] {
            assert!(!allows(&usual, name) && !allows(&admin, name), "{name}");
        }
        for name in ["read", "execve", "openat2", "futex", "fchmodat2"] {
            assert!(allows(&usual, name), "{name}");
        }
    }

    #[test]
    fn no_name_is_listed_twice() {
        let profile = default(0);
        let mut all: Vec<&String> = profile.rules.iter().take(7).flat_map(|r| &r.names).collect();
        all.sort();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
