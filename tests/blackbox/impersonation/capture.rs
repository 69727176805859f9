//! What passes a link, as tshark tells it.

use crate::impersonation::network::Node;
use pnet::datalink::{self, Channel, Config};
use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Frames that are kept.
const MAX_FRAMES: usize = 10_000;

/// Writes down all that passes a node's link.
pub struct Capture {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Duration, Vec<u8>)>>,
}

impl Capture {
    pub fn start(node: &Node) -> Self {
        let mut frames = node.run(|| {
            let link = datalink::interfaces().into_iter().find(|link| link.name == "uplink").unwrap();
            let config = Config { read_timeout: Some(Duration::from_millis(20)), ..Config::default() };
            let Ok(Channel::Ethernet(_, frames)) = datalink::channel(&link, config) else { panic!("no packet socket") };
            frames
        });
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            while !ends.load(Ordering::Relaxed) && kept.len() < MAX_FRAMES {
                if let Ok(frame) = frames.next() {
                    kept.push((SystemTime::now().duration_since(UNIX_EPOCH).unwrap(), frame.to_vec()));
                }
            }
            kept
        });
        Self { is_over, thread }
    }

    /// Ends it. Gives these fields of all datagrams to `port` as tshark reads them there as RTP, checksums checked; and before them those
    /// of SIP that `also` filters.
    pub fn read(self, directory: &Path, port: u16, also: Option<&str>, fields: &[&str]) -> Vec<Vec<String>> {
        self.is_over.store(true, Ordering::Relaxed);
        let frames = self.thread.join().unwrap();
        // The file's header (draft-ietf-opsawg-pcap): microseconds, Ethernet.
        let mut file: Vec<u8> = Vec::new();
        file.extend(0xa1b2_c3d4_u32.to_ne_bytes());
        [2_u16, 4].iter().for_each(|version| file.extend(version.to_ne_bytes()));
        [0_u32, 0, 65_535, 1].iter().for_each(|field| file.extend(field.to_ne_bytes()));
        for (at, frame) in &frames {
            let length = frame.len() as u32;
            for field in [at.as_secs() as u32, at.subsec_micros(), length, length] {
                file.extend(field.to_ne_bytes());
            }
            file.extend(frame);
        }
        let path = directory.join("frames.pcap");
        fs::write(&path, file).unwrap();
        let also = also.map_or_else(String::new, |also| format!(" || ({also})"));
        let filter = format!("(udp.dstport == {port} && rtp){also}");
        let mut command = Command::new("tshark");
        command.arg("-n").arg("-r").arg(&path).arg("-Y").arg(filter);
        command.arg("-d").arg(format!("udp.port=={port},rtp")).args(["-T", "fields", "-E", "separator=|"]);
        for checked in ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE"] {
            command.args(["-o", checked]);
        }
        command.args(fields.iter().flat_map(|field| ["-e", field]));
        let output = command.output().expect("tshark, which tests/run installs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
    }
}
