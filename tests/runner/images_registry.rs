//! Registries: the packaged one, and one that asks for a token, breaks off, is busy, and lies.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::require;

use crate::fixture::Host;
use crate::for_each_user;
use crate::image_fixture::{Archive, Images, docker_archive, sha256};

for_each_user! {
    what_is_pushed_is_pulled_again: pushed_and_pulled;
    a_pull_goes_on_where_it_broke_off: goes_on;
}

/// The packaged registry, on a port of its own.
struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    fn start(host: &Host) -> Registry {
        let address = free_address();
        let dir = host.dir().join("registry");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            dir.display()
        );
        let file = host.dir().join("registry.yml");
        std::fs::write(&file, config).expect("write the registry's configuration");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("start the registry");
        let began = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "the registry doesn't listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Registry { child, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().expect("end the registry");
        self.child.wait().expect("wait for the registry");
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").to_string()
}

fn two_layers(images: &Images<'_>) -> String {
    let layers = [
        Archive::default().file("a", &"some text ".repeat(5000)).end(),
        Archive::default().file("b", "2").add(b'0', ".wh.a", "", b"").end(),
    ];
    let from = images.file("two.tar", &docker_archive("two:1", &layers));
    images.ok(["load", "-i", from.to_str().expect("a plain path")]);
    images.id("two:1")
}

fn pushed_and_pulled(host: &Host) {
    let test = "images_registry::what_is_pushed_is_pulled_again";
    require!(test, support::privilege::installed("docker-registry"));
    let registry = Registry::start(host);
    let images = Images::new(host);
    let id = two_layers(&images);
    let name = |rest: &str| format!("{}/{rest}", registry.address);
    let verify = "--tls-verify=false";
    images.ok(["push", verify, "two:1", &name("me/two:1")]);
    // Known blobs are lent from the other repository, and another compression is another blob.
    images.ok(["push", verify, "two:1", &name("you/two:2")]);
    images.ok(["push", verify, "--compression-format", "zstd", "two:1", &name("me/two:z")]);
    let other = images.other();
    for tag in ["me/two:1", "you/two:2", "me/two:z"] {
        assert_eq!(other.ok(["pull", verify, &name(tag)]), id, "{tag}");
    }
    let listed = other.ok(["images", "--format", "{{json .RepoDigests}}", &name("me/two:1")]);
    let digests: Vec<String> = serde_json::from_str(&listed).expect("a list");
    let by_digest = digests.iter().find(|d| d.contains("me/two@")).expect("a digest");
    other.ok(["rmi", "-a"]);
    assert_eq!(other.ok(["pull", verify, by_digest]), id);
    assert_eq!(other.id(by_digest), id);
    let line = other.fails(["pull", verify, &name("me/none:1")]);
    assert!(line.contains("404") && line.contains("check the name"), "{line}");
    let line = other.fails(["pull", &name("me/two:1")]);
    assert!(line.contains("--tls-verify=false"), "{line}");
}

/// What a registry of ours does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Breaks,
    Lies,
}

/// A registry in this process.
struct Ours {
    files: HashMap<String, Vec<u8>>,
    manner: Manner,
    /// Requests, as `METHOD PATH RANGE`.
    seen: Mutex<Vec<String>>,
    address: String,
}

