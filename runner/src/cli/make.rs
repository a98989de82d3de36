//! From what was typed to what is written of a container.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use sys::process::CAP_SYS_ADMIN;

use crate::cli::container::ContainerArgs;
use crate::cli::values::{self, SecurityOption, WhoAnswers};
use crate::error::{Context, Error, Result};
use crate::identity;
use crate::image::{self, ImageConfig, ImageStore};
use crate::plan::parse_profile;
use crate::spec::{
    Access, Device, Driver, Figures, First, Limits, MissingCwd, Net, Network, OwnCgroups,
    Principal, ProcessRequest, Request, RootRequest, SeccompRequest, Security, Stdin, Stop, Strict,
    Sysinfo, Terminal, User, Volume, capability,
};
use crate::store::{ImageRef, Keep, Record, Store, Volumes, now, short};

/// SIGTERM.
const TERM: i32 = 15;

/// What the root is made of, as asked for.
enum Source {
    /// The host's root, or directories, and a program there.
    Directories(RootRequest),
    /// An image.
    Image(Box<image::Image>),
}

/// A container as it is asked for, and what keeps its image there until that is written down.
pub(crate) struct Made {
    /// How it is asked for.
    pub(crate) record: Record,
    /// Keeps images from being removed.
    pub(crate) _images: Option<Box<dyn Any>>,
}

/// Decides everything that doesn't depend on the moment of the start. `keeps`: what happens where
/// neither an image nor a name says that the container is to stay.
pub(crate) fn make(
    args: ContainerArgs,
    keeps: impl Fn(&Args<'_>) -> Keep,
    store: &Store,
) -> Result<Made> {
    let (source, words, lock) = source(&args, store)?;
    let config = match &source {
        Source::Image(image) => image.config.clone(),
        Source::Directories(_) => ImageConfig::default(),
    };
    let keep =
        keeps(&Args { has_image: matches!(source, Source::Image(_)), name: args.name.as_deref() });
    let id = random_hex(32)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => free_name(store)?,
    };
    let image = match &source {
        Source::Image(i) => Some(ImageRef { reference: i.reference.clone(), id: i.id.clone() }),
        Source::Directories(_) => None,
    };
    let hostname = args.hostname.clone().or(args.name.clone());
    let hostname = hostname.unwrap_or_else(|| short(&id).to_owned());
    let entrypoint = args.entrypoint.clone();
    let command = match &source {
        Source::Image(_) => compose(&config, words, entrypoint),
        Source::Directories(_) => entrypoint.into_iter().map(OsString::from).chain(words).collect(),
    };
    let (identity, _) = identity::decide();
    check_alone(&args)?;
    let mut labels: BTreeMap<String, String> = config.labels.clone();
    labels.extend(args.labels());
    let request = Request {
        limits: limits(&args),
        root: match source {
            Source::Directories(root) => root,
            Source::Image(image) => RootRequest::Layers(image.layers),
        },
        upper: args.upper.as_deref().map(absolute).transpose()?,
        driver: args.driver,
        cgroups: args.cgroups,
        figures: args.procfs,
        root_access: if args.read_only { Access::ReadOnly } else { Access::ReadWrite },
        volumes: volumes(&args, &config, store)?,
        tmpfs: args.tmpfs.clone(),
        shm_size: args.shm_size,
        devices: devices(&args)?,
        hostname,
        network: network(&args)?,
        process: process(&args, &config, command)?,
        security: security(&args)?,
        labels,
        stop: stop(&args, &config)?,
        strict: if args.strict { Strict::On } else { Strict::Off },
    };
    let record = Record { id, name, created: now(), image, keep, identity, request };
    Ok(Made { record, _images: lock })
}

/// What decides whether a container stays.
pub(crate) struct Args<'a> {
    /// Whether it is made of an image.
    pub(crate) has_image: bool,
    /// The name that was given.
    pub(crate) name: Option<&'a str>,
}

type Sourced = (Source, Vec<OsString>, Option<Box<dyn Any>>);

