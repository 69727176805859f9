//! What dial plans fetch from the web: a few threads that wait for others' servers, so that no shard does.
//!
//! A script must not be a way into the operator's network: every address that a name resolves to, at each redirection anew,
//! is looked at before it is connected to, and those that are not public are refused unless the configuration allows them.
//! Everything is bounded: who waits, how long, how much comes back, how often it is redirected.

use crate::{
    config,
    fair::{self, FairQueue},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use store::Network;
use ureq::{
    Agent, Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

/// Octets of an address.
pub const MAX_URL_OCTETS: usize = 2_048;

/// What a script wants to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebRequest {
    /// The resource, by http or https.
    pub url: String,
    /// For POST, the body's type and the body.
    pub post: Option<(String, String)>,
}

/// What came of it: the status and the body, or a sentence for the script's author.
pub type WebAnswer = Result<(u16, String), String>;

/// Takes an answer, on a thread of this module: it hands it to the shard that has asked, and wakes it.
pub type WebReply = Box<dyn FnOnce(WebAnswer) + Send>;

type Job = (WebRequest, WebReply);

/// The running threads. They end when this is dropped, after the requests that are under way.
pub struct Web {
    jobs: Arc<FairQueue<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Web {
    /// Starts the threads.
    pub fn start(settings: &config::Web) -> std::io::Result<Self> {
        let (max, max_per_user) = (settings.max_waiting as usize, settings.max_waiting_per_user as usize);
        let jobs = Arc::new(FairQueue::new(max, max_per_user));
        let agent = agent(settings);
        let mut web = Self { jobs: Arc::clone(&jobs), threads: Vec::new() };
        for _ in 0..settings.threads {
            let (agent, jobs, most) = (agent.clone(), Arc::clone(&jobs), settings.max_body_bytes);
            let thread = std::thread::Builder::new().name("web".to_owned());
            web.threads.push(thread.spawn(move || serve(&agent, &jobs, most))?);
        }
        Ok(web)
    }

    /// Fetches for `user`. Where too many requests wait, in all or of his, the answer is given at once, and is that.
    pub fn ask(&self, user: &str, request: WebRequest, reply: WebReply) {
        let (reply, whose) = match self.jobs.push(user, (request, reply)) {
            Ok(()) => return,
            Err(fair::Refused::Full((_, reply))) => (reply, "`web.max_waiting`"),
            Err(fair::Refused::Share((_, reply))) => (reply, "of yours, `web.max_waiting_per_user`"),
        };
        reply(Err(format!("too many requests to the web wait ({whose}); try again later")));
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.jobs.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that fetches from the web had panicked");
            }
        }
    }
}

fn agent(settings: &config::Web) -> Agent {
    let config = Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(settings.timeout_secs.into())))
        .max_redirects(settings.max_redirects)
        .http_status_as_error(false)
        .user_agent("ringswitch")
        // What the environment of the switch says is not for scripts.
        .proxy(None)
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Guard { allow: settings.allow.clone(), ..Guard::default() })
}

fn serve(agent: &Agent, jobs: &FairQueue<Job>, max_body_bytes: u32) {
    while let Some((request, reply)) = jobs.pop() {
        reply(fetch(agent, &request, max_body_bytes));
    }
}

fn fetch(agent: &Agent, request: &WebRequest, max_body_bytes: u32) -> WebAnswer {
    let url = &request.url;
    if url.len() > MAX_URL_OCTETS {
        return Err(format!("the address is longer than {MAX_URL_OCTETS} octets"));
    }
    let answered = match &request.post {
        None => agent.get(url).call(),
        Some((content_type, body)) => agent.post(url).content_type(content_type).send(body.as_str()),
    };
    let mut response = answered.map_err(|error| told(&error))?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(max_body_bytes.into()).read_to_vec();
    let body = body.map_err(|error| match error {
        Error::BodyExceedsLimit(_) => {
            format!("the answer is longer than {max_body_bytes} octets (`web.max_body_bytes`)")
        }
        error => told(&error),
    })?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn told(error: &Error) -> String {
    match error {
        Error::Other(refused) if refused.is::<Refused>() => refused.to_string(),
        Error::Timeout(_) => "no answer came in time (`web.timeout_secs`)".to_owned(),
        error => error.to_string(),
    }
}

/// Every address behind a name is private, so that none is connected to.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a public address; the operator can allow it by `web.allow`")]
struct Refused(IpAddr);

/// Resolves names, and keeps scripts out of private networks.
#[derive(Debug, Default)]
struct Guard {
    names: DefaultResolver,
    allow: Vec<Network>,
}

impl Resolver for Guard {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        let mut granted = self.empty();
        for address in found.iter() {
            if is_public(address.ip()) || self.allow.iter().any(|network| network.contains(address.ip())) {
                granted.push(*address);
            }
        }
        match (granted.is_empty(), found.first()) {
            (false, _) => Ok(granted),
            (true, Some(address)) => Err(Error::Other(Box::new(Refused(address.ip())))),
            (true, None) => Err(Error::HostNotFound),
        }
    }
}

