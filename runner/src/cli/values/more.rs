//! Further things that people type: rates, ports, devices, signals, rights.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use sys::mount::attr;

use crate::cgroup;
use crate::cli::values::size;
use crate::launch::{self, Keys};
use crate::spec::{
    Device, DeviceRate, Port, Protocol, Rate, RateKind, Tmpfs, Ulimit, capability as caps,
};

/// What `--security-opt` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecurityOption {
    /// All system calls are allowed.
    SeccompUnconfined,
    /// Those of a file are.
    SeccompFile(PathBuf),
    /// Whether set-user-ID programs give no rights.
    NoNewPrivileges(bool),
    /// Paths to cover.
    Mask(Vec<String>),
    /// Paths to leave open.
    Unmask(Vec<String>),
    /// What is so anyway.
    Nothing,
}

/// Who answers sysinfo(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WhoAnswers {
    /// We, where there is a limit and the kernel can ask us.
    Auto,
    /// We.
    Container,
    /// The kernel.
    Kernel,
}

/// Reads bytes, or -1 for no limit.
pub(crate) fn swap(text: &str) -> Result<u64, String> {
    if text == "-1" { Ok(u64::MAX) } else { size(text) }
}

/// Reads a list of numbers such as `0-3,8`.
pub(crate) fn list(text: &str) -> Result<String, String> {
    let is_list = |t: &str| t.bytes().all(|b| b.is_ascii_digit() || b == b',' || b == b'-');
    match cgroup::cpu_list(text) {
        Some(all) if !all.is_empty() && is_list(text) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is no list: write numbers and ranges, such as 0-3,8")),
    }
}

fn rate(text: &str, kind: RateKind) -> Result<DeviceRate, String> {
    let bad =
        || format!("`{text}` is no rate of a device: write DEVICE:RATE, such as /dev/sda:10M");
    let (device, value) = text.rsplit_once(':').ok_or_else(bad)?;
    if device.is_empty() {
        return Err(bad());
    }
    let value = match kind {
        RateKind::ReadBytes | RateKind::WriteBytes => size(value)?,
        _ => value.parse().ok().filter(|&n| n > 0).ok_or_else(bad)?,
    };
    cgroup::disk(device.as_ref()).map_err(|e| e.to_string())?;
    Ok(DeviceRate { device: device.into(), rate: Rate { kind, value } })
}

/// Reads `DEVICE:BYTES`.
pub(crate) fn read_bytes(text: &str) -> Result<DeviceRate, String> {
    rate(text, RateKind::ReadBytes)
}

/// Reads `DEVICE:BYTES`.
pub(crate) fn write_bytes(text: &str) -> Result<DeviceRate, String> {
    rate(text, RateKind::WriteBytes)
}

/// Reads `DEVICE:REQUESTS`.
pub(crate) fn read_requests(text: &str) -> Result<DeviceRate, String> {
    rate(text, RateKind::ReadRequests)
}

/// Reads `DEVICE:REQUESTS`.
pub(crate) fn write_requests(text: &str) -> Result<DeviceRate, String> {
    rate(text, RateKind::WriteRequests)
}

