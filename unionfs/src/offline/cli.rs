//! The command line of `unionctl`: work on layers that nobody has mounted.

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use sys::Errno;

use super::printed::Printed;
use super::{
    Change, Finding, Form, OfflineError, Repair, Result, Stack, Wanted, Whiteouts, changes,
    convert, export, fsck, output,
};
use crate::layer::marks::Prefix;
use crate::ops::statistics::Statistics;

/// Look at and mend the layers of a union that is not mounted, and ask one that is.
#[derive(Debug, Parser)]
#[command(name = "unionctl", version, max_term_width = 100, after_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
In lists a path has \\ooo for control characters, backslashes and what is no UTF-8: one line each.

Exit codes: 0 all is well, 1 it failed, 2 wrong usage, 3 fsck found something that it did not mend.";

#[derive(Debug, Subcommand)]
enum Command {
    /// List what an upper layer adds (A), changes (C) and deletes (D)
    Diff(DiffArgs),
    /// Write what an upper layer changes as a tar archive, such as a layer of an image
    Export(ExportArgs),
    /// Check an upper layer and its work directory
    Fsck(FsckArgs),
    /// Change how a layer says that something is gone, or where its marks are
    Convert(ConvertArgs),
    /// Show what a mount keeps in memory, and how many messages the kernel sent it
    Stats(StatsArgs),
}

#[derive(Debug, Args)]
struct StatsArgs {
    /// Print a JSON object; sizes are in bytes
    #[arg(long)]
    json: bool,
    /// Where the union is mounted
    mount: PathBuf,
}

/// Which layers.
#[derive(Debug, Args)]
struct Layers {
    /// The layer with the changes
    #[arg(long, value_name = "DIR")]
    upper: PathBuf,
    /// The layers below it, the topmost first (`\:` is a colon in a name)
    #[arg(long, value_name = "DIR:DIR...", value_parser = OsStringValueParser::new().try_map(|s| split(&s)))]
    lower: Option<std::vec::Vec<PathBuf>>,
    /// Leave out this path of the union with all below it; may be repeated
    #[arg(long, value_name = "PATH")]
    exclude: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct DiffArgs {
    #[command(flatten)]
    layers: Layers,
    /// Print a JSON list of objects with `path` and `kind`, and `path_hex` where that is no UTF-8
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    layers: Layers,
    /// How the archive says that something is gone
    #[arg(long, value_enum, default_value_t = Dialect::Oci)]
    whiteouts: Dialect,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct FsckArgs {
    #[command(flatten)]
    layers: Layers,
    /// The upper's work directory
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Mend what can be mended without loss (needs --work, whose lock keeps mounts away)
    #[arg(long, requires = "work")]
    repair: bool,
    /// Print a JSON list of objects with `kind`, `path`, `detail` and `mended`
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("wanted").required(true).multiple(true).args(["whiteouts", "marks"])))]
struct ConvertArgs {
    /// What deletions become
    #[arg(long, value_enum, value_name = "FORM")]
    whiteouts: Option<WhiteoutForm>,
    /// Where marks go
    #[arg(long, value_enum, value_name = "NAMESPACE")]
    marks: Option<Namespace>,
    /// The layer's work directory, if it is an upper: its lock keeps mounts away
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// The layer, which must not be mounted
    layer: PathBuf,
}

/// What deletions become.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhiteoutForm {
    /// Character devices 0:0
    Device,
    /// Empty files with an attribute
    Attribute,
    /// Files `.wh.NAME`
    DotWh,
}

/// Where marks go.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Namespace {
    /// trusted.overlay.
    Trusted,
    /// user.overlay., as mounts with `userxattr` have it
    User,
}

/// How an archive says that something is gone.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dialect {
    /// `.wh.NAME` files, as images have them
    Oci,
    /// Character devices 0:0 and `trusted.overlay.opaque`, as the kernel's overlayfs has them
    Overlay,
}

/// Runs the program with `args` (the first is the name it was called by) and returns its exit code.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let code = e.exit_code();
            return match e.print() {
                Ok(()) => ExitCode::from(code as u8),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    // Each directory that is being walked is open.
    if let Err(e) = sys::process::raise_nofile_limit() {
        log::debug!("the limit of open files stays: {}", e.desc());
    }
    let outcome = match cli.command {
        Command::Diff(args) => diff(&args),
        Command::Export(args) => export_to(&args),
        Command::Fsck(args) => check(&args),
        Command::Convert(args) => change(&args),
        Command::Stats(args) => stats(&args),
    };
    match outcome {
        Ok(code) => code,
        // Nobody reads on, as behind a pipe to `head`.
        Err(OfflineError::Output(e) | OfflineError::File(_, e))
            if e.kind() == io::ErrorKind::BrokenPipe =>
        {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("unionctl: {e}");
            ExitCode::FAILURE
        }
    }
}

fn stack(layers: &Layers) -> Result<Stack> {
    let lowers = layers.lower.clone().unwrap_or_default();
    Ok(Stack::open(&layers.upper, &lowers)?.without(layers.exclude.iter().cloned()))
}

