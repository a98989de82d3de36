//! Finds subjects on this machine, or says why one can't be measured.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Kind, Subject};
use crate::record::Absent;

/// Where else than in PATH programs are looked for.
const MORE_PLACES: [&str; 4] = ["/usr/local/bin", "/usr/sbin", "/sbin", "/opt/bin"];

/// Kernel overlayfs with all that changes how it works.
const ALL_FEATURES: &str = "redirect_dir=on,metacopy=on,index=on,xino=on";

/// Where I/O modes are measured if nobody asked for one by name: what they differ in is data and its
/// opening.
const MODES_IN: [&str; 2] = ["io", "ops/reads"];

/// Where programs of ours are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ours {
    /// `--unionfs`.
    pub(crate) unionfs: Option<PathBuf>,
    /// `--procfs-shim`.
    pub(crate) procfs_shim: Option<PathBuf>,
    /// `--runner`.
    pub(crate) runner: Option<PathBuf>,
}

/// A subject, or why there is none.
pub(crate) type Found = Result<Subject, Absent>;

/// What is looked for, and as whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    /// Programs of ours.
    pub(crate) ours: &'a Ours,
    /// Whether subjects with `@user` can be had.
    pub(crate) as_user: Result<(), &'static str>,
    /// Whether those without can, or all are rootless.
    pub(crate) is_root: bool,
}

