//! What was meant: validated and typed.

use std::ffi::OsStr;
use std::path::PathBuf;

use daemon::{MountPoint, MountRequest, Resume};

use crate::cgroup::NanoCpus;
use crate::cli::Args;
use crate::error::StartError;
use crate::host::process::{Pid, StartTime};
use crate::view::Rules;
use crate::view::cpu::{CpuRules, Numbering, Quota};
use crate::view::memory::{MemoryRules, Show};

/// One works, another helps while it is at something that lasts.
const THREADS: usize = 2;

/// How the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Detach when the mount is live.
    Detached,
    /// Stay.
    Foreground,
    /// Stay, and write a byte to this descriptor when the mount is live.
    Announced(i32),
}

/// Whose figures are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Each reader's own container's.
    Reader,
    /// Those of the container with this init.
    Init(Pid, Option<StartTime>),
}

/// All that the daemon needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Mount.
    pub mount: MountRequest,
    /// Detached or not.
    pub style: Style,
    /// Level of the log.
    pub log: log::LevelFilter,
    /// Whose figures.
    pub subject: Subject,
    /// How they are shown.
    pub rules: Rules,
    /// Threads that take turns.
    pub threads: usize,
    /// Where to write the process number.
    pub pidfile: Option<PathBuf>,
    /// The socket on which to tell metrics.
    pub metrics: Option<PathBuf>,
    /// The connection to take over, after an upgrade.
    pub resume: Option<Resume>,
}

impl Config {
    /// Checks what the user typed.
    ///
    /// # Errors
    /// [`StartError::Usage`] names the option.
    pub fn new(args: Args) -> Result<Config, StartError> {
        refuse(&args)?;
        let resume = args.resume.as_deref().map(resume).transpose()?;
        let style = match args.ready_fd {
            // Before the upgrade, it was detached and announced already.
            _ if resume.is_some() => Style::Foreground,
            Some(fd) => Style::Announced(fd),
            None if args.foreground || args.debug => Style::Foreground,
            None => Style::Detached,
        };
        let subject = match args.init_pid {
            Some(pid) => Subject::Init(Pid(pid), args.init_start.map(StartTime)),
            None => Subject::Reader,
        };
        Ok(Config {
            mount: mount(&args)?,
            style,
            log: if args.debug { log::LevelFilter::Debug } else { log::LevelFilter::Warn },
            subject,
            rules: rules(&args)?,
            threads: args.threads.unwrap_or(THREADS).clamp(1, 64),
            pidfile: args.pidfile,
            metrics: args.metrics,
            resume,
        })
    }
}

/// Refuses what lxcfs offers and this program does not.
fn refuse(args: &Args) -> Result<(), StartError> {
    if args.enable_cgroup {
        return Err(usage(
            "--enable-cgroup: the cgroup file system is not emulated: use cgroup namespaces (`unshare -C`), which need no daemon",
        ));
    }
    if args.enable_psi_poll {
        return Err(usage(
            "--enable-psi-poll: triggers on pressure files are not offered: poll the cgroup's own pressure file",
        ));
    }
    Ok(())
}

fn rules(args: &Args) -> Result<Rules, StartError> {
    let show = |hidden| if hidden { Show::Hidden } else { Show::Shown };
    let memory = args.declared_memory.as_deref().map(bytes).transpose()?;
    let cpus = args.declared_cpus.as_deref().map(cpus).transpose()?;
    Ok(Rules {
        memory: MemoryRules {
            declared: memory,
            swap: show(args.disable_swap),
            zswap: show(args.disable_zswap),
        },
        cpu: CpuRules {
            declared: cpus,
            quota: if args.disable_cfs { Quota::Ignored } else { Quota::Counted },
            numbering: if args.renumber_cpus { Numbering::FromZero } else { Numbering::Kernel },
        },
    })
}

fn resume(text: &str) -> Result<Resume, StartError> {
    let read = || {
        let mut parts = text.split(',');
        let device = parts.next()?.parse().ok()?;
        let greeting = parts.next()?.parse().ok()?;
        let notes = parts.next()?.parse().ok()?;
        let mount = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Resume { device, greeting, notes, mount })
    };
    let wrong = || usage(format!("--resume {text}: it is for upgrades only"));
    read().ok_or_else(wrong)
}

/// Writes what [`resume`] reads.
pub fn resume_argument(resume: Resume) -> String {
    let Resume { device, greeting, notes, mount } = resume;
    format!("--resume={device},{greeting},{notes},{mount}")
}

/// Reads a size in bytes, or with a suffix for powers of 1024.
fn bytes(text: &str) -> Result<u64, StartError> {
    let wrong = || {
        usage(format!(
            "--declared-memory {text}: not a size: give bytes, or a number with K, M, G or T"
        ))
    };
    let suffix = text.chars().last().map(|c| c.to_ascii_uppercase());
    let (digits, shift) = match suffix {
        Some('K') => (text.get(..text.len() - 1), 10),
        Some('M') => (text.get(..text.len() - 1), 20),
        Some('G') => (text.get(..text.len() - 1), 30),
        Some('T') => (text.get(..text.len() - 1), 40),
        _ => (Some(text), 0),
    };
    let number: u64 = digits.and_then(|d| d.parse().ok()).ok_or_else(wrong)?;
    number.checked_mul(1 << shift).filter(|&n| n > 0).ok_or_else(wrong)
}

