//! Bundles of the OCI runtime specification, and the program under the name by which it is a runtime.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::privilege::{Missing, installed};
use support::process::run;

use crate::fixture::{Host, text};

/// A runtime with its own state directory, and bundles on one root directory.
pub(crate) struct Runtime<'a> {
    host: &'a Host,
    program: PathBuf,
}

/// Says what is missing for a root directory.
pub(crate) fn busybox() -> Result<(), Missing> {
    installed("busybox")
}

impl<'a> Runtime<'a> {
    /// Prepares a runtime for who starts containers on this host.
    pub(crate) fn new(host: &'a Host) -> Runtime<'a> {
        let program = host.dir().join("runner-oci");
        let built = Path::new(env!("CARGO_BIN_EXE_runner-under-test"));
        support::process::copy_program(built, &program);
        let root = host.home_dir("rootfs");
        make_root(&root);
        if let Some((uid, gid)) = host.ids() {
            let owner = format!("{uid}:{gid}");
            support::process::run(Command::new("chown").args(["-R", &owner]).arg(&root));
        }
        Runtime { host, program }
    }

    /// Returns the host.
    pub(crate) fn host(&self) -> &Host {
        self.host
    }

    /// Returns the program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Returns the root directory of all bundles.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.host.dir().join("home/rootfs")
    }

    /// Returns the directory of states.
    pub(crate) fn root(&self) -> PathBuf {
        self.host.dir().join("home/oci")
    }

    /// Makes a bundle that runs a shell script, with changes to its configuration.
    pub(crate) fn bundle(
        &self,
        name: &str,
        script: &str,
        change: impl FnOnce(&mut Value),
    ) -> PathBuf {
        let dir = self.host.home_dir(name);
        let mut config = config(&self.rootfs(), script);
        match self.host.ids() {
            None => config["linux"]["cgroupsPath"] = json!(cgroup(name)),
            Some((uid, gid)) => make_rootless(&mut config, uid, gid),
        }
        change(&mut config);
        std::fs::write(dir.join("config.json"), config.to_string()).expect("write config.json");
        dir
    }

    /// Returns the runtime without a command.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.host.bare_as(&self.program);
        command.arg("--root").arg(self.root());
        command
    }

    /// Runs a command, which must succeed, and returns what it wrote.
    #[track_caller]
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let out = run(self.command().args(args));
        assert!(out.status.success(), "{}: {}", out.status, text(&out.stderr));
        text(&out.stdout)
    }

    /// Runs a command, which must fail with 1 and one line, and returns the line.
    #[track_caller]
    pub(crate) fn fails<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.fails_with(1, args)
    }

    /// Runs a command, which must fail with this code and one line, and returns the line.
    #[track_caller]
    pub(crate) fn fails_with<S: AsRef<OsStr>>(
        &self,
        code: i32,
        args: impl IntoIterator<Item = S>,
    ) -> String {
        let out = run(self.command().args(args));
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{said}");
        let said = said.trim_end();
        assert!(said.starts_with("runner-oci: ") && !said.contains('\n'), "not one line: {said}");
        said.to_owned()
    }

    /// Runs a container of a script to its end, which must succeed, and returns what it wrote.
    #[track_caller]
    pub(crate) fn run(&self, script: &str, change: impl FnOnce(&mut Value)) -> String {
        let bundle = self.bundle("once", script, change);
        self.ok([OsStr::new("run"), OsStr::new("--bundle"), bundle.as_os_str(), OsStr::new("once")])
    }

    /// Tries to create a container, which must be refused, and returns the line.
    #[track_caller]
    pub(crate) fn refuses(&self, change: impl FnOnce(&mut Value)) -> String {
        let bundle = self.bundle("refused", "true", change);
        let said = self.fails([
            OsStr::new("create"),
            OsStr::new("-b"),
            bundle.as_os_str(),
            OsStr::new("refused"),
        ]);
        assert!(!self.root().join("refused").exists(), "its state is left: {said}");
        said
    }

    /// Creates a container of a bundle of this name.
    #[track_caller]
    pub(crate) fn create(&self, name: &str) {
        let bundle = self.host.dir().join("home").join(name);
        self.ok([
            OsStr::new("create"),
            OsStr::new("--bundle"),
            bundle.as_os_str(),
            OsStr::new(name),
        ]);
    }

    /// Starts a container in the background that says "up" in a file of the root when it runs.
    #[track_caller]
    pub(crate) fn up(&self, name: &str, script: &str, change: impl FnOnce(&mut Value)) {
        let script = format!("echo up > /tmp/{name}; {script}");
        self.bundle(name, &script, change);
        self.create(name);
        self.ok(["start", name]);
        self.host.until(|| self.rootfs().join("tmp").join(name).exists());
        std::fs::remove_file(self.rootfs().join("tmp").join(name)).expect("remove the sign");
    }

    /// Returns the state of a container.
    #[track_caller]
    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(["state", id])).expect("the state is JSON")
    }

    /// Returns the status of a container.
    #[track_caller]
    pub(crate) fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().expect("a status").to_owned()
    }

    /// Ends a container and removes it. As whoever starts further programs in the background has to, waits
    /// for them meanwhile: the kernel ends a pid namespace only after that.
    #[track_caller]
    pub(crate) fn down(&self, id: &str) {
        let orphans = self.host.new_children();
        let mut child = self.command().args(["delete", "--force", id]).spawn().expect("start it");
        let mut status = None;
        self.host.until(|| {
            crate::fixture::reap(orphans.iter().copied());
            status = child.try_wait().expect("wait for it");
            status.is_some()
        });
        assert!(status.is_some_and(|s| s.success()), "delete --force {id}: {status:?}");
    }
}

/// Returns a path as text; those of tests are plain.
pub(crate) fn path_of(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Returns where a container of root has its cgroups, below the top of each hierarchy: under a name that
/// the host looks for when it compares before and after, and no other test on this machine has.
pub(crate) fn cgroup(name: &str) -> String {
    format!("/palimpsest-oci-{}/{name}", std::process::id())
}

/// Makes a root directory of busybox.
pub(crate) fn make_root(root: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "run"] {
        std::fs::create_dir_all(root.join(dir)).expect("make a directory of the root");
    }
    let busybox = support::process::program("busybox").expect("busybox");
    std::fs::copy(busybox, root.join("bin/busybox")).expect("copy busybox");
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")
        .expect("write passwd");
    support::process::shell(
        root,
        "for name in $(busybox --list); do [ -e bin/$name ] || ln -s busybox bin/$name; done",
    );
}

/// Returns a configuration as runc's `spec` makes it.
fn config(rootfs: &Path, script: &str) -> Value {
    let usual = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": usual, "effective": usual, "permitted": usual },
            "noNewPrivileges": true,
        },
        "root": { "path": rootfs },
        "hostname": "bundle",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" },
            ],
            "maskedPaths": ["/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/bus"],
        },
    })
}

/// Changes a configuration for a user, as runc's `spec --rootless` does.
fn make_rootless(config: &mut Value, uid: u32, gid: u32) {
    let linux = &mut config["linux"];
    linux["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
    linux["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
    linux["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
    linux.as_object_mut().expect("an object").remove("resources");
}
