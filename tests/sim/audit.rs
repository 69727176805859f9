//! What holds of every message on the network, whoever sends it.

use sip::{HeaderName, Message, Method, Request, Response};
use std::{collections::HashMap, net::SocketAddr};

/// A request as it was first sent.
struct Sent {
    sender: SocketAddr,
    call_id: Vec<u8>,
    from_tag: Vec<u8>,
    to_tag: Option<Vec<u8>>,
    cseq: u32,
    octets: Vec<u8>,
    /// Status and To tag of its final response.
    last: Option<(u16, Vec<u8>)>,
}

/// The branch and the method: the transaction.
type Key = (Vec<u8>, Vec<u8>);

/// What has been sent so far, and what was wrong with it.
#[derive(Default)]
pub struct Audit {
    requests: HashMap<Key, Sent>,
    /// The highest CSeq of each sender in each dialog, or what becomes one: by Call-ID and From tag.
    cseqs: HashMap<(Vec<u8>, Vec<u8>), u32>,
    pub faults: Vec<String>,
}

impl Audit {
    pub fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// A message leaves `from` for `to`.
    pub fn sent(&mut self, from: SocketAddr, to: SocketAddr, message: &Message<'_>) {
        let found = match (message.request(), message.response()) {
            (Ok(request), _) => self.request(from, message, &request),
            (_, Ok(response)) => self.response(to, message, &response),
            (Err(error), Err(_)) => Err(format!("{error:?}")),
        };
        if let Err(fault) = found {
            self.faults.push(format!("{fault}:\n{message:?}"));
        }
    }

    fn request(&mut self, from: SocketAddr, message: &Message<'_>, request: &Request<'_>) -> Result<(), String> {
        let branch = request.via.branch.ok_or("no branch")?;
        let key = (branch.to_vec(), request.method.as_bytes().to_vec());
        if let Some(sent) = self.requests.get(&key) {
            // §17.1: a retransmission is the same request.
            let is_same = sent.sender == from && sent.octets == message.bytes();
            return if is_same { Ok(()) } else { Err("a branch is used twice".to_owned()) };
        }
        if message.vias().count() != 1 {
            return Err("whoever sends a request here is its first hop".to_owned());
        }
        request.max_forwards.filter(|&hops| hops > 0).ok_or("no Max-Forwards")?;
        let from_tag = request.from.tag.ok_or("no From tag")?.to_vec();
        let cseq = request.cseq.number;
        let series = (request.call_id.to_vec(), from_tag.clone());
        match request.method {
            // §17.1.1.3, §13.2.2.4, §9.1: these two carry the number of their INVITE.
            Method::Ack | Method::Cancel => {
                let is_known = self.requests.iter().any(|((_, method), sent)| {
                    method == b"INVITE" && sent.cseq == cseq && sent.call_id == series.0 && sent.from_tag == series.1
                });
                if !is_known {
                    return Err("there is no INVITE of that CSeq".to_owned());
                }
                let invite = (branch.to_vec(), b"INVITE".to_vec());
                if request.method == Method::Cancel && !self.requests.contains_key(&invite) {
                    return Err("there is no INVITE of that branch".to_owned());
                }
            }
            // §12.2.1.1: each request counts up.
            _ => {
                let last = self.cseqs.insert(series.clone(), cseq);
                if last.is_some_and(|last| cseq <= last) {
                    return Err(format!("CSeq {cseq} behind {last:?}"));
                }
            }
        }
        let sent = Sent {
            sender: from,
            call_id: series.0,
            from_tag,
            to_tag: request.to.tag.map(<[u8]>::to_vec),
            cseq,
            octets: message.bytes().to_vec(),
            last: None,
        };
        self.requests.insert(key, sent);
        Ok(())
    }

    fn response(&mut self, to: SocketAddr, message: &Message<'_>, response: &Response<'_>) -> Result<(), String> {
        let branch = response.via.branch.ok_or("no branch")?;
        let key = (branch.to_vec(), response.cseq.method.as_bytes().to_vec());
        let sent = self.requests.get_mut(&key).ok_or("it answers nothing")?;
        // §8.2.6.2: what identifies the transaction comes back.
        if sent.sender != to || sent.call_id != response.call_id || sent.cseq != response.cseq.number {
            return Err("it answers another request".to_owned());
        }
        let address = |name| message.value(name).and_then(sip::Address::from_value);
        let from_tag = address(HeaderName::From).and_then(|from| from.tag);
        let to_tag = address(HeaderName::To).and_then(|to| to.tag);
        if from_tag != Some(&sent.from_tag[..]) {
            return Err("another From tag".to_owned());
        }
        let status = response.status.get();
        match (&sent.to_tag, to_tag) {
            (Some(tag), Some(answered)) if tag != answered => return Err("another To tag".to_owned()),
            (_, None) if status > 100 => return Err("no To tag".to_owned()),
            _ => {}
        }
        let answered = (status, to_tag.unwrap_or_default().to_vec());
        match &sent.last {
            Some(last) if status < 200 => Err(format!("behind {last:?}")),
            // §17.2: one final response, however often it is sent.
            Some(last) if *last != answered => Err(format!("it has been answered with {last:?}")),
            _ if status < 200 => Ok(()),
            _ => {
                sent.last = Some(answered);
                Ok(())
            }
        }
    }
}
