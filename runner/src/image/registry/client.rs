//! Requests to one repository of a registry: with a password or token, and again where it is worth it.

use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

use super::auth::{self, Challenge};
use super::{Options, Verify};
use crate::error::{Error, Result};
use crate::image::reference::Reference;

/// How often a request is tried, and how long is waited before the second time.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(400);
/// Longest pause that a registry may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long an answer may take to begin, and a body to arrive: the rest of a blob is asked for anew.
const ANSWER: Duration = Duration::from_secs(120);
const BODY: Duration = Duration::from_secs(600);
/// Most that is read of what a registry says about a failure.
const SAID_MAX: u64 = 4096;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// To read.
    Pull,
    /// To read and write.
    Push,
}

/// A repository.
pub(super) struct Client {
    agent: Agent,
    /// `https://HOST`.
    base: Mutex<String>,
    host: String,
    repository: String,
    access: Access,
    password: Option<String>,
    authorization: Mutex<Option<String>>,
    may_be_plain: bool,
}

/// A request, which may be made several times.
#[derive(Clone, Debug, Default)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// Absolute, or from the registry's root on.
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Client {
    /// Makes a client; nothing is sent yet.
    pub(super) fn new(reference: &Reference, access: Access, options: &Options) -> Result<Client> {
        static PROVIDER: std::sync::Once = std::sync::Once::new();
        // Somebody else's choice would do as well.
        PROVIDER.call_once(|| match rustls::crypto::ring::default_provider().install_default() {
            Ok(()) | Err(_) => {}
        });
        let may_be_plain = options.verify == Verify::Nothing;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .disable_verification(may_be_plain)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(ANSWER))
            .timeout_recv_body(Some(BODY))
            .user_agent(concat!("palimpsest-runner/", env!("CARGO_PKG_VERSION")))
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .build()
            .into();
        let host = match reference.domain.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        Ok(Client {
            agent,
            base: Mutex::new(format!("https://{host}")),
            host: host.to_owned(),
            repository: reference.path.clone(),
            access,
            password: auth::password(&reference.domain, &reference.path, options)?,
            authorization: Mutex::new(None),
            may_be_plain,
        })
    }

    /// Returns the path of something in the repository.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }

    /// Makes a request without a body until it succeeds or can't.
    ///
    /// # Errors
    /// What the registry says, unless its status is one of `fine`.
    pub(super) fn call(&self, request: &Request<'_>, fine: &[u16]) -> Result<Response<Body>> {
        self.send(request, fine, || Ok(SendBody::none()))
    }

    /// Makes a request whose body is made anew each time.
    pub(super) fn send<'b>(
        &self,
        request: &Request<'_>,
        fine: &[u16],
        body: impl Fn() -> Result<SendBody<'b>>,
    ) -> Result<Response<Body>> {
        let mut tries = 0;
        let mut authorized = false;
        loop {
            let answer = self.once(request, body()?);
            let pause = PAUSE * 2u32.pow(tries) + jitter();
            let (why, pause) = match answer {
                Ok(mut answer) => {
                    let status = answer.status().as_u16();
                    if answer.status().is_success() || fine.contains(&status) {
                        return Ok(answer);
                    }
                    if status == 401 && !authorized {
                        self.authorize(answer.headers())?;
                        authorized = true;
                        continue;
                    }
                    let asked = retry_after(answer.headers());
                    let why = self.refused(request, &mut answer);
                    if !matches!(status, 408 | 429 | 500 | 502 | 503 | 504) {
                        return Err(why);
                    }
                    (why, asked.unwrap_or(pause))
                }
                Err(e) if self.fall_back(&e) => continue,
                Err(e) => {
                    let is_final = matches!(
                        e,
                        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::BadUri(_)
                    );
                    let why = self.unreachable(request, &e);
                    if is_final || e.to_string().contains("certificate") {
                        return Err(why);
                    }
                    (why, pause)
                }
            };
            tries += 1;
            if tries >= TRIES {
                return Err(why);
            }
            std::thread::sleep(pause.min(PAUSE_MAX));
        }
    }

    /// Where certificates don't matter, a registry without TLS will do.
    fn fall_back(&self, e: &ureq::Error) -> bool {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = self.may_be_plain && base.starts_with("https://");
        let is_tls = matches!(
            e,
            ureq::Error::Tls(_)
                | ureq::Error::Rustls(_)
                | ureq::Error::Io(_)
                | ureq::Error::ConnectionFailed
                | ureq::Error::Protocol(_)
        );
        if is_first && is_tls {
            *base = format!("http://{}", self.host);
            return true;
        }
        false
    }

    fn once(
        &self,
        request: &Request<'_>,
        body: SendBody<'_>,
    ) -> std::result::Result<Response<Body>, ureq::Error> {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let url = if request.url.starts_with('/') {
            format!("{base}{}", request.url)
        } else {
            request.url.clone()
        };
        let mut http = ureq::http::Request::builder().method(request.method).uri(&url);
        for (name, value) in &request.headers {
            http = http.header(*name, value);
        }
        let authorization =
            self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // An upload may be sent elsewhere, whom the password is no business of.
        let is_ours = url.strip_prefix(&base).is_some_and(|rest| rest.starts_with('/'));
        if let Some(authorization) = authorization.filter(|_| is_ours) {
            http = http.header("Authorization", authorization);
        }
        self.agent.run(http.body(body)?)
    }

    /// Gets what the registry asks for.
    fn authorize(&self, headers: &HeaderMap) -> Result<()> {
        let all = headers.get_all("www-authenticate").iter().filter_map(|h| h.to_str().ok());
        let challenge = all.filter_map(auth::challenge).next();
        let denied = || {
            Error::new(format!("registry {}", self.host), "it wants a password, and none is known")
                .hint("log in by `podman login`, or use --creds or --authfile")
        };
        let authorization = match challenge {
            None => {
                let what = "it asks for a kind of proof that is not supported";
                return Err(Error::new(format!("registry {}", self.host), what));
            }
            Some(Challenge::Basic) => {
                format!("Basic {}", self.password.as_ref().ok_or_else(denied)?)
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                format!("Bearer {}", self.token(&realm, service.as_deref(), scope.as_deref())?)
            }
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        Ok(())
    }

    fn token(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<String> {
        let fail = |why: String| Error::new(format!("get a token of {realm}"), why);
        if !realm.starts_with("https://") && !self.may_be_plain {
            return Err(fail("it is not https, so the password could be read on the way".into())
                .hint("use --tls-verify=false if that is no danger"));
        }
        let actions = if self.access == Access::Push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository);
        let mut get = self.agent.get(realm).query("scope", scope.unwrap_or(&own));
        if let Some(service) = service {
            get = get.query("service", service);
        }
        if let Some(password) = &self.password {
            get = get.header("Authorization", format!("Basic {password}"));
        }
        let mut answer = get.call().map_err(|e| fail(e.to_string()))?;
        if !answer.status().is_success() {
            let said = said(&mut answer);
            return Err(fail(format!("{} {said}", answer.status()))
                .hint("log in by `podman login`, or use --creds or --authfile"));
        }
        let body = answer
            .body_mut()
            .with_config()
            .limit(1 << 20)
            .read_to_vec()
            .map_err(|e| fail(e.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_slice(&body).map_err(|e| fail(e.to_string()))?;
        let token = ["token", "access_token"].iter().find_map(|k| value.get(k)?.as_str());
        token.map(str::to_owned).ok_or_else(|| fail("the answer has none".into()))
    }

    fn refused(&self, request: &Request<'_>, answer: &mut Response<Body>) -> Error {
        let status = answer.status();
        let said = said(answer);
        let error = Error::new(
            format!("registry {}: {} {}", self.host, request.method, request.url),
            format!("{status}{said}"),
        );
        match status.as_u16() {
            401 | 403 => error.hint("log in by `podman login`, or use --creds or --authfile"),
            404 => error.hint("check the name and the tag"),
            429 => error.hint("it wants fewer requests: try again later"),
            _ => error,
        }
    }

    fn unreachable(&self, request: &Request<'_>, e: &ureq::Error) -> Error {
        let error = Error::new(
            format!("registry {}: {} {}", self.host, request.method, request.url),
            e.to_string(),
        );
        match e {
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => error
                .hint("install its certificate, or use --tls-verify=false where that is no danger"),
            ureq::Error::Io(e)
                if e.to_string().contains("certificate")
                    || e.to_string().contains("InvalidContentType") =>
            {
                error.hint(
                    "install its certificate, or use --tls-verify=false where that is no danger",
                )
            }
            _ => error,
        }
    }
}

/// Returns what the registry says about a failure, on one line.
fn said(answer: &mut Response<Body>) -> String {
    let mut text = String::new();
    let mut reader = answer.body_mut().as_reader().take(SAID_MAX);
    // What can't be read says nothing.
    if reader.read_to_string(&mut text).is_err() {
        return String::new();
    }
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let first = value.get("errors").and_then(|e| e.get(0)).and_then(|e| e.get("message"));
    let said = first.and_then(|m| m.as_str()).unwrap_or("");
    if said.is_empty() { String::new() } else { format!(": {}", said.replace('\n', " ")) }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Returns a little time that differs from call to call, so that many don't come back at once.
fn jitter() -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Duration::from_millis(u64::from(now.map_or(0, |d| d.subsec_micros())) % 200)
}
