//! runner as an OCI runtime: a bundle's life, its limits on one hierarchy of v2 alone, and AppArmor.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::process::run;

use crate::{Check, sh};

pub(crate) const CHECKS: &[Check] = &[
    ("a bundle lives from create to delete", a_bundle_lives_from_create_to_delete),
    ("a bundle's limits are changed", limits_are_changed),
    ("a bundle that uses more than memory and swap ends", too_much_memory_is_the_end),
    ("a bundle uses no device that isn't allowed", devices_are_allowed_one_by_one),
    ("a bundle's profile of AppArmor confines it", a_profile_confines),
    ("a profile that isn't loaded is named", a_profile_that_is_not_loaded_is_named),
];

/// Where bundles are; the root of all is the machine's own.
const HOME: &str = "/var/bundles";
/// The cgroup above those of the containers.
const PARENT: &str = "/sys/fs/cgroup/palimpsest-bundles";

/// Bundles, of which nothing is there at the end.
struct Bundles;

impl Bundles {
    fn new() -> Bundles {
        sh(&format!("mkdir -p {HOME}/rootfs; mount --bind / {HOME}/rootfs"));
        Bundles
    }

    /// Makes a bundle that runs a script.
    fn bundle(&self, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> String {
        let dir = format!("{HOME}/{name}");
        let mut config = config(name, script);
        change(&mut config);
        std::fs::create_dir_all(&dir).expect("make a bundle");
        std::fs::write(format!("{dir}/config.json"), config.to_string())
            .expect("write config.json");
        dir
    }

    /// Runs a container to its end.
    fn run(&self, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> Output {
        let dir = self.bundle(name, script, change);
        oci(&["run", "--bundle", &dir, name])
    }
}

impl Drop for Bundles {
    fn drop(&mut self) {
        // A check that failed half way leaves its container.
        let script = format!(
            "for id in $(runner oci list -q); do runner oci delete --force $id; done; \
             umount {HOME}/rootfs && rm -r {HOME}"
        );
        let out = Command::new("sh").args(["-c", &script]).output();
        if !out.as_ref().is_ok_and(|o| o.status.success()) {
            eprintln!("end of the bundles: {out:?}");
        }
    }
}

fn oci(args: &[&str]) -> Output {
    run(Command::new("/bin/runner").arg("oci").args(args))
}

fn ok(args: &[&str]) -> String {
    let out = oci(args);
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn config(name: &str, script: &str) -> Value {
    let usual = json!(["CAP_KILL", "CAP_MKNOD"]);
    let inert = |kind: &str| {
        json!({
            "destination": format!("/{kind}"), "type": kind, "source": kind, "options": ["nosuid", "noexec", "nodev"],
        })
    };
    let mut sys = inert("sys");
    sys["type"] = json!("sysfs");
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-euc", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": usual, "effective": usual, "permitted": usual },
            "noNewPrivileges": true,
        },
        "root": { "path": format!("{HOME}/rootfs") },
        "mounts": [
            inert("proc"),
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            sys,
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] },
        ],
        "linux": {
            "cgroupsPath": format!("/palimpsest-bundles/{name}"),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "cgroup" }],
        },
    })
}

/// Returns a file of a container's cgroup, without the end of the line.
fn limit(name: &str, file: &str) -> String {
    let path = format!("{PARENT}/{name}/{file}");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

fn status(name: &str) -> String {
    let state: Value = serde_json::from_str(&ok(&["state", name])).expect("the state is JSON");
    state["status"].as_str().expect("a status").to_owned()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..300 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("it did not come to be: {what}");
}

fn a_bundle_lives_from_create_to_delete() {
    let bundles = Bundles::new();
    let script = "echo began > /var/bundles/one/sign; exec sleep 1000";
    let dir = bundles.bundle("one", script, |config| {
        let resources = &mut config["linux"]["resources"];
        resources["memory"] =
            json!({ "limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20 });
        resources["cpu"] = json!({ "quota": 50_000, "period": 100_000, "cpus": "1" });
        resources["pids"] = json!({ "limit": 20 });
        resources["unified"] = json!({ "memory.high": "62914560", "memory.oom.group": "1" });
    });
    ok(&["create", "--bundle", &dir, "one"]);
    assert_eq!(status("one"), "created");
    let sign = Path::new("/var/bundles/one/sign");
    assert!(!sign.exists(), "it began before it was started");
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("memory.high", "62914560"),
        ("memory.oom.group", "1"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus.effective", "1"),
        ("pids.max", "20"),
    ] {
        assert_eq!(limit("one", file), value, "{file}");
    }
    ok(&["start", "one"]);
    until("it begins", || sign.exists());
    assert_eq!(status("one"), "running");
    let cgroup = ok(&["exec", "one", "cat", "/proc/self/cgroup", "/sys/fs/cgroup/pids.max"]);
    assert_eq!(cgroup, "0::/\n20\n");
    ok(&["pause", "one"]);
    assert_eq!((status("one").as_str(), limit("one", "cgroup.freeze").as_str()), ("paused", "1"));
    ok(&["resume", "one"]);
    assert_eq!(status("one"), "running");
    ok(&["kill", "one", "KILL"]);
    until("it ends", || status("one") == "stopped");
    ok(&["delete", "one"]);
    assert!(!oci(&["state", "one"]).status.success());
    assert!(!Path::new(PARENT).exists(), "its cgroup is left");
}

fn limits_are_changed() {
    let bundles = Bundles::new();
    let dir = bundles.bundle("two", "exec sleep 1000", |_| {});
    ok(&["run", "--detach", "--bundle", &dir, "two"]);
    assert_eq!(limit("two", "memory.max"), "max");
    let changes = ["--memory", "67108864", "--memory-swap", "100663296", "--pids-limit", "30"];
    ok(&[&["update"][..], &changes, &["--cpu-quota", "20000", "--cpu-period", "50000", "two"]]
        .concat());
    let files = ["memory.max", "memory.swap.max", "pids.max", "cpu.max"];
    let expected = ["67108864", "33554432", "30", "20000 50000"];
    assert_eq!(files.map(|file| limit("two", file)), expected);
    ok(&["delete", "--force", "two"]);
}

fn too_much_memory_is_the_end() {
    let bundles = Bundles::new();
    let limits = |config: &mut Value| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 32 << 20, "swap": 64 << 20 });
    };
    let script = "load memory 48 > /dev/said & \
                  while ! grep ready /dev/said; do kill -0 $!; sleep 0.2; done; kill $!";
    let said = bundles.run("three", script, limits);
    assert_eq!(text(&said.stdout), "ready\n", "{}", text(&said.stderr));
    let out = bundles.run("three", "exec load memory 96", limits);
    assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
}

