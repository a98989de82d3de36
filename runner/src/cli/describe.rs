//! Containers as podman's JSON has them.

use std::path::Path;

use serde_json::{Value, json};

use crate::cgroup::freezer;
use crate::cli::run::shown;
use crate::spec::{
    Access, First, Net, Port, Protocol, RootRequest, SeccompRequest, Stdin, Terminal, capability,
};
use crate::store::{Entry, Status, now, rfc3339, span};

/// Returns what a container is doing, in podman's words.
pub(super) fn status_word(entry: &Entry) -> &'static str {
    match entry.status() {
        Status::Created => "created",
        Status::Busy => "stopping",
        Status::Exited => "exited",
        Status::Running if freezer::is_paused(&entry.state.cgroups) => "paused",
        Status::Running => "running",
    }
}

/// Returns a container's image, or what else its root is made of.
pub(super) fn image(entry: &Entry) -> String {
    match (&entry.record.image, &entry.record.request.root) {
        (Some(image), _) => image.reference.clone(),
        (None, RootRequest::Host) => "/".to_owned(),
        (None, RootRequest::Layers(all)) => {
            all.iter().map(|l| l.display().to_string()).collect::<Vec<_>>().join(":")
        }
    }
}

/// Returns what people are told of a container's state.
fn status_text(entry: &Entry) -> String {
    let since = |t: Option<u64>| span(now().saturating_sub(t.unwrap_or(0)));
    match status_word(entry) {
        "created" => "Created".to_owned(),
        "running" => format!("Up {}", since(entry.state.started)),
        "paused" => format!("Up {} (Paused)", since(entry.state.started)),
        "exited" => match entry.state.finished {
            Some(_) => format!("Exited ({}) {} ago", entry.code(), since(entry.state.finished)),
            None => format!("Exited ({}): its supervisor was killed", entry.code()),
        },
        _ => "Stopping".to_owned(),
    }
}

fn port(p: &Port) -> String {
    let protocol = if p.protocol == Protocol::Tcp { "tcp" } else { "udp" };
    let address = if p.address.is_empty() { "0.0.0.0" } else { &p.address };
    format!("{address}:{}->{}/{protocol}", p.host, p.container)
}

/// Returns a row of `ps`.
pub(super) fn row(entry: &Entry, whole: bool) -> Value {
    let request = &entry.record.request;
    let command = shown(&request.process.args);
    let cut = match command.char_indices().nth(20) {
        Some((at, _)) if !whole => format!("{}...", command.get(..at).unwrap_or_default()),
        _ => command.clone(),
    };
    let ports: Vec<String> = request.network.ports.iter().map(port).collect();
    let id = if whole { &entry.id } else { entry.short() };
    let created = entry.record.created;
    json!({
        "ID": id,
        "Id": entry.id,
        "Names": [entry.name()],
        "Image": image(entry),
        "ImageID": entry.record.image.as_ref().map(|i| &i.id),
        "Command": cut,
        "CreatedAt": rfc3339(created),
        "Created": created / 1_000_000_000,
        "RunningFor": format!("{} ago", span(now().saturating_sub(created))),
        "State": status_word(entry),
        "Status": status_text(entry),
        "ExitCode": entry.code(),
        "Exited": entry.status() == Status::Exited,
        "Pid": pid(entry),
        "StartedAt": entry.state.started.map_or(0, |t| t / 1_000_000_000),
        "Ports": ports.join(", "),
        "Labels": request.labels,
        "Mounts": entry.volume_targets(),
        "AutoRemove": entry.record.keep == crate::store::Keep::Thrown,
    })
}

/// Returns the host's number of a container's first process, 0 where there is none.
pub(super) fn pid(entry: &Entry) -> i32 {
    match entry.status() {
        Status::Running => entry.state.first.map_or(0, |p| p.pid),
        _ => 0,
    }
}

