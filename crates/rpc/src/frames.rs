//! Counts the messages that a connection's server has written, once it is a WebSocket.
//!
//! Only what the server writes is looked at; of its own messages it makes whole frames. So nothing that
//! a client sends can make it count wrongly.

use soketto::Parsing;
use soketto::base::{Codec, Header};

/// Begins what is written when a connection becomes a WebSocket. Bodies are JSON, which has no line
/// breaks of this form, and so do not contain it.
const SWITCHES: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n";
const HEAD_ENDS: &[u8] = b"\r\n\r\n";

/// Where the bytes are that come next.
#[derive(Debug)]
pub(crate) struct Frames {
    place: Place,
    /// What was written of a head of HTTP, or of the header of a frame.
    begun: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a conversation over HTTP.
    Http,
    /// In the head of the answer that ends it.
    Head,
    /// In the header of a frame.
    Header,
    /// In the payload of a frame, so many bytes before its end.
    Payload { left: usize, message: bool },
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self { place: Place::Http, begun: Vec::new() }
    }

    /// These bytes were written: how many messages end in them. `upgraded`: the answer that ends the
    /// conversation over HTTP is on its way, or was written.
    pub(crate) fn wrote(&mut self, mut bytes: &[u8], upgraded: bool) -> usize {
        let mut messages = 0;
        while let [first, rest @ ..] = bytes {
            match self.place {
                Place::Http if !upgraded => break,
                Place::Http => {
                    self.begun.push(*first);
                    if !SWITCHES.starts_with(&self.begun) {
                        self.begun.clear();
                        self.begun.extend(Some(*first).filter(|first| SWITCHES[0] == *first));
                    }
                    if self.begun == SWITCHES {
                        self.place = Place::Head;
                    }
                    bytes = rest;
                }
                Place::Head => {
                    self.begun.push(*first);
                    if self.begun.ends_with(HEAD_ENDS) {
                        self.place = Place::Header;
                        self.begun.clear();
                    }
                    bytes = rest;
                }
                Place::Header => {
                    self.begun.push(*first);
                    if let Some(header) = decode(&self.begun) {
                        let message = header.is_fin() && !header.opcode().is_control();
                        self.place = Place::Payload { left: header.payload_len(), message };
                        self.begun.clear();
                    }
                    bytes = rest;
                }
                Place::Payload { left, message } => {
                    let taken = left.min(bytes.len());
                    self.place = Place::Payload { left: left - taken, message };
                    bytes = &bytes[taken..];
                }
            }
            if let Place::Payload { left: 0, message } = self.place {
                messages += usize::from(message);
                self.place = Place::Header;
            }
        }
        messages
    }
}

/// The header of a frame, if these bytes are all of it.
fn decode(bytes: &[u8]) -> Option<Header> {
    let mut codec = Codec::new();
    codec.set_max_data_size(usize::MAX);
    match codec.decode_header(bytes).expect("the server writes frames") {
        Parsing::Done { value, .. } => Some(value),
        Parsing::NeedMore(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of an answer whose body means to deceive, another one, and then the switch.
    const SWITCH: &[u8] =
        b"{\"id\":\"HHTTP/1.1 101 Switching Protocols\"}HTTP/1.1 200 OK\r\n\r\n{}\
                            HTTP/1.1 101 Switching Protocols\r\nx: y\r\n\r\n";

    fn message(first: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(length as u8),
            126..0x1_0000 => {
                bytes.push(126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        // As if there were frames in it.
        bytes.extend(std::iter::repeat_n(0x81, length));
        bytes
    }

    /// A text, a ping, a message of two frames, a long one, an empty one, half of one.
    fn conversation() -> Vec<u8> {
        let mut bytes = SWITCH.to_vec();
        for (first, length) in
            [(0x81, 5), (0x89, 9), (0x01, 300), (0x80, 10), (0x82, 70_000), (0x81, 0), (0x81, 126)]
        {
            bytes.extend(message(first, length));
        }
        bytes.pop();
        bytes
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        for size in [1, 2, 3, 7, 100, 69_999, 1 << 20] {
            let mut frames = Frames::new();
            assert_eq!(frames.wrote(b"HTTP/1.1 200 OK\r\n\r\n{}", false), 0);
            let pieces = conversation();
            let counted: usize = pieces.chunks(size).map(|part| frames.wrote(part, true)).sum();
            assert_eq!(counted, 4, "in pieces of {size}");
            assert_eq!(frames.wrote(&[0], true), 1);
        }
    }

    #[test]
    fn what_is_written_over_http_is_none() {
        let mut frames = Frames::new();
        assert_eq!(frames.wrote(b"HTTP/1.1 200 OK\r\n\r\n", false), 0);
        assert_eq!(frames.wrote(&conversation(), false), 0);
    }
}
