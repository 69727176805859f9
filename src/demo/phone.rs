//! Two phones in one thread: they register, one calls, the other answers.
//!
//! They do of RFC 3261 what a call on loopback takes, retransmissions included, and complain about anything that is not
//! as it should be.

use super::ladder::Ladder;
use anyhow::{Context, bail, ensure};
use sip::{
    HeaderName, Limits, Message, Method, StatusCode,
    digest::{Challenge, Covered, Ha1},
};
use std::{
    fmt::Write,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// T1 (§17.1.1.1), and how long a transaction may take.
const T1: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(8);

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n";

/// One phone.
pub struct Phone {
    user: &'static str,
    domain: &'static str,
    password: &'static str,
    socket: UdpSocket,
    address: SocketAddr,
    switch: SocketAddr,
    sent: u32,
    /// Calls to it that have been hung up.
    pub calls_ended: u32,
}

/// Both phones, and where their messages are shown.
pub struct Phones {
    /// The caller.
    pub alice: Phone,
    /// The callee.
    pub bob: Phone,
    /// Prints the messages, if any are to be printed.
    pub ladder: Option<Ladder>,
}

/// A final response, in octets of its own.
struct Final {
    octets: Vec<u8>,
}

impl Phone {
    /// A phone of `user`, which speaks to `switch`.
    pub fn new(
        user: &'static str,
        domain: &'static str,
        password: &'static str,
        switch: SocketAddr,
    ) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("binding a phone's socket")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { user, domain, password, socket, address, switch, sent: 0, calls_ended: 0 })
    }

    /// A number that no message of this phone had before.
    fn next(&mut self) -> u32 {
        self.sent += 1;
        self.sent
    }

    fn aor(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    fn via(&mut self) -> String {
        let number = self.next();
        format!("Via: SIP/2.0/UDP {};branch=z9hG4bK{}{number};rport\r\n", self.address, self.user)
    }

    fn send(&self, ladder: Option<&Ladder>, octets: &[u8]) -> anyhow::Result<()> {
        if let Some(ladder) = ladder {
            ladder.show(self.user, true, &parse(octets)?);
        }
        self.socket.send_to(octets, self.switch).context("a phone cannot send")?;
        Ok(())
    }

    /// The header line that answers the challenge of a 401 or 407 (§22).
    fn credentials(&self, refused: &Message<'_>, method: Method<'_>, uri: &str) -> anyhow::Result<String> {
        let (challenge, name) = match status(refused)? {
            401 => (HeaderName::WwwAuthenticate, "Authorization"),
            407 => (HeaderName::ProxyAuthenticate, "Proxy-Authorization"),
            other => bail!("the first {method:?} is answered {other}, not challenged"),
        };
        let challenge = Challenge::parse(refused.value(challenge).context("a challenge is missing")?)?;
        let ha1 = Ha1::new(challenge.algorithm, self.user.as_bytes(), self.domain.as_bytes(), self.password.as_bytes());
        let covered = Covered { method: method.as_bytes(), uri: uri.as_bytes(), body: b"" };
        let credentials = challenge.answer(self.user.as_bytes(), &ha1, &covered, 1, b"0a4f113b");
        let mut line = format!("{name}: ").into_bytes();
        credentials.context("the algorithm was taken from the challenge")?.write_to(&mut line);
        line.extend_from_slice(b"\r\n");
        Ok(String::from_utf8(line)?)
    }

    /// What has arrived, if anything.
    fn receive<'b>(&self, buffer: &'b mut [u8]) -> anyhow::Result<Option<&'b [u8]>> {
        match self.socket.recv_from(buffer) {
            Ok((octets, _)) => Ok(Some(&buffer[..octets])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("a phone cannot receive"),
        }
    }

    /// Answers a request: rings and answers an INVITE, hangs up on BYE.
    fn serve(&mut self, ladder: Option<&Ladder>, request: &Message<'_>) -> anyhow::Result<()> {
        let parsed = request.request().context("the switch has sent a malformed request")?;
        match parsed.method {
            Method::Invite => {
                self.respond(ladder, request, StatusCode::new(180).context("180 is a status")?, "")?;
                self.respond(ladder, request, StatusCode::OK, SDP)
            }
            Method::Bye => {
                self.calls_ended += 1;
                self.respond(ladder, request, StatusCode::OK, "")
            }
            Method::Ack => Ok(()),
            other => bail!("{} gets an unexpected {other:?}", self.user),
        }
    }

    fn respond(
        &self,
        ladder: Option<&Ladder>,
        request: &Message<'_>,
        status: StatusCode,
        body: &str,
    ) -> anyhow::Result<()> {
        let mut out = Vec::new();
        let tag = format!("{}{}", self.user, self.address.port());
        sip::write::begin_response(&mut out, request, status, status.reason(), tag.as_bytes(), self.switch);
        for route in request.all(HeaderName::RecordRoute) {
            out.extend_from_slice(route.line);
        }
        sip::write::header(&mut out, HeaderName::Contact, format!("<sip:{}@{}>", self.user, self.address).as_bytes());
        if !body.is_empty() {
            sip::write::header(&mut out, HeaderName::ContentType, b"application/sdp");
        }
        sip::write::finish(&mut out, body.as_bytes());
        self.send(ladder, &out)
    }
}

