//! How large the work is: quick, default, full.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A size for all suites at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// To see that it works.
    Quick,
    /// All suites and subjects within ten minutes on two processors.
    Default,
    /// What published figures should be of.
    Full,
}

/// The sizes of everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scale {
    /// `quick`, `default` or `full`.
    pub(crate) name: String,
    /// Files of the tree for real work; 12,000 are 200 MB.
    pub(crate) tree: u32,
    /// Files of the directory for single operations.
    pub(crate) flat: u32,
    /// Files that are made and removed one by one.
    pub(crate) created: u32,
    /// Times that warm operations are repeated over that directory.
    pub(crate) repeats: u32,
    /// Bytes of the file for I/O.
    pub(crate) big: u64,
    /// Random rewrites of 4 KiB.
    pub(crate) rewrites: u32,
    /// Lower files that are appended to.
    pub(crate) appended: u32,
    /// Directory of the tree that goes into a git repository, and that each of several jobs copies: 60
    /// files or 1,200.
    pub(crate) part: String,
    /// C files to compile.
    pub(crate) sources: u32,
    /// Files of packages to install.
    pub(crate) packaged: u32,
    /// Transactions of SQLite.
    pub(crate) transactions: u32,
    /// Sizes of files that are copied up.
    pub(crate) copyups: Vec<u64>,
    /// Numbers of layers.
    pub(crate) layers: Vec<u32>,
    /// Entries of directories.
    pub(crate) directories: Vec<u32>,
    /// Files for memory per inode.
    pub(crate) known: u32,
    /// Operations of each thread of many.
    pub(crate) threaded: u32,
    /// Reads of each reader of /proc.
    pub(crate) reads: u32,
    /// Files of images that containers are committed of.
    pub(crate) images: Vec<u32>,
    /// Files of the context that engines build an image of.
    pub(crate) context: u32,
    /// Numbers of containers that read /proc.
    pub(crate) containers: Vec<u32>,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Scale {
    /// Returns the sizes of one name.
    pub(crate) fn new(size: Size) -> Scale {
        match size {
            Size::Quick => Scale {
                name: "quick".into(),
                tree: 120,
                flat: 100,
                created: 100,
                repeats: 2,
                big: 8 * MIB,
                rewrites: 400,
                appended: 40,
                part: "d00/s000".into(),
                sources: 4,
                packaged: 20,
                transactions: 10,
                copyups: vec![4 * KIB, MIB],
                layers: vec![1, 10],
                directories: vec![10, 1_000],
                known: 1_000,
                threaded: 100,
                reads: 50,
                images: vec![100],
                context: 200,
                containers: vec![1, 10],
            },
            Size::Default => Scale {
                name: "default".into(),
                tree: 180,
                flat: 400,
                created: 200,
                repeats: 3,
                big: 16 * MIB,
                rewrites: 1_000,
                appended: 80,
                part: "d00/s000".into(),
                sources: 1,
                packaged: 300,
                transactions: 20,
                copyups: vec![4 * KIB, 64 * KIB, MIB, 16 * MIB],
                layers: vec![1, 10, 50, 200],
                directories: vec![10, 100, 1_000, 10_000],
                known: 5_000,
                threaded: 200,
                reads: 100,
                images: vec![300, 3_000],
                context: 3_000,
                containers: vec![1, 10, 50],
            },
            Size::Full => Scale {
                name: "full".into(),
                tree: 12_000,
                flat: 1_000,
                created: 10_000,
                repeats: 10,
                big: 512 * MIB,
                rewrites: 40_000,
                appended: 3_000,
                part: "d00".into(),
                sources: 60,
                packaged: 3_000,
                transactions: 300,
                copyups: [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
                    .map(|shift| KIB << shift)
                    .into_iter()
                    .chain([4 * KIB * MIB])
                    .collect(),
                layers: vec![1, 2, 5, 10, 20, 50, 100, 200, 350, 500],
                directories: vec![10, 100, 1_000, 10_000, 100_000, 1_000_000],
                known: 200_000,
                threaded: 400,
                reads: 200,
                images: vec![1_000, 10_000, 100_000],
                context: 30_000,
                containers: vec![1, 10, 50, 100, 250, 500],
            },
        }
    }
}