fn source(args: &ContainerArgs, store: &Store) -> Result<Sourced> {
    let words = || args.words.clone();
    let of_directories = |all: Vec<PathBuf>| {
        let all = all.iter().map(|p| absolute(p)).collect::<Result<Vec<_>>>()?;
        Ok((Source::Directories(RootRequest::Layers(all)), words(), None))
    };
    if let Some(dir) = &args.rootfs {
        return of_directories(vec![dir.clone()]);
    }
    if let Some(layers) = &args.layers {
        return of_directories(layers.iter().map(PathBuf::from).collect());
    }
    if args.is_command || (args.words.is_empty() && args.entrypoint.is_some()) {
        return Ok((Source::Directories(RootRequest::Host), words(), None));
    }
    let Some((reference, rest)) = args.words.split_first() else {
        return Err(Error::new("command line", "there is neither an image nor a command")
            .hint("try `runner run IMAGE`, or `runner run -- sh` on the host's own root"));
    };
    let reference = reference
        .to_str()
        .ok_or_else(|| Error::new("image", "its name is no text").at(reference))?;
    let lock = ImageStore::of(store).use_lock()?;
    let image = image::open(store, reference).map_err(|e| {
        e.or_hint(format!("`runner run -- {reference}` runs it on the host's own root"))
    })?;
    Ok((Source::Image(Box::new(image)), rest.to_vec(), Some(Box::new(lock))))
}

/// Returns what an image's container runs: the entry point, then the arguments given or else the image's
/// own; these belong to its own entry point only.
fn compose(
    config: &ImageConfig,
    words: Vec<OsString>,
    entrypoint: Option<String>,
) -> Vec<OsString> {
    let own = entrypoint.is_none();
    let first: Vec<OsString> = match entrypoint {
        Some(program) => vec![program.into()],
        None => config.entrypoint.iter().map(OsString::from).collect(),
    };
    let rest = match words.is_empty() && own {
        true => config.cmd.iter().map(OsString::from).collect(),
        false => words,
    };
    first.into_iter().chain(rest).collect()
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).step_at("find directory", path)
}

/// Refuses what can't be without a union, cgroups, or figures of the container's own.
fn check_alone(args: &ContainerArgs) -> Result<()> {
    if args.cgroups == OwnCgroups::Disabled && limits(args) != Limits::default() {
        return Err(Error::new("--cgroups disabled", "limits need cgroups")
            .hint("leave one of them out; --ulimit limits each process without"));
    }
    if args.procfs == Figures::Kernel && args.sysinfo == WhoAnswers::Container {
        return Err(Error::new("--sysinfo container", "--procfs kernel shows the host's figures")
            .hint("leave one of them out"));
    }
    if args.driver != Driver::None {
        return Ok(());
    }
    if !args.read_only {
        return Err(Error::new("--driver none", "without a union nothing can be written").hint(
            "add --read-only, or use another driver: changes don't reach the directory then",
        ));
    }
    if args.upper.is_some() {
        return Err(Error::new("--upper", "--driver none makes no changes that could be kept"));
    }
    Ok(())
}

fn limits(args: &ContainerArgs) -> Limits {
    let rates = [
        &args.device_read_bps,
        &args.device_write_bps,
        &args.device_read_iops,
        &args.device_write_iops,
    ];
    Limits {
        memory: args.memory,
        memory_swap: args.memory_swap,
        memory_reservation: args.memory_reservation,
        cpus: args.cpus,
        cpu_shares: args.cpu_shares,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
        pids: args.pids_limit,
        blkio_weight: args.blkio_weight,
        rates: rates.into_iter().flatten().cloned().collect(),
    }
}

/// Returns the volumes that were asked for, and those that the image names.
fn volumes(args: &ContainerArgs, config: &ImageConfig, store: &Store) -> Result<Vec<Volume>> {
    let mut all = args.volumes.clone();
    for target in &config.volumes {
        let covered = all.iter().any(|v| Path::new(&v.target) == Path::new(target))
            || args.tmpfs.iter().any(|t| Path::new(&t.target) == Path::new(target));
        if !covered {
            all.push(values::volume(target.as_ref()).map_err(|e| Error::new("image's volume", e))?);
        }
    }
    for volume in &mut all {
        if volume.anonymous {
            volume.name = Some(random_hex(32)?);
        }
        match &volume.name {
            Some(name) => volume.source = Volumes::of(store).data(name).into_os_string(),
            None => volume.source = absolute(Path::new(&volume.source))?.into_os_string(),
        }
    }
    Ok(all)
}

