//! A peer of the switch, over UDP or TCP: it writes requests, sends them again as RFC 3261 §17.1.2 wants, and reads what
//! comes.

use crate::rig::PATIENCE;
use sip::digest::{Challenge, Covered, Ha1};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// T1 (§17.1.1.1).
const T1: Duration = Duration::from_millis(500);

/// A number that nothing else in this process has.
fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A request to be written.
#[derive(Clone)]
pub struct Request {
    pub method: &'static str,
    pub uri: String,
    pub from: String,
    pub to: String,
    pub call_id: String,
    pub cseq: u32,
    pub branch: String,
    /// Further header lines, without their ends.
    pub lines: Vec<String>,
    pub body: String,
}

impl Request {
    pub fn new(method: &'static str, uri: &str) -> Self {
        let number = unique();
        Self {
            method,
            uri: uri.to_owned(),
            from: format!("<sip:tester@elsewhere.example>;tag=f{number}"),
            to: format!("<{uri}>"),
            call_id: format!("{number}-{}", std::process::id()),
            cseq: 1,
            branch: format!("z9hG4bKtest{number}"),
            lines: Vec::new(),
            body: String::new(),
        }
    }

    /// What a switch answers itself.
    pub fn options() -> Self {
        Self::new("OPTIONS", "sip:example.com")
    }

    /// Binds `contact` to `user` of example.com.
    pub fn register(user: &str, contact: &str) -> Self {
        let mut request = Self::new("REGISTER", "sip:example.com");
        request.to = format!("<sip:{user}@example.com>");
        request.from = format!("{};tag=f{}", request.to, unique());
        request.line(format!("Contact: {contact}"))
    }

    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// The same request once more, as another transaction (§8.1.3.5).
    pub fn again(&self) -> Self {
        Self { cseq: self.cseq + 1, branch: format!("z9hG4bKtest{}", unique()), ..self.clone() }
    }

    /// The ACK or CANCEL of this transaction (§9.1, §17.1.1.3).
    pub fn follower(&self, method: &'static str) -> Self {
        Self { method, lines: Vec::new(), body: String::new(), ..self.clone() }
    }

    /// On the wire, sent by `sent_by`, which is transport and address.
    pub fn text(&self, sent_by: &str) -> String {
        let Self { method, uri, from, to, call_id, cseq, branch, lines, body } = self;
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{sent_by};rport;branch={branch}\r\nMax-Forwards: 70\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{lines}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// Status code of a response.
pub fn status(message: &str) -> u16 {
    let code = message.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no response: {message}"))
}

/// Values of a header's lines, in order.
pub fn headers<'m>(message: &'m str, name: &str) -> Vec<&'m str> {
    let (head, _) = message.split_once("\r\n\r\n").unwrap();
    let fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

/// Value of a header's first line.
pub fn header<'m>(message: &'m str, name: &str) -> &'m str {
    headers(message, name).first().unwrap_or_else(|| panic!("no {name}: {message}"))
}

pub enum Wire {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, unread: Vec<u8> },
}

pub struct Phone {
    pub wire: Wire,
    switch: SocketAddr,
}

impl Phone {
    /// A phone on any port of `ip`.
    pub fn udp(ip: &str, switch: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        Self { wire: Wire::Udp(socket), switch }
    }

    pub fn tcp(switch: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&switch, PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { wire: Wire::Tcp { stream, unread: Vec::new() }, switch }
    }

    pub fn address(&self) -> SocketAddr {
        match &self.wire {
            Wire::Udp(socket) => socket.local_addr().unwrap(),
            Wire::Tcp { stream, .. } => stream.local_addr().unwrap(),
        }
    }

    /// Transport and address, as in Via.
    pub fn sent_by(&self) -> String {
        let transport = match self.wire {
            Wire::Udp(_) => "UDP",
            Wire::Tcp { .. } => "TCP",
        };
        format!("{transport} {}", self.address())
    }

    /// The contact that leads to this phone.
    pub fn contact(&self, user: &str) -> String {
        match self.wire {
            Wire::Udp(_) => format!("<sip:{user}@{}>", self.address()),
            Wire::Tcp { .. } => format!("<sip:{user}@{};transport=tcp>", self.address()),
        }
    }

    pub fn send(&mut self, octets: &[u8]) {
        match &mut self.wire {
            Wire::Udp(socket) => assert_eq!(socket.send_to(octets, self.switch).unwrap(), octets.len()),
            Wire::Tcp { stream, .. } => stream.write_all(octets).unwrap(),
        }
    }

    pub fn send_request(&mut self, request: &Request) {
        let text = request.text(&self.sent_by());
        self.send(text.as_bytes());
    }

    /// The next message, if one comes within `most`. A stream that ends gives none.
    pub fn receive(&mut self, most: Duration) -> Option<String> {
        let octets = match &mut self.wire {
            Wire::Udp(socket) => {
                // A timeout of zero would be none.
                socket.set_read_timeout(Some(most.max(Duration::from_millis(1)))).unwrap();
                let mut buffer = vec![0; 65_536];
                match socket.recv(&mut buffer) {
                    Ok(octets) => buffer.truncate(octets),
                    Err(error) if is_timeout(&error) => return None,
                    Err(error) => panic!("{error}"),
                }
                buffer
            }
            Wire::Tcp { stream, unread } => {
                let deadline = Instant::now() + most;
                loop {
                    if let Some(end) = message_end(unread) {
                        break unread.drain(..end).collect();
                    }
                    if !read_more(stream, unread, deadline) {
                        return None;
                    }
                }
            }
        };
        Some(String::from_utf8(octets).unwrap())
    }