/// Reads `NAME=SOFT[:HARD]`; -1 and `unlimited` are none.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, String> {
    let bad = || {
        format!("`{text}` is no limit of processes: write NAME=SOFT[:HARD], such as nofile=1024")
    };
    let (name, values) = text.split_once('=').ok_or_else(bad)?;
    if launch::resource(name).is_none() {
        return Err(bad());
    }
    let number = |t: &str| match t {
        "-1" | "unlimited" => Ok(u64::MAX),
        t => t.parse().map_err(|_| bad()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(format!("`{text}`: the soft limit is above the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

fn absolute(text: &str, whole: &str) -> Result<(), String> {
    let is_good = text.starts_with('/') && !text.split('/').any(|p| p == "..");
    let is_root = text.split('/').all(|p| p.is_empty() || p == ".");
    match is_good && !is_root {
        true => Ok(()),
        false => Err(format!("`{whole}`: give an absolute path in the container, without ..")),
    }
}

/// Reads `DST[:OPTION,...]`.
pub(crate) fn tmpfs(text: &str) -> Result<Tmpfs, String> {
    let (target, words) = text.split_once(':').unwrap_or((text, ""));
    absolute(target, text)?;
    let mut options = Vec::new();
    let mut attributes = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    for word in words.split(',').filter(|w| !w.is_empty()) {
        match word.split_once('=') {
            Some((key, value))
                if ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "huge", "mpol"]
                    .contains(&key) =>
            {
                options.push((key.to_owned(), value.to_owned()));
            }
            Some(_) => return Err(format!("`{word}` is no option of tmpfs: see tmpfs(5)")),
            None => match word {
                "ro" => attributes |= attr::RDONLY,
                "rw" | "noexec" | "nosuid" | "nodev" | "rprivate" => {}
                "exec" => attributes &= !attr::NOEXEC,
                "suid" => attributes &= !attr::NOSUID,
                "dev" => return Err("devices can't be opened below a tmpfs: use --device".into()),
                _ => return Err(format!("`{word}` is no option of tmpfs: see tmpfs(5)")),
            },
        }
    }
    if !options.iter().any(|(key, _)| key == "mode") {
        options.push(("mode".to_owned(), "1777".to_owned()));
    }
    Ok(Tmpfs { target: target.into(), options, attributes })
}

/// Reads `SRC[:DST][:rwm]`.
pub(crate) fn device(text: &str) -> Result<Device, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [s] => (*s, *s, "rwm"),
        [s, t] if t.starts_with('/') => (*s, *t, "rwm"),
        [s, m] => (*s, *s, *m),
        [s, t, m] => (*s, *t, *m),
        _ => return Err(format!("`{text}` is no device: write SRC[:DST][:rwm]")),
    };
    absolute(source, text)?;
    absolute(target, text)?;
    match mode {
        "rwm" | "rw" => Ok(Device { source: source.into(), target: target.into() }),
        _ => Err(format!(
            "`{text}`: `{mode}` is no access that can be kept here: a device can be read and written by \
             whoever its own mode lets; write rwm"
        )),
    }
}

/// Reads `KEY=VALUE`, or `KEY` for an empty value.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    match key.is_empty() {
        true => Err(format!("`{text}` is no label: write KEY=VALUE")),
        false => Ok((key.to_owned(), value.to_owned())),
    }
}

/// Reads `[ADDRESS:]HOST:CONTAINER[/PROTOCOL]`, or one port for both.
pub(crate) fn port(text: &str) -> Result<Port, String> {
    let bad = || format!("`{text}` is no port: write [ADDRESS:]PORT:PORT[/udp], such as 8080:80");
    let (rest, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.split('/').next().unwrap_or(text), Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some(_) => return Err(bad()),
    };
    let number = |t: &str| t.parse::<u16>().ok().filter(|&n| n > 0).ok_or_else(bad);
    let (rest, container) = rest.rsplit_once(':').unwrap_or((rest, rest));
    let container = number(container)?;
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let host = number(host)?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if !bare.is_empty() {
        bare.parse::<std::net::IpAddr>().map_err(|_| bad())?;
    }
    Ok(Port { address: bare.to_owned(), host, container, protocol })
}

/// Reads an IP address.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let parsed = text.parse::<std::net::IpAddr>();
    parsed.map(|_| text.to_owned()).map_err(|_| format!("`{text}` is no IP address"))
}

/// Reads `NAME:ADDRESS`.
pub(crate) fn host(text: &str) -> Result<(String, String), String> {
    let bad = || format!("`{text}` is no host: write NAME:ADDRESS");
    let (name, at) = text.split_once(':').ok_or_else(bad)?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(bad());
    }
    Ok((name.to_owned(), address(at)?))
}

/// Reads the name of a capability.
pub(crate) fn capability(text: &str) -> Result<u64, String> {
    caps::named(text)
        .ok_or_else(|| format!("`{text}` is no capability: see capabilities(7), such as NET_ADMIN"))
}

/// Reads what `--security-opt` takes.
pub(crate) fn security(text: &str) -> Result<SecurityOption, String> {
    let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
        Some((key, value)) => (key, value),
        None => (text, ""),
    };
    let paths = || value.split(':').map(str::to_owned).collect::<Vec<_>>();
    Ok(match (key, value) {
        ("seccomp", "unconfined") => SecurityOption::SeccompUnconfined,
        ("seccomp", file) if !file.is_empty() => SecurityOption::SeccompFile(file.into()),
        ("no-new-privileges", "" | "true") => SecurityOption::NoNewPrivileges(true),
        ("no-new-privileges", "false") => SecurityOption::NoNewPrivileges(false),
        ("mask", v) if v.split(':').all(|p| absolute(p, text).is_ok()) => {
            SecurityOption::Mask(paths())
        }
        ("unmask", "ALL" | "all") => SecurityOption::Unmask(vec!["ALL".to_owned()]),
        ("unmask", v) if v.split(':').all(|p| absolute(p, text).is_ok()) => {
            SecurityOption::Unmask(paths())
        }
        // No such module confines our containers.
        ("label", "disable") | ("apparmor", "unconfined") => SecurityOption::Nothing,
        _ => {
            return Err(format!(
                "`{text}` is not known: write seccomp=unconfined, seccomp=FILE, no-new-privileges, mask=PATH or unmask=PATH"
            ));
        }
    })
}

