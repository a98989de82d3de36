//! Reads a directory tree, and writes it down as lines that can be compared.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sys::openat::open_at;
use sys::stat::{Stat, stat_at, stat_fd};
use sys::xattr::Target;

use super::line::escape;

/// Files longer than this are shown by their hash.
const SHOWN: u64 = 64;

/// What is shown of a tree besides types, modes, owners, content, links and xattrs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Show {
    /// Show modification times up to this second as they are, and later ones as `now`; a test sets
    /// it to a time before it began, so that two runs compare equal.
    pub mtimes_until: Option<i64>,
    /// Show the link counts of everything but directories (which file systems count differently).
    pub nlink: bool,
    /// Show overlayfs's own attributes, as a layer has them.
    pub marks: bool,
}

/// One object.
#[derive(Clone, Debug)]
pub struct Node {
    /// What stat says.
    pub stat: Stat,
    /// Content of a file as it is shown.
    pub content: String,
    /// Content of a symlink.
    pub target: OsString,
    /// Extended attributes, sorted.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// The first path with the same inode, if there are several.
    pub same_as: Option<PathBuf>,
}

/// A directory tree.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    /// Reads the tree at `root`.
    ///
    /// # Panics
    /// Something in it can't be read: in a tree that tests look at, everything can.
    pub fn read(root: &Path) -> Tree {
        Tree::try_read(root).unwrap_or_else(|e| panic!("read {e}"))
    }

    /// Reads the tree at `root`, or says what can't be read and why.
    ///
    /// # Errors
    /// Path, step and errno of the first failure.
    pub fn try_read(root: &Path) -> Result<Tree, String> {
        let mut nodes = BTreeMap::new();
        read_node(root, Path::new(""), &mut nodes)?;
        let mut first: HashMap<(u64, u64), PathBuf> = HashMap::new();
        for (path, node) in nodes.iter_mut().filter(|(_, n)| !n.stat.is_dir()) {
            let inode = (node.stat.dev, node.stat.ino);
            node.same_as = first.get(&inode).cloned();
            first.entry(inode).or_insert_with(|| path.clone());
        }
        Ok(Tree { nodes })
    }

    /// Returns the objects by path; the root's is empty.
    pub fn nodes(&self) -> &BTreeMap<PathBuf, Node> {
        &self.nodes
    }

    /// Writes the tree down, one line an object, sorted by path.
    pub fn text(&self, show: &Show) -> String {
        self.nodes.iter().map(|(path, node)| line(path, node, show) + "\n").collect()
    }
}

fn read_node(root: &Path, path: &Path, nodes: &mut BTreeMap<PathBuf, Node>) -> Result<(), String> {
    let full = if path.as_os_str().is_empty() { root.to_path_buf() } else { root.join(path) };
    let fail = |what: &str, e: sys::Errno| format!("{what} {}: {}", path.display(), e.desc());
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let fd =
        open_at(nix::fcntl::AT_FDCWD, full.as_os_str(), flags, 0).map_err(|e| fail("open", e))?;
    let stat = stat_fd(&fd).map_err(|e| fail("stat", e))?;
    let content = match stat.is_file() {
        true => content(&full, &stat).map_err(|e| format!("content of {}: {e}", path.display()))?,
        false => String::new(),
    };
    let target = match stat.is_symlink() {
        true => sys::name::readlink(&fd, "".as_ref()).map_err(|e| fail("readlink", e))?,
        false => OsString::new(),
    };
    let xattrs = xattrs(&full).map_err(|e| fail("xattrs of", e))?;
    nodes.insert(path.to_path_buf(), Node { stat, content, target, xattrs, same_as: None });
    if stat.is_dir() {
        let dir = File::open(&full).map_err(|e| format!("opendir {}: {e}", path.display()))?;
        let mut names = Vec::new();
        let each = |e: sys::getdents::Entry<'_>| {
            names.push(e.name.to_owned());
            Ok(())
        };
        sys::getdents::for_each(&dir, each).map_err(|e| fail("readdir", e))?;
        for name in names {
            read_node(root, &path.join(name), nodes)?;
        }
    }
    Ok(())
}