/// Whether the address is anybody's to reach (IANA's registries of special-purpose addresses, RFC 6890). One that holds
/// an IPv4 address is what that one is.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && b & 0xC0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xFE == 18);
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to an IPv4 address.
        [0x64, 0xFF9B, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        // Teredo, ORCHID, benchmarking and the like; documentation.
        [0x2001, second, ..] => second >= 0x200 && second != 0xDB8,
        [0x3FFF, second, ..] => second >= 0x1000,
        // Global unicast is 2000::/3 (RFC 4291 §2.4), all the rest is not.
        [first, ..] => first & 0xE000 == 0x2000,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has servers of its own")]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::mpsc;

    /// Serves these responses to one connection each. Gives the address.
    fn server(responses: Vec<String>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for response in responses {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(response.as_bytes());
            }
        });
        address
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    fn redirect(to: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    fn settings(allow: &[&str]) -> config::Web {
        let allow = allow.iter().map(|network| network.parse().unwrap()).collect();
        config::Web { timeout_secs: 1, max_body_bytes: 1024, allow, ..config::Web::default() }
    }

    fn get(settings: &config::Web, url: String) -> WebAnswer {
        let web = Web::start(settings).unwrap();
        let (reply, replied) = mpsc::channel();
        web.ask(
            "alice@example.com",
            WebRequest { url, post: None },
            Box::new(move |answer| reply.send(answer).unwrap()),
        );
        replied.recv().unwrap()
    }

    #[test]
    fn an_allowed_server_answers() {
        let server = server(vec![ok("hello")]);
        assert_eq!(get(&settings(&["127.0.0.0/8"]), format!("http://{server}/")), Ok((200, "hello".to_owned())));
    }

    #[test]
    fn loopback_and_names_of_it_are_refused() {
        let server = server(vec![ok("secret")]);
        let by_name = format!("http://localhost:{}/", server.port());
        for url in
            [format!("http://{server}/"), by_name, "http://169.254.169.254/".to_owned(), "http://[::1]/".to_owned()]
        {
            let refused = get(&settings(&[]), url.clone()).unwrap_err();
            assert!(refused.contains("not a public address"), "{url}: {refused}");
        }
    }

    #[test]
    fn a_redirection_into_a_private_network_is_refused() {
        let server = server(vec![redirect("http://127.0.0.2:9/")]);
        let refused = get(&settings(&["127.0.0.1/32"]), format!("http://{server}/")).unwrap_err();
        assert!(refused.contains("127.0.0.2 is not a public address"), "{refused}");
    }

    #[test]
    fn what_is_too_long_or_too_late_is_refused() {
        let long = server(vec![ok(&"x".repeat(2000))]);
        let refused = get(&settings(&["127.0.0.0/8"]), format!("http://{long}/")).unwrap_err();
        assert!(refused.contains("web.max_body_bytes"), "{refused}");

        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let refused = get(&settings(&["127.0.0.0/8"]), url).unwrap_err();
        assert!(refused.contains("web.timeout_secs"), "{refused}");

        let turning = server((0..20).map(|_| redirect("/")).collect());
        assert!(get(&settings(&["127.0.0.0/8"]), format!("http://{turning}/")).is_err());
    }

    #[test]
    fn one_users_waiting_requests_leave_room_for_others() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let slow = format!("http://{}/", silent.local_addr().unwrap());
        let quick = format!("http://{}/", server(vec![ok("hello")]));
        let settings =
            config::Web { threads: 1, max_waiting: 4, max_waiting_per_user: 2, ..settings(&["127.0.0.0/8"]) };
        let web = Web::start(&settings).unwrap();
        let (told, answers) = mpsc::channel();
        let ask = |user: &'static str, url: &str| {
            let told = told.clone();
            // What is left at the end nobody waits for.
            let reply = Box::new(move |answer| drop(told.send((user, answer))));
            web.ask(user, WebRequest { url: url.to_owned(), post: None }, reply);
        };
        ask("alice", &slow);
        // Under way, it waits no longer.
        let (under_way, _) = silent.accept().unwrap();
        (0..3).for_each(|_| ask("alice", &slow));
        let (user, refused) = answers.recv().unwrap();
        assert!(user == "alice" && refused.unwrap_err().contains("web.max_waiting_per_user"));
        ask("bob", &quick);
        drop(under_way);
        // They take turns: bob's comes before all that alice has waiting but the first.
        assert_eq!([answers.recv().unwrap().0, answers.recv().unwrap().0], ["alice"; 2]);
        assert_eq!(answers.recv().unwrap(), ("bob", Ok((200, "hello".to_owned()))));
    }

    #[test]
    fn addresses_for_special_purposes_are_not_public() {
        let private = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
        ];
        for address in private {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "100.128.0.1", "192.0.1.1", "2606:4700::1", "2001:4860::1", "64:ff9b::101:101"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
