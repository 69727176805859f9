//! What the control socket grants, and to whom.
#![expect(clippy::disallowed_methods, reason = "a test owns its sockets and time")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use ringswitch::control::{Answer, ControlHandler, ControlServer, Reload, Request};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn the_control_socket_answers_its_owner_line_by_line() {
    let data_dir = tempfile::tempdir().unwrap();
    let path = data_dir.path().join("control.sock");
    // A dead process has left one.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let control = ControlServer::start(data_dir.path().to_owned(), Arc::new(Handler)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let mut client = Client::new(&path);
    for _ in 0..3 {
        let reload: Reload = client.ask(r#"{"command":"reload"}"#).into_result().unwrap();
        assert_eq!(reload.applies, ["domains"]);
    }
    let fault = client.ask("nonsense").into_result::<Reload>().unwrap_err();
    assert!(fault.starts_with("this is no request"), "{fault}");
    let fault = client.ask(r#"{"command":"status"}"#).into_result::<Reload>().unwrap_err();
    assert!(fault.contains("a fault of ours"), "a handler that panics is not the end: {fault}");
    assert!(client.ask(r#"{"command":"reload"}"#).into_result::<Reload>().is_ok());
    let fault = Client::new(&path).ask(&"x".repeat(1 << 20)).into_result::<Reload>().unwrap_err();
    assert!(fault.starts_with("a request is one line"), "{fault}");

    control.stop().unwrap();
    assert!(!path.exists());
}

#[test]
fn idle_slow_and_too_many_clients_are_cut_off() {
    let data_dir = tempfile::tempdir().unwrap();
    let path = data_dir.path().join("control.sock");
    let control = ControlServer::start(data_dir.path().to_owned(), Arc::new(Handler)).unwrap();
    let mut greedy: Vec<Client> = (0..8).map(|_| Client::new(&path)).collect();
    // An answer of 20 MB, which nobody reads.
    greedy[0].send(r#"{"command":"bindings","limit":1}"#);
    std::thread::sleep(Duration::from_millis(100));
    let fault = Client::new(&path).receive().into_result::<Reload>().unwrap_err();
    assert!(fault.contains("too many connections"), "{fault}");

    greedy.rotate_left(1);
    for mut client in greedy {
        // The slow one comes last, when its time is over.
        std::thread::sleep(Duration::from_millis(200));
        client.stream.get_ref().set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        let mut octets = Vec::new();
        // The slow one gets what had been sent; all find the end.
        match client.stream.read_to_end(&mut octets) {
            Ok(_) => assert!(octets.len() < 20 << 20),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert!(Client::new(&path).ask(r#"{"command":"reload"}"#).into_result::<Reload>().is_ok());
    control.stop().unwrap();
}

struct Handler;

impl ControlHandler for Handler {
    fn handle(&self, request: Request) -> Answer {
        match request {
            Request::Reload => Answer::ok(&Reload { applies: vec!["domains".into()], needs_restart: vec![] }),
            Request::Bindings { .. } => Answer::ok(&"x".repeat(20 << 20)),
            Request::Status => panic!("as a test of what a panic does"),
            _ => Answer::error("it is not asked here"),
        }
    }
}

struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    fn new(path: &Path) -> Self {
        Self { stream: BufReader::new(UnixStream::connect(path).unwrap()) }
    }

    fn send(&mut self, line: &str) {
        // A line that is too long is not read to its end.
        let _ = self.stream.get_mut().write_all(format!("{line}\n").as_bytes());
    }

    fn receive(&mut self) -> Answer {
        let mut answer = String::new();
        self.stream.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn ask(&mut self, line: &str) -> Answer {
        self.send(line);
        self.receive()
    }
}
