//! docs/procfs-values.md: what was measured, written down, and read back.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use super::Row;
use super::measure::{Measured, Shown};

/// A kind of machine: a part of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Controllers of cgroup v1, the unified hierarchy beside them.
    Hybrid,
    /// The unified hierarchy alone, in a virtual machine.
    V2,
}

/// What a measurement says against the page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Figures of procfs-shim that are wrong, right against what the page says, or not on it.
    pub ours: Vec<String>,
    /// Figures of lxcfs that are other than on the page. No failure: the peer's counters are sometimes
    /// near the truth by chance, and it is not ours to say when.
    pub peers: Vec<String>,
}

impl Differences {
    /// Says what the peer's figures do otherwise, and returns what is a failure.
    #[must_use]
    pub fn failures(self) -> Vec<String> {
        for peer in &self.peers {
            eprintln!("not as on the page: {peer}");
        }
        self.ours
    }
}

impl Part {
    fn title(self) -> &'static str {
        match self {
            Part::Hybrid => "## cgroup v1 and hybrid",
            Part::V2 => "## cgroup v2",
        }
    }
}

/// What the page says of lxcfs, by load, file, figure and tool.
pub type Verdicts = BTreeMap<[String; 4], String>;

const HEAD: &str = "\
# Values of /proc, beside lxcfs

What tools show in a container under load, through the kernel's own files, through procfs-shim, and
through Debian's lxcfs (with `-l --enable-cfs --enable-pidfd`). Two tests measure all of it anew
whenever they run. Each figure of procfs-shim has to be right, or they fail; where one of lxcfs is no longer
right or wrong as it is here, they say so. They write this page when they are asked to:

    PALIMPSEST_WRITE_VALUES=1 cargo test -p tests --test procfs beside
    PALIMPSEST_WRITE_VALUES=1 cargo test -p tests --test guest

The expected value is computed from the counters of the container's cgroup, read before and after the
tool runs; where it changes in between, both are given. Tools run inside the container and use its memory
and time, too, which is part of the slack. A figure of procfs-shim counts as wrong if it is wrong four
times in turn; where lxcfs is now right and now wrong, the page says how it was this time. Values are
those of one run.

A figure in *italics* isn't right: its row says why, and the test fails on the day on which it is.
`busybox` asks sysinfo(2) for some of its figures, and `ps` the kernel for start times: no file can make
those right, but for containers of `runner`, which have a time namespace.
";

/// Returns where the page is.
pub fn path() -> PathBuf {
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package is in a workspace").join("docs/procfs-values.md")
}

/// Returns the page with one part written anew.
pub fn with_part(old: &str, part: Part, versions: &str, rows: &[(&str, Vec<Measured>)]) -> String {
    let mut page = HEAD.to_owned();
    for each in [Part::Hybrid, Part::V2] {
        let body = if each == part { render(versions, rows) } else { body(old, each).to_owned() };
        if !body.is_empty() {
            write!(page, "\n{}\n\n{}\n", each.title(), body.trim()).expect("write to a string");
        }
    }
    page
}

fn body(page: &str, part: Part) -> &str {
    let start = page.find(part.title()).map(|at| at + part.title().len());
    let rest = start.map_or("", |at| &page[at..]);
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

fn render(versions: &str, rows: &[(&str, Vec<Measured>)]) -> String {
    let mut text = format!("{versions}\n");
    for (load, measured) in rows {
        write!(
            text,
            "\n### {load}\n\n| file | figure | tool | expected | kernel | procfs-shim | lxcfs |\n\
             |---|---|---|---|---|---|---|\n"
        )
        .expect("write to a string");
        for m in measured {
            writeln!(text, "{}", line(m)).expect("write to a string");
        }
    }
    text
}

fn line(measured: &Measured) -> String {
    let row = &measured.row;
    let [kernel, ours, peer] = &measured.shown[..] else { panic!("three columns") };
    let value = |shown: &Option<Shown>| match shown {
        Some(shown) => shown.text.replace('|', "\\|"),
        None => "-".to_owned(),
    };
    let expected = ours.as_ref().map_or_else(String::new, |s| s.expected.clone());
    let shown = match row.limit {
        Some(why) => format!("*{}*: {why}", value(ours)),
        None => value(ours),
    };
    let peer = match verdict(row.steady, peer.as_ref()) {
        "-" => "-".to_owned(),
        verdict => format!("{verdict}: {}", value(peer)),
    };
    format!(
        "| {} | {} | {} | {expected} | {} | {shown} | {peer} |",
        row.file,
        row.figure,
        row.tool,
        value(kernel)
    )
}

/// Returns what the page says of an answer.
pub fn verdict(steady: bool, shown: Option<&Shown>) -> &'static str {
    match shown {
        None => "-",
        Some(shown) if !steady && shown.right => "right this time",
        Some(_) if !steady => "wrong this time",
        Some(shown) if shown.right => "right",
        Some(_) => "**wrong**",
    }
}

