//! What people type, as typed values: sizes, CPUs, volumes, variables, users, layer lists.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::spec::{Access, Principal, User, Volume};

mod more;

pub(crate) use more::{
    SecurityOption, WhoAnswers, address, capability, device, host, keys, label, list, port,
    read_bytes, read_requests, security, signal, swap, tmpfs, ulimit, write_bytes, write_requests,
};

/// A variable as typed: `K=V`, or `K` for the value that the command itself was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvArg {
    /// Name.
    pub(crate) name: OsString,
    /// Value; `None`: the command's own.
    pub(crate) value: Option<OsString>,
}

/// Reads bytes with a binary suffix: `512`, `64k`, `256M`, `1.5G`, `256MiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const HELP: &str = "write a number and k, M or G, such as 256M";
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, suffix) = lower.split_at(digits);
    let shift = match suffix {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("`{text}` is no size: {HELP}")),
    };
    let unit = (1u64 << shift) as f64;
    match number.parse::<f64>() {
        Ok(n) if n > 0.0 && n * unit < u64::MAX as f64 / 2.0 => Ok((n * unit) as u64),
        _ => Err(format!("`{text}` is no size: {HELP}")),
    }
}

/// Reads a number of CPUs into thousandths of one: `1`, `0.5`, `1.25`.
pub(crate) fn cpus(text: &str) -> Result<u64, String> {
    match text.trim().parse::<f64>() {
        Ok(n) if (0.01..=65536.0).contains(&n) => Ok((n * 1000.0).round() as u64),
        Ok(_) => Err(format!("`{text}` is no usable number of CPUs: the least is 0.01")),
        Err(_) => {
            Err(format!("`{text}` is no number of CPUs: write a decimal number, such as 1.5"))
        }
    }
}

/// Reads a number of processes, at least 1.
pub(crate) fn pids(text: &str) -> Result<u64, String> {
    match text.trim().parse::<u64>() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("`{text}` is no number of processes: write a whole number from 1 on")),
    }
}

/// Reads `[SRC:]DST[:MODE,...]`: a directory or file of the host, a managed volume by its name, or,
/// without a source, one that gets a name made up.
pub(crate) fn volume(text: &OsStr) -> Result<Volume, String> {
    let parts: Vec<&[u8]> = text.as_bytes().split(|&b| b == b':').collect();
    let shown = text.to_string_lossy();
    let (source, target, mode) = match parts.as_slice() {
        [t] => (&b""[..], *t, &b"rw"[..]),
        [s, t] => (*s, *t, &b"rw"[..]),
        [s, t, m] => (*s, *t, *m),
        _ => return Err(format!("`{shown}` is no volume: write SRC:DST or SRC:DST:ro")),
    };
    let mut access = Access::ReadWrite;
    for word in mode.split(|&b| b == b',') {
        match word {
            b"rw" => access = Access::ReadWrite,
            b"ro" => access = Access::ReadOnly,
            // Labels of a security module that isn't used, and what is so anyway.
            b"z" | b"Z" | b"rprivate" | b"private" | b"rbind" | b"nodev" => {}
            other => {
                return Err(format!(
                    "`{}` is no mode of a volume: ro, rw, z and Z are known",
                    String::from_utf8_lossy(other)
                ));
            }
        }
    }
    if !target.starts_with(b"/") {
        return Err(format!("`{shown}`: the path in the container must begin with a slash"));
    }
    if target.split(|&b| b == b'/').all(|part| part.is_empty() || part == b".") {
        return Err(format!("`{shown}`: a volume can't be the root: use --rootfs"));
    }
    if target.split(|&b| b == b'/').any(|part| part == b"..") {
        return Err(format!("`{shown}`: the path in the container must not contain .."));
    }
    let is_path = source.contains(&b'/') || source == b"." || source == b"..";
    let named = match (is_path, std::str::from_utf8(source)) {
        (true, _) | (_, Ok("")) => None,
        (false, Ok(text)) => Some(name(text)?),
        (false, Err(_)) => {
            return Err(format!("`{shown}`: a volume's name has letters and digits"));
        }
    };
    let owned = |b: &[u8]| OsString::from_vec(b.to_vec());
    Ok(Volume {
        source: owned(source),
        target: owned(target),
        access,
        name: named,
        anonymous: source.is_empty(),
    })
}

/// Reads `K=V` or `K`.
pub(crate) fn env(text: &OsStr) -> Result<EnvArg, String> {
    let bytes = text.as_bytes();
    let (name, value) = match bytes.iter().position(|&b| b == b'=') {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..)),
        None => (bytes, None),
    };
    if name.is_empty() {
        return Err(format!("`{}` is no variable: write NAME=VALUE", text.to_string_lossy()));
    }
    Ok(EnvArg {
        name: OsString::from_vec(name.to_vec()),
        value: value.map(|v| OsString::from_vec(v.to_vec())),
    })
}

