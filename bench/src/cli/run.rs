//! `bench run`: measures and reports.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use nix::unistd::{Uid, User};

use super::list::ListArgs;
use crate::bed::scale::{Scale, Size};
use crate::record::Absent;
use crate::run::{self, Identity, Plan};
use crate::subject::find::{Found, Ours, Search, in_path};
use crate::suite::{self, Block, tree};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) choice: ListArgs,
    /// What to do: a suite or a block of it (`work`, `work/git`); may be given several times
    /// [default: all but those that `bench list` marks; with --full, all]
    #[arg(long = "suite", value_name = "NAME")]
    pub(super) suites: Vec<String>,
    /// What to compare: a name that `bench list` has, NAME=/path/to/program[,OPTION…] or
    /// NAME=SUBJECT[,OPTION…]; NAME@user is rootless; may be given several times [default: all]
    #[arg(long = "subject", value_name = "NAME")]
    pub(super) subjects: Vec<String>,
    /// Compare with this subject instead of overlay, lxcfs or runc: one of those that are measured.
    #[arg(long, value_name = "NAME")]
    pub(super) peer: Option<String>,
    /// How often everything is repeated.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: u32,
    /// How large the work is.
    #[arg(long, value_enum, default_value_t = Size::Default, conflicts_with_all = ["full", "quick"])]
    pub(super) size: Size,
    /// The same as --size full: 12,000 files, 512 MiB, 500 layers; takes hours with all subjects.
    #[arg(long, conflicts_with = "quick")]
    pub(super) full: bool,
    /// The same as --size quick: to see that it works.
    #[arg(long)]
    pub(super) quick: bool,
    /// Files of the tree for real work, instead of the size's own number.
    #[arg(long, value_parser = clap::value_parser!(u32).range(60..))]
    pub(super) files: Option<u32>,
    /// Begin no round that would end later than this many minutes from the start
    /// [default: 10 for the default size, else none]
    #[arg(long, value_name = "MINUTES")]
    pub(super) budget: Option<f64>,
    /// Where to put layers and mount points; decides on which file system they are.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub(super) dir: PathBuf,
    /// Where to write records and reports [default: bench-DATE in the working directory]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Seed of all random choices.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Don't count messages and system calls.
    #[arg(long)]
    pub(super) no_costs: bool,
    /// Empty the caches of the whole machine before work that begins cold, for all who use it: entries and inodes
    /// of the backing file system come from the disk as well, and not the contents alone. Needs root, and no
    /// subject of a user.
    #[arg(long)]
    pub(super) drop_caches: bool,
}

/// Measures as asked; returns false if a signal ended it before.
pub(super) fn run(args: &RunArgs) -> Result<bool, String> {
    let dir = std::fs::canonicalize(&args.dir)
        .map_err(|e| format!("--dir {}: {e}: give a directory", args.dir.display()))?;
    let size = match (args.full, args.quick) {
        (true, _) => Size::Full,
        (_, true) => Size::Quick,
        _ => args.size,
    };
    let (blocks, lacking) = able_blocks(chosen_blocks(&args.suites, size)?);
    let mut scale = Scale::new(size);
    scale.tree = args.files.unwrap_or(scale.tree);
    let budget = args.budget.or_else(|| (size == Size::Default).then_some(10.0));
    let budget = budget
        .map(|minutes| Duration::try_from_secs_f64(minutes * 60.0))
        .transpose()
        .map_err(|_| "--budget: give a number of minutes, 0 or more".to_owned())?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => Path::new(".").join(format!("bench-{}", today())),
    };
    let mut subjects = chosen_subjects(&args.choice, &args.subjects);
    subjects.extend(lacking.into_iter().map(Err));
    let named = |peer: &String| subjects.iter().flatten().any(|s| s.name == *peer);
    if let Some(peer) = args.peer.as_ref().filter(|peer| !named(peer)) {
        return Err(format!("--peer {peer}: no subject of this run is called so: see --subject"));
    }
    if args.drop_caches {
        may_drop_caches(&subjects)?;
    }
    run::run(Plan {
        subjects,
        blocks,
        scale,
        rounds: args.rounds,
        budget,
        dir,
        out,
        seed: args.seed,
        user: args.choice.identity().ok(),
        peer: args.peer.clone(),
        costs: !args.no_costs,
        drop_caches: args.drop_caches,
    })
}

fn may_drop_caches(subjects: &[Found]) -> Result<(), String> {
    if let Some(subject) = subjects.iter().flatten().find(|s| s.rootless) {
        return Err(format!(
            "--drop-caches: {} is a user's, who may not: name subjects by --subject",
            subject.name
        ));
    }
    let switch = std::fs::OpenOptions::new().write(true).open(tree::DROP_CACHES);
    switch.map(drop).map_err(|e| format!("--drop-caches: {}: {e}: be root", tree::DROP_CACHES))
}

fn today() -> String {
    let out = std::process::Command::new("date").arg("+%Y-%m-%d-%H%M").output();
    let text = out.map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout).into_owned());
    text.trim().to_owned()
}

fn chosen_blocks(names: &[String], size: Size) -> Result<Vec<Block>, String> {
    let all = suite::all();
    if names.is_empty() {
        return Ok(all.into_iter().filter(|b| !b.extra || size == Size::Full).collect());
    }
    for name in names {
        if !all.iter().any(|b| b.is_called(name)) {
            return Err(format!("--suite {name}: no suite is called so: see `bench list`"));
        }
    }
    Ok(all.into_iter().filter(|b| names.iter().any(|n| b.is_called(n))).collect())
}

/// Parts blocks from those that lack a program, which are reported.
fn able_blocks(blocks: Vec<Block>) -> (Vec<Block>, Vec<Absent>) {
    let mut lacking = Vec::new();
    let able = blocks.into_iter().filter(|block| {
        let missing = block.needs.iter().find(|program| in_path(program).is_none());
        if let Some(program) = missing {
            let name = format!("{}/{}", block.suite, block.name);
            lacking.push(Absent { name, why: format!("{program} is not installed") });
        }
        missing.is_none()
    });
    (able.collect(), lacking)
}

/// Returns the subjects that were asked for, or all.
pub(super) fn chosen_subjects(choice: &ListArgs, names: &[String]) -> Vec<Found> {
    let ours: Ours = choice.ours();
    let is_root = Uid::effective().is_root();
    let as_user = match (is_root, choice.identity()) {
        (false, _) => Err("only root can become another user: without @user, all is rootless"),
        (true, Err(why)) => Err(why),
        (true, Ok(_)) => Ok(()),
    };
    let search = Search { ours: &ours, as_user, is_root };
    match names.is_empty() {
        true => search.all(),
        false => names.iter().map(|name| search.asked(name)).collect(),
    }
}

impl ListArgs {
    /// Returns where our programs are said to be.
    pub(super) fn ours(&self) -> Ours {
        Ours {
            unionfs: self.unionfs.clone(),
            procfs_shim: self.procfs_shim.clone(),
            runner: self.runner.clone(),
        }
    }

    /// Returns the user who is meant by `@user`.
    pub(super) fn identity(&self) -> Result<Identity, &'static str> {
        let find = |name: &str| match User::from_name(name) {
            Ok(Some(user)) if !user.uid.is_root() => Ok(Identity { uid: user.uid, gid: user.gid }),
            _ => Err("there is no such ordinary user: give one with --user NAME"),
        };
        match &self.user {
            Some(name) => find(name),
            None => find("palimpsest-ci").or_else(|_| find("nobody")),
        }
    }
}