fn devices_are_allowed_one_by_one() {
    let bundles = Bundles::new();
    let disk = std::fs::read_to_string("/sys/block/vda/dev").expect("the disk").replace(':', " ");
    let script = format!(
        "busybox mknod /dev/disk b {}; head -c 4 /dev/disk | wc -c; \
         (echo x > /dev/disk) 2>&1 || true; \
         busybox mknod /dev/other b 7 0; head -c 4 /dev/other 2>&1 || true; \
         head -c 3 /dev/zero | wc -c",
        disk.trim()
    );
    let numbers: Vec<u64> = disk.split_whitespace().map(|n| n.parse().expect("a number")).collect();
    let out = bundles.run("four", &script, |config| {
        let devices = config["linux"]["resources"]["devices"].as_array_mut().expect("a list");
        devices.push(json!({
            "allow": true, "type": "b", "major": numbers[0], "minor": numbers[1], "access": "rm",
        }));
    });
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said}{}", text(&out.stderr));
    let lines: Vec<_> = said.lines().collect();
    // To make one is harmless, as whoever opens it is asked about.
    let [read, written, other, usual] = lines[..] else { panic!("{said}") };
    assert_eq!([read, usual], ["4", "3"]);
    assert!([written, other].iter().all(|l| l.contains("Operation not permitted")), "{said}");
}

/// Allows all but to read one file.
const PROFILE: &str = "profile palimpsest-guest flags=(attach_disconnected) {
  file, capability, network, signal, ptrace, unix,
  deny /var/bundles/secret r,
}
";

fn with_profile(name: &'static str) -> impl Fn(&mut Value) {
    move |config| config["process"]["apparmorProfile"] = json!(name)
}

fn a_profile_confines() {
    let bundles = Bundles::new();
    sh(&format!(
        "echo open > {HOME}/open; echo secret > {HOME}/secret; printf '%s' '{PROFILE}' > {HOME}/profile; \
         apparmor_parser --replace --skip-cache --quiet {HOME}/profile"
    ));
    let script =
        "cat /proc/self/attr/current /var/bundles/open; cat /var/bundles/secret 2>&1 || true";
    let out = bundles.run("five", script, with_profile("palimpsest-guest"));
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said}{}", text(&out.stderr));
    let expected =
        "palimpsest-guest (enforce)\nopen\ncat: /var/bundles/secret: Permission denied\n";
    assert_eq!(said, expected);
    // Without it the same is allowed.
    let out = bundles.run("five", script, |_| {});
    assert_eq!(text(&out.stdout), "unconfined\nopen\nsecret\n", "{}", text(&out.stderr));
    // Another program of the container has it as well.
    let dir = bundles.bundle("six", "exec sleep 1000", with_profile("palimpsest-guest"));
    ok(&["run", "--detach", "--bundle", &dir, "six"]);
    assert_eq!(
        ok(&["exec", "six", "cat", "/proc/self/attr/current"]),
        "palimpsest-guest (enforce)\n"
    );
    ok(&["delete", "--force", "six"]);
}

fn a_profile_that_is_not_loaded_is_named() {
    let bundles = Bundles::new();
    let out = bundles.run("seven", "true", with_profile("nobody-has-it"));
    let said = text(&out.stderr);
    assert!(!out.status.success() && said.contains("nobody-has-it"), "{said}");
    assert!(said.contains("apparmor_parser") && said.trim_end().lines().count() == 1, "{said}");
    assert!(!Path::new(PARENT).exists() && !oci(&["state", "seven"]).status.success());
}