fn diff(args: &DiffArgs) -> Result<ExitCode> {
    let all = changes(&stack(&args.layers)?)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        let all: Vec<_> = all.iter().map(json).collect();
        serde_json::to_writer_pretty(&mut out, &all).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for change in &all {
            writeln!(out, "{} {}", change.kind.letter(), Printed(&change.path))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn json(change: &Change) -> serde_json::Value {
    let kind = change.kind.letter().to_string();
    with_bytes(
        serde_json::json!({"path": change.path.to_string_lossy(), "kind": kind}),
        &change.path,
    )
}

/// Adds the bytes of a path that is no UTF-8, which JSON can't have, in hexadecimal digits.
fn with_bytes(mut object: serde_json::Value, path: &Path) -> serde_json::Value {
    if path.to_str().is_none()
        && let Some(fields) = object.as_object_mut()
    {
        let hex =
            path.as_os_str().as_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>();
        fields.insert("path_hex".into(), hex.into());
    }
    object
}

fn stats(args: &StatsArgs) -> Result<ExitCode> {
    let said = Statistics::of_mount(&args.mount).map_err(|e| match e {
        Errno::ENOTTY | Errno::EINVAL | Errno::ENOSYS | Errno::EBADMSG => {
            OfflineError::Words(format!(
                "{}: not the root of a mount of unionfs, or of another version",
                Printed(&args.mount)
            ))
        }
        e => OfflineError::File(args.mount.clone(), e.into()),
    })?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        serde_json::to_writer_pretty(&mut out, &said).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{said}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn export_to(args: &ExportArgs) -> Result<ExitCode> {
    let whiteouts = match args.whiteouts {
        Dialect::Oci => Whiteouts::Oci,
        Dialect::Overlay => Whiteouts::Overlay,
    };
    let stack = stack(&args.layers)?;
    let done = match &args.output {
        Some(path) => output::write(path, |out| export(&stack, whiteouts, out))?,
        None if io::stdout().is_terminal() => {
            let what = "an archive is not for a terminal: send it to a file, or use --output";
            return Err(OfflineError::Words(what.into()));
        }
        None => export(&stack, whiteouts, BufWriter::with_capacity(output::BUFFER, io::stdout()))?,
    };
    if done.sockets > 0 {
        eprintln!(
            "unionctl: warning: {} sockets were left out: archives can't have them",
            done.sockets
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Exit code of `fsck` where something is wrong still.
const LEFT: u8 = 3;

fn check(args: &FsckArgs) -> Result<ExitCode> {
    let lowers = args.layers.lower.clone().unwrap_or_default();
    let layers =
        super::Layers { upper: &args.layers.upper, work: args.work.as_deref(), lowers: &lowers };
    let repair = if args.repair { Repair::Yes } else { Repair::No };
    let found = fsck(&layers, repair)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        let all: Vec<_> = found.iter().map(finding).collect();
        serde_json::to_writer_pretty(&mut out, &all).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for f in &found {
            let mended = if f.mended { " (mended)" } else { "" };
            let (kind, detail) = (f.kind.name(), Printed(Path::new(&f.detail)));
            writeln!(out, "{kind} {}: {detail}{mended}", Printed(&f.path))?;
        }
    }
    out.flush()?;
    let left = found.iter().any(|f| !f.mended);
    Ok(if left { ExitCode::from(LEFT) } else { ExitCode::SUCCESS })
}

fn finding(f: &Finding) -> serde_json::Value {
    let path = f.path.to_string_lossy();
    let kind = f.kind.name();
    let all =
        serde_json::json!({"kind": kind, "path": path, "detail": f.detail, "mended": f.mended});
    with_bytes(all, &f.path)
}

fn change(args: &ConvertArgs) -> Result<ExitCode> {
    let form = args.whiteouts.map(|w| match w {
        WhiteoutForm::Device => Form::Device,
        WhiteoutForm::Attribute => Form::Attribute,
        WhiteoutForm::DotWh => Form::DotWh,
    });
    let prefix = args.marks.map(|m| match m {
        Namespace::Trusted => Prefix::Trusted,
        Namespace::User => Prefix::User,
    });
    let done = convert(&args.layer, args.work.as_deref(), Wanted { form, prefix })?;
    let mut out = io::stdout().lock();
    writeln!(out, "{} whiteouts and {} marks converted", done.whiteouts, done.marks)?;
    if done.dropped > 0 {
        eprintln!(
            "unionctl: warning: {} marks of symlinks and nodes were dropped: they can't have user attributes",
            done.dropped
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes a list of directories apart at colons that no backslash protects.
fn split(list: &OsString) -> std::result::Result<Vec<PathBuf>, String> {
    let mut all = vec![Vec::new()];
    let mut bytes = list.as_bytes().iter().copied();
    while let Some(b) = bytes.next() {
        match (b, all.last_mut()) {
            (b':', _) => all.push(Vec::new()),
            (b'\\', Some(last)) => last.extend(bytes.next()),
            (b, Some(last)) => last.push(b),
            (_, None) => {}
        }
    }
    if all.iter().any(Vec::is_empty) {
        return Err("a list of directories with an empty name: write DIR:DIR".into());
    }
    Ok(all.into_iter().map(|p| PathBuf::from(OsString::from_vec(p))).collect())
}