impl Ours {
    /// Serves an image of one layer until the process ends.
    fn start(manner: Manner) -> Arc<Ours> {
        let layer = Archive::default().file("a", &"0123456789".repeat(30_000)).end();
        let packed = support::process::feed(Command::new("gzip").arg("-1c"), &layer).stdout;
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
            sha256(&layer)
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:{}","size":{}}}]}}"#,
            sha256(config.as_bytes()),
            config.len(),
            sha256(&packed),
            packed.len()
        );
        let platform = |arch: &str, digest: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{digest}","size":1,"platform":{{"os":"linux","architecture":"{arch}"}}}}"#
            )
        };
        let digest = sha256(manifest.as_bytes());
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
            platform("s390x", &sha256(b"other")),
            platform(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, &digest)
        );
        let mut files = HashMap::new();
        files.insert("/v2/x/manifests/1".to_owned(), index.into_bytes());
        files.insert(format!("/v2/x/manifests/sha256:{digest}"), manifest.into_bytes());
        files.insert(
            format!("/v2/x/blobs/sha256:{}", sha256(config.as_bytes())),
            config.into_bytes(),
        );
        files.insert(format!("/v2/x/blobs/sha256:{}", sha256(&packed)), packed);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let ours = Arc::new(Ours { files, manner, seen: Mutex::default(), address });
        let server = Arc::clone(&ours);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&server);
                // A client that goes away ends its connection.
                std::thread::spawn(move || match server.serve(stream) {
                    Ok(()) | Err(_) => {}
                });
            }
        });
        ours
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut out = stream;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut words = line.split_whitespace().map(str::to_owned);
            let (method, path) =
                (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let mut headers = HashMap::new();
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let Some((name, value)) = header.trim_end().split_once(": ") else { break };
                headers.insert(name.to_lowercase(), value.to_owned());
            }
            let range = headers.get("range").cloned().unwrap_or_default();
            let times = {
                let mut seen = self.seen.lock().expect("nobody panics");
                seen.push(format!("{method} {path} {range}"));
                seen.iter().filter(|s| s.starts_with(&format!("{method} {path} "))).count()
            };
            if self.answer(&mut out, &path, &headers, &range, times)? {
                return Ok(());
            }
        }
    }

    /// Answers a request, and returns whether the connection ends.
    fn answer(
        &self,
        out: &mut TcpStream,
        path: &str,
        headers: &HashMap<String, String>,
        range: &str,
        times: usize,
    ) -> std::io::Result<bool> {
        let authorization = headers.get("authorization").map_or("", String::as_str);
        if path.starts_with("/token") {
            // base64 of me:secret
            let known = authorization == "Basic bWU6c2VjcmV0";
            let body: &[u8] = if known { br#"{"token":"opaque"}"# } else { b"{}" };
            return reply(out, if known { "200 OK" } else { "401 Unauthorized" }, "", body);
        }
        if authorization != "Bearer opaque" {
            let realm = format!(
                "WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"s\",scope=\"repository:x:pull\"\r\n",
                self.address
            );
            return reply(out, "401 Unauthorized", &realm, b"");
        }
        let Some(content) = self.files.get(path) else {
            return reply(out, "404 Not Found", "", b"");
        };
        let is_blob = path.contains("/blobs/");
        if self.manner == Manner::Breaks && !is_blob && times == 2 {
            return reply(out, "503 Service Unavailable", "Retry-After: 0\r\n", b"");
        }
        let mut content = content.clone();
        if self.manner == Manner::Lies && is_blob && content.len() > 1000 {
            content[900] ^= 1;
        }
        let from = range
            .strip_prefix("bytes=")
            .and_then(|r| r.strip_suffix('-'))
            .and_then(|r| r.parse::<usize>().ok());
        let rest = &content[from.unwrap_or(0)..];
        let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
        let extra = from.map_or_else(String::new, |f| {
            format!("Content-Range: bytes {f}-{}/{}\r\n", content.len() - 1, content.len())
        });
        if self.manner == Manner::Breaks && is_blob && times <= 3 && rest.len() > 300 {
            write!(out, "HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\n\r\n", rest.len())?;
            out.write_all(&rest[..rest.len() / 3])?;
            return Ok(true);
        }
        reply(out, status, &extra, rest)
    }
}

fn reply(out: &mut TcpStream, status: &str, extra: &str, body: &[u8]) -> std::io::Result<bool> {
    write!(out, "HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\n\r\n", body.len())?;
    out.write_all(body)?;
    Ok(false)
}

fn goes_on(host: &Host) {
    let images = Images::new(host);
    let registry = Ours::start(Manner::Breaks);
    let name = format!("{}/x:1", registry.address);
    let verify = "--tls-verify=false";
    let line = images.fails(["pull", verify, &name]);
    assert!(line.contains("token") && line.contains("--creds"), "{line}");
    registry.seen.lock().expect("nobody panics").clear();
    let auth = images.file(
        "auth.json",
        format!(r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#, registry.address).as_bytes(),
    );
    images.ok(["pull", verify, "--authfile", auth.to_str().expect("a plain path"), &name]);
    let layer = images.layers(&name);
    let mut text = String::new();
    let mut file = std::fs::File::open(format!("{layer}/a")).expect("the layer's file");
    file.read_to_string(&mut text).expect("read");
    assert_eq!(text, "0123456789".repeat(30_000));
    let seen = registry.seen.lock().expect("nobody panics").clone();
    let resumed = seen.iter().filter(|s| s.contains("/blobs/") && s.contains("bytes=")).count();
    assert!(resumed >= 2, "{seen:?}");
    // What is known by its digest would not be asked for.
    let other = images.other();
    let liar = Ours::start(Manner::Lies);
    let name = format!("{}/x:1", liar.address);
    let line = other.fails(["pull", verify, "--creds", "me:secret", &name]);
    assert!(line.contains("what came has the digest"), "{line}");
    assert_eq!(other.content().len(), 0, "{:?}", other.content());
}