impl Phones {
    /// Alice registers, challenged as she should be.
    pub fn register_alice(&mut self) -> anyhow::Result<()> {
        self.register(|phones| &mut phones.alice).context("alice does not get registered")
    }

    /// Bob registers.
    pub fn register_bob(&mut self) -> anyhow::Result<()> {
        self.register(|phones| &mut phones.bob).context("bob does not get registered")
    }

    fn register(&mut self, who: fn(&mut Self) -> &mut Phone) -> anyhow::Result<()> {
        let phone = who(self);
        let call_id = format!("register-{}", phone.user);
        let refused = self.transact(who, &call_id, 1, "")?;
        let phone = who(self);
        let credentials =
            phone.credentials(&parse(&refused.octets)?, Method::Register, &format!("sip:{}", phone.domain))?;
        let accepted = self.transact(who, &call_id, 2, &credentials)?;
        let accepted = parse(&accepted.octets)?;
        ensure!(status(&accepted)? == 200, "REGISTER with credentials is answered {}", status(&accepted)?);
        Ok(())
    }

    /// Sends a REGISTER and waits for its final response.
    fn transact(
        &mut self,
        who: fn(&mut Self) -> &mut Phone,
        call_id: &str,
        cseq: u32,
        credentials: &str,
    ) -> anyhow::Result<Final> {
        let phone = who(self);
        let (via, aor, user, address) = (phone.via(), phone.aor(), phone.user, phone.address);
        let request = format!(
            "REGISTER sip:{} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <{aor}>;tag={user}\r\nTo: <{aor}>\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{address}>\r\nExpires: 60\r\n\
             {credentials}Content-Length: 0\r\n\r\n",
            phone.domain
        );
        self.exchange(who, request.as_bytes())
    }

    /// Alice calls bob, he answers, she hangs up. Gives the time to the answer.
    pub fn call(&mut self) -> anyhow::Result<Duration> {
        let alice = &mut self.alice;
        let (number, from) = (alice.next(), alice.aor());
        let (to, address) = (self.bob.aor(), alice.address);
        let head = |to: &str, cseq: u32, method: &str| {
            format!(
                "Max-Forwards: 70\r\nFrom: <{from}>;tag=alice{number}\r\nTo: {to}\r\nCall-ID: call-{number}-{}\r\n\
                 CSeq: {cseq} {method}\r\n",
                address.port()
            )
        };
        let invite = |via: &str, cseq: u32, credentials: &str| {
            format!(
                "INVITE {to} SIP/2.0\r\n{via}{}Contact: <sip:alice@{address}>\r\n{credentials}\
                 Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
                head(&format!("<{to}>"), cseq, "INVITE"),
                SDP.len()
            )
        };
        let started = Instant::now();
        let via = alice.via();
        let refused = self.exchange(|phones| &mut phones.alice, invite(&via, 1, "").as_bytes())?;
        let refused = parse(&refused.octets)?;
        // §17.1.1.3: the ACK of a failure belongs to the INVITE's transaction.
        let to_tagged =
            String::from_utf8_lossy(refused.value(HeaderName::To).context("a 407 without To")?).into_owned();
        let ack = format!("ACK {to} SIP/2.0\r\n{via}{}Content-Length: 0\r\n\r\n", head(&to_tagged, 1, "ACK"));
        self.alice.send(self.ladder.as_ref(), ack.as_bytes())?;
        let (credentials, via) = (self.alice.credentials(&refused, Method::Invite, &to)?, self.alice.via());
        let answer = self.exchange(|phones| &mut phones.alice, invite(&via, 2, &credentials).as_bytes())?;
        let setup = started.elapsed();
        let answer = parse(&answer.octets)?;
        ensure!(status(&answer)? == 200, "alice's call is answered {}", status(&answer)?);

        // The dialog (§12.1.2): remote target, route set in reverse, remote tag.
        let to = String::from_utf8_lossy(answer.value(HeaderName::To).context("a 200 without To")?).into_owned();
        let contact = answer.addresses(HeaderName::Contact).next().context("a 200 without Contact")??;
        let target = String::from_utf8_lossy(contact.uri).into_owned();
        let mut routes: Vec<_> = answer.addresses(HeaderName::RecordRoute).collect::<Result<_, _>>()?;
        routes.reverse();
        let mut route = String::new();
        for value in routes {
            write!(route, "Route: {}\r\n", String::from_utf8_lossy(value.raw))?;
        }
        let mut in_dialog = |cseq, method| {
            let via = self.alice.via();
            format!("{method} {target} SIP/2.0\r\n{via}{route}{}Content-Length: 0\r\n\r\n", head(&to, cseq, method))
        };
        let (ack, bye) = (in_dialog(2, "ACK"), in_dialog(3, "BYE"));
        self.alice.send(self.ladder.as_ref(), ack.as_bytes())?;
        let ended = self.exchange(|phones| &mut phones.alice, bye.as_bytes())?;
        let ended = parse(&ended.octets)?;
        ensure!(status(&ended)? == 200, "BYE is answered {}", status(&ended)?);
        Ok(setup)
    }