    /// The next message, which must come.
    pub fn expect(&mut self) -> String {
        self.receive(PATIENCE).expect("a message comes")
    }

    /// The next message that is no provisional response and repeats none in `seen`.
    pub fn expect_news(&mut self, seen: &mut Vec<String>) -> String {
        loop {
            let message = self.expect();
            if !message.starts_with("SIP/2.0 1") && !seen.contains(&message) {
                seen.push(message.clone());
                return message;
            }
        }
    }

    /// What comes on a stream until `count` octets are there or nothing more comes within `most`.
    pub fn read_octets(&mut self, count: usize, most: Duration) -> Vec<u8> {
        let Wire::Tcp { stream, unread } = &mut self.wire else { panic!("a stream was expected") };
        let deadline = Instant::now() + most;
        while unread.len() < count && read_more(stream, unread, deadline) {}
        std::mem::take(unread)
    }

    /// Whether the switch ends the stream within `most`, whatever it still says.
    pub fn is_ended(&mut self, most: Duration) -> bool {
        let Wire::Tcp { stream, unread } = &mut self.wire else { panic!("a stream was expected") };
        let deadline = Instant::now() + most;
        while read_more(stream, unread, deadline) {}
        Instant::now() < deadline
    }

    /// Sends a request until its final response comes, and gives that.
    pub fn ask(&mut self, request: &Request) -> String {
        let text = request.text(&self.sent_by());
        let started = Instant::now();
        let is_datagram = matches!(self.wire, Wire::Udp(_));
        self.send(text.as_bytes());
        let mut sent_at = started;
        while started.elapsed() < PATIENCE {
            if is_datagram && sent_at.elapsed() >= T1 {
                self.send(text.as_bytes());
                sent_at = Instant::now();
            }
            let Some(message) = self.receive(T1.saturating_sub(sent_at.elapsed()).max(Duration::from_millis(20)))
            else {
                continue;
            };
            let is_its_own = message.starts_with("SIP/2.0 ") && headers(&message, "Via")[0].contains(&request.branch);
            if is_its_own && status(&message) >= 200 {
                return message;
            }
        }
        panic!("no answer to {text}")
    }

    /// Sends a request, answers the challenge that comes as `user` whose password is `secret`, and gives the answer.
    pub fn ask_with_digest(&mut self, request: &Request, user: &str) -> (Request, String) {
        let refused = self.ask(request);
        let with_credentials = answer_challenge(request, &refused, user);
        let answer = self.ask(&with_credentials);
        (with_credentials, answer)
    }

    /// Answers a request, with its Record-Route.
    pub fn respond(&mut self, request: &str, status_line: &str, contact: Option<&str>) {
        self.respond_with(request, status_line, contact, "");
    }

    /// Answers the offer of `request` as `user`, with audio at `media`.
    pub fn accept(&mut self, request: &str, user: &str, media: SocketAddr) {
        let contact = self.contact(user);
        self.respond_with(request, "200 OK", Some(&contact), &sdp(media));
    }

    fn respond_with(&mut self, request: &str, status_line: &str, contact: Option<&str>, body: &str) {
        let copy = |name| headers(request, name).iter().map(|value| format!("{name}: {value}\r\n")).collect::<String>();
        let (to, tag) = (header(request, "To"), ";tag=callee");
        let tag = if to.contains(";tag=") { "" } else { tag };
        let contact = contact.map_or_else(String::new, |contact| format!("Contact: {contact}\r\n"));
        let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status_line}\r\n{}{}{}To: {to}{tag}\r\n{}{}{contact}{content}Content-Length: {}\r\n\r\n{body}",
            copy("Via"),
            copy("Record-Route"),
            copy("From"),
            copy("Call-ID"),
            copy("CSeq"),
            body.len(),
        );
        self.send(text.as_bytes());
    }
}

/// A session description with audio at `media`.
pub fn sdp(media: SocketAddr) -> String {
    let (ip, port) = (media.ip(), media.port());
    let family = if media.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\n"
    )
}

/// The request again, with credentials for what `refused` asks (RFC 7616, RFC 3261 §22).
pub fn answer_challenge(request: &Request, refused: &str, user: &str) -> Request {
    let (asks, answers) = match status(refused) {
        401 => ("WWW-Authenticate", "Authorization"),
        407 => ("Proxy-Authenticate", "Proxy-Authorization"),
        _ => panic!("no challenge: {refused}"),
    };
    let challenge = Challenge::parse(header(refused, asks).as_bytes()).unwrap();
    let ha1 = Ha1::new(challenge.algorithm, user.as_bytes(), &challenge.realm, b"secret");
    let covered = Covered { method: request.method.as_bytes(), uri: request.uri.as_bytes(), body: b"" };
    let credentials = challenge.answer(user.as_bytes(), &ha1, &covered, 1, b"5ca1ab1e").unwrap();
    let mut value = Vec::new();
    credentials.write_to(&mut value);
    request.again().line(format!("{answers}: {}", String::from_utf8(value).unwrap()))
}

/// The octets of the message at the front of a stream, once all are there.
fn message_end(unread: &[u8]) -> Option<usize> {
    let head = unread.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&unread[..head]).unwrap();
    let end = head + header(text, "Content-Length").parse::<usize>().unwrap();
    (unread.len() >= end).then_some(end)
}

/// Reads on; false at the end of the stream, or when `deadline` has come.
fn read_more(stream: &mut TcpStream, unread: &mut Vec<u8>, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return false;
    }
    stream.set_read_timeout(Some(left)).unwrap();
    let mut buffer = [0; 16_384];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(octets) => {
            unread.extend_from_slice(&buffer[..octets]);
            true
        }
        Err(error) if is_timeout(&error) || error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => panic!("{error}"),
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
