//! docs/compatibility.md: rendered, and its cells read back.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{SECTIONS, Section, measured};
use crate::subjects::Body;

/// The columns: what the page calls a subject, and its name in the environment of a run.
pub(crate) const COLUMNS: [(&str, &str); 4] = [
    ("unionfs", "ours"),
    ("overlayfs", "kernel"),
    ("overlayfs, all on", "kernel-all"),
    ("fuse-overlayfs", "fuse-overlayfs"),
];

/// The answers: by test (`FILE::NAME`) one for each column.
pub(crate) type Cells = BTreeMap<String, [String; 4]>;

const HEAD: &str = "\
# Compatibility

What a union file system does, by test: each row is a test of `tests/union` that was run on four file
systems. This page is written by

    PALIMPSEST_CI=1 PALIMPSEST_WRITE_MATRIX=1 cargo test -p tests --test union matrix::the_page

and a test fails where its rows, or the answers for unionfs, aren't those of the suite.

- **unionfs**: ours, with its default options unless the row says otherwise.
- **overlayfs**: the kernel's, with its default options.
- **overlayfs, all on**: the same with `redirect_dir=on,index=on,xino=on,metacopy=on`.
- **fuse-overlayfs**: Debian's package.

`yes`: all that the test asserts is so. `no`: something isn't, or the daemon hangs or dies; where a row
is about the absence of an optional feature, that is no fault. `-`: the question doesn't arise, as for a
daemon's signals where there is no daemon.
";

/// Returns the page.
pub(crate) fn render(versions: &str, cells: &Cells) -> String {
    let mut page = format!("{HEAD}\n{versions}\n");
    for Section { file, title, lists } in SECTIONS {
        let rows = lists.iter().copied().flatten();
        table(&mut page, title, file, rows, cells);
    }
    page += measured::LIMITS;
    page += measured::BETTER;
    page += "\n## Proven on unionfs alone\n\n| behaviour | test |\n|---|---|\n";
    for test in measured::ALONE {
        let name = test.rsplit("::").next().unwrap_or(test);
        writeln!(page, "| {} | `{test}` |", sentence(name)).expect("write to a string");
    }
    page += "\n## Defects measured in other unions, and the test that would find them in ours\n\n";
    page += "| behaviour | test |\n|---|---|\n";
    for (what, test) in measured::DEFECTS {
        writeln!(page, "| {what} | `{test}` |").expect("write to a string");
    }
    page
}

fn table<'a>(
    page: &mut String,
    title: &str,
    file: &str,
    rows: impl IntoIterator<Item = &'a Body>,
    cells: &Cells,
) {
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let head = format!(
        "\n## {title}\n\n| behaviour | {} | test |\n|---|---|---|---|---|---|\n",
        names.join(" | ")
    );
    page.push_str(&head);
    for body in rows {
        let test = format!("{file}::{}", body.name);
        let none = [(); 4].map(|()| "?".to_owned());
        let answers = cells.get(&test).unwrap_or(&none).join(" | ");
        writeln!(page, "| {} | {answers} | `{test}` |", sentence(body.name))
            .expect("write to a string");
    }
}

/// Returns the answers that a page has, and its line of versions.
pub(crate) fn read(page: &str) -> (String, Cells) {
    let mut cells = Cells::new();
    for line in page.lines() {
        let fields: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, _, a, b, c, d, test, _] = fields[..] else { continue };
        if test.starts_with('`') {
            cells.insert(test.trim_matches('`').to_owned(), [a, b, c, d].map(str::to_owned));
        }
    }
    let versions = page.lines().find(|l| l.starts_with("Measured with ")).unwrap_or("");
    (versions.to_owned(), cells)
}

/// Words that a sentence writes otherwise than the name of a function.
const WORDS: [(&str, &str); 22] = [
    ("rm r", "`rm -r`"),
    ("ls l", "`ls -l`"),
    ("o tmpfile", "O_TMPFILE"),
    ("o rdwr", "O_RDWR"),
    ("dev fd", "/dev/fd"),
    ("acls", "ACLs"),
    ("wal", "WAL"),
    ("exdev", "EXDEV"),
    ("enoent", "ENOENT"),
    ("enodata", "ENODATA"),
    ("enotempty", "ENOTEMPTY"),
    ("sigterm", "SIGTERM"),
    ("sigint", "SIGINT"),
    ("fuse overlayfs", "fuse-overlayfs"),
    ("sqlite", "SQLite"),
    ("noreplace", "NOREPLACE"),
    ("aufs", "AUFS"),
    ("fchmod", "`fchmod`"),
    ("strangers", "stranger's"),
    ("o excl", "O_EXCL"),
    ("copy up", "copy-up"),
    ("copy ups", "copy-ups"),
];

/// Makes a sentence of a test's name.
pub(crate) fn sentence(name: &str) -> String {
    let mut text = format!(" {} ", name.replace('_', " "));
    for (word, written) in WORDS {
        text = text.replace(&format!(" {word} "), &format!(" {written} "));
    }
    let text = text.trim();
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}