    /// Serves bob until so many of his calls have ended: his BYE may come after the answer to alice's.
    pub fn wait_for_end(&mut self, calls_ended: u32) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut buffer = [0; 4096];
        while self.bob.calls_ended < calls_ended {
            ensure!(started.elapsed() < TIMEOUT, "bob has had no BYE in {} s", TIMEOUT.as_secs());
            let Some(octets) = self.bob.receive(&mut buffer)? else {
                std::thread::yield_now();
                continue;
            };
            let message = parse(octets)?;
            if let Some(ladder) = &self.ladder {
                ladder.show(self.bob.user, false, &message);
            }
            if message.is_request() {
                self.bob.serve(self.ladder.as_ref(), &message)?;
            }
        }
        Ok(())
    }

    /// Sends a request and serves both phones until its final response is there.
    fn exchange(&mut self, who: fn(&mut Self) -> &mut Phone, request: &[u8]) -> anyhow::Result<Final> {
        let started = Instant::now();
        let (mut interval, mut next_send) = (T1, Duration::ZERO);
        let sent = parse(request)?;
        let (call_id, cseq) = (sent.call_id(), sent.request()?.cseq);
        let mut buffer = [0; 4096];
        while started.elapsed() < TIMEOUT {
            if started.elapsed() >= next_send {
                let ladder = self.ladder.take();
                let sending = who(self).send(ladder.as_ref(), request);
                self.ladder = ladder;
                sending?;
                // Timers A and E (§17.1.1.2, §17.1.2.2).
                next_send = started.elapsed() + interval;
                interval *= 2;
            }
            let mut is_quiet = true;
            for phone in [&mut self.alice, &mut self.bob] {
                let Some(octets) = phone.receive(&mut buffer)? else { continue };
                is_quiet = false;
                let message = parse(octets)?;
                if let Some(ladder) = &self.ladder {
                    ladder.show(phone.user, false, &message);
                }
                if message.is_request() {
                    phone.serve(self.ladder.as_ref(), &message)?;
                } else if message.call_id() == call_id
                    && let Ok(response) = message.response()
                    && response.cseq == cseq
                {
                    // A provisional response ends the retransmissions.
                    next_send = TIMEOUT;
                    if !response.status.is_provisional() {
                        return Ok(Final { octets: octets.to_vec() });
                    }
                }
            }
            if is_quiet {
                std::thread::yield_now();
            }
        }
        bail!("{:?} has had no final response in {} s", cseq.method, TIMEOUT.as_secs())
    }
}

fn parse(octets: &[u8]) -> anyhow::Result<Message<'_>> {
    Message::parse(octets, &Limits::default()).context("a message is malformed")
}

fn status(message: &Message<'_>) -> anyhow::Result<u16> {
    Ok(message.response()?.status.get())
}