/// Returns the devices: those asked for, or with all rights all of the host.
fn devices(args: &ContainerArgs) -> Result<Vec<Device>> {
    use std::os::unix::fs::FileTypeExt;
    let mut all = args.device.clone();
    if !args.privileged {
        return Ok(all);
    }
    for entry in fs::read_dir("/dev").step_at("read directory", "/dev")?.flatten() {
        let is_device = entry.file_type().is_ok_and(|t| t.is_char_device() || t.is_block_device());
        let name = entry.file_name();
        let is_own = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"]
            .iter()
            .any(|own| name == *own);
        if is_device && !is_own {
            let path = entry.path().into_os_string();
            all.push(Device { source: path.clone(), target: path });
        }
    }
    Ok(all)
}

fn network(args: &ContainerArgs) -> Result<Network> {
    let net = match (args.net, args.publish.is_empty()) {
        (Some(net), true) | (Some(net @ Net::Pasta), false) => net,
        (None, true) => Net::None,
        (None, false) => Net::Pasta,
        (Some(_), false) => {
            return Err(Error::new("--publish", "ports lead inside with --net pasta only")
                .hint("with --net host the program listens on the host itself"));
        }
    };
    Ok(Network {
        net,
        ports: args.publish.clone(),
        dns: args.dns.clone(),
        hosts: args.add_host.clone(),
    })
}

fn process(
    args: &ContainerArgs,
    config: &ImageConfig,
    command: Vec<OsString>,
) -> Result<ProcessRequest> {
    let from_image = (!config.working_dir.is_empty()).then(|| PathBuf::from(&config.working_dir));
    let missing_cwd = match (&args.workdir, &from_image) {
        (None, Some(_)) => MissingCwd::Make,
        _ => MissingCwd::Fail,
    };
    let user = match (&args.user, config.user.as_str()) {
        (Some(user), _) => user.clone(),
        (None, "") => {
            User { user: Principal::Id(0), group: Some(Principal::Id(0)), more: Vec::new() }
        }
        (None, text) => values::user(text).map_err(|e| Error::new("image's user", e))?,
    };
    Ok(ProcessRequest {
        args: command,
        env: environment(args, config)?,
        cwd: args.workdir.clone().or(from_image).unwrap_or_else(|| PathBuf::from("/")),
        missing_cwd,
        user,
        terminal: if args.tty { Terminal::New } else { Terminal::Inherited },
        stdin: if args.interactive { Stdin::Inherited } else { Stdin::Null },
        first: if args.no_init { First::Program } else { First::Init },
        ulimits: args.ulimit.clone(),
    })
}

/// Returns variables: the image's, those of files, those of the command line; later ones win.
fn environment(args: &ContainerArgs, config: &ImageConfig) -> Result<Vec<(OsString, OsString)>> {
    let mut typed = Vec::new();
    for text in &config.env {
        typed.extend(values::env(text.as_ref()));
    }
    for file in &args.env_file {
        typed.extend(env_file(file)?);
    }
    typed.extend(args.env.iter().cloned());
    Ok(values::resolve_env(typed))
}

/// Reads a file with a variable on each line.
pub(crate) fn env_file(file: &Path) -> Result<Vec<values::EnvArg>> {
    let text = fs::read_to_string(file).step_at("--env-file", file)?;
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let read = |l: &str| values::env(l.as_ref()).map_err(|e| Error::new("--env-file", e).at(file));
    lines.map(read).collect()
}

