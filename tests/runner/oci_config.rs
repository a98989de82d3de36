//! What a bundle's configuration asks for (config.md and config-linux.md of the OCI runtime specification):
//! hooks, namespaces, mounts, devices, and that what isn't known is refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::process::run;

use crate::fixture::{Host, text};
use crate::oci::bundles;
use crate::oci_fixture::{Runtime, busybox, cgroup};

bundles! {
    hooks_run_in_their_order_and_are_told_the_state: |runtime| {
        let log = runtime.host().home_dir("out").join("log");
        let bundle = runtime.bundle("hooks", "echo program >> /tmp/log", |config| {
            config["hooks"] = hooks(&log, runtime.rootfs().join("tmp/log").as_path());
        });
        // In the container the same file has another name.
        std::fs::write(&log, "").expect("make the log");
        support::process::shell(log.parent().unwrap(), "chmod 666 log");
        support::process::shell(&runtime.rootfs(), ": > tmp/log; chmod 666 tmp/log");
        runtime.create("hooks");
        let pid = runtime.state("hooks")["pid"].clone();
        let seen = lines(&log);
        let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["prestart", "createRuntime", "createContainer"]);
        for (name, state) in &seen {
            assert_eq!(state["status"], "creating", "{name}");
            assert_eq!(state["id"], "hooks");
            assert_eq!(state["bundle"], bundle.to_str().unwrap());
        }
        assert_eq!(seen[0].1["pid"], pid);
        assert_eq!(seen[2].1["pid"], 1, "as the container sees it");
        runtime.ok(["start", "hooks"]);
        let inside = runtime.rootfs().join("tmp/log");
        runtime.host().until(|| std::fs::read_to_string(&inside).unwrap().contains("program"));
        let text = std::fs::read_to_string(&inside).expect("read the log inside");
        let (first, last) = (text.lines().next().unwrap(), text.lines().last().unwrap());
        assert!(first.starts_with("startContainer ") && first.contains("\"created\""), "{first}");
        assert_eq!(last, "program");
        runtime.host().until(|| runtime.status("hooks") == "stopped");
        runtime.ok(["delete", "hooks"]);
        let after: Vec<_> = lines(&log).into_iter().skip(3).collect();
        let seen: Vec<_> = after.iter().map(|(n, s)| (n.as_str(), s["status"].as_str().unwrap())).collect();
        assert_eq!(seen, [("poststart", "running"), ("poststop", "stopped")]);
    };

    a_hook_that_fails_or_hangs_ends_the_container: |runtime| {
        let log = runtime.host().home_dir("out").join("log");
        std::fs::write(&log, "").expect("make the log");
        support::process::shell(log.parent().unwrap(), "chmod 666 log");
        let hook = |script: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        for kind in ["prestart", "createRuntime", "createContainer"] {
            let said = runtime.refuses(|config| {
                let mut all = json!({ "poststop": hook(&format!("cat >> {}", log.display())) });
                all[kind] = hook("echo the reason >&2; exit 3");
                config["hooks"] = all;
            });
            assert!(said.contains(kind) && said.contains("the reason"), "{said}");
        }
        let said = runtime.refuses(|config| {
            config["hooks"] = json!({ "createRuntime": [
                { "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 } ] });
        });
        assert!(said.contains("longer than 1 s"), "{said}");
        let told = std::fs::read_to_string(&log).expect("read the log");
        assert_eq!(told.matches("\"stopped\"").count(), 3, "poststop hooks run all the same: {told}");
        runtime.bundle("start", "sleep 1000", |config| {
            config["hooks"] = json!({ "startContainer": hook("exit 1") });
        });
        runtime.create("start");
        assert!(runtime.fails(["start", "start"]).contains("startContainer"));
        runtime.ok(["delete", "--force", "start"]);
        runtime.bundle("after", "sleep 1000", |config| {
            config["hooks"] = json!({ "poststart": hook("exit 1") });
        });
        runtime.create("after");
        assert!(runtime.fails(["start", "after"]).contains("poststart"));
        assert_eq!(runtime.status("after"), "stopped");
        runtime.ok(["delete", "after"]);
        runtime.host().assert_clean();
    };

    mounts_have_the_options_that_are_asked_for: |runtime| {
        let data = runtime.host().home_dir("data");
        std::fs::write(data.join("file"), "content\n").expect("write a file");
        support::process::shell(&runtime.rootfs(), "mkdir -p srv/a; echo old > srv/a/f; chmod 700 srv/a");
        if let Some((uid, gid)) = runtime.host().ids() {
            support::process::shell(&runtime.rootfs(), &format!("chown -R {uid}:{gid} srv"));
        }
        let said = runtime.run(
            "cat /data/file; touch /data/new 2>&1; cat /one; cat /srv/a/f; stat -c %a /srv/a; \
             echo new > /srv/a/f; grep -E ' /(srv|data|t) ' /proc/self/mountinfo",
            |config| {
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.push(json!({ "destination": "/data", "source": data, "type": "bind",
                    "options": ["rbind", "ro", "nosuid", "rprivate"] }));
                mounts.push(json!({ "destination": "/one", "source": data.join("file"),
                    "options": ["bind"] }));
                mounts.push(json!({ "destination": "/srv", "type": "tmpfs", "source": "copy",
                    "options": ["tmpcopyup", "size=1m"] }));
                mounts.push(json!({ "destination": "/t/made", "type": "tmpfs", "source": "tmpfs",
                    "options": ["ro", "nodev", "noexec", "noatime", "mode=711"] }));
                mounts.push(json!({ "destination": "/t", "type": "tmpfs", "source": "deep",
                    "options": ["nosuid", "size=4k"] }));
            },
        );
        assert!(said.starts_with("content\n"), "{said}");
        assert!(said.contains("Read-only file system"), "{said}");
        assert_eq!(said.matches("content\n").count(), 2);
        assert!(said.contains("old\n700\n"), "{said}");
        let row = |at: &str| said.lines().find(|l| l.contains(&format!(" {at} "))).unwrap().to_owned();
        assert!(row("/data").contains(" ro,nosuid"), "{said}");
        assert!(row("/t").contains("size=4k") && row("/t").contains("nosuid"), "{said}");
        assert!(!runtime.rootfs().join("srv/a/new").exists());
        let kept = std::fs::read_to_string(runtime.rootfs().join("srv/a/f")).unwrap();
        assert_eq!(kept, "old\n", "what is covered stays as it was");
    };

    the_root_can_be_read_only_and_paths_masked: |runtime| {
        let said = runtime.run(
            "touch /file 2>&1; wc -c < /proc/keys; echo 1 2>&1 > /proc/sys/net/ipv4/ip_forward; \
             ls /sys/firmware | wc -l",
            |config| config["root"]["readonly"] = json!(true),
        );
        assert!(said.contains("/file: Read-only file system"), "{said}");
        assert!(said.contains("\n0\n"), "{said}");
        assert!(!runtime.rootfs().join("file").exists());
    };

    what_is_wrong_or_not_known_is_refused_by_name: |runtime| {
        type Change = fn(&mut Value);
        let rows: [(&str, Change); 18] = [
            ("ociVersion", |c| c["ociVersion"] = json!("2.0.0")),
            ("linux: it is missing", |c| c["linux"] = Value::Null),
            ("root", |c| c["root"] = Value::Null),
            ("root.path", |c| c["root"]["path"] = json!("/nowhere")),
            ("process.cwd", |c| c["process"]["cwd"] = json!("here")),
            ("process.args", |c| c["process"]["args"] = json!([])),
            ("process.selinuxLabel", |c| c["process"]["selinuxLabel"] = json!("a:b:c:s0")),
            ("RLIMIT_NOFILE is there twice", |c| {
                let one = json!({ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 10 });
                c["process"]["rlimits"] = json!([one, one]);
            }),
            ("linux.namespaces", |c| {
                c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "mount");
            }),
            ("is there twice", |c| {
                c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "pid" }));
            }),
            ("linux.intelRdt", |c| c["linux"]["intelRdt"] = json!({ "closID": "x" })),
            ("linux.mountLabel", |c| c["linux"]["mountLabel"] = json!("a:b:c:s0")),
            ("linux.timeOffsets", |c| c["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1 } })),
            ("linux.sysctl", |c| c["linux"]["sysctl"] = json!({ "kernel.panic": "1" })),
            ("linux.rootfsPropagation", |c| c["linux"]["rootfsPropagation"] = json!("sideways")),
            ("option `idmap`", |c| {
                let mount = json!({ "destination": "/x", "type": "tmpfs", "options": ["idmap"] });
                c["mounts"].as_array_mut().unwrap().push(mount);
            }),
            ("source of a bind mount /nowhere", |c| {
                let mount = json!({ "destination": "/x", "source": "/nowhere", "options": ["bind"] });
                c["mounts"].as_array_mut().unwrap().push(mount);
            }),
            ("tmpfs", |c| {
                let mount = json!({ "destination": "/x", "type": "tmpfs", "options": ["nonsense=1"] });
                c["mounts"].as_array_mut().unwrap().push(mount);
            }),
        ];
        for (name, change) in rows {
            let said = runtime.refuses(change);
            assert!(said.contains(name), "{name}: {said}");
        }
        let dir = runtime.host().home_dir("empty");
        let said = runtime.fails(["create", "-b", dir.to_str().unwrap(), "x"]);
        assert!(said.contains("config.json"), "{said}");
        std::fs::write(dir.join("config.json"), "{ no").unwrap();
        assert!(runtime.fails(["create", "-b", dir.to_str().unwrap(), "x"]).contains("config.json"));
        runtime.host().assert_clean();
    };

    symlinks_of_the_root_stay_inside: |runtime| {
        let outside = runtime.host().home_dir("outside");
        let here = outside.display().to_string();
        support::process::shell(&runtime.rootfs(), &format!(
            "ln -s {here} link; ln -s ../../../../../../../..{here} up; ln -s /nowhere lost; \
             mkdir -p .{here}; chmod -R 777 ./tmp"));
        for target in ["/link/a", "/up/b"] {
            let said = runtime.run("cut -d' ' -f5 /proc/self/mountinfo", |config| {
                let mount = json!({ "destination": target, "type": "tmpfs", "source": "x" });
                config["mounts"].as_array_mut().unwrap().push(mount);
            });
            let name = target.rsplit('/').next().unwrap();
            assert!(said.lines().any(|l| l == format!("{here}/{name}")), "{said}");
        }
        let said = runtime.refuses(|config| {
            let mount = json!({ "destination": "/lost", "type": "tmpfs", "source": "x" });
            config["mounts"].as_array_mut().unwrap().push(mount);
        });
        assert!(said.contains("/lost"), "{said}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "a mount point was made outside");
    };

    descriptors_are_handed_over_only_where_asked_for: |runtime| {
        let bundle = runtime.bundle("fds", "ls /proc/self/fd; cat <&3", |_| {});
        let script = |options: &str| {
            let program = runtime.program().display();
            let (root, bundle) = (runtime.root(), bundle.display());
            format!("exec {program} --root {} run {options} -b {bundle} fds 3</etc/hostname 9</etc/passwd",
                root.display())
        };
        let start = |options: &str| {
            let mut command = runtime.host().bare_as(Path::new("/bin/sh"));
            run(command.args(["-c", &script(options)]))
        };
        let out = start("--preserve-fds 1");
        let name = std::fs::read_to_string("/etc/hostname").expect("the host's name");
        let said = text(&out.stdout);
        assert!(said.ends_with(&name), "{said} {}", text(&out.stderr));
        assert!(!said.lines().any(|l| l == "9"), "{said}");
        let out = start("");
        assert!(!text(&out.stdout).contains(name.trim()), "{}", text(&out.stdout));
        let out = start("--preserve-fds 7");
        assert!(text(&out.stderr).contains("descriptor 4 is not open"), "{}", text(&out.stderr));
    };
}

/// Tests that only root of the host can pass.
macro_rules! as_root {
    ($($name:ident: $check:expr;)+) => {
        $(#[test]
        fn $name() {
            let test = concat!("oci_config::", stringify!($name));
            support::require!(test, busybox());
            match Host::root() {
                Ok(host) => {
                    let check: fn(&Runtime<'_>) = $check;
                    check(&Runtime::new(&host));
                }
                Err(missing) => support::privilege::skip(test, &missing),
            }
        })+
    };
}

as_root! {
    namespaces_of_others_are_joined_by_path: |runtime| {
        runtime.up("other", "sleep 1000", |config| config["hostname"] = json!("theirs"));
        let pid = runtime.state("other")["pid"].to_string();
        for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"),
                             ("cgroup", "cgroup")] {
            let path = format!("/proc/{pid}/ns/{name}");
            let theirs = std::fs::read_link(&path).expect("their namespace");
            let said = runtime.run("for n in /proc/self/ns/*; do readlink $n; done", |config| {
                config.as_object_mut().unwrap().remove("hostname");
                for n in config["linux"]["namespaces"].as_array_mut().unwrap() {
                    if n["type"] == kind {
                        *n = json!({ "type": kind, "path": path });
                    }
                }
            });
            let shared: Vec<&str> = said.lines().filter(|l| *l == theirs.to_string_lossy()).collect();
            // That of children to come is listed, too.
            assert!(!shared.is_empty(), "{kind}: {said}");
        }
        let said = runtime.refuses(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            list[1] = json!({ "type": "network", "path": "/nowhere" });
        });
        assert!(said.contains("open namespace /nowhere"), "{said}");
        runtime.down("other");
    };

    a_new_user_namespace_maps_root_to_somebody: |runtime| {
        let said = runtime.run("id -u; cat /proc/self/uid_map; touch /tmp/mine; stat -c %u:%a /dev/null; \
             echo x > /dev/null && echo usable",
            |config| {
                let linux = &mut config["linux"];
                linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
                let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
                (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
                std::os::unix::fs::chown(runtime.rootfs().join("tmp"), Some(100_000), None).unwrap();
            });
        assert!(said.starts_with("0\n"), "{said}");
        assert!(said.split_whitespace().collect::<Vec<_>>().contains(&"100000"), "{said}");
        assert!(said.contains("usable"), "{said}");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(runtime.rootfs().join("tmp/mine")).unwrap().uid(), 100_000);
    };

    devices_are_made_as_asked_for_and_no_others_can_be_used: |runtime| {
        let said = runtime.run(
            "stat -c '%F %t:%T %a %u:%g' /dev/own /dev/pipe /dev/null; echo x > /dev/own && echo written; \
             mknod /tmp/mem c 1 11 2>&1; mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg 2>&1 | head -1",
            |config| {
                config["linux"]["devices"] = json!([
                    { "path": "/dev/own", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640,
                      "uid": 7, "gid": 8 },
                    { "path": "/dev/pipe", "type": "p", "fileMode": 0o600 },
                ]);
                let caps = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
                config["process"]["capabilities"] =
                    json!({ "bounding": caps, "effective": caps, "permitted": caps });
            },
        );
        assert!(said.contains("character special file 1:3 640 7:8"), "{said}");
        assert!(said.contains("fifo"), "{said}");
        assert!(said.contains("character special file 1:3 666 0:0"), "{said}");
        assert!(said.contains("written"), "{said}");
        assert!(said.contains("Operation not permitted"), "a device that isn't allowed: {said}");
        let said = runtime.refuses(|config| {
            config["linux"]["devices"] = json!([{ "path": "/etc/passwd", "type": "c", "major": 1,
                "minor": 3 }]);
        });
        assert!(said.contains("something else is there"), "{said}");
    };

    mounts_of_the_host_arrive_where_they_shall: |runtime| {
        let shared = runtime.host().home_dir("shared");
        let here = shared.display().to_string();
        support::process::shell(&shared, "mount --bind . . && mount --make-shared . && mkdir sub");
        for (option, propagation, arrives) in
            [("rslave", "rslave", true), ("rshared", "rshared", true), ("rprivate", "rprivate", false)]
        {
            runtime.up("travel", "sleep 1000", |config| {
                config["linux"]["rootfsPropagation"] = json!(propagation);
                let mount = json!({ "destination": "/shared", "source": here, "type": "bind",
                    "options": ["rbind", option] });
                config["mounts"].as_array_mut().unwrap().push(mount);
            });
            support::process::shell(&shared, "mount -t tmpfs late sub");
            let seen = runtime.ok(["exec", "travel", "cat", "/proc/mounts"]);
            support::process::shell(&shared, "umount sub");
            assert_eq!(seen.contains("late /shared/sub"), arrives, "{option}: {seen}");
            runtime.down("travel");
            runtime.host().until(|| !runtime.root().join("travel").exists());
        }
        support::process::shell(Path::new("/"), &format!("umount {here}"));
        let root = runtime.run("grep ' / / ' /proc/self/mountinfo; cat /proc/self/mountinfo", |config| {
            config["linux"]["rootfsPropagation"] = json!("shared");
        });
        let own = root.lines().find(|l| l.split(' ').nth(4) == Some("/")).expect("the root");
        assert!(own.contains("shared:"), "{own}");
    };

    the_root_is_changed_without_pivot_root_where_asked: |runtime| {
        let bundle = runtime.bundle("moved", "ls /; [ ! -e /home ] && echo own", |_| {});
        let said = runtime.ok(["run", "--no-pivot", "-b", bundle.to_str().unwrap(), "moved"]);
        assert!(said.ends_with("own\n"), "{said}");
    };

    limits_are_written_and_hold: |runtime| {
        runtime.up("limits", "sleep 1000", |config| {
            let resources = &mut config["linux"]["resources"];
            resources["memory"] = json!({ "limit": 33554432, "swap": 33554432, "reservation": 16777216 });
            resources["cpu"] = json!({ "shares": 512, "quota": 50000, "period": 100000, "cpus": "0" });
            resources["pids"] = json!({ "limit": 20 });
        });
        let inside = |file: &str| {
            let path = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten()
                .map(|h| h.path())
                .chain([PathBuf::from("/sys/fs/cgroup")])
                .map(|top| top.join(&cgroup("limits")[1..]).join(file))
                .find(|p| p.exists());
            path.map(|p| std::fs::read_to_string(p).unwrap().trim().to_owned())
        };
        let either = |v1: &str, v2: &str| inside(v1).or_else(|| inside(v2)).expect("a file");
        assert_eq!(either("memory.limit_in_bytes", "memory.max"), "33554432");
        assert!(["50000", "50000 100000"].contains(&either("cpu.cfs_quota_us", "cpu.max").as_str()));
        assert_eq!(either("cpuset.cpus", "cpuset.cpus"), "0");
        assert_eq!(either("pids.max", "pids.max"), "20");
        let out = run(runtime.command().args(["exec", "limits", "sh", "-c",
            "head -c 100m /dev/zero | tail | wc -c"]));
        let kills = either("memory.oom_control", "memory.events");
        assert!(kills.lines().any(|l| l.starts_with("oom_kill ") && !l.ends_with(" 0")),
            "{kills} {}", text(&out.stdout));
        let out = run(runtime.command().args(["exec", "limits", "sh", "-c",
            "for n in $(seq 40); do sleep 1000 & done; echo all"]));
        assert!(!text(&out.stdout).contains("all"), "40 processes where 20 are allowed");
        assert_eq!(runtime.status("limits"), "running");
        runtime.ok(["update", "--pids-limit", "50", "--memory", "67108864", "--memory-swap",
            "67108864", "limits"]);
        assert_eq!(either("memory.limit_in_bytes", "memory.max"), "67108864");
        assert_eq!(either("pids.max", "pids.max"), "50");
        let mut update = runtime.command();
        let update = update.args(["update", "--resources", "-", "limits"]);
        let out = support::process::feed(update, br#"{"pids":{"limit":60}}"#);
        assert!(out.status.success(), "{}", text(&out.stderr));
        assert_eq!(either("pids.max", "pids.max"), "60");
        let said = runtime.fails(["update", "--cpuset-cpus", "999", "limits"]);
        assert!(said.contains("linux.resources.cpu.cpus"), "{said}");
        runtime.down("limits");
        let said = runtime.refuses(|config| {
            config["linux"]["resources"]["cpu"] = json!({ "cpus": "999" });
        });
        assert!(said.contains("linux.resources.cpu.cpus"), "{said}");
    };

    one_process_is_enough_for_a_limit_of_one: |runtime| {
        let said = runtime.run("echo alone", |config| {
            config["linux"]["resources"]["pids"] = json!({ "limit": 1 });
        });
        assert_eq!(said, "alone\n");
    };

    what_is_delegated_is_not_removed_with_it: |runtime| {
        // Another's cgroup beside the container's keeps the one above.
        runtime.up("left", "sleep 1000", |_| {});
        runtime.up("right", "sleep 1000", |_| {});
        runtime.down("left");
        assert_eq!(runtime.status("right"), "running");
        runtime.down("right");
        runtime.host().assert_clean();
    };
}

/// Returns hooks of all kinds, each of which adds its name and the state to a file.
fn hooks(outside: &Path, inside: &Path) -> Value {
    let hook = |kind: &str, log: &Path| {
        let script = format!("read state; echo \"{kind} $state\" >> {}", log.display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"], "timeout": 60 }])
    };
    assert!(inside.ends_with("tmp/log"));
    json!({
        "prestart": hook("prestart", outside),
        "createRuntime": hook("createRuntime", outside),
        "createContainer": hook("createContainer", outside),
        "startContainer": hook("startContainer", Path::new("/tmp/log")),
        "poststart": hook("poststart", outside),
        "poststop": hook("poststop", outside),
    })
}

/// Reads what hooks have written.
fn lines(log: &Path) -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(log).expect("read the log");
    let one = |line: &str| {
        let (name, state) = line.split_once(' ').expect("a name and a state");
        (name.to_owned(), serde_json::from_str(state).expect("the state is JSON"))
    };
    text.lines().map(one).collect()
}

#[test]
fn a_bundle_is_found_from_where_the_command_is_started() {
    let test = "oci_config::a_bundle_is_found_from_where_the_command_is_started";
    support::require!(test, busybox());
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip(test, &missing),
    };
    let runtime = Runtime::new(&host);
    let bundle = runtime.bundle("here", "echo here", |config| {
        config["root"]["path"] = json!("../rootfs");
    });
    let mut command = Command::new(runtime.program());
    command.arg("--root").arg(runtime.root()).args(["run", "here"]).current_dir(&bundle);
    let out = command.stdin(Stdio::null()).output().expect("run the runtime");
    assert_eq!(text(&out.stdout), "here\n", "{}", text(&out.stderr));
}