/// Reads a number of processors with up to nine decimals.
fn cpus(text: &str) -> Result<NanoCpus, StartError> {
    let wrong = || {
        usage(format!(
            "--declared-cpus {text}: not a number of processors: give one such as 2 or 0.5"
        ))
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<9}").parse().map_err(|_| wrong())?;
    let nano = whole.checked_mul(1_000_000_000).and_then(|w| w.checked_add(part));
    nano.filter(|&n| n > 0).map(NanoCpus).ok_or_else(wrong)
}

fn mount(args: &Args) -> Result<MountRequest, StartError> {
    let Some(mountpoint) = &args.mountpoint else {
        return Err(usage("no MOUNTPOINT: give a directory to mount on"));
    };
    let mut request = MountRequest {
        source: "procfs-shim".into(),
        subtype: "procfs-shim".into(),
        at: MountPoint::parse(mountpoint),
        // Containers run as other users; an unprivileged user has to be allowed to let them in
        // (`user_allow_other` in fuse.conf), and asks for it by `-o allow_other`.
        allow_other: sys::process::has_capability(sys::process::CAP_SYS_ADMIN),
        default_permissions: true,
        flags: ["nosuid", "nodev", "noexec"].map(String::from).to_vec(),
    };
    for list in &args.options {
        let list = list.to_str().ok_or_else(|| usage("-o: options are not valid UTF-8"))?;
        for option in list.split(',').filter(|o| !o.is_empty()) {
            mount_option(&mut request, option)?;
        }
    }
    Ok(request)
}

fn mount_option(request: &mut MountRequest, option: &str) -> Result<(), StartError> {
    let (name, value) = option.split_once('=').map_or((option, None), |(n, v)| (n, Some(v)));
    match (name, value) {
        ("allow_other", None) => request.allow_other = true,
        ("fsname", Some(source)) => request.source = OsStr::new(source).to_owned(),
        // Always so, or chosen here, as with lxcfs.
        ("direct_io" | "nonempty" | "default_permissions", None) => {}
        ("entry_timeout" | "attr_timeout", Some(_)) => {}
        (flag, None) if daemon::mount::flag(flag).is_some() => request.flags.push(flag.to_owned()),
        _ => {
            return Err(usage(format!(
                "-o {option}: unknown mount option: see `procfs-shim --help` for those that there are"
            )));
        }
    }
    Ok(())
}

fn usage(what: impl Into<String>) -> StartError {
    StartError::Usage(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn config(args: &[&str]) -> Result<Config, StartError> {
        let all = ["procfs-shim"].iter().chain(args);
        Config::new(Args::try_parse_from(all).unwrap())
    }

    #[test]
    fn sizes_and_shares_are_read_exactly() {
        assert_eq!(bytes("268435456").unwrap(), 256 << 20);
        assert_eq!(bytes("256m").unwrap(), 256 << 20);
        assert_eq!(cpus("0.5").unwrap(), NanoCpus(500_000_000));
        assert_eq!(cpus("2").unwrap(), NanoCpus(2_000_000_000));
        assert_eq!(cpus("1.000000001").unwrap(), NanoCpus(1_000_000_001));
        for wrong in ["", "0", "-1", "x", "99999999999999T", "M"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "0", ".", "-1", "1.", "1.0000000001", "99999999999999999999", "1e3"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_of_lxcfs_are_taken_or_refused_by_name() {
        let flags = ["-l", "--enable-cfs", "--enable-pidfd", "-s", "--runtime-dir=/run", "-f"];
        let all: Vec<&str> =
            flags.into_iter().chain(["-o", "allow_other,nonempty", "/m"]).collect();
        assert!(config(&all).is_ok());
        for refused in ["--enable-cgroup", "--enable-psi-poll"] {
            let Err(StartError::Usage(why)) = config(&[refused, "/m"]) else { panic!() };
            assert!(why.starts_with(refused), "{why}");
        }
        assert!(matches!(config(&["-o", "nonsense", "/m"]), Err(StartError::Usage(_))));
    }

    #[test]
    fn what_is_resumed_is_read_as_it_was_written() {
        let before = Resume { device: 5, greeting: 7, notes: 8, mount: 99 };
        let args = [resume_argument(before), "--ready-fd=9".into(), "/m".into()];
        let config = config(&args.each_ref().map(String::as_str)).unwrap();
        assert_eq!(config.resume, Some(before));
        assert_eq!(config.style, Style::Foreground);
        assert!(resume("5,7").is_err());
    }

    #[test]
    fn a_descriptor_to_announce_on_means_foreground() {
        assert_eq!(config(&["--ready-fd", "7", "/m"]).unwrap().style, Style::Announced(7));
        assert_eq!(config(&["-d", "/m"]).unwrap().style, Style::Foreground);
        assert_eq!(config(&["/m"]).unwrap().style, Style::Detached);
    }
}
