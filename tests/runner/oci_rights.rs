//! What a bundle's program may do, and what it starts with (`process` of config.md, `linux.seccomp`).

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};
use sys::seccomp::Answer;

use crate::fixture::Host;
use crate::oci::bundles;
use crate::oci_fixture::{Runtime, busybox};

bundles! {
    a_program_starts_with_what_is_asked_for: |runtime| {
        let said = runtime.run(
            "umask; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; pwd; echo $HOME; uname -m; hostname; \
             grep NoNewPrivs /proc/self/status",
            |config| {
                let process = &mut config["process"];
                process["user"]["umask"] = json!(0o077);
                process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
                process["oomScoreAdj"] = json!(500);
                process["cwd"] = json!("/made/here");
                config["linux"]["personality"] = json!({ "domain": "LINUX32" });
            },
        );
        let rest: Vec<&str> = said.lines().collect();
        assert_eq!(rest[..6], ["0077", "100", "200", "500", "/made/here", "/root"], "{said}");
        assert!(["i686", "armv8l"].contains(&rest[6]), "{said}");
        assert_eq!(rest[7], "bundle");
        assert!(rest[8].ends_with('1'), "{said}");
    };

    calls_of_the_system_are_filtered: |runtime| {
        let profile = |action: &str| json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [
                { "names": ["mkdir", "mkdirat", "no_such_call"], "action": action, "errnoRet": 42 },
                { "names": ["only_on_another_machine"], "action": "SCMP_ACT_ERRNO" },
            ],
        });
        for no_new_privileges in [true, false] {
            let said = runtime.run("mkdir /tmp/never 2>&1; echo $?; grep Seccomp: /proc/self/status", |config| {
                config["linux"]["seccomp"] = profile("SCMP_ACT_ERRNO");
                config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            });
            assert!(said.contains("No message of desired type"), "{said}");
            assert!(said.contains("Seccomp:\t2"), "{said}");
        }
        let said = runtime.refuses(|config| config["linux"]["seccomp"] = profile("SCMP_ACT_NOTIFY"));
        assert!(said.contains("listenerPath"), "{said}");
    };

    somebody_else_answers_calls_where_a_bundle_says_so: |runtime| {
        let dir = runtime.host().home_dir("out");
        let path = dir.join("agent.sock");
        let listener = UnixListener::bind(&path).expect("listen");
        support::process::shell(&dir, "chmod 777 agent.sock");
        let agent = std::thread::spawn(move || answer_mkdir(&listener));
        runtime.bundle("asks", "mkdir /tmp/x; echo $? > /tmp/code; exec sleep 1000", |config| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": path,
                "listenerMetadata": "some words",
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
            });
        });
        runtime.create("asks");
        let pid = runtime.state("asks")["pid"].clone();
        runtime.ok(["start", "asks"]);
        let told: Value = agent.join().expect("the agent");
        assert_eq!(told["metadata"], "some words");
        assert_eq!(told["fds"], json!(["seccompFd"]));
        assert_eq!((&told["pid"], &told["state"]["id"]), (&pid, &json!("asks")));
        let code = runtime.rootfs().join("tmp/code");
        runtime.host().until(|| std::fs::read_to_string(&code).is_ok_and(|t| !t.is_empty()));
        assert_ne!(std::fs::read_to_string(&code).unwrap(), "0\n", "the agent's answer was a failure");
        assert!(!runtime.rootfs().join("tmp/x").exists());
        runtime.down("asks");
    };
}

