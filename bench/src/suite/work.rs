//! Real work on a tree of programs and sources.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Block;
use super::fixture::{Fixture, TREE};
use super::tree::{evict, files, output, read, succeed};
use crate::bed::checksum::digest;
use crate::bed::{Bed, Times, Use};
use crate::subject::Family;

pub(super) const BLOCKS: &[Block] = &[
    block("new tree", new_tree),
    block("lower tree, read", read_tree),
    block("lower tree, rm", remove_tree),
    block("lower tree, chown", chown_tree),
    block("lower tree, mv", move_files),
    block("lower tree, append", append),
    block("lower tree, jobs", jobs),
    Block { needs: &["git"], ..block("git", git) },
    Block { fixtures: &[Fixture::Sources], needs: &["cc"], ..block("compile", compile) },
    Block { fixtures: &[Fixture::Empty], needs: &["sqlite3"], ..block("sqlite", sqlite) },
];

const fn block(name: &'static str, run: fn(&mut Bed<'_>) -> io::Result<()>) -> Block {
    let fixtures = &[Fixture::Tree, Fixture::Empty];
    Block {
        suite: "work",
        name,
        family: Family::FileSystem,
        kinds: &[],
        fixtures,
        counted: true,
        needs: &[],
        extra: false,
        run,
    }
}

fn find(tree: &Path) -> io::Result<u64> {
    // Of the listing, what is the same everywhere: not numbers and times.
    let format = "%P %y %m %s %l\\n";
    let listed = output(Command::new("find").arg(tree).args(["-printf", format]))?;
    let lines = listed.split(|b| *b == b'\n').filter(|l| !l.starts_with(b" d"));
    // Sizes of directories differ between file systems.
    let lines = lines.filter(|l| !is_directory(l));
    Ok(lines.map(digest).fold(0, u64::wrapping_add))
}

fn is_directory(line: &[u8]) -> bool {
    line.split(|b| *b == b' ').nth(1) == Some(b"d")
}

fn find_ls(tree: &Path) -> io::Result<u64> {
    succeed(Command::new("find").arg(tree).arg("-ls")).map(|()| 0)
}

fn pack(tree: &Path, archive: &Path) -> io::Result<u64> {
    // Not to /dev/null, for which GNU tar reads nothing.
    let mut command = Command::new("tar");
    succeed(command.args(["--sort=none", "-cf"]).arg(archive).arg("-C").arg(tree).arg("."))?;
    // Its length depends on which hard links are seen as such.
    match fs::metadata(archive)?.len() {
        0 => Err(io::Error::other("the archive is empty")),
        _ => Ok(0),
    }
}

fn new_tree(bed: &mut Bed<'_>) -> io::Result<()> {
    let archive = bed.fixture("tree.tar");
    let point = bed.mount(&[bed.fixture("empty")], Use::Write)?;
    let tree = point.join(TREE);
    bed.case("untar").settled().leaves(&tree, Times::Count).measure(|_| {
        succeed(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&point))?;
        Ok(0)
    })?;
    bed.case("find -ls, upper").settled().measure(|_| find_ls(&tree))?;
    bed.case("rm -rf, upper tree").settled().leaves(&tree, Times::Count).measure(|_| {
        succeed(Command::new("rm").arg("-rf").arg(&tree))?;
        Ok(0)
    })
}

fn read_tree(bed: &mut Bed<'_>) -> io::Result<()> {
    let lower = bed.fixture("tree");
    let archive = bed.scratch("tree.tar")?;
    let lower = std::slice::from_ref(&lower);
    let (empty, all) = (bed.fixture("empty"), bed.job.drop_caches);
    let tree = bed.mount(lower, Use::Read)?.join(TREE);
    if all {
        evict(&lower[0], all)?;
        // The program itself shall not come from the disk.
        find_ls(&empty)?;
    }
    bed.case("find -ls, cold").measure(|_| find_ls(&tree))?;
    let tree = bed.mount(lower, Use::Read)?.join(TREE);
    evict(&lower[0], all)?;
    pack(&empty, &archive)?;
    bed.case("tar, cold").measure(|_| pack(&tree, &archive))?;
    bed.case("tar, warm").measure(|_| pack(&tree, &archive))?;
    find(&tree)?;
    bed.case("find -ls, warm").measure(|_| find_ls(&tree))?;
    bed.case("find -printf, warm").measure(|_| find(&tree))?;
    let all = files(&tree)?;
    let mut block = vec![0; 128 << 10];
    bed.case("read all files, warm").leaves(&tree, Times::Count).measure(|t| {
        all.iter().try_fold(0, |sum, path| Ok(sum + t.op(|| read(path, &mut block))?))
    })?;
    fs::remove_file(archive)
}

fn remove_tree(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("tree")], Use::Write)?;
    let tree = point.join(TREE);
    bed.case("rm -rf, lower tree").settled().leaves(&tree, Times::Count).measure(|_| {
        succeed(Command::new("rm").arg("-rf").arg(&tree))?;
        Ok(0)
    })
}

fn chown_tree(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("tree")], Use::Write)?;
    let tree = point.join(TREE);
    bed.case("chown -R, lower tree").settled().leaves(&tree, Times::Count).measure(|_| {
        succeed(Command::new("chown").args(["-R", "1000:1000"]).arg(&tree))?;
        Ok(0)
    })
}