/// Reads a signal by name, with or without `SIG`, or by number.
pub(crate) fn signal(text: &str) -> Result<i32, String> {
    let bad = || format!("`{text}` is no signal: write a name, such as TERM, or a number");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    // Real-time signals are counted from the first that the C library leaves to programs.
    if let Some(rest) = name.strip_prefix("SIGRTMIN") {
        let offset = if rest.is_empty() { Ok(0) } else { rest.trim_start_matches('+').parse() };
        return offset.ok().map(|n: i32| 34 + n).filter(|n| *n <= 64).ok_or_else(bad);
    }
    name.parse::<Signal>().map(|s| s as i32).map_err(|_| bad())
}

/// Reads keys that let go of a container: `ctrl-p,ctrl-q`; an empty text is none.
pub(crate) fn keys(text: &str) -> Result<Keys, String> {
    let one = |word: &str| -> Option<u8> {
        let mut chars = word.strip_prefix("ctrl-").unwrap_or(word).chars();
        let (c, None) = (chars.next()?, chars.next()) else { return None };
        match (word.starts_with("ctrl-"), c) {
            (true, 'a'..='z') => Some(c as u8 - b'a' + 1),
            (true, '@') => Some(0),
            (true, '[') => Some(27),
            (true, '^') => Some(30),
            (true, '_') => Some(31),
            (false, c) if c.is_ascii_graphic() => Some(c as u8),
            _ => None,
        }
    };
    let bad = || format!("`{text}` are no keys: write such as ctrl-p,ctrl-q");
    if text.is_empty() {
        return Ok(Keys(Vec::new()));
    }
    text.split(',').map(|w| one(w).ok_or_else(bad)).collect::<Result<_, _>>().map(Keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_an_address_and_a_protocol() {
        let p = port("127.0.0.1:8080:80/udp").unwrap();
        assert_eq!((p.address.as_str(), p.host, p.container), ("127.0.0.1", 8080, 80));
        assert_eq!(p.protocol, Protocol::Udp);
        assert_eq!(port("[::1]:1:2").unwrap().address, "::1");
        assert_eq!(port("80").unwrap().host, 80);
        for bad in ["", "0:80", "80:0", "a:b", "80:80/sctp", "x:1:2", "70000:1"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(signal(text), Ok(15), "{text}");
        }
        assert_eq!(signal("RTMIN+3"), Ok(37));
        for bad in ["", "0", "65", "NOPE", "-1"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_of_processes_are_known_by_name() {
        let u = ulimit("nofile=10:20").unwrap();
        assert_eq!((u.soft, u.hard), (10, 20));
        assert_eq!(ulimit("core=-1").unwrap().hard, u64::MAX);
        for bad in ["nofile", "nofile=x", "nope=1", "nofile=2:1"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_and_memory_need_absolute_paths() {
        assert_eq!(device("/dev/x:/dev/y").unwrap().target, "/dev/y");
        for bad in ["x", "/dev/x:q", "/dev/../x", "/dev/x:w", "/dev/x:r"] {
            assert!(device(bad).is_err(), "{bad}");
        }
        assert!(tmpfs("/t:size=1M,exec").is_ok());
        for bad in ["t", "/", "/t:size", "/t:nope=1"] {
            assert!(tmpfs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rights_are_spelled_as_podman_does() {
        assert_eq!(security("no-new-privileges:false"), Ok(SecurityOption::NoNewPrivileges(false)));
        assert_eq!(security("unmask=ALL"), Ok(SecurityOption::Unmask(vec!["ALL".into()])));
        for bad in ["", "seccomp", "seccomp=", "mask=x", "label=type:x"] {
            assert!(security(bad).is_err(), "{bad}");
        }
    }
}