/// Returns what a part of the page says of lxcfs.
pub fn read(page: &str, part: Part) -> Verdicts {
    let mut verdicts = Verdicts::new();
    let mut load = "";
    for line in body(page, part).lines() {
        load = line.strip_prefix("### ").unwrap_or(load);
        // A value may hold an escaped bar.
        let plain = line.replace("\\|", "");
        let fields: Vec<_> = plain.split('|').map(str::trim).collect();
        let [_, file, figure, tool, _, _, _, peer, _] = fields[..] else { continue };
        if ["file", "---"].contains(&file) {
            continue;
        }
        let verdict = peer.split(':').next().unwrap_or_default();
        let key = [load, file, figure, tool].map(str::to_owned);
        verdicts.insert(key, verdict.to_owned());
    }
    verdicts
}

/// Compares what was measured with what has to be and with what the page says.
/// What another kernel or another lxcfs does is not compared.
pub fn differences(
    page: &str,
    part: Part,
    versions: &str,
    rows: &[(&str, Vec<Measured>)],
) -> Differences {
    let recorded = read(page, part);
    let comparable = body(page, part).lines().any(|line| line == versions);
    if !comparable {
        eprintln!("the page was measured with other versions: lxcfs's figures are not compared");
    }
    let mut found = Differences::default();
    for (load, measured) in rows {
        for Measured { row, shown } in measured {
            let [_, Some(ours), peer] = &shown[..] else { continue };
            let key = [*load, row.file, row.figure, row.tool].map(str::to_owned);
            let recorded = recorded.get(&key).map(String::as_str);
            let missing = (recorded.is_none()).then(|| "is not on the page".to_owned());
            let name = format!("{load}: {} {} by {}", row.file, row.figure, row.tool);
            let named = |how: String| format!("{name} {how}");
            found.ours.extend([missing, of_ours(row, ours)].into_iter().flatten().map(named));
            let was = recorded.filter(|_| comparable);
            found.peers.extend(was.and_then(|was| of_peer(row, peer.as_ref(), was)).map(named));
        }
    }
    found
}

fn of_ours(row: &Row, ours: &Shown) -> Option<String> {
    let Shown { text, right, expected } = ours;
    match (right, row.limit) {
        (true, None) | (false, Some(_)) => None,
        // By chance, where the machine's figure is now and then the container's.
        (true, Some(_)) if !row.steady => None,
        (true, Some(_)) => Some(format!("is right by now: {text}")),
        (false, None) => Some(format!("is wrong: {text}, expected {expected}")),
    }
}

fn of_peer(row: &Row, peer: Option<&Shown>, was: &str) -> Option<String> {
    let peer = peer?;
    let is = verdict(row.steady, Some(peer));
    let Shown { text, expected, .. } = peer;
    (row.steady && was != is)
        .then(|| format!("by lxcfs is {is} and not {was}: {text}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::super::ROW;
    use super::*;

    fn measured(ours: &str, peer: &str) -> Vec<(&'static str, Vec<Measured>)> {
        let shown = |text: &str| {
            let (text, expected) = (text.to_owned(), "1".to_owned());
            Some(Shown { right: text == "1", text, expected })
        };
        let row = Row { file: "f", figure: "x", tool: "t", ..ROW };
        vec![("a load", vec![Measured { row, shown: vec![None, shown(ours), shown(peer)] }])]
    }

    #[test]
    fn a_page_is_read_as_it_was_written_and_its_parts_are_kept() {
        let page = with_part("", Part::V2, "Measured with this.", &measured("1", "1"));
        let page = with_part(&page, Part::Hybrid, "Measured with that.", &measured("1", "2|3"));
        let key = ["a load", "f", "x", "t"].map(str::to_owned);
        assert_eq!(read(&page, Part::V2).get(&key).map(String::as_str), Some("right"));
        assert_eq!(read(&page, Part::Hybrid).get(&key).map(String::as_str), Some("**wrong**"));
    }

    #[test]
    fn what_differs_is_said() {
        let page = with_part("", Part::V2, "Measured with this.", &measured("1", "2"));
        let differences = |versions, ours, peer| {
            let found = differences(&page, Part::V2, versions, &measured(ours, peer));
            (found.ours.len(), found.peers.len())
        };
        assert_eq!(differences("Measured with this.", "1", "2"), (0, 0));
        assert_eq!(differences("Measured with this.", "2", "2"), (1, 0));
        assert_eq!(differences("Measured with this.", "1", "1"), (0, 1));
        assert_eq!(differences("Measured with that.", "1", "1"), (0, 0));
        assert_eq!(differences("Measured with that.", "2", "1"), (1, 0));
    }
}