/// Tells a call that makes a directory that it isn't allowed; returns what the runtime told.
fn answer_mkdir(listener: &UnixListener) -> Value {
    let (socket, _) = listener.accept().expect("the runtime connects");
    let mut text = vec![0u8; 65536];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let (length, listener) = {
        let mut parts = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)
            .expect("a message");
        let rights = message.cmsgs().expect("control messages").find_map(|c| match c {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let fd = sys::process::inherited_fd(rights.expect("a descriptor")).expect("the listener");
        (message.bytes, fd)
    };
    let call = sys::seccomp::receive(&listener).expect("a call");
    sys::seccomp::answer(&listener, call.id, Answer::Fail(nix::errno::Errno::EPERM))
        .expect("answer");
    serde_json::from_slice(&text[..length]).expect("the state is JSON")
}

/// Returns the sets of a process, by their names in /proc.
fn sets(said: &str) -> Vec<(String, u64)> {
    let one = |line: &str| {
        let (name, bits) = line.strip_prefix("Cap")?.split_once(":\t")?;
        Some((name.to_owned(), u64::from_str_radix(bits.trim(), 16).ok()?))
    };
    said.lines().filter_map(one).collect()
}

#[test]
fn each_set_of_capabilities_is_what_the_bundle_says() {
    let test = "oci_rights::each_set_of_capabilities_is_what_the_bundle_says";
    support::require!(test, busybox());
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip(test, &missing),
    };
    let runtime = Runtime::new(&host);
    let (chown, kill, raw) = (1u64, 1u64 << 5, 1u64 << 13);
    let shown = |user: Value, sets: Value| {
        runtime.run("grep Cap /proc/self/status; id", |config| {
            config["process"]["user"] = user.clone();
            config["process"]["capabilities"] = sets.clone();
            config["process"]["noNewPrivileges"] = json!(false);
        })
    };
    let expect = |said: &str, expected: [u64; 5]| {
        let names = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(str::to_owned);
        assert_eq!(sets(said), names.into_iter().zip(expected).collect::<Vec<_>>(), "{said}");
    };
    let root = json!({ "uid": 0, "gid": 0 });
    let said = shown(
        root,
        json!({ "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN", "CAP_KILL"] }),
    );
    // Root gets all of its bounding set as a program is executed (capabilities(7)).
    expect(&said, [0, chown | kill | raw, chown | kill | raw, chown | kill | raw, 0]);
    let user = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 8] });
    let all = json!(["CAP_CHOWN", "CAP_KILL"]);
    let said = shown(user.clone(), json!({ "bounding": all, "effective": all, "permitted": all }));
    expect(&said, [0, 0, 0, chown | kill, 0]);
    assert!(said.contains("uid=1000 gid=1001 groups=7,8"), "{said}");
    let said = shown(
        user,
        json!({ "bounding": all, "effective": all, "permitted": all,
        "inheritable": all, "ambient": ["CAP_KILL"] }),
    );
    expect(&said, [chown | kill, kill, kill, chown | kill, kill]);
}

#[test]
fn clocks_sysctls_and_names_are_the_container_s_own() {
    let test = "oci_rights::clocks_sysctls_and_names_are_the_container_s_own";
    support::require!(test, busybox());
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip(test, &missing),
    };
    let runtime = Runtime::new(&host);
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("a parameter");
    let said = runtime.run(
        "cut -d. -f1 /proc/uptime; cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/domainname; \
         cat /proc/sys/kernel/msgmax; ip addr show lo | grep -c LOOPBACK,UP",
        |config| {
            config["domainname"] = json!("example.org");
            let linux = &mut config["linux"];
            linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
            linux["timeOffsets"] = json!({ "boottime": { "secs": 100_000_000 } });
            linux["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "33", "kernel.msgmax": "4096" });
        },
    );
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].parse::<u64>().unwrap() >= 100_000_000, "{said}");
    assert_eq!(lines[1..], ["33", "example.org", "4096", "1"]);
    let after = std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("a parameter");
    assert_eq!(before, after);
}

#[test]
fn the_streams_are_the_user_s() {
    let test = "oci_rights::the_streams_are_the_user_s";
    support::require!(test, busybox());
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip(test, &missing),
    };
    let runtime = Runtime::new(&host);
    let said = runtime.run("echo again > /dev/stdout", |config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    assert_eq!(said, "again\n");
}

#[test]
fn our_own_program_and_memory_stay_out_of_reach() {
    let test = "oci_rights::our_own_program_and_memory_stay_out_of_reach";
    support::require!(test, busybox());
    let host = match Host::root() {
        Ok(host) => host,
        Err(missing) => return support::privilege::skip(test, &missing),
    };
    let runtime = Runtime::new(&host);
    // An image whose program is a link to the runtime (CVE-2019-5736).
    let bundle = runtime.bundle("self", "", |config| {
        config["process"]["args"] = json!(["/proc/self/exe", "--version"]);
    });
    let out = support::process::run(runtime.command().args(["run", "-b"]).arg(&bundle).arg("self"));
    let ours = std::fs::metadata(runtime.program()).expect("the program");
    assert!(!crate::fixture::text(&out.stderr).contains("panicked"));
    assert_eq!(std::fs::metadata(runtime.program()).expect("the program").len(), ours.len());
    // While it waits, a container's first process shows nothing of ours.
    runtime.up("peer", "sleep 1000", |_| {});
    let pid = runtime.state("peer")["pid"].to_string();
    runtime.bundle("waits", "true", |config| {
        for n in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if n["type"] == "pid" {
                *n = json!({ "type": "pid", "path": format!("/proc/{pid}/ns/pid") });
            }
        }
    });
    runtime.create("waits");
    let said = runtime.ok(["exec", "peer", "sh", "-c",
        "for p in /proc/[0-9]*; do ls -l $p/fd/ $p/exe 2>&1 | grep -E 'runner|start.sock|home/oci'; done; echo end"]);
    assert_eq!(said, "end\n");
    runtime.down("waits");
    runtime.down("peer");
}
