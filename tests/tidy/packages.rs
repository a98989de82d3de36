//! Manifests: toolchain, lints, and files that no module declares.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::assert_none;
use crate::source::{Source, sources, words, workspace};

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(workspace())
        .output()
        .expect("run cargo metadata");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON")
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn id(package: &Value) -> String {
    package["id"].as_str().unwrap_or("").to_owned()
}

fn members(metadata: &Value) -> BTreeSet<String> {
    let ids = array(metadata, "workspace_members").iter();
    ids.map(|id| id.as_str().unwrap_or("").to_owned()).collect()
}

fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').filter_map(|p| p.parse().ok()).collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn no_dependency_needs_a_newer_rust_than_we_declare() {
    let metadata = metadata();
    let members = members(&metadata);
    let used: BTreeSet<_> = array(&metadata["resolve"], "nodes").iter().map(id).collect();
    let packages = array(&metadata, "packages");
    let declared = packages.iter().filter(|p| members.contains(&id(p)));
    let declared: BTreeSet<_> =
        declared.map(|p| version(p["rust_version"].as_str().unwrap_or("0"))).collect();
    assert_eq!(declared.len(), 1, "all members declare one rust-version: {declared:?}");
    let declared = declared.into_iter().next().expect("one version");
    let mut broken = Vec::new();
    for package in packages.iter().filter(|p| used.contains(&id(p))) {
        if let Some(needs) = package["rust_version"].as_str()
            && version(needs) > declared
        {
            broken.push(format!("{} {} needs {needs}", package["name"], package["version"]));
        }
    }
    assert_none(&format!("rust-version {declared:?} is enough for all dependencies"), &broken);
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    let metadata = metadata();
    let members = members(&metadata);
    let mut broken = Vec::new();
    for package in array(&metadata, "packages").iter().filter(|p| members.contains(&id(p))) {
        let manifest = package["manifest_path"].as_str().expect("a path");
        let text = std::fs::read_to_string(manifest).expect("a manifest");
        if !text.contains("[lints]\nworkspace = true") {
            broken.push(manifest.to_owned());
        }
    }
    assert_none("lints are the workspace's", &broken);
}

/// Returns the files that cargo compiles by itself.
fn roots() -> BTreeSet<PathBuf> {
    let metadata = metadata();
    let packages = array(&metadata, "packages").iter();
    let targets = packages.flat_map(|p| array(p, "targets"));
    targets.filter_map(|t| t["src_path"].as_str()).map(PathBuf::from).collect()
}

/// Returns where a module's declaration may stand: in the directory's `mod.rs` or root, or in the
/// file called like the directory.
fn parents(file: &Path, roots: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let of_dir = if file.ends_with("mod.rs") { file.parent() } else { Some(file) };
    let dir = of_dir.and_then(Path::parent).expect("a directory");
    let mut all: Vec<_> = roots.iter().filter(|r| r.parent() == Some(dir)).cloned().collect();
    all.extend([dir.join("mod.rs"), dir.with_extension("rs")]);
    all
}

fn declares(source: &Source, module: &str) -> bool {
    words(&source.code, "mod").any(|at| {
        let rest = source.code[at + 3..].trim_start();
        rest.strip_prefix(module).is_some_and(|r| r.trim_start().starts_with(';'))
    })
}

#[test]
fn no_file_is_forgotten() {
    let (sources, roots) = (sources(), roots());
    let mut broken = Vec::new();
    for source in &sources {
        let file = workspace().join(&source.path);
        if roots.contains(&file) || file.ends_with("build.rs") {
            continue;
        }
        let named = if file.ends_with("mod.rs") { file.parent() } else { Some(&*file) };
        let module = named.and_then(Path::file_stem).and_then(|s| s.to_str()).expect("a name");
        let parents = parents(&file, &roots);
        let declared = sources
            .iter()
            .filter(|s| parents.contains(&workspace().join(&s.path)))
            .any(|s| declares(s, module));
        if !declared {
            broken.push(format!("{}: no `mod {module};`", source.path.display()));
        }
    }
    assert_none("every file is a module of its parent", &broken);
}
