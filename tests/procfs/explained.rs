//! `explain` and `doctor`: what they say is what the daemon does.

use std::process::{Command, Output};

use serde_json::Value;
use support::require;

use crate::container::{Container, Limits, Namespaces, v1_controllers};
use crate::seen::MIB;
use crate::shim::PROGRAM;

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().expect("run the program")
}

fn json(args: &[&str]) -> Value {
    let out = run(args);
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&out.stderr)))
}

#[test]
fn a_figure_is_explained_with_the_files_that_were_read() {
    require!("a_figure_is_explained_with_the_files_that_were_read", v1_controllers());
    let limits = Limits { memory: Some(64 * MIB), ..Limits::default() };
    let container = Container::start_bare(&limits, Namespaces::Own);
    let pid = container.init().to_string();
    let told = json(&["explain", "meminfo", "MemTotal", "--json", "--pid", &pid]);
    assert_eq!(told[0]["fields"][0]["value"], "65536 kB", "{told}");
    let reads = told[0]["reads"].as_array().expect("reads");
    let is_limit = |r: &&Value| r.as_str().is_some_and(|r| r.ends_with("memory.limit_in_bytes"));
    assert!(reads.iter().any(|r| is_limit(&r)), "{told}");
    let words = run(&["explain", "meminfo", "MemTotal", "--pid", &pid]);
    assert!(String::from_utf8_lossy(&words.stdout).contains("MemTotal = 65536 kB  <- memory."));
    let all = json(&["explain", "--json", "--pid", &pid]);
    for file in all.as_array().expect("files") {
        let formulas = file["fields"].as_array().expect("fields");
        assert!(formulas.iter().all(|f| f["formula"].as_str().is_some_and(|t| !t.is_empty())));
    }
}

#[test]
fn what_is_not_served_is_not_explained() {
    for args in [&["explain", "nonsense"][..], &["explain", "meminfo", "Nonsense"]] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&out.stderr).lines().count(), 1);
    }
}

#[test]
fn the_doctor_names_each_controller_and_what_follows() {
    let told = json(&["doctor", "--json"]);
    let all = told.as_array().expect("findings");
    for name in ["memory", "cpu", "cpuacct", "cpuset", "blkio", "pressure", "/dev/fuse", "resend"] {
        let finding = all.iter().find(|f| f["what"] == name).expect(name);
        assert!(finding["so"].as_str().is_some_and(|so| !so.is_empty()));
    }
    let is_fine = all.iter().all(|f| f["fine"] == true);
    assert_eq!(run(&["doctor"]).status.code(), Some(i32::from(!is_fine)));
}