fn content(path: &Path, stat: &Stat) -> std::io::Result<String> {
    let mut file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let mut bytes = Vec::new();
    if stat.size <= SHOWN {
        file.read_to_end(&mut bytes)?;
        let text = escape(&bytes).replace("\\x20", " ");
        // A size that doesn't match what can be read is a defect that must show.
        let size = if bytes.len() as u64 == stat.size { "" } else { " size differs" };
        return Ok(format!("\"{text}\"{size}"));
    }
    let mut hash = DefaultHasher::new();
    let mut block = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let n = file.read(&mut block)?;
        if n == 0 {
            break;
        }
        hash.write(&block[..n]);
        length += n as u64;
    }
    let size = if length == stat.size { "" } else { " size differs" };
    Ok(format!("size={length} hash={:016x}{size}", hash.finish()))
}

fn xattrs(path: &Path) -> sys::Result<BTreeMap<OsString, Vec<u8>>> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let Some(name) = path.file_name() else { return Ok(BTreeMap::new()) };
    let dir = open_at(nix::fcntl::AT_FDCWD, parent.as_os_str(), libc::O_PATH, 0)?;
    let at = Target::At(dir.as_fd(), name);
    let mut all = BTreeMap::new();
    for key in sys::xattr::list(at)? {
        if let Some(value) = sys::xattr::get(at, &key)? {
            all.insert(key, value);
        }
    }
    Ok(all)
}

fn line(path: &Path, node: &Node, show: &Show) -> String {
    let stat = &node.stat;
    let path = match path.as_os_str().is_empty() {
        true => ".".to_owned(),
        false => escape(path.as_os_str().as_bytes()),
    };
    let mut out = format!("{} {path}", letter(stat));
    if !stat.is_symlink() {
        out += &format!(" {:04o}", stat.mode & 0o7777);
    }
    out += &format!(" {}:{}", stat.uid, stat.gid);
    if stat.is_file() {
        out += &format!(" {}", node.content);
    }
    if stat.is_symlink() {
        out += &format!(" ->{}", escape(node.target.as_bytes()));
    }
    if matches!(stat.kind(), libc::S_IFCHR | libc::S_IFBLK) {
        let (major, minor) = (libc::major(stat.rdev), libc::minor(stat.rdev));
        out += &format!(" dev={major}:{minor}");
    }
    if let Some(other) = &node.same_as {
        out += &format!(" same-as={}", escape(other.as_os_str().as_bytes()));
    }
    if show.nlink && !stat.is_dir() {
        out += &format!(" nlink={}", stat.nlink);
    }
    if let Some(until) = show.mtimes_until {
        out += &match stat.mtime.sec <= until {
            true => format!(" mtime={}.{}", stat.mtime.sec, stat.mtime.nsec),
            false => " mtime=now".to_owned(),
        };
    }
    for (key, value) in &node.xattrs {
        let key = escape(key.as_bytes());
        let mark = ["trusted.overlay.", "user.overlay.", "user.fuseoverlayfs."];
        if show.marks || !mark.iter().any(|m| key.starts_with(m)) {
            out += &format!(" x:{key}={}", escape(value));
        }
    }
    out
}

fn letter(stat: &Stat) -> char {
    match stat.kind() {
        libc::S_IFDIR => 'd',
        libc::S_IFREG => 'f',
        libc::S_IFLNK => 'l',
        libc::S_IFIFO => 'p',
        libc::S_IFSOCK => 's',
        libc::S_IFCHR => 'c',
        _ => 'b',
    }
}

/// Returns whether each directory of the tree lists its entries with the inode number and type that
/// stat gives them; the first that doesn't, in words.
///
/// # Errors
/// Name, listed and stated inode of the first entry that differs.
pub fn listing_agrees_with_stat(root: &Path) -> Result<(), String> {
    let dir = File::open(root).map_err(|e| format!("open {}: {e}", root.display()))?;
    let mut entries = Vec::new();
    let each = |e: sys::getdents::Entry<'_>| {
        entries.push((e.name.to_owned(), e.ino, e.kind));
        Ok(())
    };
    sys::getdents::for_each(&dir, each).map_err(|e| format!("list {}: {e}", root.display()))?;
    for (name, ino, kind) in entries {
        let path = root.join(&name);
        let stat = stat_at(&dir, &name).map_err(|e| format!("stat {}: {e}", path.display()))?;
        let stated = (stat.kind() >> 12) as u8;
        if ino != stat.ino || kind != stated {
            let path = path.display();
            let (listed, told) = ((ino, kind), (stat.ino, stated));
            return Err(format!("{path}: listed as (ino, type) {listed:?}, stat says {told:?}"));
        }
        if stat.is_dir() {
            listing_agrees_with_stat(&path)?;
        }
    }
    Ok(())
}
