//! A day of a user: an image from a tar, a package, a commit, the way to podman and back, a database that is
//! killed and keeps its data, many containers at once; and nothing left at the end.
//!
//! `PALIMPSEST_DAY=full` adds a Debian root by debootstrap, in which apt-get installs from the network, and
//! takes minutes.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::privilege::{Missing, installed};
use support::process::{run, shell};

use crate::fixture::{Host, text};
use crate::oci_fixture::{make_root, path_of};

/// How many containers there are at once.
const MANY: usize = 50;

fn tools() -> Result<(), Missing> {
    ["busybox", "podman", "redis-server", "redis-cli", "dpkg-deb"]
        .into_iter()
        .try_for_each(installed)
}

#[test]
fn root_has_a_day() {
    match tools().and_then(|()| Host::root()) {
        Ok(host) => day(&host),
        Err(missing) => support::privilege::skip("day::root_has_a_day", &missing),
    }
}

#[test]
fn a_user_has_a_day() {
    match tools().and_then(|()| Host::user()) {
        Ok(host) => day(&host),
        Err(missing) => support::privilege::skip("day::a_user_has_a_day", &missing),
    }
}

fn day(host: &Host) {
    let work = host.home_dir("day");
    morning(host, &work);
    to_podman_and_back(host, &work);
    a_database(host);
    many_at_once(host);
    if std::env::var_os("PALIMPSEST_DAY").is_some_and(|v| v == "full") {
        a_debian(host, &work);
    }
    host.does("prune", ["-f"]);
    host.does("rmi", ["-a", "-f"]);
    host.does("volume", ["prune"]);
    assert_eq!(host.does("ps", ["-a", "-q"]), "");
    assert_eq!(host.does("images", ["-q"]), "");
    assert_eq!(host.does("volume", ["ls", "-q"]), "");
    for name in ["volumes", "images"] {
        remove_empty(&host.state().join(name));
    }
}

/// Imports a root, runs it, installs a package, looks into it, and keeps the result.
fn morning(host: &Host, work: &Path) {
    make_root(&work.join("bb"));
    shell(
        work,
        "mkdir -p bb/var/lib/dpkg/info bb/var/lib/dpkg/updates && : > bb/var/lib/dpkg/status",
    );
    package(work);
    give(host, work);
    let tar = work.join("bb.tar");
    shell(work, "tar -C bb --owner=0 --group=0 -cf bb.tar .");
    let import =
        ["--change", "CMD [\"/bin/sh\"]", "--change", "ENV PATH=/bin", path_of(&tar), "bb:1"];
    host.does("import", import);
    assert!(host.does("images", Vec::<&str>::new()).contains("bb"));
    let mount = format!("{}:/deb:ro", work.join("deb").display());
    host.does("run", ["-d", "--name", "box", "-v", &mount, "bb:1", "sleep", "1000"]);
    let install = "dpkg -i /deb/hello.deb > /dev/null 2>&1 || (cd / && dpkg-deb -x /deb/hello.deb /); /bin/hello";
    assert_eq!(host.does("exec", ["box", "sh", "-c", install]), "hello from a package\n");
    host.does("cp", [path_of(&work.join("bb/etc/passwd")), "box:/etc/copied"]);
    let changed = host.does("diff", ["box"]);
    assert!(changed.contains("A /bin/hello") && changed.contains("A /etc/copied"), "{changed}");
    host.does("stop", ["-t", "1", "box"]);
    host.does("commit", ["box", "hello:1"]);
    host.does("rm", ["box"]);
    assert_eq!(host.does("run", ["--rm", "hello:1", "hello"]), "hello from a package\n");
}

/// Builds a Debian package with one program.
fn package(work: &Path) {
    shell(
        work,
        "mkdir -p pkg/DEBIAN pkg/bin deb && printf '#!/bin/sh\\necho hello from a package\\n' > pkg/bin/hello && \
         chmod 755 pkg/bin/hello && printf 'Package: hello\\nVersion: 1\\nArchitecture: all\\n\
         Maintainer: nobody <nobody@example.org>\\nDescription: a greeting\\n' > pkg/DEBIAN/control && \
         dpkg-deb --root-owner-group -Zgzip -b pkg deb/hello.deb > /dev/null",
    );
}

/// Gives what root has made to who starts containers.
fn give(host: &Host, dir: &Path) {
    if let Some((uid, gid)) = host.ids() {
        run(Command::new("chown").args(["-R", &format!("{uid}:{gid}")]).arg(dir));
    }
}

/// Saves the image, has podman run and change it, and takes it back.
fn to_podman_and_back(host: &Host, work: &Path) {
    let out = work.join("hello.tar");
    host.does("save", ["--format", "oci-archive", "-o", path_of(&out), "hello:1"]);
    let podman = Podman::new(host, work);
    podman.ok(&["load", "-q", "-i", path_of(&out)]);
    let said = podman.ok(&[
        "run",
        "--net=none",
        "--name",
        "there",
        "localhost/hello:1",
        "sh",
        "-c",
        "hello; echo podman was here > /etc/visited",
    ]);
    assert_eq!(said, "hello from a package\n");
    podman.ok(&["commit", "-q", "there", "localhost/visited:1"]);
    let back = work.join("visited.tar");
    podman.ok(&["save", "-q", "-o", path_of(&back), "localhost/visited:1"]);
    podman.end();
    host.does("load", ["-i", path_of(&back)]);
    let said =
        host.does("run", ["--rm", "localhost/visited:1", "sh", "-c", "hello; cat /etc/visited"]);
    assert_eq!(said, "hello from a package\npodman was here\n");
}

/// podman with a storage of its own.
struct Podman<'a> {
    host: &'a Host,
    dir: PathBuf,
}

