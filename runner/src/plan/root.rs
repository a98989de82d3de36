//! Decides what the root directory is made of.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::spec::{
    Driver, Identity, Net, Network, Request, Root, RootRequest, Scratch, Upper, Volume,
};
use crate::store::{Keep, in_user_namespace};

/// Directories that a root must have for what is mounted there.
const SKELETON: [&str; 4] = ["dev", "etc", "proc", "sys"];

/// Decides layers, upper and the files of the init layer.
pub(super) fn decide(
    request: &Request,
    keep: Keep,
    state: &Path,
    identity: &Identity,
    volumes: &[Volume],
) -> Result<Root> {
    let layers = layers(&request.root)?;
    // The kernel refuses an init layer or an upper that is inside a layer (ELOOP).
    let inside = layers.iter().any(|l| state.starts_with(l));
    if request.driver == Driver::None && layers.len() != 1 {
        let text = format!("the root has {} layers, which only a union can merge", layers.len());
        return Err(Error::new("--driver none", text).hint("use another driver"));
    }
    let scratch = match request.driver {
        Driver::Kernel if inside => Scratch::Memory,
        Driver::None => Scratch::Memory,
        _ => Scratch::Disk,
    };
    let upper = upper(request, keep, state, &layers)?;
    let mapped = matches!(identity, Identity::Mapped(_)) || in_user_namespace();
    let mut skeleton: Vec<OsString> = SKELETON.iter().map(OsString::from).collect();
    for v in volumes.iter().filter(|v| Path::new(&v.source).is_dir()) {
        let below = Path::new(&v.target)
            .components()
            .filter(|c| matches!(c, std::path::Component::Normal(_)));
        skeleton.push(below.collect::<PathBuf>().into_os_string());
    }
    Ok(Root {
        driver: request.driver,
        layers: layers.into_iter().map(PathBuf::into_os_string).collect(),
        scratch,
        upper,
        unmapped_root: mapped,
        userxattr: mapped,
        files: files(&request.hostname, &request.network),
        skeleton,
    })
}

/// Returns the layers as absolute paths without symlinks.
fn layers(root: &RootRequest) -> Result<Vec<PathBuf>> {
    let asked = match root {
        RootRequest::Host => return Ok(vec![PathBuf::from("/")]),
        RootRequest::Layers(asked) => asked,
    };
    let resolve = |dir: &PathBuf| {
        let hint = "give an existing directory that holds a root file system";
        let bad = |e: Errno| {
            Error::new("root directory", e)
                .at(dir)
                .hint_if(Errno::ENOENT, hint)
                .hint_if(Errno::ENOTDIR, hint)
        };
        let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(0));
        let path = fs::canonicalize(dir).map_err(|e| bad(errno(e)))?;
        if !path.is_dir() {
            return Err(bad(Errno::ENOTDIR));
        }
        Ok(path)
    };
    asked.iter().map(resolve).collect()
}

/// Decides where changes go.
fn upper(request: &Request, keep: Keep, state: &Path, layers: &[PathBuf]) -> Result<Upper> {
    let Some(asked) = &request.upper else {
        if keep == Keep::Thrown {
            return Ok(Upper::Scratch);
        }
        if request.driver == Driver::Kernel && layers.iter().any(|l| state.starts_with(l)) {
            return Err(Error::new(
                "--driver kernel",
                "the kernel can't keep changes inside a layer",
            )
            .at(state)
            .hint("use --driver unionfs, --rm, or another --state"));
        }
        let dir = |name: &str| state.join(name).into_os_string();
        return Ok(Upper::Kept { upper: dir("upper"), work: dir("work") });
    };
    let bad = |e: std::io::Error| {
        Error::new("upper directory", e)
            .at(asked)
            .hint_if(Errno::ENOENT, "create the directory above it first")
    };
    // It is made at the start if it is missing, but only it.
    let absolute = std::path::absolute(asked).map_err(bad)?;
    let (parent, name) = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => (parent.canonicalize().map_err(bad)?, name),
        _ => return Err(Error::new("upper directory", "it can't be the root").at(asked)),
    };
    let path = parent.join(name);
    let path = if path.exists() { path.canonicalize().map_err(bad)? } else { path };
    if path.exists() && !path.is_dir() {
        return Err(Error::new("upper directory", Errno::ENOTDIR).at(asked));
    }
    if request.driver == Driver::Kernel && layers.iter().any(|l| path.starts_with(l)) {
        return Err(Error::new(
            "upper directory",
            "it is inside a layer, which the kernel refuses",
        )
        .at(asked)
        .hint("use --driver unionfs, or a directory outside of the layers"));
    }
    // What is not complete yet must be on the same file system, and is not part of the changes.
    let mut work = OsString::from(".");
    work.push(path.file_name().unwrap_or_default());
    work.push(".work");
    let work = path.parent().unwrap_or(Path::new("/")).join(work);
    Ok(Upper::Kept { upper: path.into_os_string(), work: work.into_os_string() })
}

/// Returns the path that the state directory has in the container, if a layer shows it.
pub(super) fn hidden(layers: &[OsString], state: &Path) -> Option<OsString> {
    let state = state.canonicalize().unwrap_or_else(|_| state.to_path_buf());
    layers.iter().find_map(|layer| {
        let below = state.strip_prefix(layer).ok()?;
        Some(Path::new("/").join(below).into_os_string())
    })
}

/// Returns the files of the init layer, by path without leading slash.
fn files(hostname: &str, network: &Network) -> Vec<(String, Vec<u8>)> {
    let hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n"
    );
    // With the host's network its names hold as well.
    let mut hosts = match (network.net, fs::read("/etc/hosts")) {
        (Net::Host, Ok(theirs)) => [theirs, format!("127.0.1.1\t{hostname}\n").into()].concat(),
        _ => hosts.into_bytes(),
    };
    for (name, address) in &network.hosts {
        hosts.extend(format!("{address}\t{name}\n").into_bytes());
    }
    vec![
        ("etc/hostname".to_owned(), format!("{hostname}\n").into_bytes()),
        ("etc/hosts".to_owned(), hosts),
        ("etc/resolv.conf".to_owned(), resolvers(network)),
    ]
}

/// Returns /etc/resolv.conf: the host's, or the servers that were asked for.
fn resolvers(network: &Network) -> Vec<u8> {
    let theirs = fs::read("/etc/resolv.conf").unwrap_or_default();
    if network.dns.is_empty() {
        return theirs;
    }
    let text = String::from_utf8_lossy(&theirs);
    let rest = text.lines().filter(|l| !l.trim_start().starts_with("nameserver"));
    let servers = network.dns.iter().map(|d| format!("nameserver {d}"));
    let lines: Vec<String> = rest.map(str::to_owned).chain(servers).collect();
    (lines.join("\n") + "\n").into_bytes()
}
