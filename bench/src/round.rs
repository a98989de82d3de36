//! A run: rounds of all work on all subjects, interleaved.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::checksum;
use crate::cli::RunArgs;
use crate::measure::{Cost, measure};
use crate::messages;
use crate::report::{Report, Row};
use crate::stop::Stop;
use crate::subject::{Kind, Mounted, Place, Subject};
use crate::tree::{self, Numbers};
use crate::workload::{self, Layer, Workload};

/// Name of the tree in its layer.
const TREE: &str = "tree";

/// What all rounds share.
struct Stage {
    dir: tempfile::TempDir,
    archive: PathBuf,
    checksum: u64,
}

/// Measures as asked and reports.
///
/// # Errors
/// In words for people: the tree can't be made, a subject gives a wrong result.
pub(crate) fn run(args: &RunArgs) -> Result<(), String> {
    let stop = Stop::watch().map_err(|e| format!("signals: {e}"))?;
    let mut report = Report::new(args);
    let kinds = if args.subjects.is_empty() { Kind::value_variants() } else { &args.subjects };
    let mut subjects = Vec::new();
    for kind in kinds {
        match Subject::find(*kind, args) {
            Ok(subject) => subjects.push(subject),
            Err(why) => report.absent(*kind, why),
        }
    }
    let stage = Stage::new(args).map_err(|e| format!("lay out the tree: {e}"))?;
    let mut numbers = Numbers(7);
    for round in 0..args.rounds {
        let mut order = subjects.clone();
        // A new order each round, so that nobody always comes after the same neighbour.
        for i in (1..order.len()).rev() {
            order.swap(i, (numbers.next() % (i as u64 + 1)) as usize);
        }
        let mut rows = Vec::new();
        for subject in &order {
            eprintln!("round {} of {}: {}", round + 1, args.rounds, subject.kind.name());
            let failed = |e: io::Error| format!("{}: {e}", subject.kind.name());
            match stage.measure(subject, round, &stop) {
                Ok(done) => rows.extend(done),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    eprintln!("stopped: finished rounds follow");
                    return report.finish(args, &subjects);
                }
                Err(e) => return Err(failed(e)),
            }
        }
        report.add(rows);
    }
    for subject in subjects.iter().filter(|s| matches!(s.kind, Kind::FuseOverlayfs | Kind::Unionfs))
    {
        let counted = stage.messages(subject).map_err(|e| e.to_string());
        report.messages(subject.kind, counted);
    }
    report.finish(args, &subjects)
}

impl Stage {
    fn new(args: &RunArgs) -> io::Result<Stage> {
        let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(base)?;
        let made = dir.path().join("made");
        fs::create_dir(&made)?;
        tree::make(&made.join(TREE), args.files)?;
        let archive = dir.path().join("tree.tar");
        tree::pack(&made, TREE, &archive)?;
        fs::remove_dir_all(&made)?;
        let lower = dir.path().join("lower");
        fs::create_dir(&lower)?;
        workload::untar(&archive, &lower)?;
        let checksum = checksum::of(&lower.join(TREE))?;
        Ok(Stage { dir, archive, checksum })
    }

    /// Returns new directories for a mount.
    fn place(&self, layer: Layer) -> io::Result<Place> {
        let base = self.dir.path().join("place");
        if base.exists() {
            fs::remove_dir_all(&base)?;
        }
        let make = |name: &str| {
            let path = base.join(name);
            fs::create_dir_all(&path).map(|()| path)
        };
        let lower = match layer {
            Layer::Upper => make("empty")?,
            Layer::Lower => self.dir.path().join("lower"),
        };
        Ok(Place { lower, upper: make("upper")?, work: make("work")?, point: make("mnt")? })
    }

    /// Does all work on one subject.
    fn measure(&self, subject: &Subject, round: u32, stop: &Stop) -> io::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for layer in [Layer::Upper, Layer::Lower] {
            let place = self.place(layer)?;
            let mounted = subject.mount(&place)?;
            if layer == Layer::Lower && subject.kind == Kind::Bare {
                workload::untar(&self.archive, &mounted.point)?;
            }
            for (_, work) in workload::ALL.iter().filter(|(l, _)| *l == layer) {
                self.settle()?;
                let cost = self.work(*work, &mounted)?;
                if stop.asked()? {
                    return Err(io::Error::from(io::ErrorKind::Interrupted));
                }
                rows.push(Row { round, kind: subject.kind, layer, work: *work, cost });
            }
        }
        Ok(rows)
    }

    /// Does one piece of work and checks what it has made.
    fn work(&self, work: Workload, mounted: &Mounted) -> io::Result<Cost> {
        let tree = mounted.point.join(TREE);
        let daemon = mounted.daemon;
        match work {
            Workload::Untar => {
                let cost = measure(daemon, || workload::untar(&self.archive, &mounted.point))?;
                self.check(&tree)?;
                Ok(cost)
            }
            Workload::WarmFind => {
                workload::find(&tree)?;
                measure(daemon, || workload::find(&tree))
            }
            Workload::WarmRead => {
                let files = workload::files(&tree)?;
                workload::read(&files)?;
                measure(daemon, || workload::read(&files))
            }
            Workload::Remove => {
                self.check(&tree)?;
                let cost = measure(daemon, || workload::remove(&tree))?;
                match fs::read_dir(&mounted.point)?.next() {
                    None => Ok(cost),
                    Some(_) => Err(io::Error::other("something is left after rm -rf")),
                }
            }
        }
    }

    fn check(&self, tree: &Path) -> io::Result<()> {
        match checksum::of(tree)? == self.checksum {
            true => Ok(()),
            false => Err(io::Error::other("the tree's checksum is wrong: the result is void")),
        }
    }

    /// Writes back what the work before has left, so that it doesn't weigh on the next.
    fn settle(&self) -> io::Result<()> {
        Ok(sys::copy::syncfs(fs::File::open(self.dir.path())?)?)
    }

    fn messages(
        &self,
        subject: &Subject,
    ) -> io::Result<[(&'static str, messages::PerOperation); 2]> {
        let mounted = subject.mount(&self.place(Layer::Lower)?)?;
        let warm = mounted.point.join(TREE).join("d00/s000/file-00003");
        let scratch = tempfile::tempdir_in(self.dir.path())?;
        messages::count(&mounted.point, scratch.path(), &warm)
    }
}