impl<'a> Podman<'a> {
    fn new(host: &'a Host, work: &Path) -> Podman<'a> {
        let dir = work.join("podman");
        let config = dir.join(".config/containers");
        std::fs::create_dir_all(&config).expect("make a directory");
        std::fs::create_dir_all(dir.join("xdg")).expect("make a directory");
        let at = dir.display();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/graph\"\nrunroot = \"{at}/run\"\n"
        );
        std::fs::write(config.join("storage.conf"), storage).expect("write podman's configuration");
        let engine = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                      [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        std::fs::write(config.join("containers.conf"), engine)
            .expect("write podman's configuration");
        shell(&dir, "chmod 700 xdg");
        give(host, &dir);
        let program = host.dir().join("runner-oci");
        let built = Path::new(env!("CARGO_BIN_EXE_runner-under-test"));
        support::process::copy_program(built, &program);
        Podman { host, dir }
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let mut command = self.host.bare_as("podman".as_ref());
        let config = self.dir.join(".config/containers");
        command
            .env("HOME", &self.dir)
            .env("XDG_RUNTIME_DIR", self.dir.join("xdg"))
            .env("CONTAINERS_CONF", config.join("containers.conf"))
            .env("TMPDIR", &self.dir)
            .arg("--runtime")
            .arg(self.host.dir().join("runner-oci"));
        if self.host.ids().is_none() {
            command.env("CONTAINERS_STORAGE_CONF", config.join("storage.conf"));
        }
        let out = run(command.args(args));
        assert!(out.status.success(), "podman {args:?}: {}: {}", out.status, text(&out.stderr));
        text(&out.stdout)
    }

    fn end(&self) {
        self.ok(&["rm", "-af", "-t", "0"]);
        self.ok(&["rmi", "-af"]);
        crate::oci_podman::end_pause_process(self.host, &self.dir);
    }
}

/// A server keeps its data over a kill of its process and of the whole container.
fn a_database(host: &Host) {
    let start = [
        "-d",
        "--name",
        "db",
        "-v",
        "data:/data",
        "--net",
        "none",
        "--",
        "redis-server",
        "--dir",
        "/data",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
    ];
    host.does("run", start);
    let cli = |args: &[&str]| {
        let all = [&["db", "redis-cli"][..], args].concat();
        let out = run(host.verb("exec").args(all));
        text(&out.stdout).trim().to_owned()
    };
    host.until(|| cli(&["ping"]) == "PONG");
    for (n, field) in ["{{.State.Pid}}", "{{.State.ConmonPid}}"].into_iter().enumerate() {
        assert_eq!(cli(&["set", &format!("key{n}"), "value"]), "OK");
        let pid = host.does("inspect", ["-f", field, "db"]).trim().parse().expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill it");
        host.until(|| host.does("inspect", ["-f", "{{.State.Status}}", "db"]) == "exited\n");
        host.does("start", ["db"]);
        host.until(|| cli(&["ping"]) == "PONG");
        assert_eq!(cli(&["get", &format!("key{n}")]), "value", "after {field}");
    }
    host.does("rm", ["-f", "db"]);
}

/// Many containers of one image run at once.
fn many_at_once(host: &Host) {
    let name = |n: usize| format!("many{n}");
    for n in 0..MANY {
        let script = format!("echo {n} > /own; exec sleep 1000");
        host.does("run", ["-d", "--name", &name(n), "hello:1", "sh", "-c", &script]);
    }
    assert_eq!(host.does("ps", ["-q"]).lines().count(), MANY);
    for n in [0, MANY / 2, MANY - 1] {
        let own = || run(host.verb("exec").args([&name(n), "cat", "/own"]));
        host.until(|| text(&own().stdout) == format!("{n}\n"));
    }
    let names: Vec<String> = (0..MANY).map(name).collect();
    host.does("rm", std::iter::once("-f").chain(names.iter().map(String::as_str)));
    assert_eq!(host.does("ps", ["-a", "-q"]), "");
}

/// A Debian root, in which a package is installed from the network.
fn a_debian(host: &Host, work: &Path) {
    let mirror = std::env::var("PALIMPSEST_MIRROR")
        .unwrap_or_else(|_| "http://deb.debian.org/debian".into());
    let made = Command::new("debootstrap")
        .args(["--variant=minbase", "bookworm"])
        .arg(host.dir().join("deb"))
        .arg(mirror)
        .status();
    assert!(made.is_ok_and(|s| s.success()), "debootstrap");
    shell(host.dir(), "tar -C deb -cf home/day/deb.tar . && rm -rf deb");
    give(host, work);
    host.does("import", [path_of(&work.join("deb.tar")), "debian:12"]);
    let install =
        "apt-get update -q && apt-get install -q -y --no-install-recommends hello && hello";
    let said =
        host.does("run", ["--name", "apt", "--net", "host", "debian:12", "sh", "-c", install]);
    assert!(said.contains("Hello, world!"), "{said}");
    host.does("commit", ["apt", "debian:hello"]);
    host.does("rm", ["apt"]);
    assert_eq!(host.does("run", ["--rm", "debian:hello", "hello"]), "Hello, world!\n");
}

/// Removes a directory that the store keeps: its lists and locks are files in it, and below it there may
/// be directories only.
fn remove_empty(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            assert_no_file(&entry.path());
        }
    }
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{}: {e}", dir.display()),
        _ => {}
    }
}

fn assert_no_file(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("list it").flatten() {
        let path = entry.path();
        assert!(entry.file_type().is_ok_and(|t| t.is_dir()), "{} is left", path.display());
        assert_no_file(&path);
    }
}