/// Returns each variable once, the last value of it; one that the command itself lacks stays unset.
pub(crate) fn resolve_env(typed: Vec<EnvArg>) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = Vec::new();
    for variable in typed {
        let Some(value) = variable.value.or_else(|| std::env::var_os(&variable.name)) else {
            continue;
        };
        all.retain(|(name, _)| *name != variable.name);
        all.push((variable.name, value));
    }
    all
}

/// Reads `USER[:GROUP]`, each a name or a number.
pub(crate) fn user(text: &str) -> Result<User, String> {
    let (user, group) = match text.split_once(':') {
        Some((u, g)) => (u, Some(g)),
        None => (text, None),
    };
    let bad = || format!("`{text}` is no user: write a name or a number, with :GROUP if needed");
    let user = principal(user).ok_or_else(bad)?;
    let group = match group {
        Some(g) => Some(principal(g).ok_or_else(bad)?),
        None => None,
    };
    Ok(User { user, group, more: Vec::new() })
}

fn principal(text: &str) -> Option<Principal> {
    if text.is_empty() || text.contains([':', '/', '\n', ' ']) {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        // The highest number means "no change" to the kernel.
        return text.parse().ok().filter(|&id| id != u32::MAX).map(Principal::Id);
    }
    Some(Principal::Name(text.to_owned()))
}

/// Reads a name that can be a directory, a cgroup and a host name: letters, digits, `_`, `.`, `-`.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && text.len() <= 64 && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{text}` is no name: up to 64 letters, digits, `_`, `.`, `-`, the first a letter or digit"
    ))
}

/// Reads a host name of up to 64 bytes.
pub(crate) fn hostname(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !text.is_empty() && text.len() <= 64 && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no host name: up to 64 letters, digits, `.`, `-`, `_`"))
}

/// Takes a list of layers apart at its colons; `\:` is a colon in a name, `\\` a backslash.
pub(crate) fn layers(text: &OsStr) -> Result<Vec<OsString>, String> {
    let mut all = vec![Vec::new()];
    let mut bytes = text.as_bytes().iter().copied();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => match bytes.next() {
                Some(escaped) => push(&mut all, escaped),
                None => push(&mut all, b),
            },
            b':' => all.push(Vec::new()),
            _ => push(&mut all, b),
        }
    }
    if all.iter().any(Vec::is_empty) {
        return Err(format!(
            "`{}`: a layer has no name: write DIR:DIR, the topmost first",
            text.to_string_lossy()
        ));
    }
    Ok(all.into_iter().map(OsString::from_vec).collect())
}

fn push(all: &mut [Vec<u8>], byte: u8) {
    if let Some(last) = all.last_mut() {
        last.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_suffixes() {
        let rows = [("512", 512), ("64k", 65536), ("256M", 256 << 20), ("1.5G", 3 << 29)];
        for (text, bytes) in rows {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "x", "-1", "0", "12Q", "1e9", "M", "nan", "inf"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cpus_are_thousandths() {
        assert_eq!(cpus("1"), Ok(1000));
        assert_eq!(cpus("0.5"), Ok(500));
        for bad in ["0", "-1", "a", "", "nan", "inf", "0.001"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_need_a_path_on_both_sides() {
        let v = volume(OsStr::new("/a:/b:ro")).unwrap();
        assert_eq!((v.source, v.target, v.access), ("/a".into(), "/b".into(), Access::ReadOnly));
        assert_eq!(volume(OsStr::new("./a:/b")).unwrap().access, Access::ReadWrite);
        assert_eq!(volume(OsStr::new("data:/b")).unwrap().name.as_deref(), Some("data"));
        assert!(volume(OsStr::new("/b")).unwrap().anonymous);
        for bad in ["a", "/a:b", ".x:/b", "/a:/b:q", "/a:/", "/a:/x/../y", "/a:/b:ro:x"] {
            assert!(volume(OsStr::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn users_are_names_or_numbers_and_nothing_is_left_over() {
        assert_eq!(user("7").unwrap().user, Principal::Id(7));
        let u = user("www-data:33").unwrap();
        assert_eq!(
            (u.user, u.group),
            (Principal::Name("www-data".into()), Some(Principal::Id(33)))
        );
        for bad in ["", ":", "1:", "a b", "1:2:3", "4294967295", "99999999999", "../x"] {
            assert!(user(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn layer_lists_split_at_bare_colons() {
        assert_eq!(layers(OsStr::new(r"/a:/b\:c")).unwrap(), ["/a", "/b:c"]);
        assert!(layers(OsStr::new("/a::/b")).is_err());
    }

    #[test]
    fn names_are_one_path_component() {
        assert!(name("web-1").is_ok());
        for bad in ["", ".", "..", "a/b", "-a", "a b", "ä"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