/// Returns all that is known of a container.
pub(super) fn inspect(entry: &Entry) -> Value {
    let (record, state) = (&entry.record, &entry.state);
    let request = &record.request;
    let process = &request.process;
    let word = status_word(entry);
    let time = |t: Option<u64>| t.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), rfc3339);
    let first = process.args.first().map(|a| a.to_string_lossy().into_owned());
    let rest: Vec<String> =
        process.args.iter().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let env: Vec<String> = process
        .env
        .iter()
        .map(|(n, v)| format!("{}={}", n.to_string_lossy(), v.to_string_lossy()))
        .collect();
    let mounts: Vec<Value> = request.volumes.iter().map(mount).collect();
    json!({
        "Id": entry.id,
        "Created": rfc3339(record.created),
        "Path": first,
        "Args": rest,
        "State": {
            "Status": word,
            "Running": word == "running" || word == "paused",
            "Paused": word == "paused",
            "OOMKilled": state.oom,
            "Dead": false,
            "Pid": pid(entry),
            "ConmonPid": state.supervisor.filter(|p| p.is_alive()).map_or(0, |p| p.pid),
            "ExitCode": entry.code(),
            "Error": state.error.clone().unwrap_or_default(),
            "StartedAt": time(state.started),
            "FinishedAt": time(state.finished),
            "CgroupPath": state.cgroups.first().map(|c| c.path.to_string_lossy().into_owned()),
        },
        "Image": record.image.as_ref().map(|i| &i.id),
        "ImageName": image(entry),
        "Rootfs": entry.layers().first(),
        "Name": record.name,
        "RestartCount": state.restarts,
        "Driver": format!("{:?}", request.driver).to_lowercase(),
        "GraphDriver": {
            "Name": "overlay",
            "Data": { "LowerDir": paths(&entry.layers()), "UpperDir": entry.upper() },
        },
        "Mounts": mounts,
        "EffectiveCaps": capability::names(request.security.capabilities),
        "BoundingCaps": capability::names(request.security.capabilities),
        "LogPath": entry.log(),
        "Config": {
            "Hostname": request.hostname,
            "User": user(&process.user),
            "Tty": process.terminal == Terminal::New,
            "OpenStdin": process.stdin == Stdin::Inherited,
            "Env": env,
            "Cmd": process.args.iter().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>(),
            "Image": image(entry),
            "WorkingDir": process.cwd,
            "Labels": request.labels,
            "StopSignal": request.stop.signal,
            "StopTimeout": request.stop.timeout,
        },
        "HostConfig": host_config(entry),
        "NetworkSettings": {
            "Ports": request.network.ports.iter().map(port).collect::<Vec<_>>(),
        },
        "Daemons": daemons(entry),
    })
}

fn daemons(entry: &Entry) -> Vec<Value> {
    let all = entry.state.daemons.iter().filter(|_| entry.status() == Status::Running);
    all.map(|(name, pid)| json!({ "Name": name, "Pid": pid })).collect()
}

fn host_config(entry: &Entry) -> Value {
    let request = &entry.record.request;
    let limits = &request.limits;
    let ulimits: Vec<Value> = request
        .process
        .ulimits
        .iter()
        .map(|u| json!({ "Name": u.name, "Soft": u.soft, "Hard": u.hard }))
        .collect();
    json!({
        "Memory": limits.memory.unwrap_or(0),
        "MemorySwap": limits.swap().map_or(0, |s| s + limits.memory.unwrap_or(0)),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "NanoCpus": limits.cpus.unwrap_or(0) * 1_000_000,
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "PidsLimit": limits.pids.unwrap_or(0),
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "ShmSize": request.shm_size,
        "Ulimits": ulimits,
        "AutoRemove": entry.record.keep == crate::store::Keep::Thrown,
        "NetworkMode": match request.network.net {
            Net::Host => "host",
            Net::None => "none",
            Net::Pasta => "pasta",
        },
        "Privileged": request.security.privileged,
        "ReadonlyRootfs": request.root_access == Access::ReadOnly,
        "NoNewPrivileges": request.security.no_new_privs,
        "SeccompProfile": match request.security.seccomp {
            SeccompRequest::Default => "default",
            SeccompRequest::Unconfined => "unconfined",
            SeccompRequest::Profile(_) => "custom",
        },
        "Init": request.process.first == First::Init,
        "Dns": request.network.dns,
        "ExtraHosts":
            request.network.hosts.iter().map(|(n, a)| format!("{n}:{a}")).collect::<Vec<_>>(),
    })
}

fn user(user: &crate::spec::User) -> String {
    let one = |p: &crate::spec::Principal| match p {
        crate::spec::Principal::Id(id) => id.to_string(),
        crate::spec::Principal::Name(name) => name.clone(),
    };
    match &user.group {
        Some(group) => format!("{}:{}", one(&user.user), one(group)),
        None => one(&user.user),
    }
}

fn mount(v: &crate::spec::Volume) -> Value {
    json!({
        "Type": if v.name.is_some() { "volume" } else { "bind" },
        "Name": v.name.clone().unwrap_or_default(),
        "Source": Path::new(&v.source),
        "Destination": Path::new(&v.target),
        "RW": v.access == Access::ReadWrite,
    })
}

fn paths(all: &[std::path::PathBuf]) -> String {
    all.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(":")
}