impl Search<'_> {
    /// Returns all that is measured by default.
    pub(crate) fn all(&self) -> Vec<Found> {
        let mut names: Vec<String> =
            ["bare", "bind", "overlay", "overlay-all"].map(str::to_owned).into();
        names.push("fuse-overlayfs".into());
        let mut found: Vec<_> = names.iter().map(|n| self.named(n)).collect();
        found.extend(self.other_fuse_overlayfs());
        found.extend(["unionfs-fuse", "mergerfs", "unionfs"].map(|n| self.named(n)));
        if let Ok(ours) = self.our_program("unionfs", &self.ours.unionfs) {
            let modes = io_modes(&ours);
            let modes = modes.iter().map(|mode| self.named(&format!("unionfs-{mode}")));
            let of_data = |s: Subject| Subject { only: MODES_IN.map(str::to_owned).into(), ..s };
            found.extend(modes.map(|mode| mode.map(of_data)));
        }
        if self.is_root {
            let rootless = ["overlay", "fuse-overlayfs", "unionfs"];
            found.extend(rootless.map(|name| self.named(&format!("{name}@user"))));
        }
        for name in ["raw", "lxcfs", "procfs-shim"] {
            found.push(self.named(name));
        }
        for name in ["unshare", "bwrap", "runc", "crun", "podman", "buildah", "runner"] {
            found.push(self.named(name));
        }
        for driver in ["overlay", "vfs", "fuse-overlayfs", "unionfs"] {
            found.push(self.named(&format!("podman+{driver}")));
            if self.is_root {
                found.push(self.named(&format!("podman+{driver}@user")));
            }
        }
        found
    }

    /// Returns the subject that was asked for: a name of the list, `NAME=PROGRAM[,OPTION…]` or
    /// `NAME=SUBJECT[,OPTION…]`, each with `@user` at the end of the name for a rootless one.
    pub(crate) fn asked(&self, spec: &str) -> Found {
        let Some((name, rest)) = spec.split_once('=') else { return self.named(spec) };
        let (what, options) = rest.split_once(',').unwrap_or((rest, ""));
        let (_, rootless) = split_user(name);
        let mut subject = match what.contains('/') {
            true => by_program(Path::new(what)).map_err(|why| absent(name, why))?,
            false => {
                let of = if rootless { format!("{what}@user") } else { what.to_owned() };
                self.named(&of).map_err(|a| absent(name, a.why))?
            }
        };
        self.allowed(rootless).map_err(|why| absent(name, why))?;
        subject.name = name.to_owned();
        subject.rootless = rootless || !self.is_root;
        if !options.is_empty() {
            let both = [subject.options.as_str(), options];
            subject.options =
                both.into_iter().filter(|o| !o.is_empty()).collect::<Vec<_>>().join(",");
        }
        Ok(subject)
    }

    fn allowed(&self, rootless: bool) -> Result<(), String> {
        match rootless {
            true => self.as_user.map_err(str::to_owned),
            false => Ok(()),
        }
    }

    fn named(&self, full: &str) -> Found {
        let (name, rootless) = split_user(full);
        let subject = self.allowed(rootless).and_then(|()| self.by_name(name));
        let mut subject = subject.map_err(|why| absent(full, why))?;
        subject.name = full.to_owned();
        subject.rootless = rootless || !self.is_root;
        Ok(subject)
    }

    fn by_name(&self, name: &str) -> Result<Subject, String> {
        let (base, variant) = ["overlay", "fuse-overlayfs", "unionfs"]
            .into_iter()
            .find_map(|base| Some((base, name.strip_prefix(base)?.strip_prefix('-')?)))
            .filter(|_| name != "unionfs-fuse")
            .map_or((name, None), |(base, variant)| (base, Some(variant)));
        let mut subject = self.base(base)?;
        if let Some(variant) = variant {
            subject.options = self.variant(base, variant, &subject.program)?;
        }
        Ok(subject)
    }

    /// Returns podman on one of its drivers.
    fn engine(&self, driver: &str) -> Result<Subject, String> {
        let podman = installed(Kind::Podman, "podman")?.version;
        let (kind, below) = match driver {
            "overlay" => (Kind::PodmanOverlay, self.base("overlay")?),
            "vfs" => (Kind::PodmanVfs, self.base("bare")?),
            program => (Kind::PodmanProgram, self.base(program)?),
        };
        let version = format!("{podman}, {}", below.version);
        Ok(Subject { kind, version, ..below })
    }

    fn base(&self, name: &str) -> Result<Subject, String> {
        if let Some(driver) = name.strip_prefix("podman+") {
            return self.engine(driver);
        }
        let kernel = |kind| Ok(new(kind, PathBuf::new(), kernel_release()?));
        let ours = |kind, program: &str, chosen: &Option<PathBuf>| {
            let path = self.our_program(program, chosen)?;
            let version = version_of(&path)?;
            Ok(new(kind, path, version))
        };
        match name {
            "bare" => kernel(Kind::Bare),
            "bind" => kernel(Kind::Bind),
            "overlay" => kernel(Kind::Overlay),
            "raw" => kernel(Kind::RawProc),
            "fuse-overlayfs" => installed(Kind::FuseOverlay, name),
            "unionfs-fuse" => installed(Kind::UnionfsFuse, name),
            "mergerfs" => installed(Kind::Mergerfs, name),
            "lxcfs" => installed(Kind::Lxcfs, name),
            "unshare" => installed(Kind::Unshare, name),
            "bwrap" => installed(Kind::Bwrap, name),
            "runc" => installed(Kind::Runc, name),
            "crun" => installed(Kind::Crun, name),
            "podman" => installed(Kind::Podman, name),
            "buildah" => installed(Kind::Buildah, name),
            "unionfs" => ours(Kind::FuseOverlay, name, &self.ours.unionfs),
            "procfs-shim" => ours(Kind::ProcfsShim, name, &self.ours.procfs_shim),
            "runner" => ours(Kind::Runner, name, &self.ours.runner),
            _ => Err("no subject is called so: `bench list` has the names, NAME=/path/to/program adds one".into()),
        }
    }

    fn variant(&self, base: &str, variant: &str, program: &Path) -> Result<String, String> {
        let is_kernel = base == "overlay";
        match variant {
            "all" if is_kernel => Ok(ALL_FEATURES.into()),
            "metacopy" if is_kernel => Ok("redirect_dir=on,metacopy=on".into()),
            "metacopy" if base == "unionfs" => Ok("metacopy=on".into()),
            "volatile" => Ok("volatile".into()),
            mode if base == "unionfs" && io_modes(program).iter().any(|m| m == mode) => {
                Ok(format!("io={mode}"))
            }
            _ => Err(format!("{base} has no variant {variant}")),
        }
    }

    fn our_program(&self, name: &str, chosen: &Option<PathBuf>) -> Result<PathBuf, String> {
        if let Some(path) = chosen {
            // Workers have another working directory.
            let whole = fs::canonicalize(path).ok().filter(|p| p.is_file());
            return whole.ok_or_else(|| format!("{}: no such file", path.display()));
        }
        let beside = std::env::current_exe().ok().map(|p| p.with_file_name(name));
        if let Some(path) = beside.filter(|p| p.is_file()) {
            return Ok(path);
        }
        // Debian's unionfs-fuse comes with a program called unionfs.
        let found =
            in_path(name).filter(|p| version_of(p).is_ok_and(|v| !v.contains("unionfs-fuse")));
        found.ok_or_else(|| format!("{name} is neither beside bench nor in PATH: build it, or say where it is with --{name}"))
    }

    fn other_fuse_overlayfs(&self) -> Vec<Found> {
        let first = in_path("fuse-overlayfs").and_then(|p| fs::canonicalize(p).ok());
        let mut seen: BTreeSet<_> = first.into_iter().collect();
        let mut found = Vec::new();
        for path in programs(|name| name.starts_with("fuse-overlayfs")) {
            let Ok(real) = fs::canonicalize(&path) else { continue };
            if !seen.insert(real) {
                continue;
            }
            let Ok(mut subject) = by_program(&path) else { continue };
            if !subject.version.contains("fuse-overlayfs") {
                continue;
            }
            let number = subject.version.split_whitespace().last().unwrap_or("other");
            subject.name = format!("fuse-overlayfs-{number}");
            subject.rootless = !self.is_root;
            found.push(Ok(subject));
        }
        found
    }
}

