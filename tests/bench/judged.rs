//! Subjects that are missing, wrong or slow.

use support::Scratch;
use support::privilege::{installed, root};
use support::require;

use super::{UNIONFS, bench_run, out, records, script, succeed};

#[test]
fn a_missing_subject_is_listed_with_its_reason() {
    require!("a_missing_subject_is_listed_with_its_reason", root());
    let scratch = Scratch::new();
    let broken = scratch.path().join("broken");
    script(
        &broken,
        "[ \"$1\" = --version ] && echo broken 1 && exit\necho no device >&2; exit 7\n",
    );
    let broken = format!("broken={}", broken.display());
    succeed(
        bench_run(
            &scratch,
            &["--rounds", "1", "--no-costs", "--suite", "ops/reads", "--subject", "bare"],
        )
        .args(["--subject", "ghost=/nowhere/ghost", "--subject", &broken]),
    );
    let absent = records(&out(&scratch), "absent");
    let why = |name: &str| {
        let of = absent.iter().find(|a| a["name"] == name);
        of.and_then(|a| a["why"].as_str()).unwrap_or("not listed").to_owned()
    };
    assert_eq!(why("ghost"), "/nowhere/ghost: no such program");
    assert!(why("broken").ends_with("exit status: 7: no device"), "{}", why("broken"));
    let subjects = records(&out(&scratch), "subject");
    assert_eq!(subjects.len(), 1, "{subjects:?}");
    for report in ["report.md", "report.html"] {
        let text = std::fs::read_to_string(out(&scratch).join(report)).expect("a report");
        assert!(text.contains("ghost") && text.contains("no such program"), "{report}: {text}");
    }
}

#[test]
fn a_subject_that_corrupts_a_file_voids_its_row() {
    require!("a_subject_that_corrupts_a_file_voids_its_row", root());
    let scratch = Scratch::new();
    let corrupt = scratch.path().join("corrupt");
    // A union whose lower layer is a copy with one byte changed in one file of the tree.
    script(
        &corrupt,
        &format!(
            "[ \"$1\" = --version ] && echo corrupt 1 && exit\n\
         data=$2 point=$3\n\
         lower=${{data#lowerdir=}} lower=${{lower%%,*}} rest=${{data#*,}}\n\
         copy=$(dirname \"$point\")/copy\n\
         cp -a \"$lower\" \"$copy\" || exit 1\n\
         for f in \"$copy\"/tree/d00/s000/file-00003 \"$copy\"/flat/file-00003; do\n\
         [ -e \"$f\" ] && printf X | dd of=\"$f\" bs=1 seek=100 conv=notrunc status=none\n\
         done\n\
         exec {UNIONFS} -o \"lowerdir=$copy,$rest\" \"$point\"\n"
        ),
    );
    let corrupt = format!("corrupt={}", corrupt.display());
    succeed(
        bench_run(
            &scratch,
            &[
                "--rounds",
                "1",
                "--no-costs",
                "--suite",
                "work/lower tree, read",
                "--suite",
                "ops/reads",
            ],
        )
        .args(["--subject", "unionfs", "--subject", &corrupt]),
    );
    let rows = records(&out(&scratch), "row");
    let of = |subject: &str, case: &str| {
        let row = rows.iter().find(|r| r["subject"] == subject && r["case"] == case);
        row.unwrap_or_else(|| panic!("no row of {subject} for {case}: {rows:?}")).clone()
    };
    for case in ["read all files, warm", "open-read-close, cold", "open-read-close, warm"] {
        let wrong = of("corrupt", case);
        let why = wrong["error"].as_str().unwrap_or("no error");
        assert!(wrong["value"].is_null() && why.starts_with("void: "), "{case}: {wrong}");
        let right = of("unionfs", case);
        assert!(right["value"].is_f64() && right.get("error").is_none(), "{case}: {right}");
    }
    // What doesn't look at contents isn't touched by it.
    assert!(of("corrupt", "find -ls, warm")["value"].is_f64());
    let report = std::fs::read_to_string(out(&scratch).join("report.md")).expect("a report");
    assert!(report.contains("void: the result differs"), "{report}");
}

#[test]
fn a_subject_that_is_three_times_slower_is_measured_so() {
    require!(
        "a_subject_that_is_three_times_slower_is_measured_so",
        root(),
        installed("cc"),
        installed("unshare"),
    );
    let scratch = Scratch::new();
    let starter = |name: &str, seconds: &str| {
        // Named so that it is taken for one; what it needs is time, not the processor's.
        let path = scratch.path().join(name).join("runc");
        script(
            &path,
            &format!(
                "case $1 in --version) echo runc {name};; spec) echo {{}} > config.json;;\n\
             *) sleep {seconds};; esac\n"
            ),
        );
        path.display().to_string()
    };
    let (peer, slow) = (starter("peer", "0.2"), starter("slow", "0.6"));
    succeed(
        bench_run(
            &scratch,
            &[
                "--rounds",
                "2",
                "--no-costs",
                "--suite",
                "start",
                "--subject",
                &format!("runc={peer}"),
            ],
        )
        .args(["--subject", &format!("slow={slow}")]),
    );
    let csv = std::fs::read_to_string(out(&scratch).join("results.csv")).expect("a table");
    let column = |name: &str| {
        let header = csv.lines().next().expect("a header");
        header.split(',').position(|c| c == name).unwrap_or_else(|| panic!("no {name}: {header}"))
    };
    let line = csv.lines().find(|l| l.contains(",slow,")).unwrap_or_else(|| panic!("{csv}"));
    // The name of the case has a comma in quotes: count from the end.
    let fields: Vec<_> = line.rsplit(',').collect();
    let from_end = csv.lines().next().map_or(0, |h| h.split(',').count()) - 1 - column("ratio");
    let ratio: f64 = fields[from_end].parse().unwrap_or_else(|e| panic!("{e}: {line}"));
    // Starting the shells costs both the same, which makes the ratio a little smaller.
    assert!((2.3..3.2).contains(&ratio), "{ratio}: {line}");
}