fn security(args: &ContainerArgs) -> Result<Security> {
    let mut capabilities = if args.privileged { capability::ALL } else { capability::USUAL };
    // As with podman, ALL goes first, so that single ones can be taken out of it or left.
    let is_all = |c: &&u64| **c == capability::ALL;
    if args.cap_drop.iter().any(|c| is_all(&c)) {
        capabilities = 0;
    }
    if args.cap_add.iter().any(|c| is_all(&c)) {
        capabilities = capability::ALL;
    }
    capabilities |= args.cap_add.iter().filter(|c| !is_all(c)).fold(0, |set, c| set | c);
    capabilities &= !args.cap_drop.iter().filter(|c| !is_all(c)).fold(0, |set, c| set | c);
    if args.driver == Driver::None && capabilities >> CAP_SYS_ADMIN & 1 == 1 {
        return Err(Error::new(
            "--driver none",
            "with CAP_SYS_ADMIN the root could be made writable",
        )
        .hint("leave the capability out, or use another driver"));
    }
    let mut security = Security {
        capabilities,
        no_new_privs: !args.privileged,
        seccomp: match args.privileged {
            true => SeccompRequest::Unconfined,
            false => SeccompRequest::Default,
        },
        mask: Vec::new(),
        unmask: Vec::new(),
        privileged: args.privileged,
        sysinfo: sysinfo(args)?,
    };
    for option in &args.security_opt {
        match option {
            SecurityOption::SeccompUnconfined => security.seccomp = SeccompRequest::Unconfined,
            SecurityOption::SeccompFile(file) => {
                let text = fs::read_to_string(file).step_at("--security-opt seccomp", file)?;
                let profile = parse_profile(&text, capabilities)
                    .map_err(|e| Error::new("--security-opt seccomp", e).at(file))?;
                security.seccomp = SeccompRequest::Profile(profile);
            }
            SecurityOption::NoNewPrivileges(on) => security.no_new_privs = *on,
            SecurityOption::Mask(paths) => security.mask.extend(paths.iter().cloned()),
            SecurityOption::Unmask(paths) => security.unmask.extend(paths.iter().cloned()),
            SecurityOption::Nothing => {}
        }
    }
    Ok(security)
}

fn sysinfo(args: &ContainerArgs) -> Result<Sysinfo> {
    let is_limited = args.memory.is_some() || args.cpus.is_some() || args.cpuset_cpus.is_some();
    let can = sys::seccomp::can_notify();
    match args.sysinfo {
        WhoAnswers::Kernel => Ok(Sysinfo::Kernel),
        WhoAnswers::Auto if is_limited && can && args.procfs == Figures::Container => {
            Ok(Sysinfo::Container)
        }
        WhoAnswers::Auto => Ok(Sysinfo::Kernel),
        WhoAnswers::Container if can => Ok(Sysinfo::Container),
        WhoAnswers::Container => Err(Error::new(
            "--sysinfo container",
            "this kernel can't hand system calls to another process (SECCOMP_RET_USER_NOTIF)",
        )
        .hint("Linux 5.0 or newer with CONFIG_SECCOMP_FILTER is needed, or --sysinfo kernel")),
    }
}

fn stop(args: &ContainerArgs, config: &ImageConfig) -> Result<Stop> {
    let of_image = config.stop_signal.as_deref().filter(|s| !s.is_empty()).map(values::signal);
    let of_image = of_image.transpose().map_err(|e| Error::new("image's stop signal", e))?;
    Ok(Stop { signal: args.stop_signal.or(of_image).unwrap_or(TERM), timeout: args.stop_timeout })
}

/// Returns hexadecimal digits, two for each byte.
pub(crate) fn random_hex(bytes: usize) -> Result<String> {
    use std::io::Read;
    let mut random = vec![0u8; bytes];
    let read = fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random));
    read.step_at("read", "/dev/urandom")?;
    Ok(random.iter().map(|b| format!("{b:02x}")).collect())
}

const QUALITIES: [&str; 32] = [
    "amber", "bold", "brisk", "calm", "clever", "crisp", "early", "fair", "fond", "gentle", "glad",
    "keen", "kind", "late", "light", "loyal", "merry", "mild", "neat", "noble", "plain", "proud",
    "quick", "quiet", "rapid", "sharp", "sleek", "sound", "steady", "swift", "warm", "wise",
];
const THINGS: [&str; 32] = [
    "acorn", "alder", "birch", "brook", "cedar", "cliff", "cloud", "crane", "dune", "ember",
    "fern", "finch", "grove", "harbor", "hazel", "heron", "island", "lark", "maple", "meadow",
    "otter", "pebble", "pine", "raven", "reed", "river", "sage", "shore", "spruce", "stone",
    "thistle", "wren",
];

/// Makes up a name that no container has.
fn free_name(store: &Store) -> Result<String> {
    loop {
        let digits = u32::from_str_radix(&random_hex(4)?, 16).unwrap_or(0) as usize;
        let quality = QUALITIES.get(digits % 32).copied().unwrap_or("calm");
        let thing = THINGS.get(digits / 32 % 32).copied().unwrap_or("stone");
        let name = format!("{quality}_{thing}{}", digits / 1024 % 1000);
        if store.name_link(&name).symlink_metadata().is_err() {
            return Ok(name);
        }
    }
}