fn move_files(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("tree")], Use::Write)?;
    let tree = point.join(TREE);
    bed.case("mv of lower files").settled().leaves(&tree, Times::Count).measure(|t| {
        let mut moved = 0;
        for path in files(&tree)?.iter().filter(|p| !is_linked(p)).step_by(3).take(100) {
            t.op(|| fs::rename(path, path.with_extension("moved")))?;
            moved += 1;
        }
        Ok(moved)
    })
}

/// Whether a file has two names: where copy-up parts them, as the kernel's does by default, a change
/// through one isn't seen through the other.
fn is_linked(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("hard-") || name.ends_with("50")
}

fn append(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("tree")], Use::Write)?;
    let tree = point.join(TREE);
    let count = bed.job.scale.appended as usize;
    let some: Vec<_> = files(&tree)?.into_iter().filter(|p| !is_linked(p)).take(count).collect();
    bed.case("append to lower files").settled().leaves(&tree, Times::Vary).measure(|t| {
        for path in &some {
            t.op(|| File::options().append(true).open(path)?.write_all(b"one more line\n"))?;
        }
        Ok(some.len() as u64)
    })
}

/// How many jobs work side by side.
const JOBS: usize = 4;

fn jobs(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("tree")], Use::Write)?;
    let from = point.join(TREE).join(bed.job.scale.part.as_str());
    let copies = point.join("copies");
    fs::create_dir(&copies)?;
    bed.case("4 jobs: copy, read, rm").settled().leaves(&point, Times::Vary).measure(|_| {
        let script = "cp -a \"$1\" \"$2\" && find \"$2\" -type f | sort | xargs cat | cksum && rm -rf \"$2\"";
        let start = |n: usize| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh"]).arg(&from).arg(copies.join(n.to_string()));
            std::thread::spawn(move || output(&mut command))
        };
        let started: Vec<_> = (0..JOBS).map(start).collect();
        let mut sum = 0u64;
        for job in started {
            let said = job.join().map_err(|_| io::Error::other("a job panicked"))??;
            sum = sum.wrapping_add(digest(said));
        }
        Ok(sum)
    })
}

fn git(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("tree")], Use::Write)?;
    // The rest stays untracked: the repository begins above the part that is committed.
    let (above, part) = bed.job.scale.part.rsplit_once('/').unwrap_or(("", &bed.job.scale.part));
    let (tree, part) = (point.join(TREE).join(above), part.to_owned());
    bed.case("git init, add, commit, status").settled().measure(|_| {
        git_in(&tree, &["init", "-q"])?;
        git_in(&tree, &["add", &part])?;
        git_in(&tree, &["commit", "-q", "-m", "all"])?;
        let status = git_in(&tree, &["status", "--porcelain"])?;
        Ok(digest((status, git_in(&tree, &["rev-parse", "HEAD"])?)))
    })?;
    // Of the clone that which is checked out: what .git has depends on times and numbers.
    let clone = point.join("clone");
    bed.case("git clone").settled().leaves(&clone.join(&part), Times::Vary).measure(|_| {
        git_in(&tree, &["clone", "-q", "--no-hardlinks", ".", &clone.to_string_lossy()]).map(|_| 0)
    })?;
    bed.case("git status, of a clone")
        .measure(|t| t.op(|| git_in(&clone, &["status", "--porcelain"])).map(digest))
}

/// Runs git without anybody's settings, and returns what it says.
fn git_in(dir: &Path, args: &[&str]) -> io::Result<Vec<u8>> {
    let mut command = Command::new("git");
    let who = ["AUTHOR", "COMMITTER"].into_iter().flat_map(|role| {
        [("NAME", "bench"), ("EMAIL", "bench@localhost"), ("DATE", "@1700000000 +0000")]
            .map(|(what, value)| (format!("GIT_{role}_{what}"), value))
    });
    command.current_dir(dir).envs(who).env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_CONFIG_NOSYSTEM", "1").args(args);
    output(&mut command)
}

fn compile(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("sources")], Use::Write)?;
    let dir = point.join("src");
    let count = bed.job.scale.sources;
    bed.case("compile C files, link").settled().leaves(&dir, Times::Vary).measure(|_| {
        let compiler = |args: &[String]| {
            succeed(Command::new("cc").current_dir(&dir).env("TMPDIR", &dir).args(args))
        };
        let names: Vec<_> = (0..count).map(|n| format!("file{n}")).chain(["main".into()]).collect();
        for name in &names {
            compiler(&["-O1".into(), "-c".into(), format!("{name}.c")])?;
        }
        let mut link: Vec<_> = names.iter().map(|n| format!("{n}.o")).collect();
        link.extend(["-o", "program"].map(str::to_owned));
        compiler(&link)?;
        succeed(&mut Command::new(dir.join("program")))?;
        Ok(0)
    })
}

fn sqlite(bed: &mut Bed<'_>) -> io::Result<()> {
    let point = bed.mount(&[bed.fixture("empty")], Use::Write)?;
    let script: PathBuf = bed.scratch("transactions.sql")?;
    let mut text = String::from("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT);\n");
    for n in 0..bed.job.scale.transactions {
        text.push_str(&format!("BEGIN; INSERT INTO t (text) VALUES ('row {n}'); COMMIT;\n"));
    }
    text.push_str("SELECT count(*), sum(length(text)) FROM t;\n");
    fs::write(&script, text)?;
    let count = bed.job.scale.transactions.into();
    bed.case("SQLite, transactions").settled().ops(count).measure(|_| {
        let mut command = Command::new("sqlite3");
        command.arg(point.join("db")).arg(format!(".read {}", script.display()));
        output(&mut command).map(digest)
    })
}