fn new(kind: Kind, program: PathBuf, version: String) -> Subject {
    let (name, options, only) = (String::new(), String::new(), Vec::new());
    Subject { name, kind, program, options, rootless: false, version, only }
}

/// Returns a subject whose program is in PATH.
fn installed(kind: Kind, program: &str) -> Result<Subject, String> {
    let path = in_path(program).ok_or_else(|| format!("{program} is not installed"))?;
    let version = version_of(&path)?;
    Ok(new(kind, path, version))
}

fn absent(name: &str, why: String) -> Absent {
    Absent { name: name.to_owned(), why }
}

fn split_user(name: &str) -> (&str, bool) {
    match name.strip_suffix("@user") {
        Some(name) => (name, true),
        None => (name, false),
    }
}

/// Returns the subject that a program is, by what it says of its version.
fn by_program(path: &Path) -> Result<Subject, String> {
    if !path.is_file() {
        return Err(format!("{}: no such program", path.display()));
    }
    let path = fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let version = version_of(&path)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is = |what: &str| version.contains(what) || file == what;
    let kinds = [
        ("mergerfs", Kind::Mergerfs),
        ("unionfs-fuse", Kind::UnionfsFuse),
        ("lxcfs", Kind::Lxcfs),
        ("procfs-shim", Kind::ProcfsShim),
        ("runc", Kind::Runc),
        ("crun", Kind::Crun),
        ("runner", Kind::Runner),
    ];
    let kind = kinds.into_iter().find(|(what, _)| is(what)).map_or(Kind::FuseOverlay, |(_, k)| k);
    Ok(new(kind, path, version))
}

/// Returns the modes that a program's help has after `io=`, but for `auto`, its default.
fn io_modes(program: &Path) -> Vec<String> {
    let out = Command::new(program).arg("--help").stdin(Stdio::null()).output();
    let text = out.map_or(String::new(), |out| String::from_utf8_lossy(&out.stdout).into_owned());
    let Some((_, rest)) = text.split_once("io=") else { return Vec::new() };
    let list = rest.split(|c: char| c.is_whitespace() || c == ',').next().unwrap_or("");
    list.split('|').filter(|m| !m.is_empty() && *m != "auto").map(str::to_owned).collect()
}

fn programs(wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(MORE_PLACES.map(PathBuf::from));
    let mut all = Vec::new();
    for place in places {
        let Ok(entries) = fs::read_dir(place) else { continue };
        let paths = entries.flatten().map(|e| e.path());
        all.extend(paths.filter(|p| {
            p.is_file() && p.file_name().and_then(|n| n.to_str()).is_some_and(&wanted)
        }));
    }
    all
}

/// Returns the program of this name.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    programs(|n| n == name).into_iter().next()
}

fn kernel_release() -> Result<String, String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map(|r| format!("Linux {}", r.trim())).map_err(|e| format!("kernel release: {e}"))
}

/// Returns the line of `--version` that is about the program, and not about a library.
fn version_of(program: &Path) -> Result<String, String> {
    let out = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("{}: {e}", program.display()))?;
    let text = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
    let lines = || text.iter().flat_map(|t| t.lines()).filter(|l| !l.trim().is_empty());
    let library = ["fusermount", "FUSE library", "kernel interface", "unknown argument"];
    let own = lines().find(|l| !library.iter().any(|w| l.contains(w)));
    Ok(own.or_else(|| lines().next()).unwrap_or("unknown").trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(ours: &Ours) -> Search<'_> {
        Search { ours, as_user: Err("there is no user"), is_root: true }
    }

    #[test]
    fn names_have_variants_and_users() {
        let ours = Ours::default();
        let all = search(&ours).asked("overlay-all").expect("the kernel's");
        assert_eq!((all.kind, all.options.as_str()), (Kind::Overlay, ALL_FEATURES));
        let why = search(&ours).asked("overlay@user").expect_err("no user");
        assert_eq!((why.name.as_str(), why.why.as_str()), ("overlay@user", "there is no user"));
        let v = search(&ours).asked("v=overlay,volatile,index=on").expect("the kernel's");
        assert_eq!((v.name.as_str(), v.options.as_str()), ("v", "volatile,index=on"));
    }

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let ours = Ours { unionfs: Some("/nowhere/unionfs".into()), ..Ours::default() };
        let why = search(&ours).asked("unionfs").expect_err("not there");
        assert_eq!(why.why, "/nowhere/unionfs: no such file");
        let why = search(&ours).asked("mine=/nowhere/mine").expect_err("not there");
        assert_eq!(
            (why.name.as_str(), why.why.as_str()),
            ("mine", "/nowhere/mine: no such program")
        );
        let why = search(&ours).asked("overlay-nonsense").expect_err("no variant");
        assert_eq!(why.why, "overlay has no variant nonsense");
    }
}
